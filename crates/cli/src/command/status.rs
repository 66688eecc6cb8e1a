//! `tessera status`: the state of an authority on one screen.

mod of_realm;

use std::process::ExitCode;

use serde_json::{Value, json};
use tessera_daemon::{admin_address, ask_admin_for_json};

use crate::{
    arguments::{ADMIN_ADDRESS, Connection, Output, Status},
    failure::Failure,
    output::{columns, table},
    terminal::{Paint, visible},
};

pub(crate) async fn run(
    command: &Status,
    connection: &Connection,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let admin = &command.admin.admin_addr;
    let asked = admin_address(admin)
        .and_then(|address| ask_admin_for_json(address, "/status", connection.admin_time()));
    let mut document = match asked {
        Ok(document) => document,
        Err(error) => {
            let of_realm = of_realm::document(connection).await.map_err(|failure| {
                let message = format!(
                    "the admin socket {admin} does not answer ({error}), and the authority was asked instead"
                );
                failure.after(&message)
            })?;
            without_admin(of_realm, command, &error.to_string())
        }
    };
    let needs_doing = !items(&document, "attention").is_empty();
    if let Some(members) = document.as_object_mut() {
        members.insert("needs_doing".to_owned(), json!(needs_doing));
    }
    output.print(&document, || told(&document))?;
    Ok(ExitCode::from(u8::from(needs_doing)))
}

/// The document of a realm says nothing about readiness, backups, sinks and sessions. That is a problem if the admin
/// socket was named: somebody relies on it.
fn without_admin(mut document: Value, command: &Status, error: &str) -> Value {
    let admin = &command.admin.admin_addr;
    let message = format!(
        "the admin socket {admin} does not answer ({error}): readiness, backups, sinks and sessions were not checked"
    );
    let Some(members) = document.as_object_mut() else {
        return document;
    };
    members.insert(
        "admin_socket".to_owned(),
        json!({ "address": admin, "error": error }),
    );
    if admin == ADMIN_ADDRESS {
        members.insert("not_checked".to_owned(), json!(message));
        return document;
    }
    let todo = "start the authority, or correct --admin-addr or TESSERA_ADMIN_ADDR";
    let item = json!({ "code": "admin_socket_silent", "message": message, "todo": todo });
    let items = members.entry("attention").or_insert_with(|| json!([]));
    if let Some(items) = items.as_array_mut() {
        items.push(item);
    }
    document
}

/// A member as text; empty if it is not known.
fn text(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => visible(text).into_owned(),
        Some(other) => other.to_string(),
    }
}

fn items<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

fn told(document: &Value) -> String {
    let paint = Paint::stdout();
    let mut told = head(document, paint);
    told += &table(&facts(document));
    for section in [
        realms(document),
        keys(document),
        verifiers(document),
        nodes(document),
        sinks(document),
    ] {
        if !section.is_empty() {
            told += &format!("\n{section}");
        }
    }
    told += "\n";
    let not_checked = text(document, "/not_checked");
    if !not_checked.is_empty() {
        told += &format!("{not_checked}\n");
    }
    let attention = items(document, "attention");
    if attention.is_empty() {
        return told + "nothing needs doing";
    }
    for item in attention {
        told += &format!("{} {}\n", paint.warn("!"), text(item, "/message"));
        told += &format!("  {}\n", paint.hint(&format!("→ {}", text(item, "/todo"))));
    }
    told
}

fn head(document: &Value, paint: Paint) -> String {
    match document["ready"].as_bool() {
        Some(true) => format!("{}\n", paint.good("ready")),
        Some(false) => format!(
            "{}: {}\n",
            paint.bad("not ready"),
            text(document, "/why_not_ready")
        ),
        None => String::new(),
    }
}

fn facts(document: &Value) -> Vec<(&'static str, String)> {
    let with = |pointer: &str, before: &str| {
        let text = text(document, pointer);
        if text.is_empty() {
            text
        } else {
            format!("{before}{text}")
        }
    };
    let policy = format!(
        "{}{}{}",
        text(document, "/policy/revision"),
        with("/policy/since", " since "),
        with("/policy/rules", ", rules: "),
    );
    let backup = match document.pointer("/backup/last_at") {
        Some(Value::Null) => "never".to_owned(),
        _ => format!(
            "{}{}",
            text(document, "/backup/last_at"),
            with("/backup/last_sequence", ", up to event ")
        ),
    };
    vec![
        ("version", text(document, "/version")),
        ("time", text(document, "/time")),
        ("policy", policy),
        ("events", text(document, "/log_sequence")),
        ("last backup", backup),
        ("server key", text(document, "/server_key/id")),
        ("certificate", with("/certificate/expires_at", "until ")),
    ]
}

