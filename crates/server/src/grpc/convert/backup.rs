//! `BackupService` to the wire.

use tessera_authority::{BackupPart, MadeBackup};
use tessera_proto::v1::{self, create_backup_response::Part};

use super::time::timestamp;

pub(crate) fn part(part: BackupPart) -> v1::CreateBackupResponse {
    let part = match part {
        BackupPart::Content { bytes, records } => Part::Content(v1::BackupContent { data: bytes, records }),
        BackupPart::Made(made) => Part::Backup(backup(*made)),
    };
    v1::CreateBackupResponse { part: Some(part) }
}

fn backup(made: MadeBackup) -> v1::Backup {
    let MadeBackup { head, tail } = made;
    v1::Backup {
        log_id: tail.end.log.to_string(),
        sequence: tail.end.last.0,
        audit_position: tail.end.audit_head.position,
        begin_time: Some(timestamp(head.begun_at)),
        create_time: Some(timestamp(tail.made_at)),
        records: tail.records,
        server_key_ids: head.server_keys,
    }
}
