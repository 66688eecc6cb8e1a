//! Checks of an installation: what would prevent a start, and what would stop an authority later. Nothing is changed.

mod data;
mod files;
mod finding;
mod machine;
mod sinks;

use std::{io, path::Path};

use serde_json::Value;
use tessera_core::{Clock, Seconds, SystemClock};
use tessera_policy::Policy;
use tessera_server::Tls;
use tessera_token::ServerKeys;

pub use self::finding::{Finding, Level};
use crate::{
    admin_socket::{ADMIN_TIME_MAX, ask_admin_for_json},
    blocking::blocking,
    check::check_keys,
    config::{Config, ConfigError, SealerConfig},
    data_directory::has_data,
    error::LaunchError,
    server_key::KeyPlaces,
};

/// Services may keep `/keys` for so long.
const PUBLISHED_MIN: Seconds = Seconds(600);
/// A certificate that ends sooner should be renewed.
const CERTIFICATE_ENDS_SOON: Seconds = Seconds::days(14);

/// Checks everything that the configuration at `path` names.
pub async fn examine(path: &Path) -> Vec<Finding> {
    let config = match Config::read(path) {
        Ok(config) => config,
        Err(error) => {
            let todo = match &error {
                ConfigError::Unreadable { .. } => "name the file with `--config`; `tessera init` makes one",
                ConfigError::Wrong { .. } => "correct this line",
            };
            return vec![Finding::fail("configuration", error, todo)];
        }
    };
    let mut found = vec![Finding::ok(
        "configuration",
        format!("`{}` is well-formed", path.display()),
    )];
    found.push(policy(&config).await);
    found.extend(certificate(&config));
    // Only once: a wrong PIN takes one of the few tries that a token allows.
    let keys = keys(&config).await;
    found.extend(of_keys(&config, &keys));
    let is_reported = keys.is_err();
    let keys = keys.ok().flatten();
    found.extend(files::check(&config));
    found.extend(machine::check_data_place(&config));
    found.push(machine::check_disk(&config));
    found.push(machine::check_files(&config));
    found.push(machine::check_time(&config));
    found.extend(machine::check_roots(&config));
    found.extend(sinks::check(&config));
    found.extend(rotation(&config));
    let status = running(&config).await;
    found.extend(machine::check_sockets(&config, status.is_some()));
    match status {
        Some(status) => found.extend(data::check_running(keys.as_ref(), &status)),
        None => {
            let stopped = data::check_stopped(&config, keys.as_ref()).await;
            // Keys that can't be read have their finding already.
            found.extend(
                stopped
                    .into_iter()
                    .filter(|of| !is_reported || of.check != "server key"),
            );
        }
    }
    found
}

/// The status of the running authority of this configuration; `None` if none is running.
async fn running(config: &Config) -> Option<Value> {
    let address = config.server.admin_listen.filter(|address| address.port() != 0)?;
    let asked = blocking(move || ask_admin_for_json(address, "/status", ADMIN_TIME_MAX)).await;
    asked.ok()
}

/// A verifier or a proxy that keeps `/keys` for its time does not know a key that signs at once.
fn rotation(config: &Config) -> Option<Finding> {
    let publish_for = config.keys.publish_for.seconds();
    (publish_for < PUBLISHED_MIN).then(|| {
        Finding::warn(
            "signing keys",
            "a new key signs before services that keep `/keys` know it: they refuse its tokens",
            "set [keys] publish_for to 10m or more",
        )
    })
}

async fn policy(config: &Config) -> Finding {
    let path = config.policy.path.clone();
    match blocking(move || Policy::load(&path)).await {
        Ok(policy) if policy.warnings().is_empty() => Finding::ok(
            "policy",
            format!("{} rules, and their tests pass", policy.rule_count()),
        ),
        Ok(policy) => {
            let message = format!("{} warnings", policy.warnings().len());
            Finding::warn("policy", message, "`tessera policy check` shows them")
        }
        Err(error) => {
            let message = error.to_string();
            let first = message.lines().next().unwrap_or_default();
            Finding::fail("policy", first, "`tessera policy check` shows all of it")
        }
    }
}

fn certificate(config: &Config) -> Option<Finding> {
    let check = "certificate";
    let Some(tls) = &config.server.tls else {
        let listen = config.server.listen;
        let todo = "set [server.tls], or let a proxy end TLS";
        let is_here = listen.ip().is_loopback();
        return (!is_here).then(|| Finding::warn(check, format!("{listen} is plaintext"), todo));
    };
    let tls = match Tls::read(tls) {
        Ok(tls) => tls,
        Err(error) => return Some(Finding::fail(check, error, "replace certificate and key")),
    };
    let Some(expires_at) = tls.expires_at() else {
        return Some(Finding::ok(check, "it can be used"));
    };
    let (now, when) = (SystemClock.now(), expires_at.to_rfc3339());
    Some(if expires_at <= now {
        Finding::fail(check, format!("it expired at {when}"), "renew it")
    } else if expires_at < now.plus(CERTIFICATE_ENDS_SOON) {
        Finding::warn(check, format!("it expires at {when}"), "renew it")
    } else {
        match tls.notes().first() {
            Some(note) => Finding::warn(check, note, "docs/operations.md, TLS"),
            None => Finding::ok(check, format!("it is good until {when}")),
        }
    })
}

/// The server keys; `None` if there are none yet.
async fn keys(config: &Config) -> Result<Option<ServerKeys>, LaunchError> {
    let (keys, places, data) = (
        config.keys.clone(),
        KeyPlaces::of(config),
        config.store.path.clone(),
    );
    let checked = blocking(move || check_keys(&keys, &places, &data)).await?;
    Ok(checked.0)
}

fn is_denied(error: &LaunchError) -> bool {
    matches!(error, LaunchError::File { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
}

/// Files that can't be read as keys, and what seals them. Another check covers whether the data needs them.
fn of_keys(config: &Config, keys: &Result<Option<ServerKeys>, LaunchError>) -> Option<Finding> {
    match (keys, &config.keys.sealer) {
        (Ok(Some(_)), Some(sealer)) => {
            let by = match sealer {
                SealerConfig::File { path } => format!("the sealing key in `{}`", path.display()),
                SealerConfig::Environment {} => "the sealing key of the environment".to_owned(),
                SealerConfig::Pkcs11(hsm) => format!("the key `{}` of the token `{}`", hsm.key, hsm.token),
            };
            Some(Finding::ok("sealer", format!("{by} opens the server keys")))
        }
        (Ok(_), _) => None,
        (Err(error), sealer) => {
            let todo = if is_denied(error) {
                "let the user who runs this read it"
            } else if sealer.is_some() {
                "docs/operations.md, The server key in an HSM"
            } else if has_data(&config.store.path) {
                "restore the file: without it the data can't be used"
            } else {
                "name another file, or remove it: the first start makes one"
            };
            Some(Finding::fail("server key", error, todo))
        }
    }
}
