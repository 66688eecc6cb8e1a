//! A disk that does not respond: the authority reports it, continues when the disk does, and can still be stopped.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{ChildStderr, Command, Stdio},
};

use crate::{
    serving::Place,
    support::{Authority, Client, access, tessera, viewer},
};

/// Builds the library that blocks the disk while `gate` exists.
fn library(directory: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/standing_disk.c");
    let library = directory.join("standing_disk.so");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status()
        .unwrap();
    assert!(built.success());
    library
}

/// Reads the log until it contains `word`.
fn read_until(log: &mut impl BufRead, word: &str) {
    let mut said = String::new();
    while !said.contains(word) {
        assert!(log.read_line(&mut said).unwrap() > 0, "no {word:?}: {said}");
    }
}

struct Machine {
    place: Place,
    secret: String,
    gate: PathBuf,
    library: PathBuf,
}

impl Machine {
    fn new() -> Self {
        let place = Place::with("");
        place.edit(
            "tessera.toml",
            "drain_time_max = \"8s\"",
            "drain_time_max = \"0s\"",
        );
        place.edit(
            "tessera.toml",
            "close_time_max = \"15s\"",
            "close_time_max = \"1s\"",
        );
        let made = place.first_key("production");
        Self {
            secret: made["secret"].as_str().unwrap().to_owned(),
            gate: place.path("gate"),
            library: library(&place.path("")),
            place,
        }
    }

    fn start(&self) -> (Authority, BufReader<ChildStderr>) {
        let mut command = tessera();
        command
            .args(["serve", "--config"])
            .arg(self.place.config())
            .env("LD_PRELOAD", &self.library)
            .env("STANDS_STILL", &self.gate)
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        (Authority::adopt(child, self.place.address.clone()), log)
    }

    async fn client(&self) -> Client {
        Client::connect(&self.place.address, &self.secret).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_when_the_disk_does_and_can_be_stopped_when_the_disk_does_not() {
    let machine = Machine::new();
    let (authority, mut log) = machine.start();
    read_until(&mut log, "serving");
    let client = machine.client().await;
    let acknowledged = client.issue(viewer("user:ann")).await.unwrap();

    fs::write(&machine.gate, "").unwrap();
    let (waiting, caller) = (client.clone(), client.clone());
    let waiting = tokio::spawn(async move { waiting.issue(viewer("user:bob")).await });
    read_until(&mut log, "not ready");
    fs::remove_file(&machine.gate).unwrap();
    waiting.await.unwrap().unwrap();
    read_until(&mut log, "ready again");

    fs::write(&machine.gate, "").unwrap();
    let lost = tokio::spawn(async move { caller.issue(viewer("user:cat")).await });
    read_until(&mut log, "not ready");
    authority.signal("TERM");
    read_until(&mut log, "ended before it could stop");
    assert_eq!(authority.wait().code(), Some(3));
    assert!(
        lost.await.unwrap().is_err(),
        "nothing is acknowledged that is not durable"
    );

    fs::remove_file(&machine.gate).unwrap();
    let (authority, mut log) = machine.start();
    read_until(&mut log, "serving");
    let client = machine.client().await;
    assert!(
        client
            .introspect(&access(acknowledged.tokens.as_ref()))
            .await
            .active
    );
    assert!(authority.stop().success());
}

#[test]
fn a_start_that_waits_for_the_disk_can_be_stopped() {
    let machine = Machine::new();
    fs::write(&machine.gate, "").unwrap();
    let (authority, _log) = machine.start();
    // The socket is bound before the data is opened.
    let address = machine.place.address.strip_prefix("http://").unwrap();
    while std::net::TcpStream::connect(address).is_err() {
        std::thread::yield_now();
    }
    authority.signal("TERM");
    assert!(authority.wait().success());
}
