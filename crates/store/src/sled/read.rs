//! Reading the rows, for those who do not write.

use std::{collections::BTreeMap, ops::Bound, sync::Arc, time::Duration};

use ::sled::{Db, IVec};
use serde::de::DeserializeOwned;
use tessera_core::{
    ApiKey, ApiKeyId, AuditRecord, ClientName, Event, PolicyRevision, RealmName, Sequence, Session,
    SessionId, SigningKey,
};

use super::{
    disk::failed,
    rows::{self, PolicyRow, SessionRow, Table},
    shared::Shared,
};
use crate::{
    error::StoreError,
    store::{Page, PageRequest, PolicyFiles, SessionIndex},
};

pub(super) fn session(db: &Db, id: SessionId) -> Result<Option<Session>, StoreError> {
    let row: Option<SessionRow<Session>> = row(db, "a session", &rows::session_key(id))?;
    Ok(row.map(|row| row.session))
}

pub(super) fn api_key(db: &Db, id: &ApiKeyId) -> Result<Option<ApiKey>, StoreError> {
    row(db, "an API key", &rows::api_key_key(id))
}

pub(super) fn sessions(
    db: &Db,
    index: &SessionIndex,
    page: &PageRequest<SessionId>,
) -> Result<Page<Session, SessionId>, StoreError> {
    let prefix = rows::index_prefix(index);
    let after = page.after.map(|id| [prefix.as_slice(), id.as_bytes()].concat());
    let found = keys_after(db, &prefix, after).filter_map(|key| {
        // Between reading the index and reading the session, the session may have been removed.
        key.and_then(|key| session(db, rows::session_id_in(&key)?))
            .transpose()
    });
    collect_page(found, page.limit, |session| session.id)
}

/// Up to `limit` sessions of all realms, in the order of their ids.
pub(super) fn sessions_after(
    db: &Db,
    after: Option<SessionId>,
    limit: usize,
) -> Result<Vec<Session>, StoreError> {
    let prefix = [Table::Session as u8];
    let from = after.map_or_else(
        || Bound::Included(prefix.to_vec()),
        |id| Bound::Excluded(rows::session_key(id)),
    );
    db.range((from, Bound::Excluded(rows::end_of(&prefix))))
        .values()
        .take(limit)
        .map(|value| {
            let row: SessionRow<Session> = rows::decode("a session", &value.map_err(failed)?)?;
            Ok(row.session)
        })
        .collect()
}

pub(super) fn policy(db: &Db, revision: &PolicyRevision) -> Result<Option<PolicyFiles>, StoreError> {
    let Some(kept) = row::<PolicyRow>(db, "a policy", &rows::policy_key(revision))? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    for part in 0..kept.parts {
        // Between reading the row and reading its parts, the policy may have been removed.
        match row::<Vec<u8>>(db, "a part of a policy", &rows::policy_part_key(revision, part))? {
            Some(part) => bytes.extend_from_slice(&part),
            None => return Ok(None),
        }
    }
    rows::decode("the files of a policy", &bytes).map(Some)
}

pub(super) fn reconciled_policy(db: &Db) -> Result<Option<PolicyRevision>, StoreError> {
    row(db, "the reconciled policy", &rows::policy_reconciled_key())
}

pub(super) fn staleness_bounds(db: &Db) -> Result<BTreeMap<RealmName, Duration>, StoreError> {
    db.scan_prefix([Table::StalenessBound as u8])
        .values()
        .map(|value| rows::decode("a staleness bound", &value.map_err(failed)?))
        .collect()
}

pub(super) fn api_keys(
    db: &Db,
    realm: &RealmName,
    page: &PageRequest<ApiKeyId>,
) -> Result<Page<ApiKey, ApiKeyId>, StoreError> {
    let prefix = rows::api_key_by_realm_prefix(realm);
    let after = page
        .after
        .as_ref()
        .map(|id| rows::api_key_by_realm_key(realm, id));
    let found = keys_after(db, &prefix, after).filter_map(|key| {
        key.and_then(|key| {
            let id = key.get(prefix.len()..).unwrap_or_default();
            row(db, "an API key", &[&[Table::ApiKey as u8], id].concat())
        })
        .transpose()
    });
    collect_page(found, page.limit, |key: &ApiKey| key.id.clone())
}

