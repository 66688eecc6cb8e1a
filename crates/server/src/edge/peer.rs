//! The other end of a connection: its known state, and how the connection ends.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::bytes::ByteBudget;

/// How much longer nothing is read for each evicted exchange, and how long at most.
const PAUSE_MILLIS: u64 = 20;
const PAUSE_MILLIS_MAX: u64 = 1000;

/// How a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ending {
    /// After the running exchanges; no new one may begin.
    Gracefully = 1,
    /// At once.
    Now = 2,
}

/// The other end of one connection.
#[derive(Debug)]
pub(crate) struct Peer {
    address: SocketAddr,
    opened_at: Instant,
    /// Whether a client was authenticated on this connection.
    is_authenticated: AtomicBool,
    exchanges: AtomicUsize,
    /// Bytes of request bodies that were received until now.
    body_bytes: AtomicU64,
    /// When the last exchange began or ended, in milliseconds after `opened_at`.
    used_at: AtomicU64,
    /// Until when nothing more is read, in milliseconds after `opened_at`.
    paused_until: AtomicU64,
    ending: AtomicU8,
    ends: Notify,
    /// When each untaken answer was given, with a number that makes it unique.
    answers: Mutex<BTreeSet<(Instant, u64)>>,
    next_answer: AtomicU64,
    pub(crate) request_bytes: Arc<ByteBudget>,
    pub(crate) answer_bytes: Arc<ByteBudget>,
}

