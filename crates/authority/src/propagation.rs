//! The fence: who must know of a revocation, and who does.
//!
//! A required subscriber that has been silent longer than its own staleness bound refuses by itself: what
//! it knows is at most as old as the last message it sent, plus the bound. So "everybody knows" means
//! acknowledged, or failed closed.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tessera_core::{RealmName, Sequence, SubscriberName};
use tokio::{sync::watch, time::Instant};

/// How long a subscriber goes on answering without a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StalenessBound(pub Duration);

impl Default for StalenessBound {
    fn default() -> Self {
        Self(Duration::from_secs(5))
    }
}

/// How a place of the log came to be known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Propagated {
    /// Required subscribers that acknowledged it.
    pub acknowledged: u32,
    /// Required subscribers that were silent beyond their bound.
    pub failed_closed: u32,
}

/// The required subscribers of all realms, by name: one that reconnects is the same one.
pub(crate) struct Subscribers {
    known: Mutex<HashMap<(RealmName, SubscriberName), Subscriber>>,
    changed: watch::Sender<()>,
}

struct Subscriber {
    acknowledged: Sequence,
    heard_at: Instant,
    bound: StalenessBound,
}

/// A subscriber's place among the required ones, held by its stream.
#[derive(Clone, Debug)]
pub(crate) struct Membership {
    realm: RealmName,
    name: SubscriberName,
}

impl Default for Subscribers {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            changed: watch::Sender::new(()),
        }
    }
}

impl Subscribers {
    /// A required subscriber begins, having everything up to `acknowledged`.
    pub(crate) fn join(
        &self,
        realm: RealmName,
        name: SubscriberName,
        acknowledged: Sequence,
        bound: StalenessBound,
    ) -> Membership {
        let subscriber = Subscriber {
            acknowledged,
            heard_at: Instant::now(),
            bound,
        };
        self.lock().insert((realm.clone(), name.clone()), subscriber);
        self.changed.send_replace(());
        Membership { realm, name }
    }

    /// The subscriber sent a message, perhaps an acknowledgement.
    pub(crate) fn heard(&self, member: &Membership, acknowledged: Option<Sequence>) {
        if let Some(subscriber) = self.lock().get_mut(&(member.realm.clone(), member.name.clone())) {
            subscriber.heard_at = Instant::now();
            if let Some(sequence) = acknowledged {
                subscriber.acknowledged = subscriber.acknowledged.max(sequence);
            }
        }
        self.changed.send_replace(());
    }

    /// Answers when every required subscriber of the realm has `sequence` or refuses by itself.
    pub(crate) async fn wait_for(&self, realm: &RealmName, sequence: Sequence) -> Propagated {
        let mut changed = self.changed.subscribe();
        loop {
            match self.look(realm, sequence) {
                Ok(propagated) => return propagated,
                Err(next_silence) => {
                    tokio::select! {
                        _ = changed.changed() => {}
                        () = tokio::time::sleep_until(next_silence) => {}
                    }
                }
            }
        }
    }

    /// Who has it; or when the next one that has not will have been silent long enough.
    fn look(&self, realm: &RealmName, sequence: Sequence) -> Result<Propagated, Instant> {
        let now = Instant::now();
        let mut propagated = Propagated::default();
        let mut next_silence: Option<Instant> = None;
        self.lock().retain(|(of_realm, _), subscriber| {
            let fails_closed_at = subscriber.heard_at + subscriber.bound.0;
            let has_failed_closed = now > fails_closed_at;
            if of_realm == realm {
                if subscriber.acknowledged >= sequence {
                    propagated.acknowledged += 1;
                } else if has_failed_closed {
                    propagated.failed_closed += 1;
                } else {
                    let at = fails_closed_at + Duration::from_millis(1);
                    next_silence = Some(next_silence.map_or(at, |earliest| earliest.min(at)));
                }
            }
            // One that is silent long beyond its bound is gone, or joins again before it accepts anything.
            now < fails_closed_at + Duration::from_secs(3600)
        });
        next_silence.map_or(Ok(propagated), Err)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(RealmName, SubscriberName), Subscriber>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn realm() -> RealmName {
        RealmName::parse("production").unwrap()
    }

    fn join(subscribers: &Subscribers, name: &str) -> Membership {
        let bound = StalenessBound(Duration::from_secs(5));
        subscribers.join(realm(), SubscriberName::parse(name).unwrap(), Sequence(0), bound)
    }

    #[tokio::test(start_paused = true)]
    async fn the_fence_waits_for_an_acknowledgement() {
        let subscribers = std::sync::Arc::new(Subscribers::default());
        let member = join(&subscribers, "one");
        let waiting = tokio::spawn({
            let subscribers = std::sync::Arc::clone(&subscribers);
            async move { subscribers.wait_for(&realm(), Sequence(3)).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        subscribers.heard(&member, Some(Sequence(2)));
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        subscribers.heard(&member, Some(Sequence(3)));
        assert_eq!(
            waiting.await.unwrap(),
            Propagated {
                acknowledged: 1,
                failed_closed: 0
            }
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_subscriber_counts_once_its_bound_has_passed() {
        let subscribers = Subscribers::default();
        let began = Instant::now();
        let talking = join(&subscribers, "talking");
        join(&subscribers, "frozen");
        subscribers.heard(&talking, Some(Sequence(9)));
        let propagated = subscribers.wait_for(&realm(), Sequence(9)).await;
        assert_eq!(
            propagated,
            Propagated {
                acknowledged: 1,
                failed_closed: 1
            }
        );
        assert!(began.elapsed() >= Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_required_means_nothing_to_wait_for() {
        let propagated = Subscribers::default().wait_for(&realm(), Sequence(9)).await;
        assert_eq!(propagated, Propagated::default());
    }
}
