//! An operator's tools: the metrics that alerts and the dashboard name, `status`, `top` and `doctor`.

mod commands;
mod exposition;

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tessera_proto::v1::{
    AwaitPropagationRequest, WatchRequest, WatchStart, revoke_request::Target, watch_request::Message,
    watch_start::From,
};
use tokio_stream::StreamExt;

use self::exposition::{Exposition, Named};
use crate::{
    log::Log,
    serving::{Place, free_port},
    support::{Authority, Client, PATIENCE, refresh, root, soon, viewer},
};

/// The answer of the admin socket.
pub(crate) fn admin(address: &str, path: &str) -> String {
    let output = Command::new("curl")
        .args(["--silent", "--fail", &format!("{address}{path}")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{path}");
    String::from_utf8(output.stdout).unwrap()
}

/// The metrics of an authority that got every kind of call, with a required verifier.
async fn metrics_of_a_busy_one() -> String {
    let authority = Authority::dev(&[]);
    let address = authority.ready["admin"].as_str().unwrap();
    let client = authority.client("production").await;
    let issued = client.issue(viewer("user:ann")).await.unwrap();
    let first = refresh(issued.tokens.as_ref());
    client.refresh(&first).await.unwrap();
    client.refresh("tsr_none").await.unwrap_err();
    let start = WatchStart {
        from: Some(From::Latest(true)),
        subscriber: "edge-1".to_owned(),
        required: true,
        ..WatchStart::default()
    };
    let start = WatchRequest {
        message: Some(Message::Start(start)),
    };
    let requests = tokio_stream::iter([start]).chain(tokio_stream::pending());
    let watched = client.revocations().watch(requests).await.unwrap();
    let mut frames = watched.into_inner();
    soon("the stream begins", frames.next()).await.unwrap().unwrap();
    let target = Target::SessionId(issued.session_id.clone());
    client.revoke(target).await.unwrap();
    // The verifier acknowledges nothing.
    let behind = admin(address, "/metrics");
    assert!(behind.contains("subscriber=\"edge-1\"} 1"), "{behind}");
    // The sandbox has no required verifier.
    let sandbox = authority.client("sandbox").await;
    let issued = sandbox.issue(viewer("user:bob")).await.unwrap();
    let revoked = sandbox
        .revoke(Target::SessionId(issued.session_id))
        .await
        .unwrap();
    let request = AwaitPropagationRequest {
        cursor: revoked.cursor,
    };
    sandbox.revocations().await_propagation(request).await.unwrap();
    let keys = format!("{}/keys", authority.address);
    assert!(
        Command::new("curl")
            .args(["--silent", "--output", "/dev/null", &keys])
            .status()
            .unwrap()
            .success()
    );
    let text = admin(address, "/metrics");
    drop(frames);
    text
}

/// The metrics of an authority with a certificate and a sink.
fn metrics_of_a_configured_one() -> String {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let place = Place::with(
        "[server.tls]\ncertificate = \"server.crt\"\nprivate_key = \"server.pem\"\n[audit.sinks.archive]\nkind = \"file\"\npath = \"audit.jsonl\"\n",
    );
    fs::write(place.path("server.crt"), made.cert.pem()).unwrap();
    fs::write(place.path("server.pem"), made.signing_key.serialize_pem()).unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    place.edit(
        "tessera.toml",
        "admin_listen = \"127.0.0.1:0\"",
        &format!("admin_listen = \"{address}\""),
    );
    let _authority = crate::serving::serve(&place.config(), &place.address);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = admin(&format!("http://{address}"), "/metrics");
        // A sink begins in a task of its own.
        if text.contains("tessera_audit_sink_failing{") {
            return text;
        }
        assert!(Instant::now() < deadline, "{text}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The expressions of the alerts: the text after `expr:`, in the line or in a block below it.
fn expressions_of_rules(text: &str) -> Vec<String> {
    let mut lines = text.lines().peekable();
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        let Some(expression) = line.trim_start().strip_prefix("expr: ") else {
            continue;
        };
        if expression != "|" {
            found.push(expression.to_owned());
            continue;
        }
        let mut block = String::new();
        while let Some(line) = lines.next_if(|line| line.starts_with("          ")) {
            block += line;
        }
        found.push(block);
    }
    found
}

fn expressions_of_dashboard(document: &Value) -> Vec<String> {
    let panels = document["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    targets
        .map(|target| target["expr"].as_str().unwrap().to_owned())
        .collect()
}

fn rules() -> String {
    fs::read_to_string(root().join("deploy/prometheus/rules.yml")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_of_alerts_and_dashboard_is_one_of_a_running_authority() {
    let busy = metrics_of_a_busy_one().await;
    let configured = tokio::task::spawn_blocking(metrics_of_a_configured_one)
        .await
        .unwrap();
    let known = Exposition::read(&[&busy, &configured]);
    let dashboard = fs::read_to_string(root().join("deploy/grafana/tessera.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let (alerts, panels) = (
        expressions_of_rules(&rules()),
        expressions_of_dashboard(&dashboard),
    );
    assert!(
        alerts.len() >= 15 && panels.len() >= 30,
        "{} {}",
        alerts.len(),
        panels.len()
    );
    let mut wrong = Vec::new();
    for expression in alerts.iter().chain(&panels) {
        let named = Named::in_expression(expression);
        if named.is_empty() && !expression.starts_with("up{") {
            wrong.push(format!("no metric in {expression}"));
        }
        wrong.extend(named.iter().filter_map(|named| known.problem(named)));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let rows: BTreeSet<_> = dashboard["panels"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|panel| panel["type"] == "row")
        .map(|panel| panel["title"].as_str().unwrap())
        .collect();
    assert_eq!(
        rows,
        BTreeSet::from(["Overview", "Calls", "Store", "Revocation", "Keys", "Process"])
    );
}

#[test]
fn a_metric_that_is_not_there_or_is_of_another_type_is_seen() {
    let known = Exposition::read(&[
        "# TYPE tessera_calls_total counter\ntessera_calls_total{rpc=\"A\"} 1\n# TYPE tessera_ready gauge\ntessera_ready 1\n# TYPE tessera_s histogram\ntessera_s_bucket{le=\"1\"} 1\n",
    ]);
    let problems = |expression: &str| {
        let named = Named::in_expression(expression);
        named
            .iter()
            .filter(|named| known.problem(named).is_some())
            .count()
    };
    for good in [
        "rate(tessera_calls_total{rpc=\"A\",instance=~\"$i\"}[5m]) > 1",
        "tessera_ready == 0",
        "histogram_quantile(0.9, sum by (le) (rate(tessera_s_bucket[5m])))",
    ] {
        assert_eq!(problems(good), 0, "{good}");
    }
    for bad in [
        "tessera_call_total > 1",
        "tessera_calls_total > 1",
        "rate(tessera_ready[5m])",
        "rate(tessera_calls_total{code=\"A\"}[5m])",
    ] {
        assert_eq!(problems(bad), 1, "{bad}");
    }
}

/// The anchor that a heading has on GitHub.
fn anchor(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-');
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn every_alert_names_a_section_that_is_there() {
    let page = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let sections: BTreeSet<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(anchor)
        .collect();
    let rules = rules();
    let runbooks: Vec<_> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("runbook: docs/operations.md#"))
        .collect();
    assert_eq!(runbooks.len(), rules.matches("- alert: ").count());
    for section in runbooks {
        assert!(sections.contains(section), "{section}");
    }
}

/// A subscriber is refused in its stream: the call has an answer once the stream has a first part.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_whether_a_subscriber_was_refused() {
    let place = Place::new();
    let key = place.first_key("production");
    let log = Log::default();
    let authority = place.serve_with("debug", log.clone());
    let client = Client::connect(&authority.address, key["secret"].as_str().unwrap()).await;
    for (from, expected) in [
        (
            From::Cursor("no-cursor".to_owned()),
            "call refused rpc=Watch code=InvalidArgument",
        ),
        (From::Latest(true), "call served rpc=Watch"),
    ] {
        let start = WatchStart {
            from: Some(from),
            ..WatchStart::default()
        };
        let first = WatchRequest {
            message: Some(Message::Start(start)),
        };
        let before = log.len();
        let requests = tokio_stream::once(first).chain(tokio_stream::pending());
        let stream = client.revocations().watch(requests).await.unwrap();
        drop(soon("an answer", stream.into_inner().message()).await);
        log.says(before, expected).await;
        let text = log.text();
        assert_eq!(text[before..].matches("rpc=Watch").count(), 1, "{text}");
    }
}

/// No metric contains a token, a key or a subject.
#[tokio::test(flavor = "multi_thread")]
async fn no_metric_has_a_subject_or_what_a_caller_chose() {
    let authority = Authority::dev(&[]);
    let address = authority.ready["admin"].as_str().unwrap();
    let client = authority.client("production").await;
    client.issue(viewer("user:canary")).await.unwrap();
    for method in ["CANARY", "GET"] {
        let url = format!("{}/canary/path", authority.address);
        let asked = Command::new("curl")
            .args(["--silent", "--request", method, "--output", "/dev/null", &url])
            .status();
        assert!(asked.unwrap().success());
    }
    let text = admin(address, "/metrics");
    assert!(
        text.contains("http_request_method=\"_OTHER\",http_route=\"other\""),
        "{text}"
    );
    assert!(!text.to_lowercase().contains("canary"), "{text}");
    let status = admin(address, "/status");
    assert!(!status.contains("canary") && !status.contains("tsk_"), "{status}");
}

/// Runs `promtool`; `None` after printing how to get it. With TESSERA_PEERS=required it must be installed.
fn promtool(arguments: &[&str], stdin: &str) -> Option<String> {
    let started = Command::new("promtool")
        .args(arguments)
        .current_dir(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = started else {
        let is_required = std::env::var_os("TESSERA_PEERS").is_some_and(|value| value == "required");
        assert!(!is_required, "no promtool: apt-get install prometheus");
        return None;
    };
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = format!(
        "{}{}",
        crate::support::stdout(&output),
        crate::support::stderr(&output)
    );
    assert!(output.status.success(), "{said}");
    Some(said)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs peers: docs/peers.md"]
async fn promtool_has_nothing_to_say() {
    let Some(said) = promtool(&["check", "rules", "deploy/prometheus/rules.yml"], "") else {
        return;
    };
    assert!(said.contains("SUCCESS"), "{said}");
    let busy = metrics_of_a_busy_one().await;
    let said = promtool(&["check", "metrics"], &busy).unwrap();
    assert_eq!(said.trim(), "");
}
