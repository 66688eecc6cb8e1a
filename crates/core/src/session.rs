//! The refresh family: the chain of refresh tokens that began with one Issue, as a pure state machine.
//!
//! A session is at generation `n`. Presenting its refresh token has exactly one of these results:
//!
//! | presented | result |
//! |---|---|
//! | generation `n`, secret right | [`Verdict::Rotate`] to `n + 1` |
//! | `n - 1`, secret right, within the grace window, replays left | [`Verdict::Replay`]: the same successor |
//! | `n - 1`, secret right, within the grace window, no replays left | refused ([`Refusal::ReplaysUsed`]); the session is untouched |
//! | `n - 1` otherwise, or any earlier generation | [`Verdict::Reuse`]: the session must be revoked |
//! | later than `n` | refused ([`Refusal::Ahead`]): the store was restored from a backup |
//! | right generation, wrong secret | refused ([`Refusal::WrongSecret`]); the session is untouched |
//! | by another client | refused ([`Refusal::WrongClient`]); the session is untouched |
//!
//! Order comes from the generation, never from a time stamp. Only hashes of secrets are kept, of the
//! current and of the previous generation, so a session has constant size. That `n - 1` is replayed
//! only while its successor is unused needs no rule: once `n` is used the session is at `n + 1`.

use std::fmt;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::{
    event::{LEEWAY_MAX, Sequence},
    id::{ApiKeyId, PolicyRevision, SessionId},
    name::{Audience, ClientName, Label, RealmName, RoleName, Subject},
    realm::{OnPolicyLoss, RealmLimits},
    scope::ScopeSet,
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
    /// The API key that began it.
    pub api_key: ApiKeyId,
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
    /// Its chain; none where no refresh token was given.
    pub chain: Option<Chain>,
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

/// Why a session was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RevokeReason {
    /// Somebody entitled asked for it.
    Requested,
    /// A spent refresh token was used.
    Reuse,
    /// Everything of its subject ended.
    Subject,
    /// Everything of its client ended.
    Client,
    /// Everything with one of its labels ended.
    Label,
    /// Everything of its realm ended.
    Realm,
    /// The API key that began it was revoked.
    ApiKey,
    /// A change of policy left it nothing, or the realm ends sessions that lose a scope.
    Policy,
}

impl RevokeReason {
    /// The reason as the wire has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "revoked",
            Self::Reuse => "reuse",
            Self::Subject => "subject_revoked",
            Self::Client => "client_revoked",
            Self::Label => "label_revoked",
            Self::Realm => "realm_revoked",
            Self::ApiKey => "api_key_revoked",
            Self::Policy => "policy",
        }
    }
}

/// Where a session stands in its chain of refresh tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// The current generation, from 1.
    pub generation: u64,
    /// The hash of the current secret.
    pub current: SecretHash,
    /// The generation before, once there is one.
    pub previous: Option<Previous>,
}

/// The generation before the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    /// The hash of its secret.
    pub hash: SecretHash,
    /// When it was first spent: the grace window is measured from here and never slides.
    pub spent_at: Timestamp,
    /// How often its successor was given again.
    pub replays: u8,
}

/// The hash of a secret of at least 128 random bits. Compared in constant time, never shown.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretHash([u8; 32]);

/// A refresh token as it is presented: already decrypted, hence made by this authority.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// Its generation.
    pub generation: u64,
    /// The hash of its secret.
    pub secret: SecretHash,
    /// The authenticated client that presents it.
    pub client: &'a ClientName,
}

/// What presenting a refresh token leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on to the next generation: [`Session::rotated`].
    Rotate,
    /// Give the same successor again: [`Session::replayed`].
    Replay,
    /// A spent token: [`Session::revoked`] with [`RevokeReason::Reuse`], although the call fails.
    Reuse,
    /// Refuse, and leave the session as it is.
    Refuse(Refusal),
}

/// Why a refresh token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The session belongs to another client.
    WrongClient,
    /// The session was revoked.
    Revoked(RevokeReason),
    /// The session was not used for its idle life.
    ExpiredIdle,
    /// The session's absolute life is over.
    ExpiredAbsolute,
    /// The generation is right and the secret is not.
    WrongSecret,
    /// The generation is later than the session's: the store is older than the token.
    Ahead,
    /// The session never had a refresh token.
    NotRefreshable,
    /// A retry within the grace window, after as many as may be answered. That is no theft.
    ReplaysUsed,
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

    /// What presenting a refresh token leads to, by the table of this module. Changes nothing.
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
        match &self.chain {
            Some(chain) => chain.present(token, limits, now),
            None => Verdict::Refuse(Refusal::NotRefreshable),
        }
    }

    /// The session one generation on, its idle life begun anew.
    #[must_use]
    pub fn rotated(&self, successor: SecretHash, limits: &RealmLimits, now: Timestamp) -> Self {
        let chain = self.chain.map(|chain| Chain {
            generation: chain.generation.saturating_add(1),
            current: successor,
            previous: Some(Previous {
                hash: chain.current,
                spent_at: now,
                replays: 0,
            }),
        });
        // A clock that went backwards doesn't shorten a life that was promised.
        let idle_until = now
            .plus(limits.idle_ttl)
            .max(self.idle_until)
            .min(self.absolute_until);
        Self {
            chain,
            idle_until,
            ..self.clone()
        }
    }

    /// The session with one more replay counted; nothing else moves.
    #[must_use]
    pub fn replayed(&self) -> Self {
        let chain = self.chain.map(|chain| Chain {
            previous: chain.previous.map(|previous| Previous {
                replays: previous.replays.saturating_add(1),
                ..previous
            }),
            ..chain
        });
        Self {
            chain,
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
        self.chain.map_or(0, |chain| chain.generation)
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

impl Chain {
    fn present(&self, token: &Presented<'_>, limits: &RealmLimits, now: Timestamp) -> Verdict {
        if token.generation > self.generation {
            return Verdict::Refuse(Refusal::Ahead);
        }
        if token.generation == self.generation {
            return if self.current == token.secret {
                Verdict::Rotate
            } else {
                Verdict::Refuse(Refusal::WrongSecret)
            };
        }
        match &self.previous {
            Some(previous) if token.generation.saturating_add(1) == self.generation => {
                if previous.hash != token.secret {
                    Verdict::Refuse(Refusal::WrongSecret)
                } else if !previous.is_in_grace(limits, now) {
                    Verdict::Reuse
                } else if previous.replays < limits.grace_replays_max {
                    Verdict::Replay
                } else {
                    Verdict::Refuse(Refusal::ReplaysUsed)
                }
            }
            _ => Verdict::Reuse,
        }
    }
}

impl Previous {
    /// A clock that went backwards keeps the window open: the number of replays bounds it still.
    fn is_in_grace(&self, limits: &RealmLimits, now: Timestamp) -> bool {
        let window_millis = i64::from(limits.grace.0) * 1000;
        limits.grace.0 > 0 && now.millis_since(self.spent_at) <= window_millis
    }
}

impl SecretHash {
    /// The hash with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SecretHash {}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(..)")
    }
}

#[cfg(test)]
mod tests;
