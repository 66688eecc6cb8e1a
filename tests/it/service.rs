//! `tessera serve` as a service: its messages to the service manager, the location of the server key, and the output of
//! `tessera health`.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Command, Output},
    thread,
    time::Instant,
};

use serde_json::{Value, json};

use crate::{
    serving::{Place, free_port},
    support::{Authority, PATIENCE, stderr, stdout, tessera},
};

/// The socket of a service manager.
struct Manager {
    directory: tempfile::TempDir,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { directory, socket }
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("notify")
    }

    /// Waits for a state with this beginning, and skips others.
    fn wait_for(&self, state: &str) {
        // The watchdog's datagrams continue if the expected one does not arrive.
        let (mut buffer, deadline) = ([0; 4096], Instant::now() + PATIENCE);
        while Instant::now() < deadline {
            let length = self
                .socket
                .recv(&mut buffer)
                .unwrap_or_else(|error| panic!("{state}: {error}"));
            if buffer[..length].starts_with(state.as_bytes()) {
                return;
            }
        }
        panic!("{state}: it never came");
    }
}

#[test]
fn a_service_manager_is_told_of_the_start_reloads_and_the_stop_and_that_it_lives() {
    let (place, manager) = (Place::new(), Manager::new());
    let authority = place.serve_as(|command| {
        command
            .env("NOTIFY_SOCKET", manager.path())
            .env("WATCHDOG_USEC", "100000");
    });
    manager.wait_for("READY=1\nSTATUS=serving");
    manager.wait_for("WATCHDOG=1");
    manager.wait_for("WATCHDOG=1");
    authority.signal("HUP");
    manager.wait_for("RELOADING=1\nMONOTONIC_USEC=");
    manager.wait_for("READY=1\nSTATUS=serving");
    // A refused reload ends, too: the authority continues.
    place.edit("policies/policy.csv", "role:viewer", "role:viewr");
    authority.signal("HUP");
    manager.wait_for("RELOADING=1\nMONOTONIC_USEC=");
    manager.wait_for("READY=1\nSTATUS=serving; the policy directory is refused");
    authority.signal("TERM");
    manager.wait_for("STOPPING=1");
    assert!(authority.wait().success());
}

#[test]
fn a_service_manager_that_cannot_be_told_keeps_nothing_from_being_served() {
    let place = Place::new();
    for address in ["/nowhere/notify", "notify", "@", ""] {
        let authority = place.serve_as(|command| {
            command.env("NOTIFY_SOCKET", address);
        });
        assert!(authority.stop().success(), "{address}");
    }
}

/// As with systemd's credentials, and the secrets of containers: a file in a directory that is not writable.
#[test]
fn the_server_key_is_read_where_the_environment_says_and_the_witness_is_where_the_configuration_says() {
    let place = Place::new();
    let secrets = tempfile::tempdir().unwrap();
    let key = secrets.path().join("server.key");
    place.first_key("production");
    fs::rename(place.path("server.key"), &key).unwrap();
    fs::remove_file(place.path("server.key.witness")).unwrap();
    place.edit("tessera.toml", "# witness = \"witness\"", "witness = \"witness\"");
    let authority = place.serve_as(|command| {
        command.env("TESSERA_SERVER_KEY_FILE", &key);
    });
    assert!(authority.stop().success());
    assert!(place.path("witness").exists());
    assert!(!place.path("server.key").exists() && !place.path("server.key.witness").exists());
    // It is never created at the environment's path.
    let missing = secrets.path().join("missing.key");
    let refused = serve(&place.config(), &missing);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        stderr(&refused).contains("missing.key") && !missing.exists(),
        "{}",
        stderr(&refused)
    );
    // An empty variable counts as not set.
    assert!(stderr(&serve(&place.config(), Path::new(""))).contains("is missing"));
    let checked = config_check(&place, &key);
    assert!(checked.status.success() && stdout(&checked).contains("TESSERA_SERVER_KEY_FILE"));
    // In the data directory it would be restored with the data.
    place.edit(
        "tessera.toml",
        "witness = \"witness\"",
        "witness = \"data/witness\"",
    );
    for refused in [serve(&place.config(), &key), config_check(&place, &key)] {
        let said = stderr(&refused);
        assert!(
            !refused.status.success() && said.contains("in the data directory"),
            "{said}"
        );
    }
}

