//! `tessera serverkey …`.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

use serde_json::{Value, json};
use tessera_daemon::{Config, new_server_key};

use crate::{
    arguments::{Output, ServerKey},
    failure::Failure,
    output::columns,
};

/// How long the authority may take to answer.
const TIME_MAX: Duration = Duration::from_secs(5);
/// It answers with less.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

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
    let status = asked(address).map_err(|error| {
        Failure::cannot_run(format!(
            "no authority answers at `admin_listen` {address}: {error}"
        ))
    })?;
    output.print(&status, || told(&status))
}

fn asked(address: SocketAddr) -> std::io::Result<Value> {
    let mut stream = TcpStream::connect_timeout(&address, TIME_MAX)?;
    stream.set_read_timeout(Some(TIME_MAX))?;
    write!(
        stream,
        "GET /server-keys HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).map_err(|_| std::io::Error::other("it answers something else"))
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
