//! What `tessera serve` refuses stays byte for byte unchanged, and `tessera config check` refuses it, too.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use crate::{
    serving::Place,
    support::{copy_directory, stderr, tessera},
};

/// Every file with its content.
fn contents(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

fn run(place: &Place, command: &[&str]) -> Output {
    let mut run = tessera();
    run.args(command).arg("--config").arg(place.config());
    run.output().unwrap()
}

/// An installation that has served, and an older copy of its data.
fn served() -> Place {
    let place = Place::new();
    place.first_key("production");
    copy_directory(&place.path("data"), &place.path("older"));
    place.first_key("production");
    place
}

/// What is wrong with an installation, the expected message, and whether `config check`, which does not open the data,
/// reports it.
type Wrong = (fn(&Place), &'static str, bool);

#[test]
fn what_is_refused_stays_as_it_was() {
    let wrong: [Wrong; 6] = [
        (
            |place| {
                let other = Place::new();
                other.first_key("production");
                fs::copy(other.path("server.key"), place.path("server.key")).unwrap();
            },
            "sealed by another server key",
            false,
        ),
        (
            |place| {
                fs::remove_dir_all(place.path("data")).unwrap();
                copy_directory(&place.path("older"), &place.path("data"));
            },
            "is older than what was served last",
            false,
        ),
        (
            |place| place.edit("tessera.toml", "[realms.sandbox]", "[realms.sandpit]"),
            "sandpit",
            true,
        ),
        (
            |place| fs::write(place.path("server.key.witness"), "no witness").unwrap(),
            "server.key.witness",
            true,
        ),
        (
            |place| place.edit("tessera.toml", "path = \"data\"", "path = \"another\""),
            "server.key.witness",
            true,
        ),
        (
            |place| {
                let address = place.address.strip_prefix("http://").unwrap();
                let admin = format!("admin_listen = \"{address}\"");
                place.edit("tessera.toml", "admin_listen = \"127.0.0.1:0\"", &admin);
            },
            "admin_listen",
            true,
        ),
    ];
    for (spoil, said, is_checked) in wrong {
        let place = served();
        spoil(&place);
        let before = contents(&place.path(""));
        let output = run(&place, &["serve"]);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(said), "{said}: {text}");
        let after = contents(&place.path(""));
        let changed: Vec<_> = after
            .iter()
            .filter(|(path, bytes)| before.get(*path) != Some(bytes))
            .map(|(path, _)| path)
            .collect();
        assert!(
            after.len() == before.len() && changed.is_empty(),
            "{said}: {changed:?}"
        );
        let checked = run(&place, &["config", "check"]);
        let text = format!("{}{}", stderr(&checked), String::from_utf8_lossy(&checked.stdout));
        assert_eq!(checked.status.success(), !is_checked, "{said}: {text}");
        assert!(!is_checked || text.contains(said), "{said}: {text}");
    }
}

/// The directory of a killed restore must not be ignored beside a new one.
#[test]
fn no_new_authority_begins_beside_a_restore_that_was_cut_off() {
    let place = served();
    fs::create_dir(place.path("data.restoring")).unwrap();
    let note = run(&place, &["config", "check"]);
    assert!(note.status.success(), "{}", stderr(&note));
    let said = String::from_utf8_lossy(&note.stdout).into_owned() + &stderr(&note);
    assert!(said.contains("data.restoring"), "{said}");
    fs::remove_dir_all(place.path("data")).unwrap();
    fs::remove_file(place.path("server.key.witness")).unwrap();
    let before = contents(&place.path(""));
    for command in [&["serve"][..], &["config", "check"], &["store", "init"]] {
        let refused = run(&place, command);
        let said = stderr(&refused);
        assert!(
            !refused.status.success() && said.contains("data.restoring"),
            "{said}"
        );
    }
    assert!(contents(&place.path("")) == before, "something was written");
}

/// A configuration exists only once everything that it needs does.
#[test]
fn an_init_that_is_killed_leaves_no_configuration() {
    let above = tempfile::tempdir().unwrap();
    let directory = above.path().join("auth");
    let mut init = tessera();
    init.args(["init"]).arg(&directory);
    let mut init = init.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !directory.join("policies/policy.csv").exists() {
        assert!(init.try_wait().unwrap().is_none(), "it ended");
        std::thread::yield_now();
    }
    init.kill().unwrap();
    if init.wait().unwrap().success() {
        return;
    }
    let mut check = tessera();
    check
        .args(["config", "check", "--config"])
        .arg(directory.join("tessera.toml"));
    assert!(!check.output().unwrap().status.success());
    let mut again = tessera();
    let again = again.args(["init"]).arg(&directory).output().unwrap();
    assert!(stderr(&again).contains("interrupted"), "{}", stderr(&again));
}

fn copied(place: &Place) -> Output {
    let mut run = tessera();
    run.args(["store", "copy", "--from"]).arg(place.config());
    run.arg("--to").arg(place.path("to.toml"));
    run.output().unwrap()
}

/// Revoked tokens would be valid again in a copy of an older state, and in the source if it is served again after a
/// copy.
#[test]
fn a_store_is_copied_only_if_it_is_the_last_and_is_not_the_last_any_more_then() {
    let place = served();
    fs::copy(place.config(), place.path("to.toml")).unwrap();
    place.edit("to.toml", "path = \"data\"", "path = \"copied\"");
    fs::rename(place.path("data"), place.path("last")).unwrap();
    copy_directory(&place.path("older"), &place.path("data"));
    let before = contents(&place.path(""));
    let refused = copied(&place);
    assert_eq!(refused.status.code(), Some(2));
    let said = stderr(&refused);
    assert!(said.contains("is older than what was served last"), "{said}");
    assert!(contents(&place.path("")) == before, "something was written");
    fs::remove_dir_all(place.path("data")).unwrap();
    fs::rename(place.path("last"), place.path("data")).unwrap();
    assert!(copied(&place).status.success());
    let said = stderr(&run(&place, &["serve"]));
    assert!(said.contains("is older than what was served last"), "{said}");
    let mut key = tessera();
    key.args(["apikey", "create", "dev", "--realm", "production", "--config"]);
    assert!(key.arg(place.path("to.toml")).output().unwrap().status.success());
}
