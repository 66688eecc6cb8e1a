//! The command line: its output and exit codes.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::support::{Authority, json, root, stderr, stdout, tessera};

fn code(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    (output.status.code(), stderr(&output))
}

#[test]
fn every_verb_has_its_json_document() {
    let authority = Authority::dev(&[]);
    let run = |arguments: &[&str]| json(authority.tessera("production").args(arguments));

    let issued = run(&[
        "token",
        "issue",
        "--subject",
        "user:ann",
        "--role",
        "role:viewer",
        "--label",
        "stream:1",
    ]);
    assert_eq!(issued["tokens"]["token_type"], "Bearer");
    assert_eq!(issued["tokens"]["expires_in"], 3600);
    let (access, session) = (
        issued["tokens"]["access_token"].as_str().unwrap(),
        issued["session_id"].as_str().unwrap(),
    );
    let refreshed = run(&[
        "token",
        "refresh",
        issued["tokens"]["refresh_token"].as_str().unwrap(),
    ]);
    assert_eq!(
        (refreshed["generation"].as_u64(), refreshed["replayed"].as_bool()),
        (Some(2), Some(false))
    );

    let introspected = run(&["token", "introspect", access]);
    assert_eq!(
        (introspected["active"].as_bool(), introspected["sub"].as_str()),
        (Some(true), Some("user:ann"))
    );
    let inspected = run(&["token", "inspect", access]);
    assert_eq!(
        (inspected["verified"].clone(), inspected["sub"].as_str()),
        (Value::Null, Some("user:ann"))
    );
    assert_eq!(run(&["token", "inspect", access, "--verify"])["verified"], true);

    let shown = run(&["session", "show", session]);
    assert_eq!(
        (shown["state"].as_str(), shown["generation"].as_u64()),
        (Some("active"), Some(2))
    );
    assert_eq!(
        run(&["session", "list", "--subject", "user:ann"])["sessions"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        run(&["session", "list", "--label", "stream:1"])["sessions"][0]["session_id"],
        session
    );
    assert_eq!(
        run(&["revoke", "--subject", "user:ann", "--validate-only"])["matched"],
        1
    );
    assert_eq!(run(&["token", "revoke", access])["matched"], 1);
    assert_eq!(run(&["session", "revoke", session])["matched"], 1);
    assert_eq!(run(&["session", "show", session])["state"], "revoked");
    let waited = run(&["revoke", "--label", "stream:1", "--wait"]);
    let nobody = serde_json::json!({ "acknowledged": 0, "failed_closed": 0 });
    assert_eq!((&waited["matched"], &waited["propagation"]), (&0.into(), &nobody));
}

#[test]
fn an_inactive_token_is_exit_code_1() {
    let authority = Authority::dev(&[]);
    for (arguments, printed) in [
        (&["--json"][..], r#"{"active":false}"#),
        (&[], "inactive"),
        (&["--field", "active"], "false"),
    ] {
        let mut command = authority.tessera("production");
        let output = command
            .args(["token", "introspect", "nonsense"])
            .args(arguments)
            .output();
        let output = output.unwrap();
        assert_eq!((output.status.code(), stdout(&output).trim()), (Some(1), printed));
    }
}

#[test]
fn api_keys_are_made_rolled_revoked_and_listed() {
    let authority = Authority::dev(&[]);
    let run = |arguments: &[&str]| json(authority.tessera("production").args(arguments));
    let made = run(&[
        "apikey",
        "create",
        "shop",
        "--realm",
        "production",
        "--expires",
        "1h",
    ]);
    assert_eq!(made["api_key"]["status"], "active");
    let id = made["api_key"]["id"].as_str().unwrap();
    let rolled = run(&["apikey", "roll", id, "--overlap", "1h"]);
    assert_eq!(
        (
            rolled["previous"]["status"].as_str(),
            rolled["previous"]["id"].as_str()
        ),
        (Some("rolled"), Some(id))
    );
    let shown = run(&["apikey", "show", id]);
    assert_eq!(shown["api_key"]["made_by"], "client:dev");
    assert_eq!(shown["descendants"][0]["replaces_id"], id);
    run(&["apikey", "revoke", id]);
    let listed = run(&["apikey", "list"]);
    let status = listed["api_keys"]
        .as_array()
        .unwrap()
        .iter()
        .find(|key| key["id"] == id)
        .unwrap();
    assert_eq!(status["status"], "revoked");
}

/// Runs a command on a terminal on which `answer` is typed; returns what the terminal shows.
fn on_a_terminal(authority: &Authority, command: &str, answer: &str) -> (Option<i32>, String) {
    let binary = crate::support::binary().display();
    let tessera = authority.tessera("production");
    let mut script = Command::new("script");
    script
        .args(["-qec", &format!("{binary} {command}"), "/dev/null"])
        .envs(
            tessera
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = script.spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{answer}").unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), stdout(&output))
}

#[test]
fn who_ends_much_is_asked_first() {
    let authority = Authority::dev(&[]);
    let run = |arguments: &[&str]| code(authority.tessera("production").args(arguments));
    let active = || {
        json(
            authority
                .tessera("production")
                .args(["session", "list", "--count"]),
        )["active"]
            .as_u64()
            .unwrap()
    };
    for _ in 0..2 {
        json(authority.tessera("production").args(["token", "issue"]));
    }
    let (status, said) = run(&["revoke", "--whole-realm"]);
    assert!(status == Some(2) && said.contains("--yes"), "{said}");
    let (status, _) = run(&["revoke", "--realm"]);
    assert_eq!(status, Some(2));
    for (command, asked) in [
        ("revoke --whole-realm", "2 live sessions of the whole realm"),
        ("revoke --client dev", "2 live sessions of client:dev"),
        (
            "revoke --client client:dev --disable",
            "None of its API keys works",
        ),
    ] {
        for answer in ["n", "", "yess"] {
            let (status, said) = on_a_terminal(&authority, command, answer);
            assert!(status == Some(1) && said.contains(asked), "{command}: {said}");
            assert!(said.contains("nothing was changed"), "{said}");
        }
    }
    assert_eq!(active(), 2);
    let (status, said) = on_a_terminal(&authority, "revoke --whole-realm --validate-only", "");
    assert!(
        status == Some(0) && said.contains("would end: 2") && !said.contains("y/N"),
        "{said}"
    );
    let (status, said) = on_a_terminal(&authority, "revoke --client dev", "y");
    assert!(status == Some(0) && said.contains("ended: 2"), "{said}");
    let (status, said) = on_a_terminal(&authority, "revoke --whole-realm --yes", "");
    assert!(status == Some(0) && !said.contains("y/N"), "{said}");
    json(authority.tessera("production").args(["token", "issue"]));
    assert_eq!(run(&["revoke", "--whole-realm", "--yes"]).0, Some(0));
    assert_eq!(active(), 0);
}

#[test]
fn a_key_with_sessions_is_not_ended_by_a_slip() {
    let authority = Authority::dev(&[]);
    let run = |arguments: &[&str]| json(authority.tessera("production").args(arguments));
    let made = run(&["apikey", "create", "dev"]);
    let id = made["api_key"]["id"].as_str().unwrap();
    let mut issue = authority.tessera("production");
    issue.env("TESSERA_API_KEY", made["secret"].as_str().unwrap());
    json(issue.args(["token", "issue"]));
    let (status, said) = on_a_terminal(&authority, &format!("apikey revoke {id}"), "n");
    assert!(
        status == Some(1) && said.contains("1 API key") && said.contains("1 live session"),
        "{said}"
    );
    assert_eq!(run(&["session", "list", "--count"])["active"], 1);
    let alone = run(&["apikey", "create", "shop"]);
    let alone = alone["api_key"]["id"].as_str().unwrap();
    let (status, said) = on_a_terminal(&authority, &format!("apikey revoke {alone}"), "");
    assert!(status == Some(0) && said.contains("revoked"), "{said}");
}

#[test]
fn lists_have_a_header_and_columns_with_times() {
    let authority = Authority::dev(&[]);
    let run = |arguments: &[&str]| {
        let output = authority.tessera("production").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    };
    assert_eq!(run(&["session", "list"]), "no sessions\n");
    assert_eq!(run(&["session", "list", "--count"]), "0 sessions, 0 active\n");
    for subject in ["user:ann", "user:bartholomew"] {
        let issue = ["token", "issue", "--role", "role:viewer", "--subject", subject];
        run(&issue);
    }
    run(&["apikey", "create", "shop", "--expires", "1h"]);
    for (list, columns) in [
        (
            &["session", "list"][..],
            &["STATE", "SUBJECT", "CLIENT", "CREATED", "ENDS", "SCOPES"][..],
        ),
        (&["apikey", "list"], &["STATUS", "CLIENT", "CREATED", "ENDS"]),
    ] {
        let listed = run(list);
        let mut lines = listed.lines();
        let header = lines.next().unwrap();
        let rows: Vec<_> = lines.collect();
        assert!(rows.len() >= 2, "{listed}");
        for column in columns {
            let start = header.find(column).unwrap();
            for row in &rows {
                let cell = row.get(start..).unwrap_or_default();
                assert!(
                    row.as_bytes()[start - 1] == b' ' && !cell.starts_with(' '),
                    "{listed}"
                );
                if *column == "CREATED" {
                    assert!(cell.starts_with("20"), "{listed}");
                }
            }
        }
    }
    assert!(run(&["session", "list"]).contains("user:bartholomew"));
    for client in ["dev", "client:dev"] {
        let count = run(&["session", "list", "--client", client, "--count"]);
        assert_eq!(count, "2 sessions, 2 active\n");
        assert_eq!(
            run(&["revoke", "--client", client, "--validate-only"]),
            "would end: 2\n"
        );
    }
    let both = ["session", "list", "--client", "dev", "--subject", "user:ann"];
    assert_eq!(code(authority.tessera("production").args(both)).0, Some(2));
}

#[test]
fn one_field_is_printed_for_scripts() {
    let authority = Authority::dev(&[]);
    let output = authority
        .tessera("production")
        .args(["token", "issue", "--field", "tokens.access_token"])
        .output();
    let output = output.unwrap();
    assert!(stdout(&output).starts_with("v4.public.") && stdout(&output).lines().count() == 1);
    let (status, said) =
        code(
            authority
                .tessera("production")
                .args(["token", "issue", "--field", "tokens.acces"]),
        );
    assert!(status == Some(2) && said.contains("tokens.acces"), "{said}");
}

#[test]
fn exit_codes_tell_done_refused_and_could_not_run_apart() {
    let authority = Authority::dev(&[]);
    let (status, said) = code(
        authority
            .tessera("production")
            .args(["token", "refresh", "tsr_nonsense"]),
    );
    assert!(
        status == Some(1) && said.contains("UNAUTHENTICATED / REFRESH_TOKEN_INVALID"),
        "{said}"
    );
    let (status, said) = code(authority.tessera("").args(["token", "issue"]));
    assert!(status == Some(2) && said.contains("TESSERA_API_KEY"), "{said}");
    let (status, said) = code(tessera().args([
        "token",
        "issue",
        "--addr",
        "http://127.0.0.1:1",
        "--api-key",
        "tsk_x",
    ]));
    assert!(status == Some(2) && said.contains("http://127.0.0.1:1"), "{said}");
    let (status, said) = code(tessera().args(["token", "isue"]));
    assert!(status == Some(2) && said.contains("issue"), "{said}");
    let (status, said) = code(tessera().arg("revoke"));
    assert!(status == Some(2) && said.contains("--subject"), "{said}");
    let (status, said) =
        code(
            authority
                .tessera("production")
                .args(["token", "issue", "--access-ttl", "1 hour"]),
        );
    assert!(status == Some(2) && said.contains("90s"), "{said}");
    let refused = authority
        .tessera("production")
        .args(["token", "refresh", "tsr_x", "--json"])
        .output()
        .unwrap();
    let document: Value = serde_json::from_slice(&refused.stderr).unwrap();
    assert_eq!(document["error"]["reason"], "REFRESH_TOKEN_INVALID");
    assert!(refused.stdout.is_empty());
}

#[test]
fn a_token_is_read_from_stdin() {
    let authority = Authority::dev(&[]);
    let token =
        json(authority.tessera("production").args(["token", "issue"]))["tokens"]["access_token"].clone();
    let mut command = authority.tessera("production");
    command
        .args(["token", "introspect", "-", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{}", token.as_str().unwrap()).unwrap();
    let output = child.wait_with_output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["active"], true);
}

#[test]
fn watch_prints_one_document_a_line() {
    use std::io::{BufRead, BufReader};
    let authority = Authority::dev(&[]);
    let issued = json(authority.tessera("production").args(["token", "issue"]));
    let revoked = json(authority.tessera("production").args([
        "session",
        "revoke",
        issued["session_id"].as_str().unwrap(),
    ]));
    let mut command = authority.tessera("production");
    command
        .args(["watch", "--from", "snapshot", "--json"])
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    assert!(next()["snapshot_begin"].is_object());
    let item = next();
    assert_eq!(item["snapshot_item"]["kind"], "session_revoked");
    assert_eq!(item["snapshot_item"]["cursor"], revoked["cursor"]);
    assert_eq!(next()["snapshot_end"]["items"], 1);
    json(
        authority
            .tessera("production")
            .args(["revoke", "--subject", "user:ann"]),
    );
    let event = next();
    assert_eq!(
        (
            event["event"]["kind"].as_str(),
            event["event"]["subject"].as_str()
        ),
        (Some("subject_revoked"), Some("user:ann"))
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_commands_that_dev_prints_work_as_printed() {
    use std::io::{BufRead, BufReader};
    let mut command = tessera();
    command
        .args(["dev", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .current_dir(root());
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut banner = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    while !banner.contains("Ctrl-C") {
        assert!(out.read_line(&mut banner).unwrap() > 0, "{banner}");
    }
    let _authority = Authority::adopt(child, String::new());
    let lines: Vec<_> = banner.lines().map(str::trim).collect();
    let start = lines.iter().position(|line| line.starts_with("export ")).unwrap();
    let commands = lines[start..]
        .iter()
        .take_while(|line| !line.is_empty() && !line.contains(" watch "));
    let script: Vec<_> = commands.copied().collect();
    assert!(script.len() >= 3, "{banner}");
    let output = Command::new("sh")
        .arg("-ec")
        .arg(script.join("\n"))
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("user:ann"), "{}", stdout(&output));
}

#[test]
fn the_ready_file_has_what_is_printed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ready.json");
    let authority = Authority::dev(&["--ready-file", file.to_str().unwrap()]);
    let written: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(written, authority.ready);
    for name in ["version", "grpc", "http", "admin", "policy_revision", "realms"] {
        assert!(!written[name].is_null(), "{name}");
    }
    assert_eq!(written["data_dir"], Value::Null);
    assert_eq!(written["realms"]["sandbox"]["kind"], "sandbox");
}

#[test]
fn a_refusal_of_policy_says_how_it_is_explained() {
    let authority = Authority::dev(&[]);
    let run = |arguments: &[&str]| code(authority.tessera("production").args(arguments));
    for (arguments, wanted) in [
        (&["--role", "role:admin"][..], "tessera/roles/role:admin:assert"),
        (
            &["--role", "role:viewer", "--scope", "videos:write"][..],
            "videos:write",
        ),
    ] {
        let issue = [&["--json", "token", "issue", "--subject", "user:ann"], arguments].concat();
        let (exit, said) = run(&issue);
        let document: Value = serde_json::from_str(&said).unwrap();
        let decision = document["error"]["decision_id"].as_str().unwrap();
        assert_eq!(exit, Some(1));
        let explained = authority
            .tessera("production")
            .args(["policy", "explain", "--decision", decision])
            .output()
            .unwrap();
        assert!(stdout(&explained).contains(wanted), "{}", stdout(&explained));
        assert!(stdout(&explained).contains("DENIED"), "{}", stdout(&explained));
        let (_, said) = run(&issue[1..]);
        assert!(
            said.contains("why: `tessera policy explain --decision "),
            "{said}"
        );
    }
}
