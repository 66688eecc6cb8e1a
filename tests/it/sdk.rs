//! The SDKs of other languages, built as their users build them, with their own tests against the real binary;
//! `docs/peers.md` says how to run these.

use std::{
    collections::BTreeMap,
    fs::{self, DirEntry},
    io,
    os::unix::fs::symlink,
    path::Path,
    process::Command,
};

use tempfile::TempDir;

use crate::{
    certificates::Ca,
    peers::{Peers, run},
    support::{binary, copy_directory, root},
};

#[test]
#[ignore = "needs peers: docs/peers.md"]
fn the_python_sdk_passes_its_tests() {
    let Some(peers) = Peers::installed() else { return };
    let sources = installed_python(&peers);
    let package = sources.path().join("sdk/python");
    let installed = sources.path().join("installed");
    // Without the messages, whose types are generated.
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
    run(in_directory(&mut unittest, &package.join("tests")), "");
}

#[test]
#[ignore = "needs peers: docs/peers.md"]
fn the_typescript_sdk_passes_its_tests() {
    let Some(peers) = Peers::installed() else { return };
    let sources = built_typescript(&peers);
    let package = sources.path().join("sdk/typescript");
    let mut tests: Vec<_> = fs::read_dir(package.join("dist/test"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(".test.js"))
        .collect();
    tests.sort();
    assert!(!tests.is_empty());
    let mut node = peers.node();
    node.arg("--test").args(&tests);
    // Node can't make certificates.
    let certificates = sources.path().join("tls");
    write_certificates(&certificates);
    node.env("TESSERA_TLS", certificates);
    run(in_directory(&mut node, &package), "");
}

#[test]
fn what_the_sdks_carry_is_what_the_repository_has() {
    let files = |directory: &Path| -> BTreeMap<_, _> {
        let read = |entry: io::Result<DirEntry>| {
            let entry = entry.unwrap();
            (entry.file_name(), fs::read(entry.path()).unwrap())
        };
        fs::read_dir(directory).unwrap().map(read).collect()
    };
    for language in ["python", "typescript"] {
        let package = root().join("sdk").join(language);
        let ours = files(&root().join("proto/tessera/v1"));
        assert!(
            files(&package.join("proto/tessera/v1")) == ours,
            "run sdk/vendor: the protos of sdk/{language} are out of date"
        );
        for license in ["LICENSE-APACHE", "LICENSE-MIT"] {
            let [theirs, ours] =
                [package.as_path(), root()].map(|directory| fs::read(directory.join(license)).unwrap());
            assert!(theirs == ours, "run sdk/vendor: {license} of sdk/{language}");
        }
    }
    let [ours, python, typescript] = ["", "python/tests", "typescript/test"]
        .map(|directory| fs::read(root().join("sdk").join(directory).join("challenges.json")).unwrap());
    assert!(
        python == ours && typescript == ours,
        "run sdk/vendor: challenges.json"
    );
}

#[test]
#[ignore = "needs peers: docs/peers.md"]
fn the_python_sdk_alone_makes_a_wheel_and_a_source_distribution() {
    let Some(peers) = Peers::installed() else { return };
    let directory = alone("python");
    let alone = directory.path();
    let made = alone.join("made");
    let mut sdist = peers.python();
    sdist
        .args([
            "-c",
            "import setuptools.build_meta as b; print(b.build_sdist('made'))",
        ])
        .current_dir(alone);
    let archive = made.join(run(&mut sdist, "").lines().last().unwrap());
    // A wheel of the directory, and one of the source archive.
    for (source, wheels) in [(alone, "wheels"), (archive.as_path(), "wheels-of-archive")] {
        let mut pip = peers.python();
        pip.args(["-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"])
            .args(["--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir"])
            .args([made.join(wheels).as_path(), source]);
        run(&mut pip, "");
        let wheel = fs::read_dir(made.join(wheels)).unwrap().next().unwrap().unwrap();
        let mut import = peers.python();
        import
            .args([
                "-c",
                "import tessera.v1.token_service_pb2, tessera; print(tessera.__file__)",
            ])
            .env("PYTHONPATH", wheel.path())
            .current_dir(&made);
        assert!(run(&mut import, "").contains(".whl"));
    }
}

#[test]
#[ignore = "needs peers: docs/peers.md"]
fn the_typescript_sdk_alone_makes_a_package() {
    let Some(peers) = Peers::installed() else { return };
    let directory = alone("typescript");
    let alone = directory.path();
    let modules = peers.directory().join("node_modules");
    symlink(&modules, alone.join("node_modules")).unwrap();
    let mut pack = Command::new("npm");
    pack.args(["pack", "--offline", "--silent"]).current_dir(alone);
    run(&mut pack, "");
    let names = fs::read_dir(alone).unwrap().map(|entry| entry.unwrap().path());
    let archives: Vec<_> = names
        .filter(|path| path.extension().is_some_and(|end| end == "tgz"))
        .collect();
    let installed = alone.join("installed");
    fs::create_dir(&installed).unwrap();
    let mut unpack = Command::new("tar");
    unpack.arg("-xzf").arg(&archives[0]).arg("-C").arg(&installed);
    run(&mut unpack, "");
    symlink(&modules, installed.join("node_modules")).unwrap();
    let mut import = peers.node();
    import
        .args(["--input-type=module", "--eval"])
        .arg("const { v1 } = await import('./package/dist/src/index.js'); console.log(v1.TokenService.serviceName)")
        .current_dir(&installed);
    assert_eq!(run(&mut import, "").trim(), "TokenService");
}

/// `root.pem`, and the certificates that it signed: `server` and `client`, each with its key.
fn write_certificates(directory: &Path) {
    fs::create_dir(directory).unwrap();
    let ca = Ca::new();
    fs::write(directory.join("root.pem"), &ca.pem).unwrap();
    for name in ["server", "client"] {
        let pair = ca.sign();
        fs::write(directory.join(format!("{name}.pem")), pair.certificate).unwrap();
        fs::write(directory.join(format!("{name}.key")), pair.key).unwrap();
    }
}

/// A copy of an SDK's directory and nothing else.
fn alone(language: &str) -> TempDir {
    let directory = TempDir::new().unwrap();
    copy_sdk(language, directory.path());
    directory
}

/// Copies an SDK without what its tools leave in a checkout: a build takes old files from there.
fn copy_sdk(language: &str, to: &Path) {
    copy_directory(&root().join("sdk").join(language), to);
    for left in ["build", "dist", "src/tessera_client.egg-info"] {
        let left = to.join(left);
        if left.exists() {
            fs::remove_dir_all(left).unwrap();
        }
    }
}

/// The Python SDK in `sdk/python`, and `installed` from there.
pub(crate) fn installed_python(peers: &Peers) -> TempDir {
    let sources = sources(peers, "python");
    let mut pip = peers.python();
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(["--no-build-isolation", "--no-deps", "--target"])
        .args(["installed", "sdk/python"].map(|name| sources.path().join(name)));
    run(&mut pip, "");
    sources
}

/// The TypeScript SDK in `sdk/typescript`, and its build in `dist`.
pub(crate) fn built_typescript(peers: &Peers) -> TempDir {
    let sources = sources(peers, "typescript");
    let package = sources.path().join("sdk/typescript");
    let mut build = peers.node();
    run(build.arg("scripts/build.mjs").current_dir(&package), "");
    sources
}

/// A copy of an SDK with the files that its tests need from the repository, so that the build leaves nothing there.
fn sources(peers: &Peers, language: &str) -> TempDir {
    let directory = peers.scratch();
    copy_directory(&root().join("policies"), &directory.path().join("policies"));
    copy_sdk(language, &directory.path().join("sdk").join(language));
    directory
}

fn in_directory<'a>(command: &'a mut Command, directory: &Path) -> &'a mut Command {
    command.current_dir(directory).env("TESSERA_BIN", binary())
}
