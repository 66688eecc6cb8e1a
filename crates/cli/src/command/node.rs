//! `tessera node …`.

use serde_json::{Value, json};
use tessera_daemon::{admin_address, ask_admin_for_json};

use super::status::node_row;
use crate::{
    arguments::{Connection, Node, Output},
    failure::Failure,
    output::columns,
};

pub(crate) async fn run(command: &Node, connection: &Connection, output: &Output) -> Result<(), Failure> {
    let Node::List { admin } = command;
    let address = &admin.admin_addr;
    let asked = admin_address(address)
        .and_then(|address| ask_admin_for_json(address, "/status", connection.admin_time()));
    let status = asked.map_err(|error| {
        Failure::cannot_run(format!("the admin socket {address} does not answer: {error}"))
    })?;
    let Some(others) = status.get("other_nodes").and_then(Value::as_array) else {
        return Err(Failure::cannot_run(
            "this node can't read the database, and does not know the other nodes: its log says why",
        ));
    };
    let nodes: Vec<Value> = std::iter::once(itself(&status))
        .chain(others.iter().cloned())
        .collect();
    output.print(&json!({ "nodes": nodes }), || told(&status, &nodes))
}

/// The node that answered, in the form in which another one would report it.
fn itself(status: &Value) -> Value {
    let verifiers = status["verifiers"].as_array().map_or(&[][..], Vec::as_slice);
    let here = verifiers
        .iter()
        .filter(|verifier| verifier["node"] == status["node"] && verifier["connected"] == true);
    json!({
        "name": status["node"],
        "seen_seconds_ago": 0.0,
        "events_behind": 0,
        "answers": status["ready"],
        "ended": false,
        "verifiers": here.count(),
    })
}

fn told(status: &Value, nodes: &[Value]) -> String {
    if status["node"].is_null() {
        return "one node: its store is a directory, which no other node shares".to_owned();
    }
    let rows: Vec<_> = nodes.iter().map(node_row).collect();
    columns(["NODE", "STATE", "SEEN", "EVENTS BEHIND", "VERIFIERS"], &rows)
}
