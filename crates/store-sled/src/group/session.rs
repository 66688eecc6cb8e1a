//! The sessions that a group reads and writes, with their index entries and counts.

use std::sync::Arc;

use tessera_core::{Session, SessionId, Timestamp};
use tessera_store::StoreError;

use super::overlay::{Group, ReadSession};
use crate::{
    error::failed,
    rows::{self, SessionRow},
};

impl Group<'_> {
    pub(crate) fn session_row(&self, id: SessionId) -> Result<Option<SessionRow<Arc<Session>>>, StoreError> {
        Ok(self.read_session(id)?.map(|read| read.row))
    }

    pub(super) fn read_session(&self, id: SessionId) -> Result<Option<ReadSession>, StoreError> {
        let key = rows::session_key(id);
        let decode = |bytes: &[u8]| rows::decode("a session", bytes).map(SessionRow::<Session>::shared);
        if let Some(written) = self.rows.get(&key) {
            let row = written.map(decode).transpose()?;
            return Ok(row.map(|row| ReadSession { row, on_disk: None }));
        }
        let Some(bytes) = self.db.get(&key).map_err(failed)? else {
            return Ok(None);
        };
        Ok(Some(ReadSession {
            row: decode(&bytes)?,
            on_disk: Some(bytes),
        }))
    }

    /// Writes a session, new or changed.
    pub(super) fn put_session(&mut self, session: &Arc<Session>) -> Result<(), StoreError> {
        let read = self
            .read
            .iter()
            .position(|read| read.row.session.id == session.id);
        let old = match read {
            Some(at) => Some(self.read.swap_remove(at)),
            None => self.read_session(session.id)?,
        };
        match old {
            Some(old) => self.replace_session(old, session),
            None => self.put_new_session(session),
        }
    }

    /// Writes a session that does not exist yet.
    fn put_new_session(&mut self, session: &Session) -> Result<(), StoreError> {
        self.count_session(session, true)?;
        let expiry = rows::bucket_of(session.removable_at());
        self.lists.add(rows::expiry_list(expiry), session.id);
        self.list_session(session);
        let row = rows::encode(&SessionRow { expiry, session })?;
        self.rows.put_new(rows::session_key(session.id), row);
        Ok(())
    }

    /// Writes a session over its earlier state, and updates its index entries and counts if they change.
    fn replace_session(&mut self, read: ReadSession, session: &Session) -> Result<(), StoreError> {
        let ReadSession { row: old, on_disk } = read;
        if (&old.session.realm, &old.session.client) != (&session.realm, &session.client) {
            self.count_session(session, true)?;
            self.count_session(&old.session, false)?;
        }
        if !rows::same_lists(&old.session, session) {
            self.unlist_session(&old.session);
            self.list_session(session);
        }
        let removable_at = session.removable_at();
        let expiry = if old.expiry <= removable_at {
            old.expiry
        } else {
            let expiry = rows::bucket_of(removable_at);
            self.lists.remove(rows::expiry_list(old.expiry), session.id);
            self.lists.add(rows::expiry_list(expiry), session.id);
            expiry
        };
        let row = rows::encode(&SessionRow { expiry, session })?;
        self.rows.put_over(rows::session_key(session.id), row, on_disk);
        Ok(())
    }

    /// Notes that a session can't be removed before a time.
    pub(crate) fn move_expiry(
        &mut self,
        row: &SessionRow<Arc<Session>>,
        expiry: Timestamp,
    ) -> Result<(), StoreError> {
        let session = row.session.as_ref();
        self.lists.remove(rows::expiry_list(row.expiry), session.id);
        self.lists.add(rows::expiry_list(expiry), session.id);
        self.put(rows::session_key(session.id), &SessionRow { expiry, session })
    }

    /// Removes a session.
    pub(crate) fn remove_session(&mut self, row: &SessionRow<Arc<Session>>) -> Result<(), StoreError> {
        let session = row.session.as_ref();
        self.lists.remove(rows::expiry_list(row.expiry), session.id);
        self.unlist_session(session);
        self.remove(rows::session_key(session.id));
        self.count_session(session, false)
    }

    fn list_session(&mut self, session: &Session) {
        for list in rows::lists_of(session) {
            self.lists.add(list, session.id);
        }
    }

    fn unlist_session(&mut self, session: &Session) {
        for list in rows::lists_of(session) {
            self.lists.remove(list, session.id);
        }
    }

    /// Counts a session that is new, or that is removed.
    fn count_session(&mut self, session: &Session, is_new: bool) -> Result<(), StoreError> {
        let key = rows::session_count_key(&session.realm, &session.client);
        let before: u64 = self.row("a number of sessions", &key)?.unwrap_or(0);
        let after = if is_new {
            before.saturating_add(1)
        } else {
            before.saturating_sub(1)
        };
        if after == 0 {
            self.remove(key);
            return Ok(());
        }
        self.put(key, &after)
    }
}