fn realms(document: &Value) -> String {
    let rows: Vec<_> = items(document, "realms")
        .iter()
        .map(|realm| {
            [
                text(realm, "/name"),
                text(realm, "/sessions"),
                text(realm, "/api_keys_ending/7d"),
            ]
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    columns(["REALM", "SESSIONS", "API KEYS THAT END IN 7 DAYS"], &rows)
}

fn keys(document: &Value) -> String {
    let mut rows = Vec::new();
    for realm in items(document, "realms") {
        for key in items(realm, "signing_keys") {
            rows.push([
                text(realm, "/name"),
                text(key, "/id"),
                text(key, "/status"),
                text(key, "/not_before"),
                text(key, "/rotates_at"),
                text(key, "/not_after"),
            ]);
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    columns(
        [
            "REALM",
            "SIGNING KEY",
            "STATUS",
            "SIGNS FROM",
            "ROTATES AT",
            "VERIFIES UNTIL",
        ],
        &rows,
    )
}

fn verifiers(document: &Value) -> String {
    let verifiers = items(document, "verifiers");
    if verifiers.is_empty() {
        return "no required verifiers\n".to_owned();
    }
    if verifiers.iter().all(|state| state["node"].is_null()) {
        let rows: Vec<_> = verifiers.iter().map(verifier).collect();
        return columns(
            ["REALM", "VERIFIER", "NAME", "BEHIND", "SILENT", "BOUND", "STATE"],
            &rows,
        );
    }
    let rows = verifiers.iter().map(|state| {
        let [realm, client, name, behind, silent, bound, connected] = verifier(state);
        let node = text(state, "/node");
        [realm, client, name, node, behind, silent, bound, connected]
    });
    columns(
        [
            "REALM", "VERIFIER", "NAME", "NODE", "BEHIND", "SILENT", "BOUND", "STATE",
        ],
        &rows.collect::<Vec<_>>(),
    )
}

fn verifier(state: &Value) -> [String; 7] {
    let is = |name: &str| state[name] == true;
    let seconds = |name: &str| format!("{:.1}s", state[name].as_f64().unwrap_or_default());
    let stands = match (is("connected"), is("failed_closed")) {
        (true, false) => "connected",
        (true, true) => "connected, refuses by itself",
        (false, false) => "gone, waited for",
        (false, true) => "gone, refuses by itself",
    };
    [
        text(state, "/realm"),
        text(state, "/client"),
        text(state, "/name"),
        text(state, "/events_behind"),
        seconds("silent_for_seconds"),
        seconds("staleness_bound_seconds"),
        stands.to_owned(),
    ]
}

/// The other nodes of an authority that has several.
fn nodes(document: &Value) -> String {
    let others = items(document, "other_nodes");
    if others.is_empty() {
        return String::new();
    }
    let rows: Vec<_> = others.iter().map(node_row).collect();
    columns(
        ["OTHER NODE", "STATE", "SEEN", "EVENTS BEHIND", "VERIFIERS"],
        &rows,
    )
}

/// One of the other nodes.
pub(super) fn node_row(node: &Value) -> [String; 5] {
    let seen = node["seen_seconds_ago"].as_f64().unwrap_or_default();
    let state = match (node["answers"] == true, node["ended"] == true) {
        (true, _) => "answers",
        (false, true) => "stopped",
        (false, false) => "gone",
    };
    [
        text(node, "/name"),
        state.to_owned(),
        format!("{seen:.0}s ago"),
        text(node, "/events_behind"),
        text(node, "/verifiers"),
    ]
}

fn sinks(document: &Value) -> String {
    let sinks = items(document, "audit_sinks");
    if sinks.is_empty() {
        return String::new();
    }
    let row = |sink: &Value| {
        let by = text(sink, "/delivered_by");
        [
            text(sink, "/name"),
            text(sink, "/lag_records"),
            text(sink, "/failing_since"),
            if by.is_empty() { "this node".to_owned() } else { by },
        ]
    };
    let rows: Vec<_> = sinks.iter().map(row).collect();
    if document["node"].is_null() {
        let rows: Vec<_> = rows
            .into_iter()
            .map(|[name, lag, since, _]| [name, lag, since])
            .collect();
        return columns(["AUDIT SINK", "RECORDS BEHIND", "FAILING SINCE"], &rows);
    }
    columns(
        ["AUDIT SINK", "RECORDS BEHIND", "FAILING SINCE", "DELIVERED BY"],
        &rows,
    )
}
