//! Reading a directory: what is refused, and that files replaced meanwhile are never mixed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use tessera_policy::{Policy, PolicyError, Sources};

fn write_default(directory: &Path) {
    for (name, bytes) in Policy::default_files() {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    write_default(directory.path());
    directory
}

fn codes(result: Result<Sources, PolicyError>) -> Vec<(&'static str, String)> {
    let found = result.unwrap_err().diagnostics.into_iter();
    found.map(|found| (found.code, found.file)).collect()
}

#[test]
fn a_policy_keeps_the_files_that_it_was_made_from() {
    let sources = Sources::from_memory(Policy::default_files()).unwrap();
    let policy = Policy::from_sources(&sources).unwrap();
    assert_eq!(policy.sources(), &sources);
    assert_eq!(policy.revision(), &sources.revision());
    assert_eq!(sources, Sources::read(directory().path()).unwrap());
    let mut files = Policy::default_files().to_vec();
    files.sort_unstable();
    assert_eq!(sources.iter().collect::<Vec<_>>(), files);
    assert_eq!(
        sources.byte_count(),
        files.iter().map(|(_, bytes)| bytes.len()).sum::<usize>()
    );
    assert_eq!(sources.get("tests/dev.toml"), Some(Policy::default_files()[3].1));
    assert_eq!(sources.get("tests/other.toml"), None);
}

#[test]
fn a_directory_in_the_place_of_a_file_is_refused() {
    let directory = directory();
    fs::create_dir(directory.path().join("more.csv")).unwrap();
    fs::remove_dir_all(directory.path().join("tests")).unwrap();
    fs::write(directory.path().join("tests"), "").unwrap();
    let expected = [("P001", "more.csv".to_owned()), ("P001", "tests".to_owned())];
    assert_eq!(codes(Sources::read(directory.path())), expected);
}

#[test]
#[cfg(unix)]
fn a_pipe_or_a_device_in_the_place_of_a_file_is_refused_without_waiting() {
    let directory = directory();
    let pipe = directory.path().join("pipe.csv");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let _socket = std::os::unix::net::UnixListener::bind(directory.path().join("socket.csv")).unwrap();
    std::os::unix::fs::symlink("pipe.csv", directory.path().join("link.csv")).unwrap();
    std::os::unix::fs::symlink("nowhere", directory.path().join("gone.csv")).unwrap();
    let expected = ["gone.csv", "link.csv", "pipe.csv", "socket.csv"].map(|name| ("P001", name.to_owned()));
    assert_eq!(codes(Sources::read(directory.path())), expected);
}

/// A directory beside one with a secret, and links that may be in it.
#[cfg(unix)]
fn beside_a_secret() -> (tempfile::TempDir, std::path::PathBuf) {
    let world = tempfile::tempdir().unwrap();
    let directory = world.path().join("policies");
    fs::create_dir_all(&directory).unwrap();
    write_default(&directory);
    fs::create_dir(world.path().join("data")).unwrap();
    fs::write(world.path().join("data/server.key"), "canary\n").unwrap();
    (world, directory)
}

#[test]
#[cfg(unix)]
fn no_link_leads_out_of_the_directory() {
    use std::os::unix::fs::symlink;

    let (world, directory) = beside_a_secret();
    let key = world.path().join("data/server.key");
    let data = world.path().join("data");
    fs::create_dir(directory.join(".kept")).unwrap();
    symlink("../../data/server.key", directory.join(".kept/key")).unwrap();
    let links: [(&str, &str); 8] = [
        ("relative.csv", "../data/server.key"),
        ("absolute.csv", key.to_str().unwrap()),
        // An absolute link may lead anywhere.
        ("own.csv", &format!("{}/policy.csv", directory.display())),
        ("device.csv", "/dev/zero"),
        ("through.csv", "tests/../../data/server.key"),
        ("back.csv", "../policies/policy.csv"),
        ("chain.csv", ".kept/key"),
        ("tests/zz.toml", "../../data/server.key"),
    ];
    for (name, target) in links {
        symlink(target, directory.join(name)).unwrap();
        let error = Sources::read(&directory).unwrap_err();
        let found: Vec<_> = error
            .diagnostics
            .iter()
            .map(|found| (found.code, found.file.as_str()))
            .collect();
        assert_eq!(found, [("P007", name)], "{target}");
        assert!(!error.to_string().contains("canary"), "{error}");
        fs::remove_file(directory.join(name)).unwrap();
    }
    // A directory instead of the tests, and one that a link to a link names.
    fs::remove_dir_all(directory.join("tests")).unwrap();
    fs::write(data.join("zz.toml"), "canary").unwrap();
    symlink("../data", directory.join("tests")).unwrap();
    assert_eq!(codes(Sources::read(&directory)), [("P007", "tests".to_owned())]);
    fs::remove_file(directory.join("tests")).unwrap();
    symlink("../data", directory.join(".out")).unwrap();
    symlink(".out/server.key", directory.join("zz.csv")).unwrap();
    assert_eq!(codes(Sources::read(&directory)), [("P007", "zz.csv".to_owned())]);
}

#[test]
#[cfg(unix)]
fn links_within_the_directory_are_followed_as_kubernetes_makes_them() {
    use std::os::unix::fs::symlink;

    let world = tempfile::tempdir().unwrap();
    let mount = world.path().join("mount");
    let content = mount.join("..2026_11_26");
    fs::create_dir_all(&content).unwrap();
    write_default(&content);
    symlink("..2026_11_26", mount.join("..data")).unwrap();
    for name in ["model.conf", "catalogue.toml", "policy.csv", "tests"] {
        symlink(format!("..data/{name}"), mount.join(name)).unwrap();
    }
    let expected = Sources::from_memory(Policy::default_files()).unwrap();
    assert_eq!(Sources::read(&mount).unwrap(), expected);
    // The directory that the command line names may be a link, even an absolute one.
    symlink(&mount, world.path().join("policies")).unwrap();
    assert_eq!(Sources::read(&world.path().join("policies")).unwrap(), expected);
}

#[test]
#[cfg(unix)]
fn a_file_that_is_replaced_by_a_link_again_and_again_is_never_followed_outside() {
    use std::os::unix::fs::symlink;

    let (world, directory) = beside_a_secret();
    let (real, link, name) = (
        world.path().join("real"),
        world.path().join("link"),
        directory.join("zz.csv"),
    );
    // From here on a file with the name always exists.
    fs::write(&name, "# right\n").unwrap();
    let replace = |_| {
        fs::write(&real, "# right\n").unwrap();
        fs::rename(&real, &name).unwrap();
        symlink("../data/server.key", &link).unwrap();
        fs::rename(&link, &name).unwrap();
    };
    while_changing(replace, || {
        for _ in 0..20 {
            if let Ok(sources) = Sources::read(&directory) {
                assert_eq!(sources.get("zz.csv"), Some(&b"# right\n"[..]));
            }
        }
    });
}

#[test]
#[cfg(target_os = "linux")]
fn links_in_a_circle_and_beneath_a_file_are_refused() {
    let directory = directory();
    let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, directory.path().join(name)).unwrap();
    link("circle.csv", "circle.csv");
    link("policy.csv/x", "beneath.csv");
    fs::remove_dir_all(directory.path().join("tests")).unwrap();
    link("nowhere", "tests");
    let expected = ["beneath.csv", "circle.csv", "tests"].map(|name| ("P001", name.to_owned()));
    assert_eq!(codes(Sources::read(directory.path())), expected);
}

