//! The stored data of an API key.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{
    address_range::AddressRange,
    id::ApiKeyId,
    name::{ClientName, RealmName},
    secret_hash::SecretHash,
    time::{Seconds, Timestamp},
};

/// An API key: its description and the hash of its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// The public part of the key.
    pub id: ApiKeyId,
    /// The realm in which it works.
    pub realm: RealmName,
    /// The client that it identifies.
    pub client: ClientName,
    /// The hash of its secret part; the secret itself is shown once and stored nowhere.
    pub secret_hash: SecretHash,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops working, if ever.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
    /// The day on which a call with it was last admitted, as its first moment; `None` if no call was. It is written a
    /// little later than the call.
    pub last_used_on: Option<Timestamp>,
    /// The addresses from which calls with it are admitted; empty: any.
    pub allow_from: Vec<AddressRange>,
    /// The key that replaced it, if it was rolled.
    pub successor: Option<ApiKeyId>,
    /// The key that it replaced, if it is the successor of one.
    pub replaces: Option<ApiKeyId>,
    /// The client whose key made it; `None` if the operator made it.
    pub made_by: Option<ClientName>,
    /// The key with which it was made, or with which the key that it replaces was rolled; `None` if the operator did
    /// so.
    pub made_with: Option<ApiKeyId>,
    /// When this key and those that it replaces were rolled, the last few times.
    pub rolls: Vec<Timestamp>,
}

/// How many address ranges a key may have.
pub const ALLOW_FROM_MAX: usize = 32;

/// Whether an API key works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiKeyStatus {
    /// It works.
    Active,
    /// It has a successor and works until it expires.
    Rolled,
    /// It has expired.
    Expired,
    /// It was revoked.
    Revoked,
}

impl ApiKey {
    /// Whether the key works at `now`.
    #[must_use]
    pub fn status(&self, now: Timestamp) -> ApiKeyStatus {
        if self.revoked_at.is_some() {
            ApiKeyStatus::Revoked
        } else if self.expires_at.is_some_and(|end| now >= end) {
            ApiKeyStatus::Expired
        } else if self.successor.is_some() {
            ApiKeyStatus::Rolled
        } else {
            ApiKeyStatus::Active
        }
    }

    /// Since when it has not worked at `now`; `None` if it works.
    #[must_use]
    pub fn dead_since(&self, now: Timestamp) -> Option<Timestamp> {
        let expired_at = self.expires_at.filter(|end| now >= *end);
        match (self.revoked_at, expired_at) {
            (Some(revoked_at), Some(expired_at)) => Some(revoked_at.min(expired_at)),
            (revoked_at, expired_at) => revoked_at.or(expired_at),
        }
    }

    /// Whether a call from `address` may use it.
    #[must_use]
    pub fn allows_from(&self, address: IpAddr) -> bool {
        self.allow_from.is_empty() || self.allow_from.iter().any(|range| range.contains(address))
    }

    /// Whether a key that may be used from `ranges` could be used from an address that this one does not allow.
    #[must_use]
    pub fn is_widened_by(&self, ranges: &[AddressRange]) -> bool {
        let is_allowed =
            |range: &AddressRange| self.allow_from.iter().any(|allowed| range.is_within(allowed));
        !self.allow_from.is_empty() && (ranges.is_empty() || !ranges.iter().all(is_allowed))
    }

    /// Whether it works at `now`, and no call was admitted with it for so long, or none since it was made.
    #[must_use]
    pub fn is_unused_for(&self, time: Seconds, now: Timestamp) -> bool {
        // It may have been used until the day's end.
        let last_use = self.last_used_on.map(|day| day.plus(Seconds::DAY));
        self.works(now) && last_use.unwrap_or(self.created_at).plus(time) <= now
    }

    /// Whether it works at `now`, ends within this time, and has no successor.
    #[must_use]
    pub fn ends_within(&self, time: Seconds, now: Timestamp) -> bool {
        let is_soon = self.expires_at.is_some_and(|end| end <= now.plus(time));
        is_soon && self.status(now) == ApiKeyStatus::Active
    }

