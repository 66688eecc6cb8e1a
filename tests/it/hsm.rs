//! A server key that an HSM seals, with the real binary and SoftHSM: Debian's `softhsm2` and `opensc`.

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Mutex,
};

use serde_json::Value;
use tessera_proto::v1::IssueResponse;

use crate::{
    log::Log,
    serving::{Place, free_port},
    support::{Authority, Client, access, refresh, root, stderr, stdout, tessera, viewer},
    tour::run_in,
};

const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";
/// It must not be in any output.
const PIN: &str = "canary-pin-7391";
const PIN_FILE: &str = "pin_file = \"pin\"";
/// The beginning of a sealed key file.
const SEALED: &str = "tessera sealed server key 1\n";
const IN_USE: &str = "the files of [keys] have the server keys that are in use";

/// A machine with SoftHSM, whose tokens are a directory, and an authority.
struct Machine {
    place: Place,
    /// The configuration without a sealer.
    plain: String,
    log: Log,
    /// The server keys that were ever unsealed in a file.
    secrets: Mutex<Vec<String>>,
}

impl Machine {
    /// `None` after printing how to get SoftHSM. With `TESSERA_PEERS=required` it must be installed.
    fn new() -> Option<Self> {
        if !Path::new(SOFTHSM).exists() || spy().is_none() {
            let is_required = env::var_os("TESSERA_PEERS").is_some_and(|value| value == "required");
            assert!(!is_required, "no SoftHSM: apt-get install softhsm2 opensc");
            let _ = writeln!(io::stderr(), "nothing tested: apt-get install softhsm2 opensc");
            return None;
        }
        Some(Self::without_hsm())
    }

    fn without_hsm() -> Self {
        let place = Place::new();
        let admin = format!("admin_listen = \"127.0.0.1:{}\"", free_port());
        place.edit("tessera.toml", "admin_listen = \"127.0.0.1:0\"", &admin);
        fs::create_dir(place.path("tokens")).unwrap();
        let tokens = place.path("tokens");
        fs::write(
            place.path("softhsm2.conf"),
            format!("directories.tokendir = {}\n", tokens.display()),
        )
        .unwrap();
        fs::write(place.path("pin"), format!("{PIN}\n")).unwrap();
        Self {
            plain: fs::read_to_string(place.config()).unwrap(),
            place,
            log: Log::default(),
            secrets: Mutex::default(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path(name)
    }

    fn change(&self, command: &mut Command) {
        command
            .env("SOFTHSM2_CONF", self.path("softhsm2.conf"))
            .env("PKCS11SPY", SOFTHSM)
            .env("PKCS11SPY_OUTPUT", self.path("spied"))
            .env("RUST_LOG", "trace");
    }

    /// Runs a tool of the HSM, which must succeed.
    fn tool(&self, program: &str, arguments: &[&str]) {
        let mut command = Command::new(program);
        self.change(&mut command);
        let output = command.args(arguments).env("PIN", PIN).output().unwrap();
        assert!(output.status.success(), "{program}: {}", stderr(&output));
    }

    fn token(&self, label: &str) {
        self.tool(
            "softhsm2-util",
            &[
                "--init-token",
                "--free",
                "--label",
                label,
                "--pin",
                PIN,
                "--so-pin",
                "12345678",
            ],
        );
    }

    fn key(&self, token: &str, label: &str, kind: &str) {
        let module = [
            "--module",
            SOFTHSM,
            "--token-label",
            token,
            "--login",
            "--pin",
            "env:PIN",
        ];
        let key = ["--keygen", "--key-type", kind, "--label", label, "--sensitive"];
        self.tool("pkcs11-tool", &[&module[..], &key].concat());
    }

    fn delete_key(&self, token: &str, label: &str) {
        let module = [
            "--module",
            SOFTHSM,
            "--token-label",
            token,
            "--login",
            "--pin",
            "env:PIN",
        ];
        let key = ["--delete-object", "--type", "secrkey", "--label", label];
        self.tool("pkcs11-tool", &[&module[..], &key].concat());
    }

    /// A machine with the keys `one` and `two` of the token `tessera`, the first of which seals a new server key. Also
    /// returns the API key of a client.
    fn sealed(module: &str) -> Option<(Self, String)> {
        let machine = Self::new()?;
        machine.token("tessera");
        machine.key("tessera", "one", "AES:32");
        machine.key("tessera", "two", "AES:32");
        machine.configure(module, "tessera", "one", PIN_FILE);
        let config = machine.place.config();
        let create = ["apikey", "create", "dev", "--realm", "production", "--json"];
        let made = machine.run(&[&create[..], &["--config", config.to_str().unwrap()]].concat());
        let made: Value = serde_json::from_slice(&made.stdout).unwrap();
        assert!(machine.key_file("server.key").starts_with(SEALED));
        Some((machine, made["secret"].as_str().unwrap().to_owned()))
    }

    /// Seals with a key of a token from now on; `before.toml` is the previous configuration.
    fn configure(&self, module: &str, token: &str, key: &str, more: &str) {
        fs::copy(self.place.config(), self.path("before.toml")).unwrap();
        let section = format!(
            "\n[keys.sealer]\nkind = \"pkcs11\"\nmodule = \"{module}\"\ntoken = \"{token}\"\nkey = \"{key}\"\n{more}\n"
        );
        fs::write(self.place.config(), format!("{}{section}", self.plain)).unwrap();
    }

    /// Runs a command, and checks that its output has no secret.
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = tessera();
        self.change(&mut command);
        let output = command.args(arguments).output().unwrap();
        self.log.clone().write_all(&output.stdout).unwrap();
        self.log.clone().write_all(&output.stderr).unwrap();
        output
    }

    /// Runs a command on the configuration; it must end with this code and this text.
    fn says(&self, arguments: &[&str], code: i32, expected: &str) -> String {
        let config = self.place.config();
        let output = self.run(&[arguments, &["--config", config.to_str().unwrap()]].concat());
        let said = format!("{}{}", stdout(&output), stderr(&output));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?} lacks {expected}: {said}");
        said
    }

