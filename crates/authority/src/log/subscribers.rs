//! The fence: which subscribers must know of a revocation, and which do.
//!
//! A required subscriber that has been silent longer than its own staleness bound refuses by itself: its knowledge is
//! at most as old as its last message plus the bound. So "all subscribers know" means acknowledged, or failed closed.
//!
//! The required subscribers are kept only in memory. After a restart those of the earlier run may still accept tokens,
//! and this run does not know them. So the store keeps the longest of their bounds, and the fence stays closed until it
//! has passed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use tessera_core::{RealmName, Sequence, SubscriberName};
use tessera_store::{SettingChange, Store, StoreError, SubscriberKey, SubscriberState};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::{
    log::error::{SubscriberError, WatchError},
    shared::setting::setting,
};

/// How long a subscriber keeps answering without a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StalenessBound(pub Duration);

impl Default for StalenessBound {
    fn default() -> Self {
        Self(Duration::from_secs(5))
    }
}

/// How a position of the log was propagated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Propagated {
    /// Required subscribers that acknowledged it.
    pub acknowledged: u32,
    /// Required subscribers that were silent beyond their bound.
    pub failed_closed: u32,
}

/// How many streams of one subscriber's name may count at once: those that ended lately, and open ones that should not
/// share the name.
const STREAMS_PER_NAME_MAX: usize = 256;
/// How long a subscriber that failed closed is still counted after its stream has ended.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);

/// How long an evicted subscriber may not return as a required one.
pub(crate) const EVICTED_FOR: Duration = Duration::from_secs(600);
/// An eviction that another node reports counts only if it ends later than the known one by more than this.
const EVICTION_SLACK: Duration = Duration::from_secs(5);
/// How many of a realm may be evicted at once.
const EVICTED_MAX: usize = 256;
/// From this number of streams on, waiting calls check less often.
const MANY_STREAMS: usize = 64;
/// How often they check then.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// The required subscribers of all realms. Each stream counts by itself until it fails closed. Two streams of one name
/// may be one process that reconnected or two that accept tokens: this node can't know which.
pub(crate) struct Subscribers {
    streams: Mutex<Streams>,
    changed: watch::Sender<()>,
    earlier: EarlierRuns,
    /// The longest bounds as the store has them. Locked while they are written.
    kept: tokio::sync::Mutex<BTreeMap<RealmName, Duration>>,
}

/// The required subscribers of earlier runs: their names are not known.
struct EarlierRuns {
    opened_at: Instant,
    bounds: BTreeMap<RealmName, Duration>,
}

#[derive(Default)]
struct Streams {
    /// The streams of each name, in the order in which they joined.
    streams: BTreeMap<SubscriberKey, BTreeMap<u64, Subscriber>>,
    joined: u64,
    evicted: BTreeMap<SubscriberKey, Instant>,
    /// The realms that had any in this run: other nodes ask how far the subscribers of each are, even if none is left.
    realms: BTreeSet<RealmName>,
}

struct Subscriber {
    acknowledged: Sequence,
    acknowledged_at: Instant,
    heard_at: Instant,
    bound: StalenessBound,
    /// Belongs to its membership, which is dropped with the stream.
    stream: Weak<Notify>,
}

/// A subscriber's slot among the required ones, held by its stream.
#[derive(Debug)]
pub(crate) struct Membership {
    name: SubscriberKey,
    number: u64,
    /// Woken when it is evicted.
    stream: Arc<Notify>,
}

impl Subscribers {
    /// None yet in this run; those of earlier runs had at most these bounds.
    pub(crate) fn new(bounds: BTreeMap<RealmName, Duration>) -> Self {
        Self {
            streams: Mutex::default(),
            changed: watch::Sender::new(()),
            kept: tokio::sync::Mutex::new(bounds.clone()),
            earlier: EarlierRuns {
                opened_at: Instant::now(),
                bounds,
            },
        }
    }

