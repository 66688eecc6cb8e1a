//! `tessera audit …` against a real authority, and on exports that were tampered with.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod support;

use std::{fs, path::Path, process::Output};

use serde_json::{Value, json};
use tessera_authority::AuditLine;
use tessera_store::AuditLink;

use crate::support::{Authority, tessera, text};

/// Checks an export, without an authority.
fn verify(file: &Path, more: &[&str]) -> Output {
    let mut command = tessera();
    command.args(["audit", "verify"]).arg(file).args(more);
    command.output().unwrap()
}

fn lines(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn what_happened_is_listed_exported_and_checked() {
    let authority = Authority::dev();
    for subject in ["user:ann", "user:bob"] {
        authority.issue(subject);
    }
    authority.run(1, &["key", "list"]);
    let listed = authority.json(0, &["audit", "list", "--action", "issued"]);
    let records = listed["records"].as_array().unwrap();
    assert_eq!(records.len(), 2);
    assert_eq!(records[0]["subject"], "user:bob", "the newest first");
    assert_eq!(records[1]["actor"]["client"], "client:dev");
    let decision = records[1]["decision_id"].as_str().unwrap();
    let found = authority.json(0, &["audit", "list", "--decision", decision]);
    assert_eq!(found["records"], Value::Array(vec![records[1].clone()]));
    let refused = authority.json(0, &["audit", "list", "--refused", "--since", "1h"]);
    assert_eq!(refused["records"][0]["call"], "ListSigningKeys");
    assert_eq!(refused["records"][0]["required"], "tessera/keys:read");
    let shown = authority.run(0, &["audit", "list", "--limit", "1"]);
    assert!(
        shown.contains("call_refused") && shown.contains("there are more"),
        "{shown}"
    );
    assert!(authority.run(0, &["audit", "verify"]).contains("nothing yet"));

    let export = authority.path("audit.jsonl");
    let said = authority.run(0, &["audit", "export", "audit.jsonl"]);
    let header: Value = serde_json::from_str(&lines(&export)[0]).unwrap();
    let through = header["through_position"].as_u64().unwrap();
    assert!(said.contains(&format!("--after {through}")), "{said}");
    assert!(text(&authority.output(&["audit", "export", "audit.jsonl"]).stderr).contains("already exists"));
    let key = header["checkpoint_key"].as_str().unwrap();
    for more in [&[][..], &["--key", key]] {
        let checked = verify(&export, more);
        assert!(checked.status.success(), "{}", text(&checked.stderr));
        assert!(text(&checked.stdout).contains(&format!("up to position {through}")));
    }
    // The next export continues where this one ended.
    authority.issue("user:ann");
    authority.run(
        0,
        &["audit", "export", "next.jsonl", "--after", &through.to_string()],
    );
    let next = authority.path("next.jsonl");
    assert!(verify(&next, &["--key", key]).status.success());
    assert_eq!(lines(&next).len(), 3, "a header, a record, a signature");
}

/// The line with the digest of a record, as an attacker makes it who wants to hide the record; other lines stay.
fn digest_of(line: &str) -> String {
    if !line.contains("encoded") {
        return line.to_owned();
    }
    let record: AuditLine = serde_json::from_str(line).unwrap();
    let digest = AuditLink(record.entry().unwrap().digest());
    let (position, previous) = (record.position, &record.previous_link);
    json!({ "position": position, "digest": digest.to_string(), "previous_link": previous }).to_string()
}

/// The same lines with another header.
fn edited_header(lines: &[String], edit: impl FnOnce(&mut Value)) -> Vec<String> {
    let mut header: Value = serde_json::from_str(&lines[0]).unwrap();
    edit(&mut header);
    let mut lines = lines.to_vec();
    lines[0] = header.to_string();
    lines
}

/// One change at every line: the check ends with code 1 and names the line.
#[test]
fn an_export_that_was_tampered_with_is_refused() {
    let authority = Authority::dev();
    for subject in ["user:ann", "user:bob", "user:cid"] {
        authority.issue(subject);
    }
    authority.run(0, &["audit", "export", "audit.jsonl"]);
    let whole = lines(&authority.path("audit.jsonl"));
    let spoiled = authority.path("spoiled.jsonl");
    let refused = |what: &str, lines: &[String]| {
        fs::write(&spoiled, lines.join("\n") + "\n").unwrap();
        let checked = verify(&spoiled, &[]);
        assert_eq!(
            checked.status.code(),
            Some(1),
            "{what}: {}",
            text(&checked.stdout)
        );
        assert!(text(&checked.stderr).contains("spoiled.jsonl") || text(&checked.stderr).contains("cut off"));
    };
    for index in 1..whole.len() {
        let edited = |edit: &dyn Fn(&mut Vec<String>)| {
            let mut lines = whole.clone();
            edit(&mut lines);
            lines
        };
        refused("removed", &edited(&|lines| drop(lines.remove(index))));
        refused(
            "twice",
            &edited(&|lines| lines.insert(index, lines[index].clone())),
        );
        refused("cut off", &whole[..index]);
        if index + 1 < whole.len() {
            refused("moved", &edited(&|lines| lines.swap(index, index + 1)));
        }
        for (from, to) in [
            ("user:ann", "user:eve"),
            ("\"encoded\":\"A", "\"encoded\":\"B"),
            ("\"digest\":\"", "\"digest\":\"0"),
            ("\"outcome\":\"done\"", "\"outcome\":\"refused\""),
            ("T", "t"),
        ] {
            if whole[index].contains(from) {
                refused(
                    from,
                    &edited(&|lines| lines[index] = lines[index].replacen(from, to, 1)),
                );
            }
        }
    }
}

/// The content of the first line is signed, by the given key.
#[test]
fn an_export_that_is_not_signed_as_it_says_is_refused() {
    let authority = Authority::dev();
    authority.issue("user:ann");
    authority.run(0, &["audit", "export", "audit.jsonl"]);
    let whole = lines(&authority.path("audit.jsonl"));
    let spoiled = authority.path("spoiled.jsonl");
    let checked = |lines: &[String], more: &[&str]| {
        fs::write(&spoiled, lines.join("\n") + "\n").unwrap();
        let checked = verify(&spoiled, more);
        (checked.status.code().unwrap(), text(&checked.stderr))
    };
    let other = "k4.public.Hrnbu7wEfAP9cGBOAHHwmH4Wsot1ciXBHwBBXQ4gsaI";
    let (code, said) = checked(&whole, &["--key", other]);
    assert!(
        code == 1 && said.contains("not signed by this key"),
        "{code}: {said}"
    );
    let mut unsigned = whole.clone();
    *unsigned.last_mut().unwrap() = r#"{"checkpoint":""}"#.to_owned();
    let (code, said) = checked(&unsigned, &[]);
    assert!(
        code == 1 && said.contains("not signed by this key"),
        "{code}: {said}"
    );
    let mut shorter = edited_header(&whole, |header| {
        header["through_position"] = (header["through_position"].as_u64().unwrap() - 1).into();
    });
    shorter.remove(whole.len() - 2);
    let (code, said) = checked(&shorter, &[]);
    assert!(code == 1 && said.contains("were signed"), "{code}: {said}");
    let other_realm = edited_header(&whole, |header| header["realm"] = "sandbox".into());
    let (code, said) = checked(&other_realm, &[]);
    assert!(code == 1 && said.contains("of another realm"), "{code}: {said}");
    for index in (0..whole.len()).filter(|index| whole[*index].contains("encoded")) {
        let mut hidden = whole.clone();
        hidden[index] = digest_of(&whole[index]);
        let (code, said) = checked(&hidden, &[]);
        assert!(
            code == 1 && said.contains("were signed"),
            "{index}: {code}: {said}"
        );
    }
    let all_hidden: Vec<_> = whole.iter().map(|line| digest_of(line)).collect();
    let (code, said) = checked(&all_hidden, &[]);
    assert!(
        code == 1 && said.contains("0 records are shown"),
        "{code}: {said}"
    );
    let (code, said) = checked(&["{}".to_owned()], &[]);
    assert!(code == 2 && said.contains("is no export"), "{code}: {said}");
}