    fn reseal(&self, expected: &str) {
        let before = self.path("before.toml");
        self.says(
            &["serverkey", "reseal", "--from", before.to_str().unwrap()],
            0,
            expected,
        );
    }

    /// The text of a key file; remembered as a secret if it is one.
    fn key_file(&self, name: &str) -> String {
        let text = fs::read_to_string(self.path(name)).unwrap();
        if let Some(secret) = text.trim().strip_prefix("k4.local.") {
            self.secrets.lock().unwrap().push(secret.to_owned());
        }
        text
    }

    fn serve(&self) -> Authority {
        self.place.start(self.log.clone(), |command| self.change(command))
    }

    /// A started authority, with a client that has issued.
    async fn started(&self, api_key: &str) -> (Authority, Client, IssueResponse) {
        let authority = self.serve();
        let client = Client::connect(&self.place.address, api_key).await;
        let issued = client.issue(viewer("user:ann")).await.unwrap();
        (authority, client, issued)
    }

    /// How often the module was called to log in.
    fn logins(&self) -> usize {
        let spied = fs::read_to_string(self.path("spied")).unwrap_or_default();
        spied.lines().filter(|line| line.ends_with(": C_Login")).count()
    }

    /// Sends SIGHUP, and waits for the log's message about the keys.
    async fn hang_up(&self, authority: &Authority, expected: &str) {
        let before = self.log.len();
        authority.signal("HUP");
        self.log.says(before, expected).await;
    }

