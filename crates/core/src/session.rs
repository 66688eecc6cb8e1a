//! The session: it begins with one Issue, and continues with each Refresh until it ends or is revoked.
//!
//! The session and its [`RefreshFamily`] give the verdict on a presented refresh token.

use serde::{Deserialize, Serialize};

use crate::{
    credential::CredentialId,
    family::{Presented, RefreshFamily, Refusal, Verdict},
    id::{PolicyRevision, SessionId},
    limits::LEEWAY_MAX,
    name::{Audience, ClientName, Label, RealmName, RoleName, Subject},
    realm::{OnPolicyLoss, RealmLimits},
    revoke_reason::RevokeReason,
    scope::ScopeSet,
    secret_hash::SecretHash,
    sequence::Sequence,
    time::{Seconds, Timestamp},
};

/// Who may spend a session's refresh tokens. Fixed when it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refreshable {
    /// Its client, which sends its API key (RFC 6749 §6).
    #[default]
    ByClient,
    /// Any bearer of the token: for clients that send no API key when they refresh.
    ByBearer,
}

/// A session in its stored form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// The realm.
    pub realm: RealmName,
    /// The client to which it was issued; no other client can refresh it.
    pub client: ClientName,
    /// The credential that began it.
    pub credential: CredentialId,
    /// The subject of its tokens.
    pub subject: Subject,
    /// The roles that were asserted when it began.
    pub roles: Vec<RoleName>,
    /// The scopes that were granted when it began; no refresh exceeds them.
    pub scopes: ScopeSet,
    /// The audience of its access tokens.
    pub audience: Audience,
    /// Its labels.
    pub labels: Vec<Label>,
    /// Who may refresh it.
    pub refreshable: Refreshable,
    /// Lifetime of each of its access tokens.
    pub access_ttl: Seconds,
    /// How long a tombstone stays after the session's end: the longest lifetime of an access token.
    pub tombstone_ttl: Seconds,
    /// When it began.
    pub created_at: Timestamp,
    /// When it ends unless it is refreshed before.
    pub idle_until: Timestamp,
    /// When it ends at the latest; fixed when it began.
    pub absolute_until: Timestamp,
    /// The last sequence of the revocation log when it began.
    pub rev: Sequence,
    /// The policy that granted its scopes.
    pub policy: PolicyRevision,
    /// The decision on it; expiry is not stored but follows from the clock.
    pub state: SessionState,
    /// Its refresh family; `None` if no refresh token was given.
    pub family: Option<RefreshFamily>,
    /// The part of `scopes` that changes of policy have taken since. A scope that policy gives back leaves the set
    /// again.
    pub lost: ScopeSet,
}

/// Whether a session was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionState {
    /// It was not revoked.
    Active,
    /// It was revoked, permanently.
    Revoked {
        /// Why.
        reason: RevokeReason,
        /// When.
        at: Timestamp,
    },
}

/// The effect of putting a policy in force on a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyEffect {
    /// Nothing.
    None,
    /// It gets scopes back that it had lost; this causes no event, as its tokens stay unchanged.
    Regains,
    /// It loses these.
    Narrows(ScopeSet),
    /// It ends.
    Ends,
}

/// The condition of a session at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It has not ended: its refresh token, if it has one, can be spent.
    Active,
    /// It was revoked.
    Revoked(RevokeReason),
    /// It was not used for its idle lifetime. If access tokens live longer than that, its last one may still be valid.
    ExpiredIdle,
    /// Its absolute lifetime is over.
    ExpiredAbsolute,
}

impl Session {
    /// The condition of the session at `now`.
    #[must_use]
    pub fn condition(&self, now: Timestamp) -> Condition {
        match self.state {
            SessionState::Revoked { reason, .. } => Condition::Revoked(reason),
            SessionState::Active if now >= self.absolute_until => Condition::ExpiredAbsolute,
            SessionState::Active if now >= self.idle_until => Condition::ExpiredIdle,
            SessionState::Active => Condition::Active,
        }
    }

