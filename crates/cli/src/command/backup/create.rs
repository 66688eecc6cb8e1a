//! `tessera backup create`: the authority's content is encrypted here, so that the authority does not need the backup
//! key.

use std::path::Path;

use serde_json::json;
use tessera_backup::BackupWriter;
use tessera_proto::v1::{self, CreateBackupRequest, CreateBackupResponse, create_backup_response::Part};
use tessera_token::{BackupKey, ServerKey};
use tonic::Streaming;

use super::key::read_key;
use crate::{
    arguments::{Connection, CreateBackup, Output},
    command::shutdown,
    failure::Failure,
    output::table,
    partial::{Partial, may_be_made},
    progress::Progress,
};

pub(super) async fn run(
    arguments: &CreateBackup,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    let key = read_key(&arguments.key)?;
    let file = &arguments.file;
    may_be_made(file, arguments.overwrite)?;
    // From here on a signal leaves no file behind.
    let stop = shutdown::requested()?;
    let create = create(file, &key, arguments.overwrite, connection);
    let (backup, bytes) = tokio::select! {
        created = create => created?,
        () = stop => return Err(Failure::refused("stopped: no backup was made, and nothing is left behind")),
    };
    let document = json!({
        "file": file.display().to_string(),
        "bytes": bytes,
        "log_id": backup.log_id,
        "sequence": backup.sequence,
        "audit_position": backup.audit_position,
        "create_time": crate::json::time(backup.create_time.as_ref()),
        "records": backup.records,
        "server_key_ids": backup.server_key_ids,
        "backup_key_id": key.id(),
    });
    output.print(&document, || text(file, &backup, bytes, &key))
}

async fn create(
    file: &Path,
    key: &BackupKey,
    overwrite: bool,
    connection: &Connection,
) -> Result<(v1::Backup, u64), Failure> {
    let mut backups = connection.backups().await?;
    let mut parts = backups.create_backup(CreateBackupRequest {}).await?.into_inner();
    // Only after the authority agrees: it makes one backup at a time.
    let partial = Partial::beside(file)?;
    let unwritten = |error: tessera_backup::FileError| partial.unwritten(error);
    let mut writer = BackupWriter::begin(partial.file()?, key).map_err(unwritten)?;
    let mut progress = Progress::begin();
    let backup = loop {
        match next(&mut parts).await? {
            Part::Content(content) => {
                // A piece takes less than a millisecond.
                writer.write(&content.data).map_err(unwritten)?;
                progress.show(|| {
                    format!(
                        "{} records, {} MiB",
                        content.records,
                        writer.bytes() / (1024 * 1024)
                    )
                });
            }
            Part::Backup(backup) => break backup,
        }
    };
    drop(progress);
    check_key(key, &backup)?;
    let (_, bytes) = writer.finish().map_err(unwritten)?;
    partial.becomes(file, overwrite)?;
    Ok((backup, bytes))
}

async fn next(parts: &mut Streaming<CreateBackupResponse>) -> Result<Part, Failure> {
    match parts.message().await? {
        Some(CreateBackupResponse { part: Some(part) }) => Ok(part),
        Some(CreateBackupResponse { part: None }) => Err(Failure::cannot_run(
            "the authority sent a part that this version does not know: use the version of the authority",
        )),
        None => Err(Failure::cannot_run(
            "the authority stopped before the backup was complete: no backup was made",
        )),
    }
}

/// The server key must not encrypt its own backups: the holder of both could impersonate every subject.
fn check_key(key: &BackupKey, backup: &v1::Backup) -> Result<(), Failure> {
    let as_server_key = ServerKey::parse(&key.to_paserk());
    if as_server_key.is_ok_and(|server_key| backup.server_key_ids.iter().any(|id| id == server_key.id())) {
        return Err(Failure::cannot_run(
            "this is the server key, and backups need their own key: `tessera backup key new FILE` makes one",
        )
        .because("BACKUP_KEY_UNUSABLE"));
    }
    Ok(())
}

fn text(file: &Path, backup: &v1::Backup, bytes: u64, key: &BackupKey) -> String {
    let server_keys = backup.server_key_ids.join(", ");
    let lines = table(&[
        ("backup", file.display().to_string()),
        (
            "position",
            format!("sequence {} of log {}", backup.sequence, backup.log_id),
        ),
        ("audit", format!("up to record {}", backup.audit_position)),
        ("records", backup.records.to_string()),
        ("size", format!("{} KiB", bytes.div_ceil(1024))),
        ("backup key", key.id().to_owned()),
        ("server key", server_keys),
    ]);
    format!(
        "{lines}A restore needs both keys, and neither is in the backup: keep copies of them in a different place.\n"
    )
}
