//! `tessera init`: everything that a first authority needs, in one directory.

mod place;

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use tessera_authority::{ApiKeyTerms, Authority};
use tessera_core::{ClientName, MachineClock, RealmName};
use tessera_daemon::{
    Config, StartProgress,
    config::{PostgresUrl, check_issuer},
    launch, new_server_key, telemetry,
};

use self::place::Place;
use crate::{
    arguments::{Init, Output},
    command::shutdown,
    failure::Failure,
    notice::notice,
    terminal::quoted,
};

/// The configuration, and its name until everything that it needs exists.
const CONFIG: &str = "tessera.toml";
const UNFINISHED: &str = "tessera.toml.unfinished";
/// The files, with a placeholder for the operator's name.
const FILES: [(&str, &str); 5] = [
    (UNFINISHED, include_str!("../../../../tessera.example.toml")),
    (
        "policies/model.conf",
        include_str!("../../../../policies/model.conf"),
    ),
    (
        "policies/catalogue.toml",
        include_str!("../starter/catalogue.toml"),
    ),
    ("policies/policy.csv", include_str!("../starter/policy.csv")),
    (
        "policies/tests/starter.toml",
        include_str!("../starter/tests/starter.toml"),
    ),
];
const OPERATOR: &str = "client:OPERATOR";
const ISSUER: &str = "https://auth.example.org";
const DATA: &str = "path = \"data\"";
/// The head of the section, with the line that names the database.
const POSTGRES: &str =
    "\n# [store.postgres]\n# url = \"postgresql://tessera@db1.example.org,db2.example.org/tessera\"";
const LISTEN: &str = "\nlisten = \"127.0.0.1:7600\"";

/// Writes the files, and makes the server key, the data directory and an API key for each realm. If that fails, the
/// directory is restored.
pub(crate) async fn run(arguments: &Init, output: &Output) -> Result<(), Failure> {
    let operator = ClientName::from_short(&arguments.operator).map_err(Failure::cannot_run)?;
    output.check_field(&["config", "api_keys"])?;
    let place = place_of(&arguments.directory)?;
    let path = arguments.directory.join(CONFIG);
    let interrupted = shutdown::requested()?;
    let made = tokio::select! {
        made = make(arguments, &operator) => made.and_then(|keys| finish(&path).map(|()| keys)),
        () = interrupted => Err(Failure::cannot_run("interrupted: nothing was made")),
    };
    if made.is_err()
        && let Err(error) = place.restore()
    {
        let directory = arguments.directory.display();
        notice(&format!(
            "what was written to `{directory}` can't be removed: {error}"
        ));
    }
    let keys = made?;
    let document = json!({
        "config": path,
        "api_keys": keys.iter().map(|(realm, secret)| (realm.to_string(), json!(secret))).collect::<serde_json::Map<String, Value>>(),
    });
    let lost = "the API keys that were made are lost: remove the directory, and run `tessera init` again";
    output.print_once(&document, lost, || {
        told(&path, &keys, &operator, arguments.issuer.is_none())
    })
}

/// The secret of an API key for each realm.
type Keys = Vec<(RealmName, String)>;

/// Gives the configuration its name.
fn finish(path: &Path) -> Result<(), Failure> {
    let renamed = fs::rename(path.with_file_name(UNFINISHED), path);
    renamed.map_err(|error| unusable(path, &error))
}

async fn make(arguments: &Init, operator: &ClientName) -> Result<Keys, Failure> {
    write_files(arguments, operator)?;
    let config = Config::read(&arguments.directory.join(UNFINISHED))?;
    telemetry::init(config.log.format, "error");
    if arguments.postgres.is_some() && !config.keys.file.exists() {
        new_server_key(&config.keys.file, None)?;
    }
    let authority = launch::open(&config, MachineClock::Unknown, &StartProgress::default()).await?;
    let made = first_keys(&authority, &config, operator).await;
    let closed = authority.close().await.map_err(Failure::cannot_run);
    closed.and(made).map_err(|failure| match arguments.postgres {
        // Its signing keys are sealed with a key that is removed now.
        Some(_) => failure.with_hint("drop the unfinished schema before you run it again"),
        None => failure,
    })
}

