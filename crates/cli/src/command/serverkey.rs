//! `tessera serverkey …`.

use std::path::Path;

use serde_json::{Value, json};
use tessera_daemon::{Config, ask_admin_for_json, new_server_key};

use crate::{
    arguments::{Output, ServerKey},
    failure::Failure,
    output::columns,
};

pub(crate) fn run(command: &ServerKey, output: &Output) -> Result<(), Failure> {
    match command {
        ServerKey::New { file } => {
            let id = new_server_key(file).map_err(Failure::cannot_run)?;
            output.print(&json!({ "id": id, "file": file }), || {
                format!("{id}\nKeep a copy of `{}`, apart from the data.", file.display())
            })
        }
        ServerKey::Status { config } => status(config, output),
    }
}

fn status(config: &Path, output: &Output) -> Result<(), Failure> {
    let config = Config::read(config).map_err(Failure::cannot_run)?;
    let address = config.server.admin_listen.ok_or_else(|| {
        Failure::cannot_run("the configuration has no `admin_listen`, which answers this question")
    })?;
    let status = ask_admin_for_json(address, "/server-keys").map_err(|error| {
        Failure::cannot_run(format!(
            "no authority answers at `admin_listen` {address}: {error}"
        ))
    })?;
    output.print(&status, || told(&status))
}

fn told(status: &Value) -> String {
    let text = |key: &Value, name: &str| match &key[name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let current = &status["current"];
    let mut rows = vec![[
        text(current, "id"),
        "current".to_owned(),
        text(current, "signing_keys"),
        String::new(),
    ]];
    for key in status["previous"].as_array().into_iter().flatten() {
        rows.push([
            text(key, "id"),
            "earlier".to_owned(),
            text(key, "signing_keys"),
            text(key, "refresh_tokens_until"),
        ]);
    }
    let mut told = columns(["ID", "", "SIGNING KEYS", "REFRESH TOKENS UNTIL"], &rows);
    if status["last_change_refused"] == true {
        told += "\nwarning: the files of [keys] have changed and can't be used; see the log of the authority";
    }
    told
}