pub(super) fn disabled_clients(db: &Db) -> Result<Vec<(RealmName, ClientName)>, StoreError> {
    db.scan_prefix([Table::ClientDisabled as u8])
        .values()
        .map(|value| rows::decode("a disabled client", &value.map_err(failed)?))
        .collect()
}

pub(super) fn signing_keys(db: &Db) -> Result<Vec<SigningKey>, StoreError> {
    let mut keys = db
        .scan_prefix([Table::SigningKey as u8])
        .values()
        .map(|value| rows::decode("a signing key", &value.map_err(failed)?))
        .collect::<Result<Vec<SigningKey>, _>>()?;
    keys.sort_by(|one, other| (one.not_before, &one.id).cmp(&(other.not_before, &other.id)));
    Ok(keys)
}

/// Up to `limit` events after `after` and up to `through`, which must be committed.
pub(super) fn events(
    db: &Db,
    shared: &Shared,
    after: Sequence,
    through: Sequence,
    limit: usize,
) -> Result<Vec<Arc<Event>>, StoreError> {
    let range = rows::event_key(after.next())..=rows::event_key(through);
    let mut events = Vec::new();
    let mut expected = after.next();
    for value in db.range(range).values().take(limit) {
        let event: Event = rows::decode("an event", &value.map_err(failed)?)?;
        if event.sequence != expected {
            break;
        }
        expected = event.sequence.next();
        events.push(Arc::new(event));
    }
    // Fewer than there must be: either they were removed meanwhile, or the log has a hole.
    let complete = events.len() == limit || expected > through;
    if complete {
        Ok(events)
    } else if expected <= shared.floor() {
        Err(StoreError::EventsForgotten)
    } else {
        Err(StoreError::Damaged {
            detail: format!("the log has no event {}", expected.0),
        })
    }
}

/// Events up to `floor`, in order.
pub(super) fn events_left(db: &Db, floor: Sequence) -> Result<Vec<Arc<Event>>, StoreError> {
    db.range(rows::event_key(Sequence(0))..=rows::event_key(floor))
        .values()
        .map(|value| Ok(Arc::new(rows::decode("an event", &value.map_err(failed)?)?)))
        .collect()
}

/// Up to `limit` records after `after` and up to `through`, which must be committed.
pub(super) fn audit(
    db: &Db,
    after: u64,
    through: u64,
    limit: usize,
) -> Result<Vec<(u64, AuditRecord)>, StoreError> {
    if after >= through {
        return Ok(Vec::new());
    }
    db.range(rows::audit_key(after.saturating_add(1))..=rows::audit_key(through))
        .take(limit)
        .map(|row| {
            let (key, value) = row.map_err(failed)?;
            Ok((rows::number_in(&key)?, rows::decode("an audit record", &value)?))
        })
        .collect()
}

fn row<T: DeserializeOwned>(db: &Db, what: &str, key: &[u8]) -> Result<Option<T>, StoreError> {
    db.get(key)
        .map_err(failed)?
        .map(|bytes| rows::decode(what, &bytes))
        .transpose()
}

/// The keys that begin with `prefix`, after `after`.
fn keys_after(
    db: &Db,
    prefix: &[u8],
    after: Option<Vec<u8>>,
) -> impl Iterator<Item = Result<IVec, StoreError>> + use<> {
    let from = after.map_or_else(|| Bound::Included(prefix.to_vec()), Bound::Excluded);
    db.range((from, Bound::Excluded(rows::end_of(prefix))))
        .keys()
        .map(|key| key.map_err(failed))
}

/// Takes up to `limit` items; there is another page where one more is found.
fn collect_page<T, K>(
    mut found: impl Iterator<Item = Result<T, StoreError>>,
    limit: usize,
    key_of: impl Fn(&T) -> K,
) -> Result<Page<T, K>, StoreError> {
    let items = found.by_ref().take(limit).collect::<Result<Vec<_>, _>>()?;
    let more = items.len() == limit && found.next().transpose()?.is_some();
    let next = if more { items.last().map(key_of) } else { None };
    Ok(Page { items, next })
}