    /// A required subscriber begins, and has everything up to `acknowledged`. It may accept nothing before
    /// [`keep_bound`](Self::keep_bound).
    pub(crate) fn join(
        &self,
        name: SubscriberKey,
        acknowledged: Sequence,
        bound: StalenessBound,
    ) -> Result<Membership, WatchError> {
        let now = Instant::now();
        let mut known = self.lock();
        known.forget_evicted(now);
        if let Some(until) = known.evicted.get(&name) {
            return Err(WatchError::Evicted {
                until_free: until.saturating_duration_since(now),
            });
        }
        // An earlier stream of the name that refuses by itself, and will not reconnect, is replaced by this one.
        let number = known.joined + 1;
        let of_name = known.streams.entry(name.clone()).or_default();
        of_name.retain(|_, other| other.is_open() || !other.has_failed_closed(now));
        if of_name.len() >= STREAMS_PER_NAME_MAX {
            return Err(WatchError::NameCrowded { until_free: bound.0 });
        }
        let stream = Arc::default();
        let subscriber = Subscriber {
            acknowledged,
            acknowledged_at: now,
            heard_at: now,
            bound,
            stream: Arc::downgrade(&stream),
        };
        of_name.insert(number, subscriber);
        known.joined = number;
        known.realms.insert(name.realm.clone());
        drop(known);
        self.changed.send_replace(());
        Ok(Membership { name, number, stream })
    }

    /// The required subscribers of all realms.
    pub(crate) fn all(&self) -> Vec<SubscriberState> {
        let now = Instant::now();
        let known = self.lock();
        let states = known.each().map(|(of, subscriber)| SubscriberState {
            key: of.clone(),
            acknowledged: subscriber.acknowledged,
            silent_for: now.saturating_duration_since(subscriber.heard_at),
            acknowledged_before: now.saturating_duration_since(subscriber.acknowledged_at),
            bound: subscriber.bound.0,
            is_open: subscriber.is_open(),
        });
        states.collect()
    }

    /// Ends the streams of a name, which may not return for a while. The fence waits for them until their bound has
    /// passed: they may keep answering for so long. Returns how many streams were open.
    pub(crate) fn evict(&self, name: &SubscriberKey) -> Result<usize, SubscriberError> {
        let now = Instant::now();
        let mut known = self.lock();
        known.forget_evicted(now);
        let of_realm = known
            .evicted
            .iter()
            .filter(|(of, _)| of.realm == name.realm && *of != name);
        let ends: Vec<_> = of_realm.map(|(_, until)| *until).collect();
        if let Some(first) = ends.iter().min().filter(|_| ends.len() >= EVICTED_MAX) {
            return Err(SubscriberError::TooManyEvicted {
                max: EVICTED_MAX,
                until_free: first.saturating_duration_since(now),
            });
        }
        known.evicted.insert(name.clone(), now + EVICTED_FOR);
        Ok(known.end_streams(name))
    }

    /// Ends the streams of a name that was evicted at another node, where it may not return for `left`.
    pub(crate) fn keep_away(&self, name: &SubscriberKey, left: Duration) {
        let now = Instant::now();
        let mut known = self.lock();
        known.forget_evicted(now);
        let until = now + left.min(EVICTED_FOR);
        let kept = known.evicted.entry(name.clone()).or_insert(until);
        // The exchange between nodes takes time, and that time must not add up.
        if until > *kept + EVICTION_SLACK {
            *kept = until;
        }
        known.end_streams(name);
    }

    /// The evicted subscribers, and how long each may not return yet.
    pub(crate) fn evicted(&self) -> Vec<(SubscriberKey, Duration)> {
        let now = Instant::now();
        let known = self.lock();
        let evicted = known.evicted.iter();
        let left = evicted.map(|(name, until)| (name.clone(), until.saturating_duration_since(now)));
        left.filter(|(_, left)| !left.is_zero()).collect()
    }

    /// The subscriber sent a message, perhaps an acknowledgement.
    pub(crate) fn heard(&self, member: &Membership, acknowledged: Option<Sequence>) {
        if let Some(subscriber) = self.lock().of(member) {
            subscriber.heard_at = Instant::now();
            if let Some(sequence) = acknowledged {
                subscriber.acknowledged = subscriber.acknowledged.max(sequence);
                subscriber.acknowledged_at = Instant::now();
            }
        }
        // A sign of life alone only extends the wait; waiting calls find that by themselves.
        if acknowledged.is_some() {
            self.changed.send_replace(());
        }
    }

