//! Reading the rows, without writing.

use std::{collections::BTreeSet, ops::Bound, sync::Arc};

use serde::de::DeserializeOwned;
use sled::{Db, IVec};
use tessera_core::{
    ApiKey, ApiKeyId, Event, PolicyRevision, RealmName, RevokeReason, Sequence, Session, SessionId,
    SigningKey,
};

use tessera_store::{
    AuditEntry, AuditQuery, ClientState, Page, PageRequest, PolicyFiles, Reads, Settings, Snapshot,
    StoreError, StoredSession,
};

use super::{
    archive::Looking,
    audit_rows,
    error::failed,
    lists,
    rows::{self, PolicyRow, SessionRow, Table},
    shared::Shared,
};

/// What is named, as it is now: possibly from a group that is applied and not yet durable.
pub(super) fn snapshot(db: &Db, shared: &Shared, reads: &Reads) -> Result<Snapshot, StoreError> {
    let mut snapshot = Snapshot {
        head: shared.log.committed(),
        audit_head: *shared.log.audit_head().borrow(),
        policy: shared.policy(),
        times: shared.log.times(),
        ..Snapshot::default()
    };
    for id in reads.api_key_ids() {
        snapshot.api_keys.extend(api_key(db, id)?);
    }
    let mut joined = Joined::new(db, shared);
    for id in reads.session_ids() {
        match session(db, *id)? {
            Some(session) => snapshot.sessions.push(joined.stored(session)?),
            None => snapshot.missing_sessions.push(*id),
        }
    }
    for maker in reads.maker_ids() {
        let prefix = rows::api_key_by_maker_prefix(maker);
        let keys = keys_of(db, &prefix)?;
        let made = keys
            .iter()
            .map(|key| row(db, "an API key", &rows::api_key_key_in(key, prefix.len())));
        let made = made.filter_map(Result::transpose).collect::<Result<_, _>>()?;
        snapshot.made.push((*maker, made));
    }
    for (realm, client) in reads.client_names() {
        let sessions = row(
            db,
            "a number of sessions",
            &rows::session_count_key(realm, client),
        )?;
        let disabled = db.contains_key(rows::client_disabled_key(realm, client));
        let state = ClientState {
            is_disabled: disabled.map_err(failed)?,
            sessions: sessions.unwrap_or(0),
        };
        snapshot.clients.push((realm.clone(), client.clone(), state));
    }
    if let Some(key) = reads.request_key() {
        snapshot.request = row(db, "a request", &rows::request_key(key))?;
    }
    if reads.has_settings() {
        snapshot.settings = Some(settings(db)?);
    }
    whole(db, shared.log.floor(), reads, &mut snapshot)?;
    Ok(snapshot)
}

/// Whether reading it takes longer than a caller's thread should be used for: it has many rows, or large ones.
pub(super) fn is_long(reads: &Reads) -> bool {
    !reads.policy_revisions().is_empty() || !reads.realm_names().is_empty() || reads.has_events_below_floor()
}

/// Rows that can be read: those on the disk, or those with what a group wrote over them.
pub(super) trait Rows {
    fn one<T: DeserializeOwned>(&self, what: &str, key: &[u8]) -> Result<Option<T>, StoreError>;

    /// The rows whose keys are from `from` to before `to`, in order.
    fn between<T: DeserializeOwned>(&self, what: &str, from: &[u8], to: &[u8]) -> Result<Vec<T>, StoreError>;
}

impl Rows for Db {
    fn one<T: DeserializeOwned>(&self, what: &str, key: &[u8]) -> Result<Option<T>, StoreError> {
        row(self, what, key)
    }

    fn between<T: DeserializeOwned>(&self, what: &str, from: &[u8], to: &[u8]) -> Result<Vec<T>, StoreError> {
        let values = self.range(from..to).values();
        values
            .map(|value| rows::decode(what, &value.map_err(failed)?))
            .collect()
    }
}