    fn status(&self) -> Value {
        let config = self.place.config();
        let output = self.run(&[
            "serverkey",
            "status",
            "--json",
            "--config",
            config.to_str().unwrap(),
        ]);
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for Machine {
    /// Checks all output at the end.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let said = self.log.text();
        assert!(!said.contains(PIN), "the PIN is in what was said");
        for secret in &*self.secrets.lock().unwrap() {
            assert!(!said.contains(secret), "a server key is in what was said");
        }
    }
}

/// A module that records each call to another one.
fn spy() -> Option<PathBuf> {
    let directories = fs::read_dir("/usr/lib").ok()?;
    let found = directories.filter_map(|entry| Some(entry.ok()?.path().join("pkcs11-spy.so")));
    found.into_iter().find(|path| path.exists())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SoftHSM"]
async fn a_key_is_sealed_and_serves_as_before() {
    let Some(machine) = Machine::new() else { return };
    machine.token("tessera");
    machine.key("tessera", "one", "AES:32");
    let made = machine.place.first_key("production");
    let secret = made["secret"].as_str().unwrap();
    let plain = machine.key_file("server.key");

    // Unsealed, the key is refused; sealed, it is no longer in the file.
    machine.configure(SOFTHSM, "tessera", "one", PIN_FILE);
    machine.says(&["config", "check"], 1, "server.key` is not sealed");
    machine.says(
        &["serve"],
        2,
        "is not sealed, and [keys.sealer] is set: run `tessera serverkey reseal`",
    );
    machine.reseal("is now sealed with pkcs11 token \"tessera\" key \"one\"");
    let sealed = machine.key_file("server.key");
    assert!(sealed.starts_with(SEALED), "{sealed}");
    assert!(!sealed.contains(plain.trim().strip_prefix("k4.local.").unwrap()));
    machine.reseal("is already sealed with");
    assert_eq!(machine.key_file("server.key"), sealed);
    machine.says(&["config", "check"], 0, "can be served");

    let (authority, _, issued) = machine.started(secret).await;
    assert!(authority.stop().success());
    let authority = machine.serve();
    let client = Client::connect(&machine.place.address, secret).await;
    assert!(client.introspect(&access(issued.tokens.as_ref())).await.active);
    let status = machine.status();
    assert_eq!(
        status["files"][0]["sealed_by"],
        "pkcs11 token \"tessera\" key \"one\""
    );
    assert_eq!(status["files"][0]["id"], status["current"]["id"]);
    assert!(authority.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SoftHSM"]
async fn a_token_that_is_pulled_out_stops_nothing() {
    let Some((machine, secret)) = Machine::sealed(SOFTHSM) else {
        return;
    };
    let (authority, client, issued) = machine.started(&secret).await;
    fs::rename(machine.path("tokens"), machine.path("away")).unwrap();
    fs::create_dir(machine.path("tokens")).unwrap();
    machine
        .hang_up(
            &authority,
            "the server keys can't be replaced: the old keys stay in use",
        )
        .await;
    assert_eq!(machine.status()["last_change_refused"], true);
    let refreshed = client.refresh(&refresh(issued.tokens.as_ref())).await.unwrap();
    assert!(client.introspect(&access(refreshed.tokens.as_ref())).await.active);
    machine.says(&["config", "check"], 1, "there is no token `tessera`");
    machine.says(&["doctor"], 2, "The server key in an HSM");
    fs::remove_dir(machine.path("tokens")).unwrap();
    fs::rename(machine.path("away"), machine.path("tokens")).unwrap();
    machine.hang_up(&authority, IN_USE).await;
    assert_eq!(machine.status()["last_change_refused"], false);
    assert!(authority.stop().success());
}

/// Moves it to another key of the HSM while it serves, and then out of the HSM.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SoftHSM"]
async fn a_key_is_sealed_by_another_and_by_none() {
    let Some((machine, secret)) = Machine::sealed(SOFTHSM) else {
        return;
    };
    let (authority, client, issued) = machine.started(&secret).await;
    machine.configure(SOFTHSM, "tessera", "two", PIN_FILE);
    machine.reseal("is now sealed with pkcs11 token \"tessera\" key \"two\"");
    machine.hang_up(&authority, IN_USE).await;
    machine.says(
        &["doctor"],
        1,
        "the key `two` of the token `tessera` opens the server keys",
    );
    assert!(authority.stop().success());
    let authority = machine.serve();
    assert!(client.introspect(&access(issued.tokens.as_ref())).await.active);
    assert!(authority.stop().success());

    fs::copy(machine.place.config(), machine.path("before.toml")).unwrap();
    fs::write(machine.place.config(), &machine.plain).unwrap();
    machine.says(&["serve"], 2, "the configuration has no [keys.sealer]");
    machine.reseal("is now not sealed");
    assert!(machine.key_file("server.key").starts_with("k4.local."));
    let authority = machine.serve();
    assert!(client.introspect(&access(issued.tokens.as_ref())).await.active);
    assert!(authority.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SoftHSM"]
async fn a_wrong_pin_is_tried_once_and_the_hsm_is_asked_only_where_it_is_needed() {
    let spy = spy().unwrap_or_default();
    let Some((machine, secret)) = Machine::sealed(spy.to_str().unwrap()) else {
        return;
    };
    let mut logins = machine.logins();
    assert_eq!(logins, 2, "a key is made, and read");
    let mut more = |number: usize, what: &str| {
        let now = machine.logins();
        assert_eq!(now - logins, number, "{what}");
        logins = now;
    };
    // It answers, so a signal no longer ends it.
    let (authority, client, _) = machine.started(&secret).await;
    machine.hang_up(&authority, IN_USE).await;
    more(2, "the start and the signal, and no look of its own");

    let wrong = "wrong-canary-pin";
    let refused = "the token `tessera` refuses the PIN, which was tried once";
    fs::write(machine.path("pin"), wrong).unwrap();
    machine.hang_up(&authority, refused).await;
    more(1, "a wrong PIN");
    let again = "has refused this PIN before, and it is not tried again";
    machine.hang_up(&authority, again).await;
    more(0, "the same wrong PIN");
    client.issue(viewer("user:ann")).await.unwrap();
    fs::write(machine.path("pin"), PIN).unwrap();
    machine.hang_up(&authority, IN_USE).await;
    more(1, "the right PIN");
    assert!(authority.stop().success());

    fs::write(machine.path("pin"), wrong).unwrap();
    for (command, code) in [(&["serve"][..], 4), (&["doctor"], 2), (&["config", "check"], 1)] {
        machine.says(command, code, refused);
        more(1, "a command tries it once");
    }
    assert!(!machine.log.text().contains(wrong));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SoftHSM"]
async fn a_sealed_key_takes_the_place_of_another() {
    let Some((machine, secret)) = Machine::sealed(SOFTHSM) else {
        return;
    };
    let (authority, client, issued) = machine.started(&secret).await;
    let second = machine.path("second.key");
    machine.says(&["serverkey", "new", second.to_str().unwrap()], 0, "k4.lid.");
    assert!(
        machine
            .key_file("second.key")
            .starts_with("tessera sealed server key")
    );
    machine
        .place
        .edit("tessera.toml", "file = \"server.key\"", "file = \"second.key\"");
    machine
        .place
        .edit("tessera.toml", "previous = []", "previous = [\"server.key\"]");
    machine.hang_up(&authority, "the server keys are replaced").await;
    let refreshed = client.refresh(&refresh(issued.tokens.as_ref())).await.unwrap();
    assert!(authority.stop().success());
    let authority = machine.serve();
    assert!(client.introspect(&access(refreshed.tokens.as_ref())).await.active);
    assert!(authority.stop().success());
    // An earlier key that is not sealed is refused, too.
    let file = machine.path("plain.key");
    let made = machine.run(&["serverkey", "new", file.to_str().unwrap()]);
    assert!(made.status.success());
    machine.key_file("plain.key");
    machine.place.edit(
        "tessera.toml",
        "previous = [\"server.key\"]",
        "previous = [\"plain.key\"]",
    );
    machine.says(&["config", "check"], 1, "plain.key` is not sealed");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SoftHSM"]
async fn an_authority_that_is_asking_the_hsm_stops_as_ever() {
    let Some((machine, secret)) = Machine::sealed(SOFTHSM) else {
        return;
    };
    for _ in 0..10 {
        let (authority, ..) = machine.started(&secret).await;
        authority.signal("HUP");
        assert_eq!(authority.stop().code(), Some(0));
    }
}

#[test]
#[ignore = "needs SoftHSM"]
fn what_is_wrong_with_a_token_or_a_key_is_told() {
    let Some(machine) = Machine::new() else { return };
    machine.configure(SOFTHSM, "tessera", "one", PIN_FILE);
    let seal = |expected: &str| {
        let file = machine.path("new.key");
        machine.says(&["serverkey", "new", file.to_str().unwrap()], 2, expected);
    };
    seal("Only if this is a new HSM, initialize a token with its tool");
    machine.token("tessera");
    machine.token("other");
    seal(
        "the token `tessera` has no AES key `one`: make it there, or set `key` to one of these: (there are none)",
    );
    machine.key("tessera", "two", "AES:32");
    seal("set `key` to one of these: `two`");
    machine.key("tessera", "one", "GENERIC:32");
    seal("the key `one` may not be used for AES");
    machine.delete_key("tessera", "one");
    machine.key("tessera", "one", "AES:32");
    machine.key("tessera", "one", "AES:32");
    seal("2 keys of the token `tessera` have the label `one`");
    assert!(!machine.path("new.key").exists());
    machine.token("tessera");
    seal("several tokens have the label `tessera`: set `serial`");
}

#[test]
#[ignore = "needs SoftHSM"]
fn what_is_wrong_with_a_configuration_is_told() {
    let Some((machine, _)) = Machine::sealed(SOFTHSM) else {
        return;
    };
    for (module, token, key, more, said) in WRONG {
        machine.configure(module, token, key, more);
        machine.says(&["config", "check"], 1, said);
    }
}

#[test]
#[ignore = "needs SoftHSM"]
fn a_file_that_was_changed_is_told_from_one_that_another_key_sealed() {
    let Some((machine, _)) = Machine::sealed(SOFTHSM) else {
        return;
    };
    let check = |code: i32, expected: &str| machine.says(&["config", "check"], code, expected);
    let (file, sealed) = (machine.path("server.key"), machine.key_file("server.key"));
    fs::write(&file, sealed.replacen("\nsealed ", "\nsealed x", 1)).unwrap();
    check(1, "it is a sealed key that is damaged");
    fs::write(&file, &sealed).unwrap();
    check(0, "can be served");
    machine.delete_key("tessera", "one");
    machine.key("tessera", "one", "AES:32");
    check(1, "it was sealed with another key with this name, or was changed");
}

/// Module, token, key, further settings, and the expected message.
const WRONG: [(&str, &str, &str, &str, &str); 9] = [
    (
        "/nowhere/hsm.so",
        "tessera",
        "one",
        PIN_FILE,
        "the PKCS#11 module `/nowhere/hsm.so` can't be loaded: /nowhere/hsm.so: cannot open",
    ),
    (
        "softhsm2.conf",
        "tessera",
        "one",
        PIN_FILE,
        "softhsm2.conf: cannot open shared object",
    ),
    ("./softhsm2.conf", "tessera", "one", PIN_FILE, "can't be loaded"),
    (
        "libc.so.6",
        "tessera",
        "one",
        PIN_FILE,
        "`libc.so.6` is not a PKCS#11 module: set `module`",
    ),
    (
        SOFTHSM,
        "tesera",
        "one",
        PIN_FILE,
        "there is no token `tesera`: check that the HSM is connected, or set `token` to one of these: `",
    ),
    (
        SOFTHSM,
        "tessera",
        "one",
        "pin_file = \"pin\"\nserial = \"0\"",
        "with the serial number `0`",
    ),
    (
        SOFTHSM,
        "tessera",
        "one",
        "",
        "there is no PIN: name its file in `pin_file`",
    ),
    (
        SOFTHSM,
        "tessera",
        "one",
        "pin_file = \"gone\"",
        "gone` can't be read",
    ),
    (
        SOFTHSM,
        "tessera",
        "two",
        PIN_FILE,
        "is sealed with pkcs11 token \"tessera\" key \"one\", and [keys.sealer] names pkcs11 token \"tessera\" key \"two\"",
    ),
];

/// It does not depend on time: the wait is in the configuration.
#[test]
fn an_hsm_that_never_answers_is_not_waited_for() {
    let machine = Machine::without_hsm();
    let module = machine.path("hangs.so");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&module)
        .arg(root().join("tests/it/hsm_hangs.c"))
        .status()
        .unwrap();
    assert!(built.success());
    machine.configure(
        module.to_str().unwrap(),
        "tessera",
        "one",
        "pin_file = \"pin\"\nanswer_time_max = \"1s\"",
    );
    machine.says(
        &["serve"],
        2,
        "the HSM has not answered within 1 s: check that it is connected",
    );
}

/// The commands of the page, unchanged, with SoftHSM's directory and the test's.
#[test]
#[ignore = "needs SoftHSM"]
fn everything_goes_as_the_page_about_operations_says() {
    let Some(machine) = Machine::new() else { return };
    let page = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let section = page.split("\n## The server key in an HSM\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let block = section
        .split("```console\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let mut steps: Vec<(String, Vec<String>)> = Vec::new();
    for line in block.lines() {
        match line.strip_prefix("$ ") {
            Some(command) => steps.push((command.to_owned(), Vec::new())),
            None => steps.last_mut().unwrap().1.push(line.trim().to_owned()),
        }
    }
    assert!(steps.len() >= 8 && steps.iter().filter(|(_, expected)| !expected.is_empty()).count() >= 4);
    let toml = section
        .split("```toml\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    fs::write(machine.path("section.toml"), format!("\n{toml}")).unwrap();
    let edited = format!(
        "cat {} >> auth/tessera.toml",
        machine.path("section.toml").display()
    );
    for (command, _) in &mut steps {
        if command.starts_with("edit ") {
            command.clone_from(&edited);
        }
    }
    steps.insert(0, ("tessera init auth".to_owned(), Vec::new()));
    // There is no service to notify.
    steps.retain(|(command, _)| !command.starts_with("kill "));
    let conf = machine.path("softhsm2.conf");
    let directory = tempfile::tempdir().unwrap();
    let printed = run_in(
        directory.path(),
        &steps,
        &[("SOFTHSM2_CONF", conf.to_str().unwrap())],
    );
    let key = fs::read_to_string(directory.path().join("auth/server.key")).unwrap();
    assert!(key.starts_with(SEALED), "{printed}");
}