fn serve(config: &Path, key: &Path) -> Output {
    let mut command = tessera();
    command.args(["serve", "--config"]).arg(config);
    command.env("TESSERA_SERVER_KEY_FILE", key).output().unwrap()
}

fn config_check(place: &Place, key: &Path) -> Output {
    let mut command = tessera();
    command.args(["config", "check", "--config"]).arg(place.config());
    command.env("TESSERA_SERVER_KEY_FILE", key).output().unwrap()
}

fn health(address: &str) -> Command {
    let mut command = tessera();
    command.args(["health", "--timeout", "10s", "--admin-addr", address]);
    command
}

/// A port that answers one request with these bytes.
fn answers(bytes: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let read = stream.read(&mut [0; 1024]).unwrap();
        assert!(read > 0);
        stream.write_all(bytes).unwrap();
    });
    address
}

#[test]
fn health_is_an_exit_code_with_its_reasons() {
    let authority = Authority::dev(&[]);
    let ready = health(authority.ready["admin"].as_str().unwrap())
        .output()
        .unwrap();
    assert_eq!(ready.status.code(), Some(0), "{}", stderr(&ready));
    assert!(stdout(&ready).starts_with("ready\npolicy "), "{}", stdout(&ready));

    let starting = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 20\r\n\r\nnot ready: starting\n";
    let not_ready = health(&answers(starting)).output().unwrap();
    assert_eq!(not_ready.status.code(), Some(1), "{}", stderr(&not_ready));
    assert_eq!(stdout(&not_ready), "not ready: starting\n");
    let not_ready = health(&answers(starting)).arg("--json").output().unwrap();
    assert_eq!(not_ready.status.code(), Some(1));
    let said: Value = serde_json::from_slice(&not_ready.stdout).unwrap();
    assert_eq!(
        said,
        json!({"ready": false, "reasons": ["starting"], "warnings": []})
    );

    let warning = b"HTTP/1.1 200 OK\r\ncontent-length: 26\r\n\r\nready\nwarning: late \x1b[31m.\n";
    let warned = health(&answers(warning))
        .args(["--field", "warnings.0"])
        .output()
        .unwrap();
    assert_eq!(warned.status.code(), Some(0), "{}", stderr(&warned));
    assert!(stdout(&warned).starts_with("late "));
    let warned = health(&answers(warning)).output().unwrap();
    assert!(
        stdout(&warned).contains("late <U+001B>[31m."),
        "{}",
        stdout(&warned)
    );
}

#[test]
fn health_that_cannot_be_told_is_neither() {
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let another = answers(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
    let page = answers(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
    let gateway = answers(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy");
    let no_http = answers(b"SSH-2.0-OpenSSH_9.2\r\n");
    let closed = answers(b"");
    for address in [
        &nobody,
        &another,
        &page,
        &gateway,
        &no_http,
        &closed,
        "https://127.0.0.1:1",
        "7601",
    ] {
        let output = health(address).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{address}: {}", stderr(&output));
        assert!(
            !stderr(&output).is_empty() && output.stdout.is_empty(),
            "{address}"
        );
    }
    // A port that accepts and does not answer.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", silent.local_addr().unwrap());
    let mut command = tessera();
    let output = command
        .args(["health", "--timeout", "1s", "--admin-addr", &address])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("no answer within 1s"),
        "{}",
        stderr(&output)
    );
    // The variable, as a container sets it; an empty one counts as not set.
    let mut command = tessera();
    let output = command
        .arg("health")
        .env("TESSERA_ADMIN_ADDR", &nobody)
        .output()
        .unwrap();
    assert!(stderr(&output).contains(&nobody), "{}", stderr(&output));
}
