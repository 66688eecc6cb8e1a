//! `tessera serverkey …`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tessera_daemon::{
    Config, KeptKey, Resealed, ask_admin_for_json, kept_keys, new_sealing_key, new_server_key, reseal,
};

use crate::{
    arguments::{Connection, Output, ServerKey},
    failure::Failure,
    output::columns,
};

pub(crate) fn run(command: &ServerKey, connection: &Connection, output: &Output) -> Result<(), Failure> {
    match command {
        ServerKey::New { file, config } => {
            let config = config.as_deref().map(read).transpose()?;
            let sealer = config.as_ref().and_then(|config| config.keys.sealer.as_ref());
            let id = new_server_key(file, sealer)?;
            let is_sealed = sealer.is_some();
            output.print(&json!({ "id": id, "file": file, "sealed": is_sealed }), || {
                format!(
                    "{id}\nKeep a copy of `{}` in a different place from the data.",
                    file.display()
                )
            })
        }
        ServerKey::NewSealingKey { file } => {
            let id = new_sealing_key(file)?;
            output.print(&json!({ "id": id, "file": file }), || {
                format!(
                    "{id}\nKeep a copy of `{}` in a different place from the server key, which can't be opened without it.",
                    file.display()
                )
            })
        }
        ServerKey::Reseal { config, from, files } => reseal_all(config, from.as_deref(), files, output),
        ServerKey::Status { config } => status(config, connection, output),
    }
}

fn read(path: &Path) -> Result<Config, Failure> {
    Ok(Config::read(path)?)
}

fn reseal_all(config: &Path, from: Option<&Path>, files: &[PathBuf], output: &Output) -> Result<(), Failure> {
    let config = read(config)?;
    let from = from.map(read).transpose()?;
    let from = from.as_ref().and_then(|from| from.keys.sealer.as_ref());
    let files = match files {
        [] => [&config.keys.file]
            .into_iter()
            .chain(&config.keys.previous)
            .collect(),
        files => files.iter().collect::<Vec<_>>(),
    };
    let mut resealed = Vec::new();
    for file in files {
        // One file after the other: finished files stay finished, and a second run continues with the rest.
        resealed.push(reseal(file, from, config.keys.sealer.as_ref())?);
    }
    let documents: Vec<_> = resealed.iter().map(to_json).collect();
    output.print(&json!({ "files": documents }), || {
        resealed.iter().map(resealed_line).collect::<Vec<_>>().join("\n")
    })
}

fn to_json(resealed: &Resealed) -> Value {
    let key = &resealed.key;
    json!({ "file": key.file, "id": key.id, "sealed_by": key.sealed_by, "changed": resealed.is_changed })
}

fn resealed_line(resealed: &Resealed) -> String {
    let (file, before) = (
        resealed.key.file.display(),
        if resealed.is_changed { "now" } else { "already" },
    );
    match &resealed.key.sealed_by {
        Some(by) => format!("`{file}` is {before} sealed with {by}"),
        None => format!("`{file}` is {before} not sealed: everyone who can read it has the server key"),
    }
}

fn status(config: &Path, connection: &Connection, output: &Output) -> Result<(), Failure> {
    let config = read(config)?;
    let address = config.server.admin_listen.ok_or_else(|| {
        Failure::cannot_run("the configuration has no `admin_listen`, which this command needs")
    })?;
    let mut status =
        ask_admin_for_json(address, "/server-keys", connection.admin_time()).map_err(|error| {
            Failure::cannot_run(format!(
                "no authority answers at `admin_listen` {address}: {error}"
            ))
        })?;
    let files = kept_keys(&config);
    if let Some(status) = status.as_object_mut() {
        let files = files
            .iter()
            .map(|KeptKey { file, id, sealed_by }| json!({ "file": file, "id": id, "sealed_by": sealed_by }));
        status.insert("files".to_owned(), files.collect());
    }
    output.print(&status, || told(&status, &files))
}

fn told(status: &Value, files: &[KeptKey]) -> String {
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
    let mut told = columns(["ID", "STATE", "SIGNING KEYS", "REFRESH TOKENS UNTIL"], &rows);
    for key in files
        .iter()
        .filter_map(|key| key.sealed_by.as_ref().map(|by| (&key.file, by)))
    {
        told += &format!("\n`{}` is sealed with {}", key.0.display(), key.1);
    }
    if status["last_change_refused"] == true {
        told += "\nwarning: the files of [keys] have changed and can't be used; see the log of the authority";
    }
    told
}
