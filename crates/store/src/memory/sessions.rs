//! Sessions, with the number that each client has.

use std::sync::Arc;

use tessera_core::{Session, SessionId};

use super::tables::Tables;

impl Tables {
    pub(super) fn put_session(&mut self, session: Arc<Session>) {
        let owner = (session.realm.clone(), session.client.clone());
        if let Some(old) = self.sessions.insert(session.id, session) {
            self.uncount(&old);
        }
        *self.session_counts.entry(owner).or_default() += 1;
    }

    pub(super) fn remove_session(&mut self, id: SessionId) {
        if let Some(old) = self.sessions.remove(&id) {
            self.uncount(&old);
        }
    }

    fn uncount(&mut self, session: &Session) {
        let owner = (session.realm.clone(), session.client.clone());
        if let Some(count) = self.session_counts.get_mut(&owner) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.session_counts.remove(&owner);
            }
        }
    }
}