    /// The verdict on a presented refresh token, by the table of [`family`](crate::family). Changes nothing.
    #[must_use]
    pub fn present(&self, token: &Presented<'_>, limits: &RealmLimits, now: Timestamp) -> Verdict {
        if *token.client != self.client {
            return Verdict::Refuse(Refusal::WrongClient);
        }
        match self.condition(now) {
            Condition::Active => {}
            Condition::Revoked(reason) => return Verdict::Refuse(Refusal::Revoked(reason)),
            Condition::ExpiredIdle => return Verdict::Refuse(Refusal::ExpiredIdle),
            Condition::ExpiredAbsolute => return Verdict::Refuse(Refusal::ExpiredAbsolute),
        }
        match &self.family {
            Some(family) => family.present(token, limits, now),
            None => Verdict::Refuse(Refusal::NotRefreshable),
        }
    }

    /// The session with the next generation, and a new idle lifetime.
    #[must_use]
    pub fn rotated(&self, successor: SecretHash, limits: &RealmLimits, now: Timestamp) -> Self {
        // A clock that went backwards doesn't shorten a lifetime that was promised.
        let idle_until = now
            .plus(limits.idle_ttl)
            .max(self.idle_until)
            .min(self.absolute_until);
        Self {
            family: self.family.map(|family| family.rotated(successor, now)),
            idle_until,
            ..self.clone()
        }
    }

    /// The session with one more replay counted; nothing else changes.
    #[must_use]
    pub fn replayed(&self, now: Timestamp) -> Self {
        Self {
            family: self.family.map(|family| family.replayed(now)),
            ..self.clone()
        }
    }

    /// The session revoked; a session that was revoked before keeps its first reason.
    #[must_use]
    pub fn revoked(&self, reason: RevokeReason, now: Timestamp) -> Self {
        match self.state {
            SessionState::Revoked { .. } => self.clone(),
            SessionState::Active => Self {
                state: SessionState::Revoked { reason, at: now },
                ..self.clone()
            },
        }
    }

    /// Whether a verifier may accept an access token of it at `now`, or a refresh can give one. The last token was
    /// issued before the idle end, lives for its own lifetime, and is accepted for the leeway after that.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        let last_token_until = self.access_until(self.idle_until);
        self.state == SessionState::Active && now < last_token_until.plus(LEEWAY_MAX)
    }

    /// The effect on the session of a policy that takes `lost` of its scopes, if an earlier policy may have taken some
    /// already.
    #[must_use]
    pub fn policy_effect(&self, lost: &ScopeSet, on_loss: OnPolicyLoss) -> PolicyEffect {
        if on_loss == OnPolicyLoss::Expire {
            return PolicyEffect::None;
        }
        let newly = lost.minus(&self.lost);
        if newly.is_empty() {
            return if *lost == self.lost {
                PolicyEffect::None
            } else {
                PolicyEffect::Regains
            };
        }
        if on_loss == OnPolicyLoss::Revoke || *lost == self.scopes {
            return PolicyEffect::Ends;
        }
        PolicyEffect::Narrows(newly)
    }

    /// The session without `lost`, which is everything that policy does not grant now; other scopes that it had lost
    /// come back.
    #[must_use]
    pub fn without(&self, lost: ScopeSet) -> Self {
        Self { lost, ..self.clone() }
    }

    /// The session once a token with `granted` is made: a scope that a new token has is no longer lost, so that its
    /// next loss causes an event.
    #[must_use]
    pub fn regaining(&self, granted: &ScopeSet) -> Self {
        self.without(self.lost.minus(granted))
    }

    /// The current generation; 0 if the session has no refresh token.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.family.map_or(0, |family| family.generation)
    }

    /// When an access token issued at `now` expires: never after the session's absolute end.
    #[must_use]
    pub fn access_until(&self, now: Timestamp) -> Timestamp {
        now.floor_to_second()
            .plus(self.access_ttl)
            .min(self.absolute_until)
    }

    /// When the last access token of it that was issued before `now` ends, with any limits that the realm had then.
    #[must_use]
    pub fn tokens_until(&self, now: Timestamp) -> Timestamp {
        now.plus(self.tombstone_ttl).min(self.absolute_until)
    }

    /// When the store may forget the session: no verifier accepts an access token of it any longer.
    #[must_use]
    pub fn removable_at(&self) -> Timestamp {
        let end = match self.state {
            // By a clock that was behind, or that had been ahead.
            SessionState::Revoked { at, .. } => at.max(self.created_at),
            SessionState::Active => self.idle_until,
        };
        self.tokens_until(end).plus(LEEWAY_MAX)
    }
}

#[cfg(test)]
mod tests;
