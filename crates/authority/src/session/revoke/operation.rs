//! One call of Revoke: what all kinds of targets have in common.

use tessera_core::{ApiKeyId, ClientName, Cursor, Session, Timestamp};
use tessera_policy::Permission;
use tessera_store::{PageRequest, Placed, SessionIndex};

use super::request::RevokeRequest;
use crate::{
    error::CallNotAllowed,
    log::cause::Cause,
    principal::Principal,
    session::{cutoff::Matched, error::RevokeError, sessions::Sessions},
};

/// How many sessions are read, or ended, in one step.
pub(crate) const STEP: usize = 500;

/// The result of a revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Sessions (or the one access token) that ended, or would end: those that could be refreshed, and those of which a
    /// verifier might still accept an access token.
    pub matched: u64,
    /// The position of the event; if nothing new was written, the position of the log now. `None` if the call only
    /// counted.
    pub cursor: Option<Cursor>,
    /// Whether anything was written: `false` if every target had ended before, or is unknown.
    pub is_change: bool,
    /// API keys that ended, or would end: the named one, and its descendants.
    pub api_keys: Vec<ApiKeyId>,
    /// API keys that were made with those, and keep working.
    pub made_keys: Vec<ApiKeyId>,
}

impl Revoked {
    pub(crate) fn of(matched: u64, cursor: Option<Cursor>) -> Self {
        Self {
            matched,
            cursor,
            is_change: false,
            api_keys: Vec::new(),
            made_keys: Vec::new(),
        }
    }
}

/// One call of Revoke.
pub(crate) struct RevokeOperation<'a> {
    pub(crate) sessions: &'a Sessions,
    pub(crate) principal: &'a Principal,
    pub(crate) request: &'a RevokeRequest,
    pub(crate) now: Timestamp,
}

impl RevokeOperation<'_> {
    pub(crate) async fn matched(&self, index: &SessionIndex) -> Result<Matched, RevokeError> {
        let mut matched = Matched::starting_now(&self.principal.realm().limits, self.now);
        let mut after = None;
        loop {
            let page = self
                .sessions
                .shared
                .store
                .sessions(index, PageRequest { after, limit: STEP })
                .await?;
            for stored in page.items {
                matched.cover(&stored.session, self.now);
                matched.live += u64::from(self.is_live(&stored.session));
            }
            after = page.next;
            if after.is_none() {
                return Ok(matched);
            }
            // Other tasks run between the pages.
            tokio::task::yield_now().await;
        }
    }

    /// Whether revoking it ends anything: a refresh, or an access token that a verifier may still accept. A session
    /// whose API key was revoked counts until it is revoked itself: verifiers receive events of sessions, not of keys.
    pub(crate) fn is_live(&self, session: &Session) -> bool {
        session.is_live(self.sessions.shared.clock.settled())
            && self
                .sessions
                .shared
                .store
                .log()
                .ended_with_others(session)
                .is_none()
    }

    pub(super) fn require_unless_own(&self, owner: &ClientName) -> Result<(), CallNotAllowed> {
        if owner == self.principal.client() {
            return Ok(());
        }
        self.sessions
            .shared
            .require(self.principal, &Permission::RevokeSessions)
    }

    /// Who revokes, when and why.
    pub(crate) fn cause(&self) -> Cause {
        Cause {
            identity: self.principal.identity().clone(),
            request_id: self.request.request_id,
            reason: self.request.reason.clone(),
            now: self.now,
        }
    }

    pub(crate) fn nothing(&self) -> Revoked {
        let cursor = (!self.request.validate_only).then(|| self.sessions.shared.position());
        Revoked::of(0, cursor)
    }

    pub(crate) fn done(&self, matched: u64, placed: &Placed) -> Revoked {
        let cursor = match placed.last() {
            Some(last) => self.sessions.shared.cursor_at(last),
            None => self.sessions.shared.position(),
        };
        Revoked {
            is_change: true,
            ..Revoked::of(matched, Some(cursor))
        }
    }
}
