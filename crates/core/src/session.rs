//! The session: what began with one Issue, and goes on with each Refresh until it ends or is revoked.
//!
//! What presenting a refresh token leads to is decided by the session and by its [`RefreshFamily`].

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
    /// Its client, which shows its API key (RFC 6749 §6).
    #[default]
    ByClient,
    /// Whoever bears the token: for clients that show no API key when they refresh.
    ByBearer,
}

/// A session as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// The realm.
    pub realm: RealmName,
    /// The client it was issued to; nobody else can refresh it.
    pub client: ClientName,
    /// The credential that began it.
    pub credential: CredentialId,
    /// Whom its tokens speak for.
    pub subject: Subject,
    /// Roles asserted when it began.
    pub roles: Vec<RoleName>,
    /// Scopes granted when it began; no refresh goes beyond.
    pub scopes: ScopeSet,
    /// The audience of its access tokens.
    pub audience: Audience,
    /// Its labels.
    pub labels: Vec<Label>,
    /// Who may refresh it.
    pub refreshable: Refreshable,
    /// Life of each of its access tokens.
    pub access_ttl: Seconds,
    /// How long a tombstone stays after the session's end: the longest life of an access token.
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
    /// What was decided about it; expiry is not stored but follows from the clock.
    pub state: SessionState,
    /// Its refresh family; none where no refresh token was given.
    pub family: Option<RefreshFamily>,
    /// Those of `scopes` that changes of policy have taken since. One that policy gives back leaves the
    /// set again.
    pub lost: ScopeSet,
}

/// Whether a session was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionState {
    /// It was not.
    Active,
    /// It was, for ever.
    Revoked {
        /// Why.
        reason: RevokeReason,
        /// When.
        at: Timestamp,
    },
}

/// What a policy that is put in force does to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyEffect {
    /// Nothing.
    None,
    /// It gets scopes back that it had lost; nobody hears of it, as its tokens stay as they are.
    Regains,
    /// It loses these.
    Narrows(ScopeSet),
    /// It ends.
    Ends,
}

/// What a session is at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It has not ended: the refresh token that it may have can be spent.
    Active,
    /// It was revoked.
    Revoked(RevokeReason),
    /// It was not used for its idle life. Where access tokens live longer than that, its last may be alive.
    ExpiredIdle,
    /// Its absolute life is over.
    ExpiredAbsolute,
}

impl Session {
    /// What the session is at `now`.
    #[must_use]
    pub fn condition(&self, now: Timestamp) -> Condition {
        match self.state {
            SessionState::Revoked { reason, .. } => Condition::Revoked(reason),
            SessionState::Active if now >= self.absolute_until => Condition::ExpiredAbsolute,
            SessionState::Active if now >= self.idle_until => Condition::ExpiredIdle,
            SessionState::Active => Condition::Active,
        }
    }

    /// What presenting a refresh token leads to, by the table of [`family`](crate::family). Changes nothing.
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

    /// The session one generation on, its idle life begun anew.
    #[must_use]
    pub fn rotated(&self, successor: SecretHash, limits: &RealmLimits, now: Timestamp) -> Self {
        // A clock that went backwards doesn't shorten a life that was promised.
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

    /// The session with one more replay counted; nothing else moves.
    #[must_use]
    pub fn replayed(&self, now: Timestamp) -> Self {
        Self {
            family: self.family.map(|family| family.replayed(now)),
            ..self.clone()
        }
    }

    /// The session revoked; one that was revoked before keeps its first reason.
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

    /// Whether a verifier may accept an access token of it at `now`, or one be had by a refresh. The last
    /// was issued before the idle end, lives on for its own life, and is accepted for the leeway after that.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        let last_token_until = self.access_until(self.idle_until);
        self.state == SessionState::Active && now < last_token_until.plus(LEEWAY_MAX)
    }

    /// What a policy does to the session that takes `lost` of its scopes, where an earlier one may have
    /// taken some already.
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

    /// The session without `lost`, all that policy does not grant now; a session that had lost others gets
    /// those back.
    #[must_use]
    pub fn without(&self, lost: ScopeSet) -> Self {
        Self { lost, ..self.clone() }
    }

    /// The session once a token with `granted` is made: a scope that a token has anew is lost no more, so that
    /// its next loss is told.
    #[must_use]
    pub fn regaining(&self, granted: &ScopeSet) -> Self {
        self.without(self.lost.minus(granted))
    }

    /// The current generation; 0 where the session has no refresh token.
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

    /// When the last access token of it that was issued before `now` ends, whatever the realm's limits
    /// were then.
    #[must_use]
    pub fn tokens_until(&self, now: Timestamp) -> Timestamp {
        now.plus(self.tombstone_ttl).min(self.absolute_until)
    }

    /// When the store may forget the session: no verifier accepts an access token of it any more.
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