async fn first_keys(authority: &Authority, config: &Config, operator: &ClientName) -> Result<Keys, Failure> {
    let mut keys = Vec::new();
    for realm in config.realms.keys() {
        let made = authority
            .credentials()
            .create_operator_api_key(realm, operator.clone(), ApiKeyTerms::default())
            .await;
        let made = made.map_err(Failure::cannot_run)?;
        keys.push((realm.clone(), made.secret.expose().to_owned()));
    }
    Ok(keys)
}

/// Existing files are not changed.
fn place_of(directory: &Path) -> Result<Place, Failure> {
    Place::of(directory).map_err(|error| match error.kind() {
        ErrorKind::DirectoryNotEmpty if directory.join(UNFINISHED).exists() => Failure::cannot_run(format!(
            "`tessera init` is running in `{0}`, or was interrupted: if it was interrupted, remove `{0}`",
            directory.display()
        )),
        ErrorKind::DirectoryNotEmpty => Failure::cannot_run(format!(
            "`{}` is not empty: name a directory that is empty or does not exist yet",
            directory.display()
        )),
        _ => unusable(directory, &error),
    })
}

fn write_files(arguments: &Init, operator: &ClientName) -> Result<(), Failure> {
    for (name, text) in FILES {
        let path: PathBuf = arguments.directory.join(name);
        let mut text = text.replace(OPERATOR, operator.as_str());
        for (default, given) in given(arguments)? {
            text = text.replace(default, &given);
        }
        let written = path
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(&path, text));
        written.map_err(|error| unusable(&path, &error))?;
    }
    Ok(())
}

/// The given options, each with what it sets.
fn given(arguments: &Init) -> Result<Vec<(&'static str, String)>, Failure> {
    let mut given = Vec::new();
    if let Some(issuer) = &arguments.issuer {
        let issuer = issuer.trim_end_matches('/');
        check_issuer(issuer).map_err(|problem| Failure::cannot_run(format!("--issuer: {problem}")))?;
        given.push((ISSUER, issuer.to_owned()));
    }
    if let Some(listen) = arguments.listen {
        given.push((LISTEN, format!("\nlisten = \"{listen}\"")));
    }
    if let Some(data) = &arguments.data {
        // It is relative to the current directory, and not to the configuration.
        let path = std::path::absolute(data).map_err(|error| unusable(Path::new(data), &error))?;
        // A JSON string is a valid TOML string.
        given.push((DATA, format!("path = {}", json!(path))));
    }
    if let Some(url) = &arguments.postgres {
        // Before anything is written: a password must not get into the file.
        PostgresUrl::parse(url).map_err(|problem| {
            Failure::cannot_run(format!("--postgres: {problem}; here, `--postgres-password-file`"))
        })?;
        given.push((DATA, "engine = \"postgres\"".to_owned()));
        let mut section = format!("\n[store.postgres]\nurl = {}", json!(url));
        if let Some(file) = &arguments.postgres_password_file {
            let path = std::path::absolute(file).map_err(|error| unusable(Path::new(file), &error))?;
            section += &format!("\npassword_file = {}", json!(path));
        }
        given.push((POSTGRES, section));
    }
    Ok(given)
}

fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::cannot_run(format!("`{}` can't be used: {error}", path.display()))
}

fn told(
    config: &Path,
    keys: &[(RealmName, String)],
    operator: &ClientName,
    issuer_is_example: bool,
) -> String {
    let config = quoted(&config.to_string_lossy());
    let mut text = format!("API keys of `{operator}`. They are shown once: keep them now.\n");
    for (realm, secret) in keys {
        text += &format!("  {realm:<12} {secret}\n");
    }
    if issuer_is_example {
        text += &format!("\nSet the `issuer` of each realm in {config}: it is in every token.\n");
    }
    text += &format!(
        "\nNext:\n  tessera config check --config {config}\n  tessera serve --config {config}\n\
         Keep a copy of server.key in a different place from the data. Edit the policy: policies/policy.csv.\n"
    );
    text
}
