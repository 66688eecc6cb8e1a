//! The contract as text: checks that `buf` can't make.

use std::fs;

use crate::support::root;

fn protos() -> Vec<(String, String)> {
    let mut protos = Vec::new();
    for entry in fs::read_dir(root().join("proto/tessera/v1")).unwrap() {
        let path = entry.unwrap().path();
        protos.push((
            path.file_name().unwrap().to_string_lossy().into_owned(),
            fs::read_to_string(path).unwrap(),
        ));
    }
    assert!(protos.len() >= 6);
    protos
}

#[test]
fn every_rpc_says_who_may_call_it() {
    for (name, text) in protos() {
        let mut comment = String::new();
        for line in text.lines().map(str::trim) {
            if let Some(more) = line.strip_prefix("//") {
                comment.push_str(more);
            } else {
                if line.starts_with("rpc ") {
                    assert!(comment.contains("Who may call:"), "{name}: {line}");
                }
                comment.clear();
            }
        }
    }
}

#[test]
fn the_build_compiles_every_proto() {
    let build = fs::read_to_string(root().join("build.rs")).unwrap();
    for (name, _) in protos() {
        assert!(
            build.contains(&format!("\"tessera/v1/{name}\"")),
            "{name} is not in build.rs"
        );
    }
}

#[test]
fn the_numbers_that_clients_rely_on_stand() {
    let fixed = [
        ("token_service.proto", "string audience = 5;"),
        ("token_service.proto", "bool without_refresh = 10;"),
        ("token_service.proto", "repeated string scopes = 6;"),
        ("token_service.proto", "bool replayed = 4;"),
        ("token_service.proto", "string as_of = 18;"),
        ("token_service.proto", "bool whole_realm = 17;"),
        (
            "revocation_service.proto",
            "google.protobuf.Duration staleness_bound = 8;",
        ),
        ("revocation_service.proto", "repeated string lost_scopes = 20;"),
        ("revocation_service.proto", "string key_set = 6;"),
    ];
    let protos = protos();
    for (file, line) in fixed {
        let (_, text) = protos.iter().find(|(name, _)| name == file).unwrap();
        assert!(text.contains(line), "{file} lacks `{line}`");
    }
}
