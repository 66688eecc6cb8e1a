//! The verbs of `tessera policy` that ask an authority, against a real one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::support::{Authority, here, policies, tessera, text};

#[test]
fn status_describes_the_policy_in_force() {
    let authority = Authority::dev();
    let said = authority.run(0, &["policy", "status"]);
    for part in ["19 rules, compiled", "directory", "policies", "by start: applied"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let status = authority.json(0, &["policy", "status"]);
    let checked = authority.json(0, &["policy", "check"]);
    assert_eq!(status["policy_revision"], checked["revision"]);
    assert_eq!(status["rules"], checked["rules"]);
    assert_eq!(
        (status["compiled"].as_bool(), status["attempt_outcome"].as_str()),
        (Some(true), Some("applied"))
    );
}

#[test]
fn a_refused_change_is_seen_and_the_policy_before_stays() {
    let authority = Authority::dev();
    let before = authority.json(0, &["policy", "status"])["policy_revision"].clone();
    authority.spoil();
    let said = authority.run(1, &["policy", "reload"]);
    assert!(
        said.contains("POLICY_REFUSED") && said.contains("tessera policy check"),
        "{said}"
    );
    let said = authority.run(1, &["policy", "status"]);
    for part in [
        "refused",
        "× P037:",
        "more.csv:1:4",
        "help: did you mean `role:reader`?",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let status = authority.json(1, &["policy", "status"]);
    assert_eq!(status["policy_revision"], before);
    assert_eq!(status["attempt_outcome"], "refused");
    assert_eq!(status["diagnostics"][0]["code"], "P037");
    assert_eq!(status["diagnostics_total"], 1);
}

#[test]
fn explain_and_can_ask_the_authority() {
    let authority = Authority::dev();
    let asked = ["client:jobs", "reports/2026:read"];
    let live = |verb: &str, code: i32, asked: &[&str], more: &[&str]| {
        authority.run(code, &[&["policy", verb], asked, &["--live"], more].concat())
    };
    let offline = [&["policy", "explain"], &asked[..], &["--realm", "production"]].concat();
    assert_eq!(live("explain", 0, &asked, &[]), authority.run(0, &offline));
    assert_eq!(
        live("explain", 0, &asked, &["--json"]),
        authority.run(0, &[&offline[..], &["--json"]].concat())
    );
    let denied = live(
        "explain",
        0,
        &["client:jobs", "invoices:read"],
        &["--realm", "production"],
    );
    assert!(
        denied.starts_with("DENIED") && denied.contains("realm sandbox is not production"),
        "{denied}"
    );
    let said = live("explain", 2, &asked, &["--realm", "sandbox"]);
    assert!(said.contains("realm `production`, not `sandbox`"), "{said}");

    assert_eq!(live("can", 0, &asked, &[]), "yes\n");
    assert_eq!(live("can", 0, &asked, &["--realm", "production"]), "yes\n");
    let said = live("can", 1, &["client:jobs", "invoices:read"], &[]);
    assert!(said.starts_with("no: no rule allows invoices:read"), "{said}");
    assert_eq!(
        live(
            "can",
            0,
            &["client:portal", "tessera/roles/role:reader:assert"],
            &[]
        ),
        "yes\n"
    );
    assert!(live("can", 1, &["client:portal", "tessera/realm:revoke"], &[]).starts_with("no: "));
    assert_eq!(
        live(
            "can",
            0,
            &["user:ann", "reports/1:read"],
            &["--role", "role:reader"]
        ),
        "yes\n"
    );
}

#[test]
fn a_decision_that_was_made_is_explained() {
    let authority = Authority::dev();
    let issued = authority.issue("user:ann");
    let decision = issued["decision_id"].as_str().unwrap();
    let said = authority.run(0, &["policy", "explain", "--decision", decision]);
    for part in [
        "decided at ",
        "ALLOWED  user:ann → reports/2026:read  (production)",
        "role:reader (asserted)",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let explained = authority.json(0, &["policy", "explain", "--decision", decision]);
    assert_eq!(
        explained["explanations"][0]["policy_revision"],
        issued["policy_revision"]
    );
}

#[test]
fn diff_adds_what_live_sessions_would_lose() {
    let authority = Authority::dev();
    authority.issue("user:ann");
    let compare = ["policy", "diff", "policies", "next", "--server"];
    let said = authority.run(2, &compare);
    assert!(said.contains("13 gained, 1 lost"), "{said}");
    assert!(
        said.contains("sessions of the API key's realm: none of 1 live is affected"),
        "{said}"
    );
    let said = authority.run(2, &["policy", "diff", "next", "policies", "--server"]);
    assert!(said.contains("not OLD's"), "{said}");
    let sessions = authority.json(2, &compare)["sessions"].clone();
    assert_eq!(
        sessions,
        serde_json::json!({ "live": 1, "narrowed": 0, "ended": 0 })
    );
}

#[test]
fn a_plan_of_files_that_are_sent_is_shown_and_can_not_be_applied() {
    let authority = Authority::dev();
    let said = authority.run(0, &["policy", "plan", "next"]);
    assert!(
        said.contains("! + client:portal  tessera/roles/role:auditor:assert"),
        "{said}"
    );
    assert!(!said.contains("policy apply"), "{said}");
    assert!(
        authority
            .run(0, &["policy", "plan"])
            .contains("is in force already")
    );
    let plan = authority.json(0, &["policy", "plan", "next"]);
    assert_eq!(plan["changes"][0]["kind"], "gained");
    let said = authority.run(1, &["policy", "apply", plan["plan"].as_str().unwrap()]);
    assert!(
        said.contains("PLAN_STALE") && said.contains("tessera policy plan"),
        "{said}"
    );
    assert!(
        authority
            .run(2, &["policy", "plan", "nowhere"])
            .contains("no directory `nowhere`")
    );
}

#[test]
fn a_plan_shows_changes_of_routes_as_diff_does() {
    let authority = Authority::dev();
    let routes = here().join("tests/policies/rerouted/routes.toml");
    fs::copy(routes, authority.path("next/routes.toml")).unwrap();
    let (plan, diff) = (["policy", "plan", "next"], ["policy", "diff", "policies", "next"]);
    let block = |said: &str| {
        let (_, rest) = said.split_once("\nroutes\n").unwrap_or_else(|| panic!("{said}"));
        rest.split_once("\n\n").unwrap().0.to_owned()
    };
    let (planned, compared) = (authority.run(0, &plan), authority.run(2, &diff));
    assert_eq!(block(&planned), block(&compared));
    assert!(
        block(&planned).contains("GET,HEAD *.example.org/reports/{id}"),
        "{planned}"
    );
    for said in [&planned, &compared] {
        assert!(
            said.contains("; 5 changes of routes, 4 of them gains\n"),
            "{said}"
        );
    }
    let (planned, compared) = (authority.json(0, &plan), authority.json(2, &diff));
    assert!(planned["routes"][0]["after"]["needs"].is_string(), "{planned}");
    for member in ["routes", "routes_gained", "routes_left_out", "routes_lost"] {
        assert_eq!(planned[member], compared[member], "{member}");
    }
}

#[test]
fn of_several_addresses_the_first_that_works_is_used() {
    let authority = Authority::dev();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    let (nobody, works) = ("http://127.0.0.1:1", authority.address());
    let many: Vec<_> = (1..=17).map(|port| format!("http://127.0.0.1:{port}")).collect();
    let many = many.join(",");
    for (addresses, code, expected) in [
        (format!("{works},{nobody}"), 0, "rules"),
        (format!("{nobody}, {works}"), 0, "rules"),
        (format!("{silent},{works}"), 0, "rules"),
        (format!("{nobody},{silent}"), 2, "none of the addresses works"),
        (format!("{nobody},{silent}"), 2, "http://127.0.0.1:1: "),
        (format!("{nobody},{silent}"), 2, "it does not answer within 1 s"),
        (
            format!("https://localhost:1,{works}"),
            2,
            "use https:// for all of",
        ),
        (many, 2, "17 addresses are more than 16"),
    ] {
        let said = authority.run(
            code,
            &["policy", "status", "--timeout", "1s", "--addr", &addresses],
        );
        assert!(said.contains(expected), "{addresses}: {said}");
    }
}

#[test]
fn a_wrong_port_or_a_time_that_is_over_is_said() {
    let authority = Authority::dev();
    let ready: Value = serde_json::from_slice(&fs::read(authority.path("ready.json")).unwrap()).unwrap();
    let admin = ready["admin"].as_str().unwrap();
    let said = authority.run(2, &["policy", "status", "--addr", admin]);
    assert!(said.contains("not of `admin_listen`"), "{said}");
    let said = authority.run(2, &["policy", "status", "--timeout", "0s"]);
    assert!(said.contains("at least 1s"), "{said}");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    let said = authority.run(2, &["policy", "status", "--timeout", "1s", "--addr", &silent]);
    assert!(said.contains("DEADLINE_EXCEEDED"), "{said}");
    let (key, file) = (authority.path("backup.key"), authority.path("backup"));
    let (key, file) = (key.to_str().unwrap(), file.to_str().unwrap());
    authority.run(0, &["backup", "key", "new", key]);
    let issued = authority.issue("user:ann");
    let token = issued["tokens"]["access_token"].as_str().unwrap();
    // A stream has no deadline, but begins within one.
    for call in [
        &["watch"][..],
        &["audit", "verify"],
        &["audit", "tail"],
        &["backup", "create", file, "--key-file", key],
        &["token", "inspect", token, "--verify", "--audience", "api"],
        &["subscribers", "list"],
    ] {
        let arguments = [call, &["--timeout", "1s", "--addr", &silent]].concat();
        let said = authority.run(2, &arguments);
        assert!(said.contains("within 1 s (--timeout)"), "{call:?}: {said}");
    }
    let said = authority.run(2, &["top", "--once", "--timeout", "1s", "--admin-addr", &silent]);
    assert!(
        said.contains("no authority answers at the admin socket"),
        "{said}"
    );
}

/// A variable of a script that is empty must not mean something else.
#[test]
fn an_option_that_is_given_and_empty_is_refused() {
    let authority = Authority::dev();
    for command in [
        &["token", "issue", "--subject", ""][..],
        &["token", "issue", "--audience", ""],
        &["token", "issue", "--request-id", ""],
        &["session", "list", "--label", ""],
        &["revoke", "--subject", ""],
        &["audit", "list", "--subject", ""],
    ] {
        let said = authority.run(2, command);
        assert!(
            said.contains("leave the option out instead"),
            "{command:?}: {said}"
        );
    }
}

#[test]
fn a_client_in_place_of_the_id_of_a_key_is_said_before_anything_is_asked() {
    let authority = Authority::dev();
    for verb in ["show", "roll", "revoke"] {
        let said = authority.run(2, &["apikey", verb, "jobs"]);
        assert!(
            said.contains("tessera apikey list") && said.contains("--client NAME"),
            "{said}"
        );
    }
}

#[test]
fn a_key_in_the_wrong_place_is_not_repeated() {
    let key = "tsk_production_0123456789abcdef";
    for wrong in [
        &["health", "--timeout", key][..],
        &[key],
        &["health", key],
        &["health", "--admin-addr", key],
    ] {
        let output = tessera().args(wrong).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.contains("[redacted]") && !said.contains("0123456789"),
            "{said}"
        );
    }
}

/// A secret that is shown once is not made if it would not be shown: the authority, which would refuse, is not called.
#[test]
fn a_field_that_the_answer_has_not_makes_no_key() {
    let authority = Authority::dev();
    for made in [
        ["apikey", "create", "jobs"],
        ["apikey", "roll", "0123456789abcdef"],
    ] {
        authority.run(1, &[&made[..], &["--field", "secret"]].concat());
        let said = authority.run(2, &[&made[..], &["--field", "secrets"]].concat());
        assert!(said.contains("it has secret"), "{said}");
    }
}

#[test]
fn a_key_file_is_whole_or_not_there() {
    let directory = tempfile::tempdir().unwrap();
    let binary = tessera();
    let made = |limit: &str, code: i32, said: &str| {
        let script = format!("{limit} exec \"$0\" backup key new made.key");
        let output = Command::new("bash")
            .args(["-c", &script])
            .arg(binary.get_program())
            .current_dir(directory.path())
            .output()
            .unwrap();
        let printed = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{printed}");
        assert!(printed.contains(said), "{printed}");
    };
    made("ulimit -f 0;", 2, "too large");
    assert!(!directory.path().join("made.key").exists());
    made("", 0, "");
    made("", 2, "a key file is never replaced");
}

#[test]
fn a_plan_is_applied_as_it_says_and_sessions_follow_it() {
    let authority = Authority::serve();
    authority.issue("user:ann");
    authority.take_reports_away();
    let said = authority.run(0, &["policy", "plan"]);
    assert!(
        said.contains("sessions of that realm: of 1 live, 0 would lose scopes and 1 would end"),
        "{said}"
    );
    let apply = said
        .lines()
        .find_map(|line| line.strip_prefix("put it in force with: tessera "))
        .unwrap();
    let mut words: Vec<&str> = apply.split(' ').collect();
    words.extend(["--max-sessions", "0"]);
    let refused = authority.run(1, &words);
    assert!(
        refused.contains("TOO_MANY_SESSIONS") && refused.contains("--max-sessions"),
        "{refused}"
    );
    words.truncate(3);
    let applied = authority.run(0, &words);
    assert!(applied.contains("is in force"), "{applied}");
    assert!(
        applied.contains("sessions: of 1 live, 0 lost scopes and 1 ended"),
        "{applied}"
    );
    let said = authority.run(0, &["policy", "status"]);
    assert!(said.contains("by call: applied"), "{said}");
}

#[test]
fn reload_puts_in_force_what_the_directory_has() {
    let authority = Authority::serve();
    let said = authority.run(0, &["policy", "reload"]);
    assert!(said.contains("as before"), "{said}");
    authority.issue("user:ann");
    authority.take_reports_away();
    let reloaded = authority.json(0, &["policy", "reload"]);
    assert_ne!(reloaded["previous_revision"], reloaded["policy_revision"]);
    assert_eq!(reloaded["sessions"]["ended"], 1);
    assert!(!reloaded["cursor"].as_str().unwrap().is_empty());
}

#[test]
fn the_banner_of_dev_shows_commands_that_work_with_the_policy() {
    let directory = policies();
    let mut command = tessera();
    command.current_dir(directory.path()).args([
        "dev",
        "--policy",
        "policies",
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
    ]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut banner = String::new();
    while !banner.contains("Ctrl-C") {
        assert!(out.read_line(&mut banner).unwrap() > 0, "{banner}");
    }
    let start = banner.find("  export ").unwrap();
    let script = banner[start..].split("\n\n").next().unwrap();
    let ran = Command::new("sh")
        .args(["-ec", script])
        .current_dir(directory.path())
        .output()
        .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(ran.status.success(), "{script}\n{}", text(&ran.stderr));
    assert!(script.contains("token issue --scope invoices:read\n"), "{script}");
    assert!(
        banner.contains("a change in this directory takes effect automatically"),
        "{banner}"
    );
}

#[test]
fn a_change_in_the_directory_of_dev_is_put_in_force_by_itself() {
    let authority = Authority::dev();
    let mut watch = authority.command(&[
        "watch",
        "--from",
        "earliest",
        "--kind",
        "policy_applied",
        "--json",
    ]);
    let mut watching = watch.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    authority.take_reports_away();
    let changed = authority.json(0, &["policy", "check"])["revision"].clone();
    let seen = lines.by_ref().any(|line| {
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        event["event"]["policy_revision"] == changed
    });
    watching.kill().unwrap();
    watching.wait().unwrap();
    assert!(seen);
}

#[test]
fn inspect_checks_the_audience() {
    let authority = Authority::dev();
    let issued = authority.issue("user:ann");
    let token = issued["tokens"]["access_token"].as_str().unwrap();
    let verify = ["token", "inspect", token, "--verify"];
    let said = authority.run(0, &[&verify[..], &["--audience", "api"]].concat());
    assert!(said.contains("signature, time and audience are right"), "{said}");
    let said = authority.run(1, &[&verify[..], &["--audience", "billing"]].concat());
    assert!(said.contains("REFUSED"), "{said}");
    assert!(authority.run(0, &verify).contains("signature and time are right"));
    authority.run(2, &["token", "inspect", token, "--audience", "api"]);
}

#[test]
fn what_a_session_lost_is_seen_in_sessions_and_events() {
    let authority = Authority::serve();
    let issue = ["token", "issue", "--subject", "user:ann", "--role", "role:reader"];
    let scopes = ["--scope", "reports/2026:read", "--scope", "reports/2027:read"];
    let issued = authority.json(0, &[issue.as_slice(), scopes.as_slice()].concat());
    let session = issued["session_id"].as_str().unwrap();
    let denies = "p, role:reader, *, reports/2027, read, deny\n";
    fs::write(authority.path("policies/more.csv"), denies).unwrap();
    let reloaded = authority.json(0, &["policy", "reload"]);
    assert_eq!(reloaded["sessions"]["narrowed"], 1);

    let shown = authority.json(0, &["session", "show", session]);
    assert_eq!(shown["lost_scopes"], serde_json::json!(["reports/2027:read"]));
    let client = shown["client"].as_str().unwrap();
    let listed = authority.run(0, &["session", "list", "--client", client]);
    assert!(
        listed.contains("reports/2026:read") && !listed.contains("reports/2027:read"),
        "{listed}"
    );
    let shown = authority.run(0, &["session", "show", session]);
    assert!(
        shown.contains("lost") && shown.contains("reports/2027:read"),
        "{shown}"
    );
}

#[test]
fn a_missing_permission_is_told_as_the_line_of_policy_that_gives_it() {
    let authority = Authority::serve();
    let said = authority.run(1, &["apikey", "list"]);
    let line = "p, client:dev, production, tessera/api-keys, read, allow";
    assert!(
        said.contains("CALL_NOT_ALLOWED") && said.contains(&format!("`{line}` gives it")),
        "{said}"
    );
    let refused = authority.output(&["apikey", "list", "--json"]);
    let document: Value = serde_json::from_slice(&refused.stderr).unwrap();
    assert_eq!(document["error"]["policy_line"], line);
    let issue = ["token", "issue", "--subject", "spiffe://jobs/a"];
    let issue_line = "p, client:dev, production, tessera/subjects/spiffe://jobs/a, issue, allow";
    let said = authority.run(1, &issue);
    assert!(said.contains(issue_line), "{said}");

    fs::write(
        authority.path("policies/more.csv"),
        format!("{line}\n{issue_line}\n"),
    )
    .unwrap();
    authority.run(0, &["policy", "reload"]);
    let listed = authority.run(0, &["apikey", "list"]);
    assert!(listed.contains("client:dev"), "{listed}");
    // The remaining refusal is not about the caller.
    let said = authority.output(&issue);
    assert!(
        !text(&said.stderr).contains("CALL_NOT_ALLOWED"),
        "{}",
        text(&said.stderr)
    );
}

#[test]
fn a_directory_is_named_as_an_argument_and_as_an_option() {
    let directory = policies();
    let code = |arguments: &[&str]| {
        let output = tessera()
            .current_dir(directory.path())
            .args(["policy"])
            .args(arguments)
            .output();
        let output = output.unwrap();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    let question = ["client:jobs", "reports/2026:read", "--realm", "production"];
    for verb in [&["check"][..], &["test"], &["fmt"], &["explain"], &["can"]] {
        let asked: &[&str] = match verb {
            ["explain" | "can"] => &question,
            _ => &[],
        };
        let argument = code(&[verb, asked, &["next"]].concat());
        let option = code(&[verb, asked, &["--policy", "next"]].concat());
        assert!(
            argument == option && argument.0 == Some(0),
            "{verb:?} {argument:?} {option:?}"
        );
        let (status, _) = code(&[verb, asked, &["next", "--policy", "next"]].concat());
        assert_eq!(status, Some(2), "{verb:?}");
        let (status, said) = code(&[verb, asked, &["nowhere"]].concat());
        assert!(status == Some(2) && said.contains("nowhere"), "{said}");
    }
}
