//! `tessera policy fmt` on files: what it writes, and what it does not change.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
    process::Command,
};

const MESSY: &str = "\n# why\np,role:reader ,*,reports/*,read,allow\r\n";
const NEAT: &str = "# why\np, role:reader, *, reports/*, read, allow\n";

fn fmt(directory: &Path, code: i32) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_tessera"))
        .args(["policy", "fmt"])
        .arg(directory)
        .output()
        .unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_is_replaced_with_its_permissions_and_nothing_is_left_behind() {
    let directory = tempfile::tempdir().unwrap();
    let (messy, neat) = (
        directory.path().join("messy.csv"),
        directory.path().join("neat.csv"),
    );
    fs::write(&messy, MESSY).unwrap();
    fs::write(&neat, NEAT).unwrap();
    fs::write(directory.path().join(".hidden.csv"), MESSY).unwrap();
    fs::set_permissions(&messy, fs::Permissions::from_mode(0o640)).unwrap();
    let untouched = fs::metadata(&neat).unwrap();
    assert_eq!(
        fmt(directory.path(), 0),
        "formatted messy.csv\n1 file formatted already\n"
    );
    assert_eq!(fs::read_to_string(&messy).unwrap(), NEAT);
    assert_eq!(fs::metadata(&messy).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(fs::metadata(&neat).unwrap().ino(), untouched.ino());
    assert_eq!(
        fs::read_to_string(directory.path().join(".hidden.csv")).unwrap(),
        MESSY
    );
    assert_eq!(names(directory.path()), [".hidden.csv", "messy.csv", "neat.csv"]);
    assert_eq!(fmt(directory.path(), 0), "2 files formatted already\n");
}

#[test]
fn a_link_within_the_directory_stays_a_link() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("..data")).unwrap();
    let target = directory.path().join("..data/rules");
    fs::write(&target, MESSY).unwrap();
    let link = directory.path().join("policy.csv");
    symlink("..data/rules", &link).unwrap();
    fmt(directory.path(), 0);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&target).unwrap(), NEAT);
}

#[test]
fn what_a_link_leads_to_outside_the_directory_is_neither_read_nor_written() {
    let (directory, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let target = elsewhere.path().join("rules");
    fs::write(&target, MESSY).unwrap();
    symlink(&target, directory.path().join("policy.csv")).unwrap();
    fmt(directory.path(), 2);
    assert_eq!(fs::read_to_string(&target).unwrap(), MESSY);
}

#[test]
fn nothing_is_written_where_a_file_can_not_be_read() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a.csv"), MESSY).unwrap();
    fs::write(directory.path().join("b.csv"), b"# caf\xe9\n").unwrap();
    let said = fmt(directory.path(), 2);
    assert!(said.contains("b.csv") && said.contains("UTF-8"), "{said}");
    assert_eq!(fs::read_to_string(directory.path().join("a.csv")).unwrap(), MESSY);
}

#[test]
fn a_pipe_is_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("policy.csv");
    assert!(Command::new("mkfifo").arg(pipe).status().unwrap().success());
    assert!(fmt(directory.path(), 2).contains("not a file"));
}