#[test]
#[cfg(unix)]
fn a_file_without_permission_is_refused() {
    use std::os::unix::fs::PermissionsExt;

    let directory = directory();
    let kept = directory.path().join("kept.csv");
    fs::write(&kept, "").unwrap();
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o000)).unwrap();
    // Permissions do not stop root.
    if fs::File::open(&kept).is_err() {
        assert_eq!(
            codes(Sources::read(directory.path())),
            [("P001", "kept.csv".to_owned())]
        );
    }
}

#[test]
fn all_files_together_have_a_limit() {
    let directory = directory();
    let comments = vec![b'#'; 15 * 1024 * 1024];
    for number in 0..4 {
        fs::write(directory.path().join(format!("{number}.csv")), &comments).unwrap();
    }
    Sources::read(directory.path()).unwrap();
    fs::write(directory.path().join("z.csv"), &comments).unwrap();
    assert_eq!(
        codes(Sources::read(directory.path())),
        [("P002", "z.csv".to_owned())]
    );
}

struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Calls `change` with 0, 1, 2, … until `read` is done.
fn while_changing<T>(change: impl Fn(usize) + Send + Sync, read: impl FnOnce() -> T) -> T {
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0.. {
                if is_done.load(Ordering::Relaxed) {
                    break;
                }
                change(round);
            }
        });
        // Also when `read` panics, or the scope would wait forever.
        let _done = OnDrop(&is_done);
        read()
    })
}

#[test]
#[cfg(unix)]
fn a_directory_that_is_switched_while_it_is_read_is_never_mixed() {
    let mount = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    for version in ["a", "b"] {
        let data = mount.path().join(format!("..{version}"));
        write_default(&data);
        // Each file names its version, so a mixture has a different revision from both.
        for name in ["model.conf", "catalogue.toml", "policy.csv", "tests/dev.toml"] {
            let mut text = fs::read_to_string(data.join(name)).unwrap();
            text.push_str(&format!("\n# {version}\n"));
            fs::write(data.join(name), text).unwrap();
        }
        expected.push(Sources::read(&data).unwrap().revision());
    }
    let switch = |round: usize| {
        let next = mount.path().join("..next");
        let version = if round.is_multiple_of(2) { "..a" } else { "..b" };
        std::os::unix::fs::symlink(version, &next).unwrap();
        fs::rename(&next, mount.path().join("..data")).unwrap();
        thread::sleep(std::time::Duration::from_micros(700 * (round as u64 % 40)));
    };
    switch(0);
    for name in ["model.conf", "catalogue.toml", "policy.csv", "tests"] {
        std::os::unix::fs::symlink(format!("..data/{name}"), mount.path().join(name)).unwrap();
    }
    while_changing(switch, || {
        for _ in 0..150 {
            match Sources::read(mount.path()) {
                Ok(sources) => assert!(expected.contains(&sources.revision())),
                Err(error) => assert!(error.to_string().contains("the files change"), "{error}"),
            }
        }
    });
}

#[test]
fn files_that_change_all_the_time_are_refused() {
    let directory = directory();
    let rules = directory.path().join("policy.csv");
    let result = while_changing(
        |round| fs::write(&rules, format!("# {round}\n")).unwrap(),
        // A machine under load may stop the writer for long enough that two reads agree.
        || {
            (0..100)
                .map(|_| Sources::read(directory.path()))
                .find(Result::is_err)
        },
    );
    let result = result.unwrap();
    assert_eq!(codes(result.clone()), [("P001", ".".to_owned())]);
    assert!(
        result
            .unwrap_err()
            .to_string()
            .contains("the files change while they are being read")
    );
}
