//! The rows of a group: those on disk, and what its units wrote over them.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use sled::{Db, IVec};
use tessera_core::{ApiKey, ApiKeyId, Event, PolicyRevision, Session, Timestamp};
use tessera_store::{ClientChange, Log, PolicyFiles, RequestKey, RequestRecord, StoreError, Times};

use crate::{
    api_keys::ApiKeys,
    audit_rows::AuditChanges,
    changes::RowChanges,
    error::failed,
    expiring_requests::RequestChanges,
    lists::ListChanges,
    read::{self, Rows},
    rows::{self, Meta, PolicyRow, SessionRow},
    state::State,
};

/// The largest part of a policy's files.
const POLICY_PART_BYTES: usize = 32 * 1024;

/// What the units of a group wrote so far; none of it is on the disk.
pub(crate) struct Group<'a> {
    pub(super) db: &'a Db,
    pub(super) log: &'a Log,
    pub(super) api_keys: &'a ApiKeys,
    pub(super) rows: RowChanges,
    pub(super) lists: ListChanges,
    pub(super) requests: RequestChanges,
    pub(super) audit: AuditChanges,
    pub(super) events: Vec<Arc<Event>>,
    pub(super) state: State,
    /// The times before the group.
    pub(super) times_before: Times,
    /// The sessions that the unit has read, and may write next.
    pub(super) read: Vec<ReadSession>,
}

/// A session as a unit found it.
pub(super) struct ReadSession {
    pub(super) row: SessionRow<Arc<Session>>,
    /// The row on the disk; `None` if the group wrote it.
    pub(super) on_disk: Option<IVec>,
}

impl<'a> Group<'a> {
    pub(crate) fn new(db: &'a Db, log: &'a Log, api_keys: &'a ApiKeys, state: State) -> Self {
        Self {
            db,
            log,
            api_keys,
            rows: RowChanges::default(),
            lists: ListChanges::default(),
            requests: RequestChanges::default(),
            audit: AuditChanges::default(),
            events: Vec::new(),
            times_before: state.times.clone(),
            state,
            read: Vec::new(),
        }
    }
}

impl Rows for Group<'_> {
    fn one<T: DeserializeOwned>(&self, what: &str, key: &[u8]) -> Result<Option<T>, StoreError> {
        self.row(what, key)
    }

    fn between<T: DeserializeOwned>(&self, what: &str, from: &[u8], to: &[u8]) -> Result<Vec<T>, StoreError> {
        let mut found = BTreeMap::new();
        for row in self.db.range(from..to) {
            let (key, value) = row.map_err(failed)?;
            found.insert(key.to_vec(), value.to_vec());
        }
        for key in self
            .rows
            .keys()
            .filter(|key| (from..to).contains(&key.as_slice()))
        {
            match self.rows.get(key).flatten() {
                Some(value) => drop(found.insert(key.clone(), value.to_vec())),
                None => drop(found.remove(key)),
            }
        }
        let values = found.values();
        values.map(|value| rows::decode(what, value)).collect()
    }
}

/// Rows.
impl<'a> Group<'a> {
    /// The rows on disk, without the group's writes: for finding candidates, which are then read.
    pub(crate) fn db(&self) -> &'a Db {
        self.db
    }

    pub(crate) fn meta_mut(&mut self) -> &mut Meta {
        &mut self.state.meta
    }

    pub(crate) fn row<T: DeserializeOwned>(&self, what: &str, key: &[u8]) -> Result<Option<T>, StoreError> {
        match self.rows.get(key) {
            Some(value) => value.map(|bytes| rows::decode(what, bytes)).transpose(),
            None => read::row(self.db, what, key),
        }
    }

    pub(crate) fn has_row(&self, key: &[u8]) -> Result<bool, StoreError> {
        match self.rows.get(key) {
            Some(value) => Ok(value.is_some()),
            None => self.db.contains_key(key).map_err(failed),
        }
    }

    pub(crate) fn put<T: Serialize>(&mut self, key: Vec<u8>, row: &T) -> Result<(), StoreError> {
        self.rows.put(key, rows::encode(row)?);
        Ok(())
    }

    pub(crate) fn put_empty(&mut self, key: Vec<u8>) {
        self.rows.put(key, Vec::new());
    }

    /// Adds a later expiry time for a request whose row has this key.
    pub(crate) fn expire_request(&mut self, at: Timestamp, row: Vec<u8>) {
        self.requests.add(at, row);
    }

    pub(crate) fn remove(&mut self, key: Vec<u8>) {
        self.rows.remove(key);
    }
}

/// What is kept under more than one key, or decoded.
impl Group<'_> {
    /// Keys on the disk are kept decoded, until the group that changes one is done.
    pub(super) fn api_key(&self, id: &ApiKeyId) -> Result<Option<Arc<ApiKey>>, StoreError> {
        match self.rows.get(&rows::api_key_key(id)) {
            Some(value) => value
                .map(|bytes| rows::decode("an API key", bytes).map(Arc::new))
                .transpose(),
            None => self.api_keys.get(id, || read::api_key(self.db, id)),
        }
    }

    pub(super) fn put_api_key(&mut self, key: &ApiKey) -> Result<(), StoreError> {
        if let Some(old) = self.api_key(&key.id)?
            && (&old.realm, &old.made_with) != (&key.realm, &key.made_with)
        {
            self.remove_api_key(&old);
        }
        if let Some(maker) = &key.made_with {
            self.put_empty(rows::api_key_by_maker_key(maker, &key.id));
        }
        self.put_empty(rows::api_key_by_realm_key(&key.realm, &key.id));
        self.put(rows::api_key_key(&key.id), key)
    }

    pub(super) fn remove_api_key(&mut self, key: &ApiKey) {
        if let Some(maker) = &key.made_with {
            self.remove(rows::api_key_by_maker_key(maker, &key.id));
        }
        self.remove(rows::api_key_by_realm_key(&key.realm, &key.id));
        self.remove(rows::api_key_key(&key.id));
    }

    pub(super) fn put_client(&mut self, change: &ClientChange) -> Result<(), StoreError> {
        let row = rows::client_disabled_key(&change.realm, &change.client);
        if change.is_disabled {
            return self.put(row, &(&change.realm, &change.client));
        }
        self.remove(row);
        Ok(())
    }

    pub(super) fn put_request(&mut self, key: &RequestKey, record: &RequestRecord) -> Result<(), StoreError> {
        let row = rows::request_key(key);
        self.requests.add(rows::bucket_of(record.expires_at), row.clone());
        self.put(row, record)
    }

    pub(super) fn put_policy(
        &mut self,
        revision: &PolicyRevision,
        files: &PolicyFiles,
    ) -> Result<(), StoreError> {
        let key = rows::policy_key(revision);
        if self.has_row(&key)? {
            return Ok(());
        }
        let bytes = rows::encode(files)?;
        let mut parts = 0;
        for part in bytes.chunks(POLICY_PART_BYTES) {
            self.put(rows::policy_part_key(revision, parts), &part)?;
            parts += 1;
        }
        let replaced_at = None;
        self.put(key, &PolicyRow { parts, replaced_at })
    }

    /// Notes when a policy was replaced, or that it is in force again.
    pub(super) fn replaced(
        &mut self,
        revision: &PolicyRevision,
        replaced_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let key = rows::policy_key(revision);
        match self.row::<PolicyRow>("a policy", &key)? {
            Some(row) => self.put(key, &PolicyRow { replaced_at, ..row }),
            None => Ok(()),
        }
    }
}
