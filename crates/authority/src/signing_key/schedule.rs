//! The next step with the signing keys of a realm: a pure function.

use tessera_core::{KeyId, KeyStatus, LEEWAY_MAX, Seconds, SigningKey, Timestamp};

/// How signing keys replace each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRotation {
    /// How long a key is published before it signs, at least: for verifiers and proxies that read the keys only now and
    /// then. Required verifiers must also have acknowledged it.
    pub publish_for: Seconds,
    /// How long a key signs before it is replaced; `None`: until an operator requests it.
    pub every: Option<Seconds>,
}

impl Default for KeyRotation {
    fn default() -> Self {
        Self {
            publish_for: Seconds(600),
            every: None,
        }
    }
}

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RotationStep {
    /// Nothing.
    Wait,
    /// Publish a new key.
    Publish,
    /// Let this one sign, once each required verifier has it.
    Activate(KeyId),
    /// Remove these: no verifier accepts anything that they signed.
    Forget(Vec<KeyId>),
}

/// No copy of the published keys is kept for longer than this.
const COPIES_MAX: Seconds = Seconds(300);

impl KeyRotation {
    /// How long a copy of the published keys may be kept: half of the time for which a key is published before it
    /// signs, so that a copy of a copy also has the key in time.
    #[must_use]
    pub fn copies_may_be_kept(&self) -> Seconds {
        Seconds(self.publish_for.0 / 2).min(COPIES_MAX)
    }

    /// The next step with the keys of one realm. Keys are removed by the settled time.
    pub(crate) fn next_step<'a>(
        &self,
        keys: impl Iterator<Item = &'a SigningKey> + Clone,
        now: Timestamp,
        settled: Timestamp,
    ) -> RotationStep {
        let with = |status| keys.clone().find(|key| key.status == status);
        if let Some(published) = with(KeyStatus::Published) {
            return if published.not_before <= now {
                RotationStep::Activate(published.id)
            } else {
                RotationStep::Wait
            };
        }
        let is_due = |active: &SigningKey| {
            self.every
                .is_some_and(|every| active.not_before.plus(every) <= now)
        };
        if with(KeyStatus::Active).is_some_and(is_due) {
            return RotationStep::Publish;
        }
        let over: Vec<_> = keys
            .filter(|key| is_over(key, settled))
            .map(|key| key.id)
            .collect();
        if over.is_empty() {
            RotationStep::Wait
        } else {
            RotationStep::Forget(over)
        }
    }
}

/// Whether no verifier accepts anything that the key signed, or may have signed.
fn is_over(key: &SigningKey, settled: Timestamp) -> bool {
    let Some(not_after) = key.not_after else {
        return false;
    };
    match key.status {
        KeyStatus::Published | KeyStatus::Active => false,
        KeyStatus::Retired => not_after.plus(LEEWAY_MAX) < settled,
        KeyStatus::Revoked => not_after.plus(key.token_ttl_max).plus(LEEWAY_MAX) < settled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, signing_key};

    fn key(letter: &str, status: KeyStatus, not_before: i64, not_after: Option<i64>) -> SigningKey {
        SigningKey {
            id: id(letter),
            status,
            published_at: at(not_before - 600),
            not_before: at(not_before),
            not_after: not_after.map(at),
            token_ttl_max: Seconds(1000),
            ..signing_key(1)
        }
    }

    fn id(letter: &str) -> KeyId {
        KeyId::parse(&format!("k4.pid.{}", letter.repeat(44))).unwrap()
    }

    #[test]
    fn the_table() {
        use KeyStatus::{Active, Published, Retired, Revoked};
        let monthly = Some(Seconds(3000));
        let active = key("a", Active, -2999, None);
        let due = key("a", Active, -3000, None);
        let cases: [(&str, Option<Seconds>, Vec<SigningKey>, RotationStep); 12] = [
            ("one that signs", None, vec![due.clone()], RotationStep::Wait),
            ("not due yet", monthly, vec![active.clone()], RotationStep::Wait),
            ("due", monthly, vec![due.clone()], RotationStep::Publish),
            (
                "due, and published already",
                monthly,
                vec![due.clone(), key("b", Published, 1, None)],
                RotationStep::Wait,
            ),
            (
                "published for long enough",
                None,
                vec![active.clone(), key("b", Published, 0, None)],
                RotationStep::Activate(id("b")),
            ),
            (
                "without one that signs",
                monthly,
                vec![key("b", Published, 0, None)],
                RotationStep::Activate(id("b")),
            ),
            (
                "retired, and accepted within the leeway",
                None,
                vec![active.clone(), key("c", Retired, -9000, Some(-60))],
                RotationStep::Wait,
            ),
            (
                "retired, and over",
                None,
                vec![active.clone(), key("c", Retired, -9000, Some(-61))],
                RotationStep::Forget(vec![id("c")]),
            ),
            (
                "revoked, and what it signed may live",
                None,
                vec![active.clone(), key("c", Revoked, -9000, Some(-1060))],
                RotationStep::Wait,
            ),
            (
                "revoked, and over",
                None,
                vec![active.clone(), key("c", Revoked, -9000, Some(-1061))],
                RotationStep::Forget(vec![id("c")]),
            ),
            (
                "a new key comes before old ones go",
                monthly,
                vec![due, key("c", Retired, -9000, Some(-61))],
                RotationStep::Publish,
            ),
            ("no key", monthly, Vec::new(), RotationStep::Wait),
        ];
        for (name, every, keys, expected) in cases {
            let rotation = KeyRotation {
                every,
                ..KeyRotation::default()
            };
            assert_eq!(rotation.next_step(keys.iter(), at(0), at(0)), expected, "{name}");
        }
    }

    /// A clock that jumps ahead removes nothing.
    #[test]
    fn what_is_over_goes_by_the_settled_time() {
        let over = [key("c", KeyStatus::Retired, -9000, Some(-61))];
        let step = KeyRotation::default().next_step(over.iter(), at(1_000_000), at(-1));
        assert_eq!(step, RotationStep::Wait);
    }
}
