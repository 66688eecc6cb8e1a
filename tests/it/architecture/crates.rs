//! Dependencies between crates: which crate may use which, and which crates may use a library.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;

use super::tree;
use crate::support::root;

/// The crates of this workspace that a crate is built from, without tests. Data flows one way: a crate is below those
/// that name it.
const MAY_USE: [(&str, &[&str]); 17] = [
    ("core", &[]),
    ("proto", &[]),
    ("token", &["core"]),
    ("policy", &["core"]),
    ("store", &["core"]),
    ("store-sled", &["core", "store"]),
    ("store-postgres", &["core", "store"]),
    ("store-conformance", &["core", "store"]),
    ("backup", &["core", "token", "store"]),
    ("authority", &["core", "token", "policy", "store", "backup"]),
    // It serves an authority, and does not know its store or the location of its files.
    (
        "server",
        &["core", "token", "policy", "store", "authority", "proto"],
    ),
    (
        "daemon",
        &[
            "core",
            "token",
            "policy",
            "store",
            "store-postgres",
            "store-sled",
            "backup",
            "authority",
            "server",
        ],
    ),
    (
        "cli",
        &[
            "core",
            "token",
            "policy",
            "store",
            "backup",
            "authority",
            "server",
            "daemon",
            "proto",
        ],
    ),
    ("client", &["core", "token", "proto"]),
    (
        "testkit",
        &[
            "core",
            "token",
            "policy",
            "store",
            "authority",
            "server",
            "daemon",
            "client",
            "proto",
        ],
    ),
    ("examples", &["client"]),
    ("bench", &["client", "proto"]),
];

/// The only crates that may use a library.
const ONLY: [(&str, &[&str]); 15] = [
    ("sled", &["store-sled"]),
    ("tokio-postgres", &["store-postgres", "bench"]),
    ("cryptoki", &["daemon"]),
    ("casbin", &["policy"]),
    ("aws-lc-rs", &["token"]),
    ("pasetors", &["token"]),
    ("orion", &["token"]),
    ("ed25519-compact", &["token"]),
    ("notify", &["daemon"]),
    ("toml", &["daemon", "policy"]),
    ("tracing-subscriber", &["daemon", "examples"]),
    ("clap", &["cli", "bench"]),
    (
        "tonic",
        &["proto", "server", "client", "cli", "bench", "testkit", "daemon"],
    ),
    // The daemon measures what it sends to collectors.
    ("prost", &["proto", "bench", "daemon"]),
    ("axum", &["server", "examples"]),
];

/// For each package, what it is built from (without tests).
type Packages = BTreeMap<String, BTreeSet<String>>;

fn packages() -> Packages {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut packages = Packages::new();
    for package in metadata["packages"].as_array().unwrap() {
        let dependencies = package["dependencies"].as_array().unwrap();
        let built_from = dependencies
            .iter()
            .filter(|dependency| dependency["kind"].is_null());
        let names = built_from.map(|dependency| dependency["name"].as_str().unwrap().to_owned());
        packages.insert(
            short(package["name"].as_str().unwrap()),
            names.map(|name| short(&name)).collect(),
        );
    }
    packages
}

/// Names of this workspace's crates without their common prefix; a library's name begins with `lib:`.
fn short(name: &str) -> String {
    match name.strip_prefix("tessera-") {
        Some(name) => name.to_owned(),
        None => format!("lib:{name}"),
    }
}

fn forbidden(packages: &Packages) -> Vec<String> {
    let mut found = Vec::new();
    for (package, dependencies) in packages {
        let Some((_, may_use)) = MAY_USE.iter().find(|(name, _)| name == package) else {
            found.push(format!("{package} is not in the table"));
            continue;
        };
        for dependency in dependencies {
            match dependency.strip_prefix("lib:") {
                Some(library) => {
                    let only = ONLY.iter().find(|(name, _)| *name == library);
                    if only.is_some_and(|(_, users)| !users.contains(&package.as_str())) {
                        found.push(format!("{package} must not name {library}"));
                    }
                }
                None if !may_use.contains(&dependency.as_str()) => {
                    found.push(format!("{package} must not use {dependency}"));
                }
                None => {}
            }
        }
    }
    found
}

#[test]
fn crates_depend_one_way_and_each_library_has_its_users() {
    let packages = packages();
    assert_eq!(packages.len(), MAY_USE.len());
    let found = forbidden(&packages);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_crate_that_is_not_below_and_a_library_elsewhere_are_seen() {
    let of = |package: &str, dependency: &str| {
        forbidden(&Packages::from([(
            package.to_owned(),
            BTreeSet::from([short(dependency)]),
        )]))
    };
    assert_eq!(of("core", "tessera-token"), ["core must not use token"]);
    assert_eq!(
        of("server", "tessera-store-sled"),
        ["server must not use store-sled"]
    );
    assert_eq!(of("store", "sled"), ["store must not name sled"]);
    assert_eq!(of("new", "tessera-core"), ["new is not in the table"]);
    assert!(of("store-sled", "sled").is_empty() && of("core", "serde").is_empty());
}

#[test]
fn no_crate_allows_unsafe_code() {
    for of in tree::crates()
        .iter()
        .filter(|of| of.name != "proto" && of.name != "examples")
    {
        let file = of.files.iter().find(|file| file.module.is_empty()).unwrap();
        assert!(
            file.text.contains("#![forbid(unsafe_code)]"),
            "{}",
            file.path.display()
        );
    }
}

#[test]
fn only_the_clock_looks_at_the_clock() {
    for file in tree::sources() {
        let is_clock = file.path.ends_with("core/src/clock.rs");
        for (number, line) in file.lines() {
            for forbidden in ["SystemTime::now", "Timestamp::now", "Uuid::now_v7"] {
                assert!(
                    is_clock || !line.contains(forbidden),
                    "{}:{number}: {forbidden}",
                    file.path.display()
                );
            }
        }
    }
}

/// If another part of the server read the details of a status again, they would be a second form of a failure.
#[test]
fn only_grpc_makes_a_status_of_a_failure() {
    let crates = tree::crates();
    let server = crates.iter().find(|of| of.name == "server").unwrap();
    let of_grpc = |file: &&tree::Source| file.module.first().is_some_and(|room| room == "grpc");
    for file in server.files.iter().filter(|file| !of_grpc(file)) {
        for (number, line) in file
            .lines()
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
            // How a span ended, in the words of OpenTelemetry.
            .filter(|(_, line)| *line != "use opentelemetry::trace::Status as SpanStatus;")
        {
            let mut words = line.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
            assert!(
                words.all(|word| word != "Status"),
                "{}:{number}: make an `ApiError`",
                file.path.display()
            );
        }
    }
}