/// What is named and is more than single rows. `floor` is that of the log.
pub(super) fn whole(
    rows: &impl Rows,
    floor: Sequence,
    reads: &Reads,
    snapshot: &mut Snapshot,
) -> Result<(), StoreError> {
    if reads.has_signing_keys() {
        snapshot.signing_keys = signing_keys(rows)?;
    }
    for revision in reads.policy_revisions() {
        let files = policy_files(rows, revision)?;
        snapshot
            .policies
            .extend(files.map(|files| (*revision, Arc::new(files))));
    }
    for realm in reads.realm_names() {
        snapshot.realms.push((realm.clone(), session_count(rows, realm)?));
    }
    if reads.has_events_below_floor() {
        let (from, to) = (rows::event_key(Sequence(0)), rows::event_key(floor.next()));
        let events: Vec<Event> = rows.between("an event", &from, &to)?;
        snapshot.events_below_floor = events.into_iter().map(Arc::new).collect();
    }
    Ok(())
}

/// How many sessions of a realm there are, by the counts of its clients.
fn session_count(rows: &impl Rows, realm: &RealmName) -> Result<u64, StoreError> {
    let prefix = rows::session_count_prefix(realm);
    let counts: Vec<u64> = rows.between("a number of sessions", &prefix, &rows::end_of(&prefix))?;
    Ok(counts.into_iter().fold(0, u64::saturating_add))
}

/// The keys that begin with `prefix`.
pub(super) fn keys_of(db: &Db, prefix: &[u8]) -> Result<BTreeSet<Vec<u8>>, StoreError> {
    let keys = db.scan_prefix(prefix).keys();
    keys.map(|key| Ok(key.map_err(failed)?.to_vec())).collect()
}

/// Joins sessions with the reasons that ended them together with others.
struct Joined<'a> {
    db: &'a Db,
    shared: &'a Shared,
    /// The API key that was read last, and whether it is revoked: neighbouring sessions often have the same key.
    key: Option<(ApiKeyId, bool)>,
}

impl<'a> Joined<'a> {
    fn new(db: &'a Db, shared: &'a Shared) -> Self {
        Self {
            db,
            shared,
            key: None,
        }
    }

    fn stored(&mut self, session: Session) -> Result<StoredSession, StoreError> {
        let ended = match self.shared.log.ended_with_others(&session) {
            None => match session.credential.api_key() {
                Some(key) if self.is_revoked(key)? => Some(RevokeReason::ApiKey),
                _ => None,
            },
            ended => ended,
        };
        Ok(StoredSession {
            session: Arc::new(session),
            ended,
        })
    }

    fn is_revoked(&mut self, id: &ApiKeyId) -> Result<bool, StoreError> {
        if let Some((_, is_revoked)) = self.key.as_ref().filter(|(known, _)| known == id) {
            return Ok(*is_revoked);
        }
        let is_revoked = api_key(self.db, id)?.is_some_and(|key| key.revoked_at.is_some());
        self.key = Some((*id, is_revoked));
        Ok(is_revoked)
    }
}

fn session(db: &Db, id: SessionId) -> Result<Option<Session>, StoreError> {
    let row: Option<SessionRow<Session>> = row(db, "a session", &rows::session_key(id))?;
    Ok(row.map(|row| row.session))
}

pub(super) fn api_key(db: &Db, id: &ApiKeyId) -> Result<Option<ApiKey>, StoreError> {
    row(db, "an API key", &rows::api_key_key(id))
}

