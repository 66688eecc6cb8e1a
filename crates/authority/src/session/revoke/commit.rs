//! The commits of Revoke: pure functions of the request and of what the store has.

use tessera_core::{
    AccessClaims, AuditAction, ClientName, EventBody, EventTarget, RealmName, RevokeReason, SessionId,
};
use tessera_policy::Permission;
use tessera_store::{Changes, ClientChange, Decision, SessionIndex, Snapshot};

use super::request::{RevokeRequest, RevokeTarget};
use crate::{
    credential::right::needed_to_end,
    log::{
        cause::Cause,
        event::{sessions_revoked, token_revoked},
    },
    session::{cutoff::Matched, end::end_sessions},
};

/// One access token ends.
pub(super) fn end_token(claims: &AccessClaims, cause: &Cause) -> Changes {
    Changes {
        audit: vec![cause.record(EventTarget::Token(claims.token_id), 1)],
        events: vec![token_revoked(claims, cause.reason.clone(), cause.now)],
        ..Changes::default()
    }
}

/// One session ends, unless it ended before the commit.
pub(super) fn end_session(id: SessionId, cause: &Cause, state: &Snapshot) -> Decision<()> {
    let mut changes = end_sessions(state, &[id], RevokeReason::Requested, &cause.reason, cause.now);
    if changes.events.is_empty() {
        return Decision::Abort(());
    }
    changes.audit.push(cause.record(EventTarget::Session(id), 1));
    Decision::Commit(changes, ())
}

/// All sessions of an index end, with one event.
pub(super) struct EndMany<'a> {
    pub(super) index: SessionIndex,
    /// What policy must permit the caller, each of them.
    pub(super) needs: Vec<Permission>,
    /// The client whose API keys stop working, too.
    pub(super) disabled: Option<&'a ClientName>,
    body: EventBody,
}

impl<'a> EndMany<'a> {
    /// `None` if the target is one token, session or key.
    pub(super) fn of(realm: &RealmName, caller: &ClientName, request: &'a RevokeRequest) -> Option<Self> {
        let realm = realm.clone();
        let mut needs = Vec::new();
        let mut disabled = None;
        let (index, body) = match &request.target {
            RevokeTarget::Subject(subject) => {
                needs.extend((*subject != caller.to_subject()).then_some(Permission::RevokeSessions));
                let subject = subject.clone();
                (
                    SessionIndex::Subject(realm, subject.clone()),
                    EventBody::SubjectRevoked { subject },
                )
            }
            RevokeTarget::Client(client) => {
                disabled = request.disables_client.then_some(client);
                needs.extend((client != caller).then_some(Permission::RevokeSessions));
                needs.extend(disabled.and_then(|client| needed_to_end(caller, client)));
                let client = client.clone();
                (
                    SessionIndex::Client(realm, client.clone()),
                    EventBody::ClientRevoked { client },
                )
            }
            RevokeTarget::Label(label) => {
                needs.push(Permission::RevokeSessions);
                let label = label.clone();
                (
                    SessionIndex::Label(realm, label.clone()),
                    EventBody::LabelRevoked { label },
                )
            }
            RevokeTarget::Realm => {
                needs.push(Permission::RevokeRealm);
                (SessionIndex::Realm(realm), EventBody::RealmRevoked)
            }
            RevokeTarget::Token(_)
            | RevokeTarget::Session(_)
            | RevokeTarget::ApiKey(_)
            | RevokeTarget::SigningKey(_) => return None,
        };
        Some(Self {
            index,
            needs,
            disabled,
            body,
        })
    }

    /// The event is written even if no session matched: a session may be removed before its last access token ends.
    pub(super) fn changes(self, matched: &Matched, cause: &Cause) -> Changes {
        let target = self.body.target().unwrap_or(EventTarget::Realm);
        let mut changes = Changes {
            audit: vec![cause.record(target, matched.live)],
            events: vec![sessions_revoked(
                cause.realm(),
                self.body,
                cause.reason.clone(),
                cause.now,
                (matched.tokens_until, matched.sessions_until),
            )],
            ..Changes::default()
        };
        if let Some(client) = self.disabled {
            changes.audit.push(cause.audit(AuditAction::ClientDisabled {
                client: client.clone(),
                is_enabled: false,
            }));
            changes.clients.push(ClientChange {
                realm: cause.realm().clone(),
                client: client.clone(),
                is_disabled: true,
            });
        }
        changes
    }
}

#[cfg(test)]
mod tests;
