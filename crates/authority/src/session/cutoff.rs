//! How long a revocation of many sessions must be remembered.

use tessera_core::{RealmLimits, Session, Timestamp};

/// How many sessions a revocation matches, and how long it must be remembered.
pub(crate) struct Matched {
    /// As [`Revoked::matched`](crate::Revoked::matched).
    pub(crate) live: u64,
    /// When the last access token that it can affect ends.
    pub(crate) tokens_until: Timestamp,
    /// When the last session that it ended would have ended without it.
    pub(crate) sessions_until: Timestamp,
}

impl Matched {
    /// Covers the sessions that begin before the event is written.
    pub(crate) fn starting_now(limits: &RealmLimits, now: Timestamp) -> Self {
        Self {
            live: 0,
            tokens_until: now.plus(limits.access_ttl_max),
            sessions_until: now.plus(limits.session_ttl_max).plus(limits.access_ttl_max),
        }
    }

    /// Covers a session that began under limits that were higher then.
    pub(crate) fn cover(&mut self, session: &Session, now: Timestamp) {
        self.tokens_until = self.tokens_until.max(session.tokens_until(now));
        self.sessions_until = self.sessions_until.max(session.absolute_until);
    }
}
