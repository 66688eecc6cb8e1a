//! The SDKs of other languages, built as their users build them, with their own tests against the real
//! binary; `docs/peers.md` tells how to run these.

use std::{fs, path::Path, process::Command};

use tempfile::TempDir;

use crate::{
    peers::{Peers, run},
    support::{binary, copy_folder, root},
};

#[test]
#[ignore = "needs peers: docs/peers.md"]
fn the_python_sdk_passes_its_tests() {
    let Some(peers) = Peers::installed() else { return };
    let sources = sources(&peers, "python");
    let package = sources.path().join("sdk/python");
    let installed = sources.path().join("installed");
    let mut pip = peers.python();
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(["--no-build-isolation", "--no-deps", "--target"])
        .args([&installed, &package]);
    run(&mut pip, "");
    // Beside the messages, whose types are generated.
    let mut mypy = peers.python();
    mypy.args(["-m", "mypy", "--no-error-summary", "--cache-dir"])
        .arg(sources.path().join("mypy"))
        .args(["--package", "tessera"])
        .current_dir(&package)
        .env("MYPYPATH", &installed);
    run(&mut mypy, "");
    let mut unittest = peers.python();
    unittest
        .args(["-m", "unittest", "discover", "--failfast"])
        .env("PYTHONPATH", &installed);
    run(in_folder(&mut unittest, &package.join("tests")), "");
}

#[test]
#[ignore = "needs peers: docs/peers.md"]
fn the_typescript_sdk_passes_its_tests() {
    let Some(peers) = Peers::installed() else { return };
    let sources = sources(&peers, "typescript");
    let package = sources.path().join("sdk/typescript");
    let mut build = peers.node();
    run(build.arg("scripts/build.mjs").current_dir(&package), "");
    let mut tests: Vec<_> = fs::read_dir(package.join("dist/test"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(".test.js"))
        .collect();
    tests.sort();
    assert!(!tests.is_empty());
    let mut node = peers.node();
    node.arg("--test").args(&tests);
    run(in_folder(&mut node, &package), "");
}

/// A copy of an SDK with what it takes from the repository, so that building it leaves nothing there.
fn sources(peers: &Peers, language: &str) -> TempDir {
    let folder = peers.scratch();
    let copy = |name: &str| copy_folder(&root().join(name), &folder.path().join(name));
    copy("proto");
    copy("policies");
    copy(&format!("sdk/{language}"));
    folder
}

fn in_folder<'a>(command: &'a mut Command, folder: &Path) -> &'a mut Command {
    command.current_dir(folder).env("TESSERA_BIN", binary())
}
