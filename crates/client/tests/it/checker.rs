//! Whether an answer of a verifier was correct.

use std::time::Duration;

use tessera_client::{Decision, DenyReason};
use tessera_core::{Seconds, Timestamp};
use tokio::time::Instant;

/// The largest difference of the clocks that is tolerated.
const LEEWAY: Seconds = Seconds(60);

/// One answer, with all data that is needed to check it.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    /// The time before the verifier was asked for its status and, after that, about the token.
    pub(crate) asked_at: Instant,
    /// The staleness that it reported.
    pub(crate) behind: Option<Duration>,
    /// How stale it may be and still allow.
    pub(crate) bound: Duration,
    pub(crate) decision: Decision,
    /// When Revoke answered; `None` if the token is valid.
    pub(crate) revoked_at: Option<Instant>,
    pub(crate) issued_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    /// The clock of the verifier, and that of the authority.
    pub(crate) local_time: Timestamp,
    pub(crate) authority_time: Timestamp,
}

impl Look {
    /// How long the token has been revoked.
    pub(crate) fn age(&self) -> Option<Duration> {
        Some(self.asked_at.saturating_duration_since(self.revoked_at?))
    }
}

/// The error in an answer, if there is one.
pub(crate) fn violation(look: &Look) -> Option<String> {
    let Look { bound, .. } = look;
    match &look.decision {
        Decision::Allow(_) => {
            let age = look.age()?;
            match look.behind {
                None => Some("allowed before it was ever fresh".to_owned()),
                _ if age > *bound => Some(format!(
                    "allowed {age:?} after it was revoked; the bound is {bound:?}"
                )),
                Some(behind) if age > behind => Some(format!(
                    "allowed {age:?} after it was revoked, and said {behind:?} before"
                )),
                Some(_) => None,
            }
        }
        Decision::Deny(reason) => {
            let latest = look.local_time.max(look.authority_time).plus(LEEWAY);
            let is_honest = match reason {
                DenyReason::Revoked => look.revoked_at.is_some(),
                DenyReason::Expired => look.expires_at <= latest,
                DenyReason::NotYetValid => look.issued_at > look.local_time,
                _ => false,
            };
            (!is_honest).then(|| format!("refused as {reason:?}: {look:?}"))
        }
        Decision::Stale { behind, .. } => behind
            .is_some_and(|behind| behind <= *bound)
            .then(|| format!("stale, although within the bound: {behind:?}")),
    }
}

mod tests {
    use std::sync::Arc;

    use tessera_core::AccessClaims;

    use super::*;
    use crate::world::{World, access, viewer};

    async fn claims() -> Arc<AccessClaims> {
        let world = World::start().await;
        let verifier = world.verifier().await;
        let issued = world.issue(viewer("user:ann")).await;
        Arc::clone(verifier.verify(access(&issued), None).claims().unwrap())
    }

    #[tokio::test]
    async fn the_checker_tells_honest_answers_from_others() {
        let now = Instant::now();
        let millis = Duration::from_millis;
        let ago = |age| now.checked_sub(millis(age));
        let (allow, at) = (Decision::Allow(claims().await), Timestamp::from_seconds);
        let look = |decision: &Decision, behind, revoked_at| Look {
            asked_at: now,
            behind: Some(millis(behind)),
            bound: millis(100),
            decision: decision.clone(),
            revoked_at,
            issued_at: at(10_000),
            expires_at: at(20_000),
            local_time: at(12_000),
            authority_time: at(12_000),
        };
        let is_honest = |look: Look| violation(&look).is_none();
        assert!(is_honest(look(&allow, 500, None)));
        assert!(is_honest(look(&allow, 90, ago(90))));
        assert!(!is_honest(look(&allow, 80, ago(90))));
        assert!(!is_honest(look(&allow, 120, ago(110))));
        let mut never_fresh = look(&allow, 90, ago(90));
        never_fresh.behind = None;
        assert!(!is_honest(never_fresh));

        let stale = |behind| Decision::Stale {
            bound: millis(100),
            behind,
        };
        assert!(is_honest(look(&stale(None), 0, None)));
        assert!(is_honest(look(&stale(Some(millis(101))), 0, ago(500))));
        assert!(!is_honest(look(&stale(Some(millis(100))), 0, None)));

        let deny = Decision::Deny;
        assert!(is_honest(look(&deny(DenyReason::Revoked), 0, ago(0))));
        assert!(!is_honest(look(&deny(DenyReason::Revoked), 0, None)));
        assert!(!is_honest(look(&deny(DenyReason::UnknownKey), 0, ago(0))));
        assert!(!is_honest(look(&deny(DenyReason::Expired), 0, None)));
        assert!(!is_honest(look(&deny(DenyReason::NotYetValid), 0, None)));
        let mut ahead = look(&deny(DenyReason::Expired), 0, None);
        ahead.local_time = at(20_000);
        assert!(is_honest(ahead));
        let mut behind = look(&deny(DenyReason::NotYetValid), 0, None);
        behind.local_time = at(9_000);
        assert!(is_honest(behind));
    }
}