/// A page of the sessions in a list of [`rows::list_of`].
pub(super) fn sessions(
    db: &Db,
    shared: &Shared,
    list: &[u8],
    page: &PageRequest<SessionId>,
) -> Result<Page<StoredSession, SessionId>, StoreError> {
    let mut joined = Joined::new(db, shared);
    let found = lists::ids_after(db, list, page.after).filter_map(|id| {
        // Between reading the index and reading the session, the session may have been removed.
        let session = id.and_then(|id| session(db, id));
        session.transpose().map(|session| joined.stored(session?))
    });
    collect_page(found, page.limit, |stored| stored.session.id)
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

pub(super) fn policy_files(
    rows: &impl Rows,
    revision: &PolicyRevision,
) -> Result<Option<PolicyFiles>, StoreError> {
    let Some(kept) = rows.one::<PolicyRow>("a policy", &rows::policy_key(revision))? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    for part in 0..kept.parts {
        // Between reading the row and reading its parts, the policy may have been removed.
        match rows.one::<Vec<u8>>("a part of a policy", &rows::policy_part_key(revision, part))? {
            Some(part) => bytes.extend_from_slice(&part),
            None => return Ok(None),
        }
    }
    rows::decode("the files of a policy", &bytes).map(Some)
}

/// What is kept once for the whole store.
pub(super) fn settings(db: &Db) -> Result<Settings, StoreError> {
    let bounds = db.scan_prefix([Table::StalenessBound as u8]).values();
    let sinks = db.scan_prefix([Table::AuditSink as u8]).values();
    let disabled = db.scan_prefix([Table::ClientDisabled as u8]).values();
    Ok(Settings {
        policy_reconciled: row(db, "the reconciled policy", &rows::policy_reconciled_key())?,
        staleness_bounds: bounds
            .map(|value| rows::decode("a staleness bound", &value.map_err(failed)?))
            .collect::<Result<_, _>>()?,
        audit_sinks: sinks
            .map(|value| rows::decode("the position of a sink", &value.map_err(failed)?))
            .collect::<Result<_, _>>()?,
        disabled_clients: disabled
            .map(|value| rows::decode("a disabled client", &value.map_err(failed)?))
            .collect::<Result<_, _>>()?,
        last_backup: row(db, "the last backup", &rows::last_backup_key())?,
    })
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
        key.and_then(|key| row(db, "an API key", &rows::api_key_key_in(&key, prefix.len())))
            .transpose()
    });
    collect_page(found, page.limit, |key: &ApiKey| key.id)
}

pub(super) fn signing_keys(rows: &impl Rows) -> Result<Vec<SigningKey>, StoreError> {
    let prefix = [Table::SigningKey as u8];
    let mut keys: Vec<SigningKey> = rows.between("a signing key", &prefix, &rows::end_of(&prefix))?;
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
    // Too few: either events were removed meanwhile, or the log has a hole.
    let complete = events.len() == limit || expected > through;
    if complete {
        Ok(events)
    } else if expected <= shared.log.floor() {
        Err(StoreError::EventsForgotten)
    } else {
        Err(StoreError::Damaged {
            detail: format!("the log has no event {}", expected.0),
        })
    }
}

/// Continues a query through the audit records that are in the rows. The requested records must be committed.
pub(super) fn audit(db: &Db, looking: &mut Looking) -> Result<(), StoreError> {
    let Some(wanted) = looking.wanted() else {
        return Ok(());
    };
    for entry in audit_rows::entries(db, *wanted.start(), *wanted.end()) {
        if looking.is_done() {
            return Ok(());
        }
        looking.look(entry?);
    }
    // Records between the last one and the end were too old to be kept.
    if !looking.is_done() {
        looking.pass(*wanted.end());
    }
    Ok(())
}

/// Up to `limit` audit records that are in the rows, after one position and up to another.
pub(super) fn audit_entries(
    db: &Db,
    after: u64,
    through: u64,
    limit: usize,
) -> Result<Vec<AuditEntry>, StoreError> {
    let mut looking = Looking::at(&AuditQuery::after(after, limit), through);
    audit(db, &mut looking)?;
    Ok(looking.page().entries)
}

pub(super) fn row<T: DeserializeOwned>(db: &Db, what: &str, key: &[u8]) -> Result<Option<T>, StoreError> {
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

/// Takes up to `limit` items; there is another page if one more is found.
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
