//! Realms: isolation domains and their limits.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{name::RealmName, time::Seconds};

/// Whether a realm is for production or for trying out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RealmKind {
    /// For production.
    Production,
    /// For trying out.
    Sandbox,
}

impl RealmKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Production, Self::Sandbox];

    /// `production` or `sandbox`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Sandbox => "sandbox",
        }
    }
}

impl fmt::Display for RealmKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An isolation domain with its own issuer, keys, sessions and policy domain. Nothing made in one
/// realm is accepted in another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Realm {
    /// Its name, also the domain in policy.
    pub name: RealmName,
    /// Its kind.
    pub kind: RealmKind,
    /// The `iss` of its tokens.
    pub issuer: String,
    /// Its lifetimes and limits.
    pub limits: RealmLimits,
    /// What a change of policy does to sessions that lose a scope by it.
    pub on_policy_loss: OnPolicyLoss,
}

/// What a change of policy does to live sessions whose scopes it takes. Refreshes follow the new policy
/// in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnPolicyLoss {
    /// Access tokens lose only these scopes, at once; a session without any scope left ends.
    #[default]
    Narrow,
    /// The session ends.
    Revoke,
    /// Access tokens keep them until they expire.
    Expire,
}

/// Lifetimes and limits in a realm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealmLimits {
    /// Lifetime of an access token if the caller names none.
    pub access_ttl_default: Seconds,
    /// The longest lifetime of an access token.
    pub access_ttl_max: Seconds,
    /// Lifetime of an unused refresh token.
    pub idle_ttl: Seconds,
    /// The longest lifetime of a session, and its lifetime if the caller names none.
    pub session_ttl_max: Seconds,
    /// How long a retry of the last refresh gives the same successor; 0 turns it off.
    pub grace: Seconds,
    /// How many such retries within the grace window. Further retries within it are refused and end nothing.
    pub grace_replays_max: u8,
    /// How many sessions the store keeps for each client. Ended ones count until no verifier could accept one of their
    /// tokens.
    pub sessions_per_client_max: u64,
    /// Lifetime of a new API key if its maker names none. `None`: the longest, or until it is revoked.
    pub api_key_ttl_default: Option<Seconds>,
    /// The longest lifetime of a new API key. `None`: any, and a key may work until it is revoked.
    pub api_key_ttl_max: Option<Seconds>,
}

impl RealmLimits {
    /// The longest grace window that may be set.
    pub const GRACE_MAX: Seconds = Seconds(60);
}

impl Default for RealmLimits {
    fn default() -> Self {
        Self {
            access_ttl_default: Seconds::HOUR,
            access_ttl_max: Seconds::DAY,
            idle_ttl: Seconds::days(30),
            session_ttl_max: Seconds::days(90),
            grace: Seconds(10),
            grace_replays_max: 20,
            sessions_per_client_max: 1_000_000,
            api_key_ttl_default: None,
            api_key_ttl_max: None,
        }
    }
}
