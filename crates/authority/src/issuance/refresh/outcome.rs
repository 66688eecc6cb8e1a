//! How refreshing ends, counted for each realm.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use tessera_core::RealmName;

use crate::issuance::error::RefreshError;

/// How a refresh ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshOutcome {
    /// The token was spent, and a new one given.
    Rotated,
    /// A retry received the same answer.
    Replayed,
    /// A retry beyond the number that may be answered.
    ReplaysUsed,
    /// A spent token: the session is revoked.
    Reused,
    /// The session's lifetime is over.
    Expired,
    /// The session was revoked.
    Revoked,
    /// Policy grants nothing of it, or it requests what it can't have.
    Denied,
    /// Not a token of this realm and client.
    Invalid,
    /// The authority can't answer now.
    Unavailable,
}

impl RefreshOutcome {
    const ALL: [Self; 9] = [
        Self::Rotated,
        Self::Replayed,
        Self::ReplaysUsed,
        Self::Reused,
        Self::Expired,
        Self::Revoked,
        Self::Denied,
        Self::Invalid,
        Self::Unavailable,
    ];

    /// Its name, such as `replays_used`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rotated => "rotated",
            Self::Replayed => "replayed",
            Self::ReplaysUsed => "replays_used",
            Self::Reused => "reused",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Denied => "denied",
            Self::Invalid => "invalid",
            Self::Unavailable => "unavailable",
        }
    }

    pub(crate) fn of_success(is_replay: bool) -> Self {
        if is_replay { Self::Replayed } else { Self::Rotated }
    }

    pub(crate) fn of(error: &RefreshError) -> Self {
        match error {
            RefreshError::Invalid
            | RefreshError::Ahead
            | RefreshError::WrongClient
            | RefreshError::CredentialEnded => Self::Invalid,
            RefreshError::Expired => Self::Expired,
            RefreshError::Revoked(_) => Self::Revoked,
            RefreshError::Reused => Self::Reused,
            RefreshError::ReplaysUsed => Self::ReplaysUsed,
            RefreshError::OtherAudience(_)
            | RefreshError::ScopeExceedsGrant(_)
            | RefreshError::TokenTooLarge(_)
            | RefreshError::Denied { .. } => Self::Denied,
            RefreshError::Unavailable(_) => Self::Unavailable,
        }
    }
}

/// The counts of the realms that are served.
pub(crate) struct RefreshCounts(BTreeMap<RealmName, Vec<(RefreshOutcome, AtomicU64)>>);

impl RefreshCounts {
    pub(crate) fn of<'a>(realms: impl Iterator<Item = &'a RealmName>) -> Self {
        let none = || RefreshOutcome::ALL.map(|outcome| (outcome, AtomicU64::default()));
        Self(realms.map(|realm| (realm.clone(), none().into())).collect())
    }

    pub(crate) fn count(&self, realm: &RealmName, outcome: RefreshOutcome) {
        let counts = self.0.get(realm).into_iter().flatten();
        for (_, count) in counts.filter(|(of, _)| *of == outcome) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn all(&self) -> Vec<(RealmName, RefreshOutcome, u64)> {
        let counts = self.0.iter().flat_map(|(realm, counts)| {
            let read = |(outcome, count): &(RefreshOutcome, AtomicU64)| {
                (realm.clone(), *outcome, count.load(Ordering::Relaxed))
            };
            counts.iter().map(read)
        });
        counts.collect()
    }
}