    /// The position up to which all required subscribers of each realm know the log, or refuse by themselves; `through`
    /// if no subscriber accepts anything by an earlier state.
    pub(crate) fn fences(&self, through: Sequence) -> BTreeMap<RealmName, Sequence> {
        let now = Instant::now();
        let known = self.lock();
        let realms = known.realms.iter().cloned();
        let mut fences: BTreeMap<_, _> = realms.map(|realm| (realm, through)).collect();
        for (of, subscriber) in known.each() {
            if let Some(fence) = fences.get_mut(&of.realm)
                && !subscriber.has_failed_closed(now)
            {
                *fence = (*fence).min(subscriber.acknowledged);
            }
        }
        fences
    }

    /// Stores how long the realm's required subscribers may keep answering, if the store has another value.
    pub(crate) async fn keep_bound(&self, store: &dyn Store, realm: &RealmName) -> Result<(), StoreError> {
        let mut kept = self.kept.lock().await;
        let longest = self.longest_bound(realm);
        if kept.get(realm) == Some(&longest) {
            return Ok(());
        }
        // If this call is cancelled from here on, the stored value is unknown.
        kept.remove(realm);
        let bound = SettingChange::StalenessBound(realm.clone(), longest);
        store.write(setting(bound)).await?;
        kept.insert(realm.clone(), longest);
        Ok(())
    }

    /// The longest bound of those that may accept tokens, now or later: one that failed closed may send a message
    /// again, and accepts again then.
    fn longest_bound(&self, realm: &RealmName) -> Duration {
        let known = self.lock();
        let streams = known.each().filter(|(of, _)| of.realm == *realm);
        let longest = streams.map(|(_, subscriber)| subscriber.bound.0).max();
        let earlier = self.earlier.bound(realm, Instant::now());
        longest.max(earlier).unwrap_or_default()
    }

    /// Returns when every required subscriber of the realm has `sequence` or refuses by itself.
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
            // Many subscribers acknowledge at about the same time: one check covers several of them.
            if self.lock().each().nth(MANY_STREAMS - 1).is_some() {
                tokio::time::sleep(LOOK_INTERVAL).await;
                changed.borrow_and_update();
            }
        }
    }

    /// The required subscribers of the realm that neither have `sequence` nor refuse by themselves; `None` if there are
    /// none, including those of an earlier run.
    pub(crate) fn behind(&self, realm: &RealmName, sequence: Sequence) -> Option<Vec<SubscriberName>> {
        self.look(realm, sequence).err()?;
        let now = Instant::now();
        let known = self.lock();
        let of_realm = known.each().filter(|(of, _)| of.realm == *realm);
        let behind = of_realm.filter(|(_, subscriber)| {
            subscriber.acknowledged < sequence && !subscriber.has_failed_closed(now)
        });
        let mut names: Vec<_> = behind.map(|(of, _)| of.name.clone()).collect();
        names.dedup();
        Some(names)
    }

    /// Which subscribers have it; or when the next one that does not will have been silent long enough.
    fn look(&self, realm: &RealmName, sequence: Sequence) -> Result<Propagated, Instant> {
        let now = Instant::now();
        let mut propagated = Propagated::default();
        let mut next_silence = self.earlier.closed_at(realm).filter(|closed_at| now < *closed_at);
        let mut known = self.lock();
        // A subscriber whose stream has ended joins again before it accepts anything.
        known.streams.retain(|_, of_name| {
            of_name.retain(|_, subscriber| {
                subscriber.is_open() || now < subscriber.fails_closed_at() + FORGOTTEN_AFTER
            });
            !of_name.is_empty()
        });
        let mut streams = known.each().filter(|(of, _)| of.realm == *realm).peekable();
        while let Some((name, subscriber)) = streams.next() {
            if subscriber.acknowledged >= sequence {
                propagated.acknowledged += 1;
            } else if subscriber.has_failed_closed(now) {
                // If a later stream has its name, this one is no longer a subscriber.
                let is_followed = streams.peek().is_some_and(|(next, _)| *next == name);
                propagated.failed_closed += u32::from(!is_followed);
            } else {
                let at = subscriber.fails_closed_at() + Duration::from_millis(1);
                next_silence = Some(next_silence.map_or(at, |earliest| earliest.min(at)));
            }
        }
        next_silence.map_or(Ok(propagated), Err)
    }

    fn lock(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock()
    }
}

