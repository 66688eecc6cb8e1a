//! The same key with other sealers, in files.

use super::*;
use crate::server_key::new_server_key;

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A sealer with its own key.
    fn sealer(&self, name: &str) -> SealerConfig {
        let path = self.path(name);
        new_sealing_key(&path).unwrap();
        SealerConfig::File { path }
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }
}

#[test]
fn a_key_is_sealed_sealed_by_another_and_unsealed() {
    let files = Files::new();
    let (one, two) = (files.sealer("one"), files.sealer("two"));
    let path = files.path("server.key");
    let id = new_server_key(&path, None).unwrap();
    let plain = files.text("server.key");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let mut seen = vec![plain.clone()];
    let ways = [
        (None, Some(&one)),
        (Some(&one), Some(&two)),
        (Some(&two), Some(&one)),
        (Some(&one), None),
    ];
    for (from, to) in ways {
        for is_changed in [true, false] {
            // A second run finds that it is done.
            let resealed = reseal(&path, from, to).unwrap();
            assert_eq!(resealed.is_changed, is_changed);
            assert_eq!(resealed.key.id, id);
            assert_eq!(resealed.key.sealed_by.is_some(), to.is_some());
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let text = files.text("server.key");
        assert!(!seen[1..].contains(&text));
        assert_eq!(text.contains(plain.trim()), to.is_none());
        seen.push(text);
    }
    assert_eq!(seen.last(), Some(&plain));
    assert_eq!(files.names(), ["one", "server.key", "two"]);
}

#[test]
fn a_file_stays_where_it_can_t_be_sealed_anew() {
    let files = Files::new();
    let (one, two) = (files.sealer("one"), files.sealer("two"));
    let gone = SealerConfig::File {
        path: files.path("gone"),
    };
    let path = files.path("server.key");
    new_server_key(&path, Some(&one)).unwrap();
    let before = files.text("server.key");
    let cases = [
        ("sealed, and nothing opens it", None, None, "no [keys.sealer]"),
        (
            "sealed by another",
            Some(&two),
            None,
            "it is sealed with key k4.lid.",
        ),
        (
            "sealed by another",
            None,
            Some(&two),
            "it is sealed with key k4.lid.",
        ),
        ("no key to open it", Some(&gone), Some(&two), "can't be read"),
        ("no key to seal it", Some(&one), Some(&gone), "can't be read"),
    ];
    for (what, from, to, said) in cases {
        let refused = reseal(&path, from, to).unwrap_err().to_string();
        assert!(refused.contains(said), "{what}: {refused}");
        assert_eq!(files.text("server.key"), before, "{what}");
        assert_eq!(files.names(), ["one", "server.key", "two"], "{what}");
    }
    // No file can be written beside it.
    fs::create_dir(files.path("server.key.resealing")).unwrap();
    let refused = reseal(&path, Some(&one), None).unwrap_err().to_string();
    assert!(refused.contains("server.key.resealing"), "{refused}");
    assert_eq!(files.text("server.key"), before);
}

#[test]
fn what_is_left_of_a_run_that_was_cut_off_is_overwritten() {
    let files = Files::new();
    let one = files.sealer("one");
    let path = files.path("server.key");
    let id = new_server_key(&path, None).unwrap();
    let left = files.path("server.key.resealing");
    fs::write(&left, "x".repeat(4096)).unwrap();
    fs::set_permissions(&left, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(reseal(&path, None, Some(&one)).unwrap().key.id, id);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!files.text("server.key").contains("xxx") && !left.exists());
}

#[test]
fn what_is_read_again_is_the_key() {
    let files = Files::new();
    let one = files.sealer("one");
    let id = |name: &str, sealer| new_server_key(&files.path(name), sealer).unwrap();
    let (plain, sealed) = (id("plain", None), id("sealed", Some(&one)));
    let check = |name: &str, id: &str, to| check_written(&files.path(name), id, to).is_ok();
    assert!(check("plain", &plain, None) && check("sealed", &sealed, Some(&one)));
    assert!(!check("plain", &sealed, None) && !check("sealed", &plain, Some(&one)));
    assert!(!check("plain", &plain, Some(&one)) && !check("sealed", &sealed, None));
}

#[test]
fn a_file_is_replaced_only_by_one_that_was_found_well() {
    let files = Files::new();
    let path = files.path("server.key");
    fs::write(&path, "before").unwrap();
    let refused = replace(&path, "after", |written| {
        assert_eq!(fs::read_to_string(written).unwrap(), "after");
        assert_eq!(files.text("server.key"), "before");
        Err(LaunchError::ReadBack {
            path: written.to_owned(),
        })
    });
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("what was read back is another key")
    );
    assert_eq!(files.text("server.key"), "before");
    assert_eq!(files.names(), ["server.key"]);
    replace(&path, "after", |_| Ok(())).unwrap();
    assert_eq!(files.text("server.key"), "after");
}

/// Another user who may write in the directory could put a link there before.
#[test]
fn a_link_in_the_place_of_the_unfinished_file_is_not_followed() {
    let files = Files::new();
    let one = files.sealer("one");
    let path = files.path("server.key");
    new_server_key(&path, None).unwrap();
    fs::write(files.path("other"), "kept").unwrap();
    let unfinished = files.path("server.key.resealing");
    std::os::unix::fs::symlink(files.path("other"), &unfinished).unwrap();
    reseal(&path, None, Some(&one)).unwrap();
    assert_eq!(files.text("other"), "kept");
}

/// The key is sealed, and the link to it stays.
#[test]
fn a_key_behind_a_link_is_sealed_where_it_is() {
    let files = Files::new();
    let one = files.sealer("one");
    let (path, link) = (files.path("real.key"), files.path("server.key"));
    new_server_key(&path, None).unwrap();
    let plain = files.text("real.key");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    reseal(&link, None, Some(&one)).unwrap();
    assert_ne!(files.text("real.key"), plain);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}
