//! The refresh family: the chain of refresh tokens inside a session, as a pure state machine.
//!
//! A family is at generation `n`. Presenting its refresh token has exactly one of these results:
//!
//! | presented | result |
//! |---|---|
//! | generation `n`, secret right | [`Verdict::Rotate`] to `n + 1` |
//! | `n - 1`, secret right, within the grace window, replays left | [`Verdict::Replay`]: the same successor |
//! | `n - 1`, secret right, within the grace window, no replays left | refused ([`Refusal::ReplaysUsed`]); nothing changes |
//! | `n - 1` otherwise, or any earlier generation | [`Verdict::Reuse`]: the session must be revoked |
//! | later than `n` | refused ([`Refusal::Ahead`]): the store was restored from a backup |
//! | right generation, wrong secret | refused ([`Refusal::WrongSecret`]); nothing changes |
//! | by another client | refused ([`Refusal::WrongClient`]); nothing changes |
//!
//! Order comes from the generation, never from a time stamp. Only hashes of secrets are kept, of the current and of the
//! previous generation, so a family has constant size. That `n - 1` is replayed only while its successor is unused
//! needs no rule: once `n` is used, the family is at `n + 1`.

use serde::{Deserialize, Serialize};

use crate::{
    name::ClientName, realm::RealmLimits, revoke_reason::RevokeReason, secret_hash::SecretHash,
    time::Timestamp,
};

/// The position of a session in its chain of refresh tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshFamily {
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
    /// How often its successor was given again. Replays that come together count as one.
    pub replays: u8,
    /// When a replay was counted last, or the generation was spent.
    pub counted_at: Timestamp,
}

/// A presented refresh token: already decrypted, hence made by this authority.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// Its generation.
    pub generation: u64,
    /// The hash of its secret.
    pub secret: SecretHash,
    /// The authenticated client that presents it.
    pub client: &'a ClientName,
}

/// The verdict on a presented refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Continue with the next generation: [`Session::rotated`](crate::Session::rotated).
    Rotate,
    /// Give the same successor again: [`Session::replayed`](crate::Session::replayed).
    Replay,
    /// A spent token: [`Session::revoked`](crate::Session::revoked) with [`RevokeReason::Reuse`], although the call
    /// fails.
    Reuse,
    /// Refuse, and leave the session unchanged.
    Refuse(Refusal),
}

/// Why a refresh token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The session belongs to another client.
    WrongClient,
    /// The session was revoked.
    Revoked(RevokeReason),
    /// The session was not used for its idle lifetime.
    ExpiredIdle,
    /// The session's absolute lifetime is over.
    ExpiredAbsolute,
    /// The generation is right and the secret is not.
    WrongSecret,
    /// The generation is later than the session's: the store is older than the token.
    Ahead,
    /// The session never had a refresh token.
    NotRefreshable,
    /// A retry within the grace window, after the maximum number of repeated answers. This is not a theft.
    ReplaysUsed,
}

/// Replays that come within this time of the last counted one are counted with it: many threads of a client that
/// refresh at once are one retry.
const REPLAYS_TOGETHER_MILLIS: i64 = 50;

impl RefreshFamily {
    /// The first generation of a family.
    #[must_use]
    pub const fn first(secret: SecretHash) -> Self {
        Self {
            generation: 1,
            current: secret,
            previous: None,
        }
    }

    /// The verdict on a presented refresh token, by the table of this module, in a session that has not ended and
    /// belongs to the caller. Changes nothing.
    #[must_use]
    pub fn present(&self, token: &Presented<'_>, limits: &RealmLimits, now: Timestamp) -> Verdict {
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
                previous.present(token.secret, limits, now)
            }
            _ => Verdict::Reuse,
        }
    }

    /// The family with the next generation.
    #[must_use]
    pub fn rotated(&self, successor: SecretHash, now: Timestamp) -> Self {
        Self {
            generation: self.generation.saturating_add(1),
            current: successor,
            previous: Some(Previous {
                hash: self.current,
                spent_at: now,
                replays: 0,
                counted_at: now,
            }),
        }
    }

    /// The family with one more replay counted, unless it came together with one that was.
    #[must_use]
    pub fn replayed(&self, now: Timestamp) -> Self {
        let previous = self.previous.map(|previous| previous.replayed(now));
        Self { previous, ..*self }
    }
}

impl Previous {
    fn present(&self, secret: SecretHash, limits: &RealmLimits, now: Timestamp) -> Verdict {
        if self.hash != secret {
            Verdict::Refuse(Refusal::WrongSecret)
        } else if !self.is_in_grace(limits, now) {
            Verdict::Reuse
        } else if self.is_counted(now) || self.replays < limits.grace_replays_max {
            Verdict::Replay
        } else {
            Verdict::Refuse(Refusal::ReplaysUsed)
        }
    }

    /// A clock that went backwards keeps the window open: the number of replays still bounds it.
    fn is_in_grace(&self, limits: &RealmLimits, now: Timestamp) -> bool {
        let window_millis = i64::from(limits.grace.0) * 1000;
        limits.grace.0 > 0 && now.millis_since(self.spent_at) <= window_millis
    }

    /// Whether a replay at `now` counts with the rotation, or with the last counted replay.
    fn is_counted(&self, now: Timestamp) -> bool {
        now.millis_since(self.counted_at).abs() <= REPLAYS_TOGETHER_MILLIS
    }

    fn replayed(self, now: Timestamp) -> Self {
        if self.is_counted(now) {
            return self;
        }
        Self {
            replays: self.replays.saturating_add(1),
            counted_at: now,
            ..self
        }
    }
}