impl Streams {
    /// All streams, each with its name.
    fn each(&self) -> impl Iterator<Item = (&SubscriberKey, &Subscriber)> {
        let names = self.streams.iter();
        names.flat_map(|(name, of_name)| of_name.values().map(move |subscriber| (name, subscriber)))
    }

    fn of(&mut self, member: &Membership) -> Option<&mut Subscriber> {
        self.streams.get_mut(&member.name)?.get_mut(&member.number)
    }

    /// Forgets those that may return.
    fn forget_evicted(&mut self, now: Instant) {
        self.evicted.retain(|_, until| now < *until);
    }

    /// Returns how many were open.
    fn end_streams(&self, name: &SubscriberKey) -> usize {
        let streams = self.streams.get(name).into_iter().flat_map(BTreeMap::values);
        let open = streams.filter_map(|subscriber| subscriber.stream.upgrade());
        open.map(|stream| stream.notify_one()).count()
    }
}

impl Membership {
    /// Ready when an administrator evicts the subscriber.
    pub(crate) async fn evicted(&self) {
        self.stream.notified().await;
    }
}

impl EarlierRuns {
    /// The longest bound of those that may still accept tokens.
    fn bound(&self, realm: &RealmName, now: Instant) -> Option<Duration> {
        let closed_at = self.closed_at(realm)?;
        self.bounds.get(realm).copied().filter(|_| now < closed_at)
    }

    /// The time from which none of them accepts tokens. Their bounds began with messages that were answered, so before
    /// this run.
    fn closed_at(&self, realm: &RealmName) -> Option<Instant> {
        let bound = self.bounds.get(realm)?;
        Some(self.opened_at + *bound + Duration::from_millis(1))
    }
}

impl Subscriber {
    fn fails_closed_at(&self) -> Instant {
        self.heard_at + self.bound.0
    }

    /// Whether it may still send a message, however long it was silent, and then accepts again.
    fn is_open(&self) -> bool {
        self.stream.strong_count() > 0
    }

    fn has_failed_closed(&self, now: Instant) -> bool {
        now > self.fails_closed_at()
    }
}

#[cfg(test)]
mod tests {
    use tessera_core::ClientName;
    use tessera_store::{MemoryStore, Reads};

    use super::*;

    fn realm() -> RealmName {
        RealmName::parse("production").unwrap()
    }

    fn none_earlier() -> Subscribers {
        Subscribers::new(BTreeMap::new())
    }

    fn join(subscribers: &Subscribers, name: &str) -> Membership {
        join_with(subscribers, name, Duration::from_secs(5))
    }

    fn join_with(subscribers: &Subscribers, name: &str, bound: Duration) -> Membership {
        let bound = StalenessBound(bound);
        subscribers.join(owned(name), Sequence(0), bound).unwrap()
    }