impl Peer {
    pub(crate) fn new(address: SocketAddr, request_bytes_max: usize, answer_bytes_max: usize) -> Self {
        Self {
            address,
            opened_at: Instant::now(),
            is_authenticated: AtomicBool::new(false),
            exchanges: AtomicUsize::new(0),
            body_bytes: AtomicU64::new(0),
            used_at: AtomicU64::new(0),
            paused_until: AtomicU64::new(0),
            ending: AtomicU8::new(0),
            ends: Notify::new(),
            answers: Mutex::default(),
            next_answer: AtomicU64::new(0),
            request_bytes: ByteBudget::new(request_bytes_max),
            answer_bytes: ByteBudget::new(answer_bytes_max),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client was authenticated on this connection.
    pub(crate) fn authenticated(&self) {
        self.is_authenticated.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_authenticated(&self) -> bool {
        self.is_authenticated.load(Ordering::Relaxed)
    }

    /// This number of bytes of the body of a request was received.
    pub(crate) fn took_body(&self, bytes: usize) {
        self.body_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn body_bytes(&self) -> u64 {
        self.body_bytes.load(Ordering::Relaxed)
    }

    /// An exchange begins on the connection; it ends when the guard is dropped.
    pub(crate) fn begin_exchange(self: &Arc<Self>) -> OpenExchange {
        self.exchanges.fetch_add(1, Ordering::Relaxed);
        self.touch();
        OpenExchange(Arc::clone(self))
    }

    /// How long no exchange has been running; `None` if one is.
    pub(crate) fn idle_for(&self) -> Option<Duration> {
        let is_idle = self.exchanges.load(Ordering::Relaxed) == 0;
        is_idle.then(|| self.quiet_for())
    }

    /// How long ago an exchange began or ended, or the connection was opened.
    pub(crate) fn quiet_for(&self) -> Duration {
        let used_at = self.opened_at + Duration::from_millis(self.used_at.load(Ordering::Relaxed));
        used_at.elapsed()
    }

    /// How long the oldest answer has not been taken.
    pub(crate) fn answer_untaken_for(&self) -> Option<Duration> {
        self.lock_answers()
            .first()
            .map(|(given_at, _)| given_at.elapsed())
    }

    /// Delays further reading from the connection, unless a client was authenticated on it: an exchange that it left
    /// unfinished was evicted for another. Without the delay, a peer that begins such exchanges again and again takes
    /// from others what that costs.
    pub(crate) fn pause(&self) {
        if self.is_authenticated() {
            return;
        }
        let now = self.millis();
        let longer = |until: u64| Some((until.max(now) + PAUSE_MILLIS).min(now + PAUSE_MILLIS_MAX));
        let _ = self
            .paused_until
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, longer);
    }

    /// For how long nothing more is read; `None` if reading is not paused.
    pub(crate) fn paused_for(&self) -> Option<Duration> {
        let until = self.paused_until.load(Ordering::Relaxed);
        let millis = (until > 0).then(|| until.saturating_sub(self.millis()))?;
        (millis > 0).then(|| Duration::from_millis(millis))
    }

    /// Ends the connection. A second call can only make it end sooner.
    pub(crate) fn end(&self, ending: Ending) {
        if self.ending.fetch_max(ending as u8, Ordering::Relaxed) < ending as u8 {
            self.ends.notify_one();
        }
    }

    /// Ready when the connection must end, and again when it must end sooner.
    pub(crate) async fn ends(&self) -> Ending {
        loop {
            self.ends.notified().await;
            match self.ending.load(Ordering::Relaxed) {
                0 => {}
                1 => return Ending::Gracefully,
                _ => return Ending::Now,
            }
        }
    }

    /// An answer was given; it is taken when the guard is dropped.
    pub(crate) fn give_answer(self: &Arc<Self>) -> UntakenAnswer {
        let number = self.next_answer.fetch_add(1, Ordering::Relaxed);
        let key = (Instant::now(), number);
        self.lock_answers().insert(key);
        UntakenAnswer {
            peer: Arc::clone(self),
            key,
        }
    }

    fn touch(&self) {
        self.used_at.store(self.millis(), Ordering::Relaxed);
    }

    /// Milliseconds after `opened_at`.
    fn millis(&self) -> u64 {
        u64::try_from(self.opened_at.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn lock_answers(&self) -> MutexGuard<'_, BTreeSet<(Instant, u64)>> {
        self.answers.lock()
    }
}

/// A running exchange.
#[derive(Debug)]
pub(crate) struct OpenExchange(Arc<Peer>);

impl Drop for OpenExchange {
    fn drop(&mut self) {
        self.0.touch();
        self.0.exchanges.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer that was given and that the peer has not taken yet.
#[derive(Debug)]
pub(crate) struct UntakenAnswer {
    peer: Arc<Peer>,
    key: (Instant, u64),
}

impl Drop for UntakenAnswer {
    fn drop(&mut self) {
        self.peer.lock_answers().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Arc<Peer> {
        Arc::new(Peer::new(([127, 0, 0, 1], 1).into(), 1, 1))
    }

    #[tokio::test]
    async fn an_ending_is_told_even_if_nobody_waits_yet_and_can_become_sooner() {
        let peer = peer();
        peer.end(Ending::Gracefully);
        assert_eq!(peer.ends().await, Ending::Gracefully);
        peer.end(Ending::Now);
        peer.end(Ending::Gracefully);
        assert_eq!(peer.ends().await, Ending::Now);
    }

    #[test]
    fn a_connection_pauses_for_each_exchange_that_gave_way() {
        let (stranger, client) = (peer(), peer());
        client.authenticated();
        assert_eq!(stranger.paused_for(), None);
        (0..1000).for_each(|_| stranger.pause());
        client.pause();
        let paused = stranger.paused_for().unwrap();
        assert!(paused > Duration::from_millis(900) && paused <= Duration::from_secs(1));
        assert_eq!(client.paused_for(), None);
    }

    #[test]
    fn what_is_under_way_is_not_idle() {
        let peer = peer();
        assert!(peer.idle_for().is_some());
        let exchange = peer.begin_exchange();
        assert!(peer.idle_for().is_none());
        drop(exchange);
        assert!(peer.idle_for().is_some());
    }

    #[test]
    fn the_oldest_untaken_answer_counts() {
        let peer = peer();
        assert!(peer.answer_untaken_for().is_none());
        let (first, second) = (peer.give_answer(), peer.give_answer());
        drop(first);
        assert!(peer.answer_untaken_for().is_some());
        drop(second);
        assert!(peer.answer_untaken_for().is_none());
    }
}