    /// Whether a call with this key is admitted at `now`.
    #[must_use]
    pub fn works(&self, now: Timestamp) -> bool {
        matches!(self.status(now), ApiKeyStatus::Active | ApiKeyStatus::Rolled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_046_400 + 7200;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(NOW + seconds)
    }

    fn key() -> ApiKey {
        ApiKey {
            id: ApiKeyId::parse("0123456789abcdef").unwrap(),
            realm: RealmName::parse("production").unwrap(),
            client: ClientName::parse("client:app").unwrap(),
            secret_hash: SecretHash::from_bytes([1; 32]),
            created_at: at(-100 * 86_400),
            expires_at: None,
            revoked_at: None,
            last_used_on: None,
            allow_from: Vec::new(),
            successor: None,
            replaces: None,
            made_by: None,
            made_with: None,
            rolls: Vec::new(),
        }
    }

    fn successor() -> Option<ApiKeyId> {
        ApiKeyId::parse("1123456789abcdef").ok()
    }

    #[test]
    fn keys_that_nobody_uses_as_a_table() {
        let used = |days: i64| ApiKey {
            last_used_on: Some(at(-days * 86_400).floor_to_day()),
            ..key()
        };
        let cases = [
            ("never used, and old", key(), true),
            (
                "never used, and new",
                ApiKey {
                    created_at: at(-60),
                    ..key()
                },
                false,
            ),
            ("used since", used(30), false),
            ("used on the last day that counts", used(90), false),
            ("used before", used(91), true),
            (
                "revoked",
                ApiKey {
                    revoked_at: Some(at(-1)),
                    ..used(91)
                },
                false,
            ),
            (
                "expired",
                ApiKey {
                    expires_at: Some(at(0)),
                    ..used(91)
                },
                false,
            ),
            (
                "rolled, and still working",
                ApiKey {
                    successor: successor(),
                    ..used(91)
                },
                true,
            ),
        ];
        for (name, key, expected) in cases {
            assert_eq!(key.is_unused_for(Seconds::days(90), at(0)), expected, "{name}");
        }
    }

    #[test]
    fn keys_that_end_soon_as_a_table() {
        let ends = |seconds: i64| ApiKey {
            expires_at: Some(at(seconds)),
            ..key()
        };
        let cases = [
            ("never", key(), false),
            ("within the time", ends(86_400), true),
            ("later", ends(86_401), false),
            ("ended", ends(0), false),
            (
                "revoked",
                ApiKey {
                    revoked_at: Some(at(-1)),
                    ..ends(60)
                },
                false,
            ),
            (
                "replaced already",
                ApiKey {
                    successor: successor(),
                    ..ends(60)
                },
                false,
            ),
        ];
        for (name, key, expected) in cases {
            assert_eq!(key.ends_within(Seconds::DAY, at(0)), expected, "{name}");
        }
    }

    #[test]
    fn addresses_as_a_table() {
        let of = |texts: &[&str]| -> Vec<AddressRange> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let from = |texts: &[&str]| ApiKey {
            allow_from: of(texts),
            ..key()
        };
        let both = ["10.0.0.0/8", "2001:db8::/32"];
        for (ranges, address, expected) in [
            (&[][..], "192.0.2.1", true),
            (&both, "10.1.2.3", true),
            (&both, "::ffff:10.1.2.3", true),
            (&both, "2001:db8::1", true),
            (&both, "192.0.2.1", false),
            (&both, "::ffff:192.0.2.1", false),
            (&both, "::1", false),
        ] {
            let allows = from(ranges).allows_from(address.parse().unwrap());
            assert_eq!(allows, expected, "{ranges:?} {address}");
        }
        for (ranges, wider, expected) in [
            (&[][..], &["10.0.0.0/8"][..], false),
            (&[], &[], false),
            (&both, &[], true),
            (&both, &["10.1.0.0/16"], false),
            (&both, &["10.1.0.0/16", "192.0.2.1"], true),
        ] {
            assert_eq!(
                from(ranges).is_widened_by(&of(wider)),
                expected,
                "{ranges:?} {wider:?}"
            );
        }
    }
}