    fn owned(name: &str) -> SubscriberKey {
        SubscriberKey {
            realm: realm(),
            client: ClientName::parse("client:videos").unwrap(),
            name: SubscriberName::parse(name).unwrap(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_fence_waits_for_an_acknowledgement() {
        let subscribers = Arc::new(none_earlier());
        let member = join(&subscribers, "one");
        let waiting = tokio::spawn({
            let subscribers = Arc::clone(&subscribers);
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
        let subscribers = none_earlier();
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
        let propagated = none_earlier().wait_for(&realm(), Sequence(9)).await;
        assert_eq!(propagated, Propagated::default());
    }

    /// Both may accept tokens: the acknowledgement of one does not count for the other.
    #[tokio::test(start_paused = true)]
    async fn two_of_one_name_are_both_waited_for() {
        let subscribers = none_earlier();
        let began = Instant::now();
        let (first, second) = (join(&subscribers, "one"), join(&subscribers, "one"));
        subscribers.heard(&second, Some(Sequence(9)));
        let propagated = subscribers.wait_for(&realm(), Sequence(9)).await;
        assert!(began.elapsed() >= Duration::from_secs(5));
        let only_the_second = Propagated {
            acknowledged: 1,
            failed_closed: 0,
        };
        assert_eq!(propagated, only_the_second, "the first is followed by the second");
        subscribers.heard(&first, Some(Sequence(9)));
        let propagated = subscribers.wait_for(&realm(), Sequence(9)).await;
        assert_eq!(propagated.acknowledged, 2);
    }

    /// It was frozen, another process took its name, and it continues on the same stream.
    #[tokio::test(start_paused = true)]
    async fn one_that_was_silent_and_is_heard_again_is_waited_for() {
        let subscribers = none_earlier();
        let first = join(&subscribers, "one");
        tokio::time::advance(Duration::from_secs(6)).await;
        let second = join(&subscribers, "one");
        subscribers.heard(&first, None);
        subscribers.heard(&second, Some(Sequence(9)));
        let began = Instant::now();
        subscribers.wait_for(&realm(), Sequence(9)).await;
        assert!(began.elapsed() >= Duration::from_secs(5));
        tokio::time::advance(2 * FORGOTTEN_AFTER).await;
        subscribers.wait_for(&realm(), Sequence(9)).await;
        subscribers.heard(&first, None);
        let began = Instant::now();
        subscribers.wait_for(&realm(), Sequence(9)).await;
        assert!(began.elapsed() >= Duration::from_secs(5));
    }

    /// The write may have succeeded: the stored value is unknown then.
    #[tokio::test(start_paused = true)]
    async fn a_write_that_was_not_answered_is_not_taken_for_undone() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let subscribers = none_earlier();
        let _long = join_with(&subscribers, "one", Duration::from_secs(60));
        subscribers.keep_bound(store.as_ref(), &realm()).await.unwrap();
        store.close().await.unwrap();
        let _longer = join_with(&subscribers, "two", Duration::from_secs(90));
        let kept = subscribers.keep_bound(store.as_ref(), &realm()).await;
        assert!(kept.is_err());
        assert_eq!(subscribers.kept.lock().await.get(&realm()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_does_not_count_without_end() {
        let subscribers = none_earlier();
        for _ in 0..STREAMS_PER_NAME_MAX {
            join(&subscribers, "one");
        }
        let again = |name: &str| subscribers.join(owned(name), Sequence(0), StalenessBound::default());
        assert!(again("one").is_err());
        again("two").unwrap();
        tokio::time::advance(Duration::from_secs(6)).await;
        again("one").unwrap();
        assert_eq!(subscribers.lock().each().count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn names_are_a_clients_own() {
        let subscribers = none_earlier();
        for _ in 0..STREAMS_PER_NAME_MAX {
            join(&subscribers, "one");
        }
        let other = SubscriberKey {
            client: ClientName::parse("client:other").unwrap(),
            ..owned("one")
        };
        subscribers
            .join(other, Sequence(0), StalenessBound::default())
            .unwrap();
    }

    /// It may keep answering until its bound has passed, and the fence waits for it until then.
    #[tokio::test(start_paused = true)]
    async fn an_evicted_subscriber_is_told_and_stays_away() {
        let subscribers = none_earlier();
        let member = join(&subscribers, "one");
        assert_eq!(subscribers.all().len(), 1);
        assert_eq!(subscribers.evict(&owned("one")).unwrap(), 1);
        member.evicted().await;
        drop(member);
        let again = || subscribers.join(owned("one"), Sequence(0), StalenessBound::default());
        assert!(matches!(again(), Err(WatchError::Evicted { .. })));
        let began = Instant::now();
        subscribers.wait_for(&realm(), Sequence(9)).await;
        assert!(began.elapsed() >= Duration::from_secs(5));
        tokio::time::advance(EVICTED_FOR).await;
        again().unwrap();
    }

    /// Other nodes ask for the fence of a realm whose subscribers have all left.
    #[tokio::test(start_paused = true)]
    async fn a_realm_without_streams_holds_nobody_up() {
        let subscribers = none_earlier();
        let member = join(&subscribers, "one");
        assert_eq!(
            subscribers.fences(Sequence(9)),
            BTreeMap::from([(realm(), Sequence(0))])
        );
        drop(member);
        tokio::time::advance(FORGOTTEN_AFTER + Duration::from_secs(9)).await;
        subscribers.wait_for(&realm(), Sequence(9)).await;
        assert!(subscribers.lock().streams.is_empty());
        assert_eq!(
            subscribers.fences(Sequence(9)),
            BTreeMap::from([(realm(), Sequence(9))])
        );
    }

    /// A subscriber that was evicted at another node is evicted here, too.
    #[tokio::test(start_paused = true)]
    async fn evictions_count_at_each_node() {
        let subscribers = none_earlier();
        let member = join(&subscribers, "one");
        subscribers.keep_away(&owned("one"), Duration::from_secs(30));
        member.evicted().await;
        let again = || subscribers.join(owned("one"), Sequence(0), StalenessBound::default());
        assert!(matches!(again(), Err(WatchError::Evicted { .. })));
        assert_eq!(subscribers.evicted(), [(owned("one"), Duration::from_secs(30))]);
        // An earlier report of the other node shortens nothing, and the repeated report makes it no longer.
        subscribers.keep_away(&owned("one"), Duration::from_millis(30_010));
        assert_eq!(subscribers.evicted(), [(owned("one"), Duration::from_secs(30))]);
        subscribers.evict(&owned("one")).unwrap();
        subscribers.keep_away(&owned("one"), Duration::from_secs(20));
        assert_eq!(subscribers.evicted(), [(owned("one"), EVICTED_FOR)]);
        tokio::time::advance(EVICTED_FOR).await;
        again().unwrap();
        assert_eq!(subscribers.evicted(), []);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_evicted_at_once_than_are_remembered() {
        let subscribers = none_earlier();
        for number in 0..EVICTED_MAX {
            subscribers.evict(&owned(&format!("n{number}"))).unwrap();
        }
        subscribers.evict(&owned("n0")).unwrap();
        let refused = subscribers.evict(&owned("another"));
        assert!(matches!(refused, Err(SubscriberError::TooManyEvicted { .. })));
        let elsewhere = SubscriberKey {
            realm: RealmName::parse("sandbox").unwrap(),
            ..owned("another")
        };
        subscribers.evict(&elsewhere).unwrap();
        tokio::time::advance(EVICTED_FOR).await;
        subscribers.evict(&owned("another")).unwrap();
    }

    /// Their names are not known, but they accept nothing after their bound.
    #[tokio::test(start_paused = true)]
    async fn those_of_an_earlier_run_are_waited_for_until_their_bound_has_passed() {
        let earlier = BTreeMap::from([(realm(), Duration::from_secs(20))]);
        let subscribers = Subscribers::new(earlier);
        let began = Instant::now();
        let member = join(&subscribers, "one");
        subscribers.heard(&member, Some(Sequence(9)));
        let propagated = subscribers.wait_for(&realm(), Sequence(9)).await;
        assert_eq!(propagated.acknowledged, 1);
        assert!(began.elapsed() >= Duration::from_secs(20));
        let other = RealmName::parse("sandbox").unwrap();
        let again = Instant::now();
        subscribers.wait_for(&other, Sequence(9)).await;
        subscribers.wait_for(&realm(), Sequence(9)).await;
        assert_eq!(again.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn the_store_keeps_the_longest_bound_of_those_that_may_accept() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let earlier = BTreeMap::from([(realm(), Duration::from_secs(20))]);
        let subscribers = Subscribers::new(earlier);
        let kept = async || {
            subscribers.keep_bound(store.as_ref(), &realm()).await.unwrap();
            let state = store.read(Reads::default().settings()).await.unwrap();
            state.settings.unwrap().staleness_bounds.get(&realm()).copied()
        };
        join_with(&subscribers, "one", Duration::from_secs(5));
        assert_eq!(kept().await, None, "those of the earlier run are kept by it");
        join_with(&subscribers, "two", Duration::from_secs(60));
        assert_eq!(kept().await, Some(Duration::from_secs(60)));
        tokio::time::advance(Duration::from_secs(61)).await;
        join_with(&subscribers, "three", Duration::from_secs(7));
        let sixty = Some(Duration::from_secs(60));
        assert_eq!(kept().await, sixty, "it may reconnect");
        join_with(&subscribers, "two", Duration::from_secs(6));
        let seven = Some(Duration::from_secs(7));
        assert_eq!(
            kept().await,
            seven,
            "the other stream of its name has followed it"
        );
    }
}
