//! `tessera backup`: make, verify and restore backups.

mod create;
mod key;

use std::path::Path;

use serde_json::{Value, json};
use tessera_backup::CompleteBackup;
use tessera_daemon::{Config, backup_key, restore, telemetry};

use self::key::read_key;
use crate::{
    arguments::{self, Backup, BackupKeyFile, Connection, Output, RestoreBackup},
    command::restore as restoring,
    failure::Failure,
    output::table,
};

pub(crate) async fn run(command: Backup, connection: &Connection, output: &Output) -> Result<(), Failure> {
    match command {
        Backup::Create(create) => create::run(&create, connection, output).await,
        Backup::Verify { file, key } => verify(&file, &key, output).await,
        Backup::Restore(restore) => restore_into(&restore, output).await,
        Backup::Key {
            command: arguments::BackupKey::New { file },
        } => new_key(&file, output),
    }
}

async fn verify(file: &Path, key: &BackupKeyFile, output: &Output) -> Result<(), Failure> {
    let key = read_key(key)?;
    let made = restore::verify_backup(file, key).await;
    let made = made?;
    output.print(&described(&made), || {
        format!("the backup is complete\n{}", text(&made))
    })
}

async fn restore_into(arguments: &RestoreBackup, output: &Output) -> Result<(), Failure> {
    let config = Config::read(&arguments.config)?;
    telemetry::init(config.log.format, "warn");
    let key = read_key(&arguments.key)?;
    let api_keys = if arguments.revoke_api_keys {
        ", and revokes all API keys"
    } else {
        ""
    };
    let place = if config.store.is_shared() {
        "the database".to_owned()
    } else {
        format!("`{}`", config.store.path.display())
    };
    arguments.consent.ask(&format!(
        "This restores {place} from the backup, ends every session and token of every realm in it, and replaces all signing keys{api_keys}."
    ))?;
    let restored = restore::restore_backup(&config, &arguments.file, key, arguments.revoke_api_keys);
    let restored = restored.await?;
    let mut document = restoring::document(&restored.restored, arguments.revoke_api_keys);
    document.insert("backup".to_owned(), described(&restored.made));
    output.print(&Value::Object(document), || {
        format!(
            "{}{}what was issued, revoked or changed after {} is not in it: repeat the revocations since then\n",
            text(&restored.made),
            restoring::text(&restored.restored, arguments.revoke_api_keys),
            restored.made.tail.made_at.to_rfc3339(),
        )
    })
}

fn new_key(file: &Path, output: &Output) -> Result<(), Failure> {
    let key = backup_key::make(file)?;
    let document = json!({ "id": key.id(), "file": file.display().to_string() });
    output.print(&document, || {
        format!(
            "made the backup key {} in {}\nKeep a copy of it in a different place from the backups: without it, no backup can be read.",
            key.id(),
            file.display()
        )
    })
}

fn described(made: &CompleteBackup) -> Value {
    let CompleteBackup { head, tail } = made;
    let realms: serde_json::Map<_, _> = head
        .realms
        .iter()
        .map(|(realm, issuer)| (realm.to_string(), Value::from(issuer.clone())))
        .collect();
    json!({
        "log_id": tail.end.log.to_string(),
        "sequence": tail.end.last.0,
        "audit_position": tail.end.audit_head.position,
        "begin_time": head.begun_at.to_rfc3339(),
        "create_time": tail.made_at.to_rfc3339(),
        "records": tail.records,
        "made_by": head.made_by,
        "server_key_ids": head.server_keys,
        "issuers": realms,
    })
}

fn text(made: &CompleteBackup) -> String {
    let CompleteBackup { head, tail } = made;
    let issuers: Vec<_> = head.realms.iter().map(|(_, issuer)| issuer.as_str()).collect();
    table(&[
        (
            "position",
            format!("sequence {} of log {}", tail.end.last.0, tail.end.log),
        ),
        ("audit", format!("up to record {}", tail.end.audit_head.position)),
        ("made", tail.made_at.to_rfc3339()),
        ("records", tail.records.to_string()),
        ("issuers", issuers.join(", ")),
        ("server key", head.server_keys.join(", ")),
    ])
}
