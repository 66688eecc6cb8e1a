//! Rows as the records of a backup. Indexes and counts are left out: they follow from the records.

use std::{ops::Bound, time::Duration};

use sled::Db;
use tessera_core::{
    ApiKey, ApiKeyId, ClientName, Event, KeyId, RealmName, RequestId, Sequence, Session, SigningKey,
};
use tessera_store::{BackupRecord, CutoffKey, RequestKey, RequestRecord, StoreError};

use crate::{
    error::failed,
    read,
    rows::{self, CutoffRow, PolicyRow, SessionRow, Table},
};

/// The tables whose rows become records. Parts that exist once are in the end of a backup, and the audit trail is shown
/// separately.
pub(super) const COPIED: [Table; 9] = [
    Table::Session,
    Table::ApiKey,
    Table::ClientDisabled,
    Table::SigningKey,
    Table::Request,
    Table::Policy,
    Table::Event,
    Table::Cutoff,
    Table::StalenessBound,
];

/// Whether the row with this key is a record.
pub(super) fn is_copied(key: &[u8]) -> bool {
    table_of(key).is_some()
}

fn table_of(key: &[u8]) -> Option<Table> {
    let first = key.first()?;
    COPIED.into_iter().find(|table| *table as u8 == *first)
}

/// Up to `limit` records after a key and before another, and the last key; `None` if there are no more.
pub(super) fn page(
    db: &Db,
    after: &[u8],
    end: &[u8],
    limit: usize,
) -> Result<(Vec<BackupRecord>, Option<Vec<u8>>), StoreError> {
    let mut records = Vec::with_capacity(limit);
    let mut last = None;
    for row in db
        .range::<&[u8], _>((Bound::Excluded(after), Bound::Excluded(end)))
        .take(limit)
    {
        let (key, value) = row.map_err(failed)?;
        records.push(present(db, &key, &value)?);
        last = Some(key.to_vec());
    }
    Ok((records, last))
}

/// The current record of a key.
pub(super) fn now(db: &Db, key: &[u8]) -> Result<BackupRecord, StoreError> {
    match db.get(key).map_err(failed)? {
        Some(value) => present(db, key, &value),
        None => absent(key),
    }
}

fn present(db: &Db, key: &[u8], value: &[u8]) -> Result<BackupRecord, StoreError> {
    Ok(match known(key)? {
        Table::Session => {
            let row: SessionRow<Session> = rows::decode("a session", value)?;
            BackupRecord::Session(Box::new(row.session))
        }
        Table::ApiKey => BackupRecord::ApiKey(Box::new(rows::decode::<ApiKey>("an API key", value)?)),
        Table::ClientDisabled => {
            let (realm, client) = rows::decode("a disabled client", value)?;
            BackupRecord::Client {
                realm,
                client,
                is_disabled: true,
            }
        }
        Table::SigningKey => {
            BackupRecord::SigningKey(Box::new(rows::decode::<SigningKey>("a signing key", value)?))
        }
        Table::Request => {
            let record: RequestRecord = rows::decode("a request", value)?;
            BackupRecord::Request(request_in(key)?, record)
        }
        Table::Policy => policy(db, key, value)?,
        Table::Event => BackupRecord::Event(Box::new(rows::decode::<Event>("an event", value)?)),
        Table::Cutoff => {
            let row: CutoffRow<Event> = rows::decode("a cutoff", value)?;
            BackupRecord::Cutoff {
                until: row.until,
                event: Box::new(row.event),
            }
        }
        _ => {
            let (realm, bound): (RealmName, Duration) = rows::decode("a staleness bound", value)?;
            BackupRecord::StalenessBound(realm, bound)
        }
    })
}

fn policy(db: &Db, key: &[u8], value: &[u8]) -> Result<BackupRecord, StoreError> {
    let revision = rows::policy_in(key)?;
    let row: PolicyRow = rows::decode("a policy", value)?;
    Ok(match read::policy_files(db, &revision)? {
        Some(files) => BackupRecord::Policy {
            revision,
            files,
            replaced_at: row.replaced_at,
        },
        // It was removed meanwhile.
        None => BackupRecord::NoPolicy(revision),
    })
}

fn absent(key: &[u8]) -> Result<BackupRecord, StoreError> {
    let table = known(key)?;
    let bad = || no_record(key);
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned).ok();
    let name = key.get(1..).unwrap_or_default();
    Ok(match table {
        Table::Session => BackupRecord::NoSession(rows::session_id_in(key)?),
        Table::ApiKey => {
            let id = text(name).and_then(|id| ApiKeyId::parse(&id).ok());
            BackupRecord::NoApiKey(id.ok_or_else(bad)?)
        }
        Table::SigningKey => {
            let id = text(name).and_then(|id| KeyId::parse(&id).ok());
            BackupRecord::NoSigningKey(id.ok_or_else(bad)?)
        }
        Table::ClientDisabled => {
            let (realm, client) = names_in(name).ok_or_else(bad)?;
            BackupRecord::Client {
                realm,
                client,
                is_disabled: false,
            }
        }
        Table::Request => BackupRecord::NoRequest(request_in(key)?),
        Table::Policy => BackupRecord::NoPolicy(rows::policy_in(key)?),
        Table::Event => BackupRecord::NoEvent(Sequence(rows::number_in(key)?)),
        Table::Cutoff => BackupRecord::NoCutoff(cutoff_in(name).ok_or_else(bad)?),
        // A bound is never removed.
        _ => return Err(bad()),
    })
}

fn known(key: &[u8]) -> Result<Table, StoreError> {
    table_of(key).ok_or_else(|| no_record(key))
}

fn no_record(key: &[u8]) -> StoreError {
    StoreError::Damaged {
        detail: format!("a key that begins with {:?} is none", key.first()),
    }
}

fn names_in(bytes: &[u8]) -> Option<(RealmName, ClientName)> {
    let (realm, client) = std::str::from_utf8(bytes).ok()?.split_once('\0')?;
    Some((RealmName::parse(realm).ok()?, ClientName::parse(client).ok()?))
}

/// A realm, a client and an id, each name with a NUL after it.
fn request_in(key: &[u8]) -> Result<RequestKey, StoreError> {
    let parse = || {
        let (names, id) = key.get(1..)?.split_last_chunk::<16>()?;
        let (realm, client) = names_in(names.strip_suffix(&[0])?)?;
        Some(RequestKey {
            realm,
            client,
            request: RequestId::from_bytes(*id),
        })
    };
    parse().ok_or_else(|| no_record(key))
}

/// A letter, a realm and a target, each name with a NUL after it.
fn cutoff_in(bytes: &[u8]) -> Option<CutoffKey> {
    let (kind, names) = bytes.split_first()?;
    let names = std::str::from_utf8(names.strip_suffix(&[0])?).ok()?;
    let (realm, target) = names.split_once('\0')?;
    Some(CutoffKey {
        realm: RealmName::parse(realm).ok()?,
        kind: *kind,
        target: target.to_owned(),
    })
}
