//! Resources for callers without a credential: a bounded number of exchanges, and of bytes.
//!
//! If the bound is reached, a new exchange takes the slot of the oldest one whose caller lets us wait: it has not sent
//! its request, or does not take its answer. An honest request is complete within milliseconds, so it is never the
//! oldest for long, however many others are left unfinished.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Waker,
};

use parking_lot::{Mutex, MutexGuard};

use super::peer::{Ending, Peer};
use crate::error::ApiError;

/// The exchanges of all callers without a credential.
#[derive(Debug)]
pub(crate) struct Strangers {
    /// Whether the server is stopping, so that all of them end.
    is_stopping: AtomicBool,
    count_max: usize,
    bytes_max: usize,
    present: Mutex<Present>,
}

#[derive(Debug, Default)]
struct Present {
    next: u64,
    count: usize,
    bytes: usize,
    /// Those whose caller lets us wait: first those whose request has not arrived, then those whose answer is not
    /// taken, each the oldest first.
    waiting_for: BTreeMap<(Waits, u64), Arc<Visitor>>,
}

/// What the server waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Waits {
    ForRequest,
    ForAnswerTaken,
}

/// One exchange. It has its slot until it is dropped.
#[derive(Debug)]
pub(crate) struct Stranger {
    all: Arc<Strangers>,
    number: u64,
    visitor: Arc<Visitor>,
}

#[derive(Debug)]
struct Visitor {
    peer: Arc<Peer>,
    is_evicted: AtomicBool,
    /// Whether its answer is given: the rest of its request does not matter then.
    is_answered: AtomicBool,
    /// Whether its caller is authenticated: it has no slot here.
    is_known: AtomicBool,
    /// How many parts of its answer its connection has not written yet.
    unwritten: AtomicUsize,
    /// The task that polls its request or its answer.
    waker: Mutex<Option<Waker>>,
    bytes: Mutex<usize>,
}

/// There is no free slot, and no exchange whose slot could be taken.
#[derive(Debug)]
pub(crate) struct Full;

impl Strangers {
    pub(crate) fn new(count_max: usize, bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            is_stopping: AtomicBool::new(false),
            count_max,
            bytes_max,
            present: Mutex::default(),
        })
    }

    /// A slot for a new exchange on `peer`, whose request has not arrived yet.
    pub(crate) fn admit(self: &Arc<Self>, peer: &Arc<Peer>) -> Result<Stranger, Full> {
        let visitor = Arc::new(Visitor {
            peer: Arc::clone(peer),
            is_evicted: AtomicBool::new(false),
            is_answered: AtomicBool::new(false),
            is_known: AtomicBool::new(false),
            unwritten: AtomicUsize::new(0),
            waker: Mutex::default(),
            bytes: Mutex::new(0),
        });
        let mut present = self.lock();
        let mut evicted = Vec::new();
        while present.count >= self.count_max {
            let Some(oldest) = present.evict_oldest() else {
                return Err(Full);
            };
            evicted.push(oldest);
        }
        let number = present.next;
        present.next += 1;
        present.count += 1;
        present
            .waiting_for
            .insert((Waits::ForRequest, number), Arc::clone(&visitor));
        drop(present);
        evicted.iter().for_each(|visitor| visitor.send_away());
        Ok(Stranger {
            all: Arc::clone(self),
            number,
            visitor,
        })
    }

    /// Ends all exchanges whose caller lets us wait: the server is stopping.
    pub(crate) fn dismiss(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        let mut evicted = Vec::new();
        let mut present = self.lock();
        while let Some(oldest) = present.evict_oldest() {
            evicted.push(oldest);
        }
        drop(present);
        evicted.iter().for_each(|visitor| visitor.send_away());
    }

    fn lock(&self) -> MutexGuard<'_, Present> {
        self.present.lock()
    }
}

impl Present {
    /// Takes the slot and the bytes of the oldest exchange that lets us wait.
    fn evict_oldest(&mut self) -> Option<Arc<Visitor>> {
        let (_, visitor) = self.waiting_for.pop_first()?;
        visitor.is_evicted.store(true, Ordering::Relaxed);
        self.count -= 1;
        self.bytes -= std::mem::take(&mut *visitor.lock_bytes());
        Some(visitor)
    }
}

impl Stranger {
    /// Takes bytes for its request, from the oldest others if too few are left.
    pub(crate) fn take(&self, bytes: usize) -> Result<(), Full> {
        let mut present = self.all.lock();
        if self.is_known() {
            return Ok(());
        }
        let mut evicted = Vec::new();
        while !self.is_evicted() && present.bytes.saturating_add(bytes) > self.all.bytes_max {
            match present.evict_oldest() {
                Some(oldest) => evicted.push(oldest),
                None => break,
            }
        }
        let fits = !self.is_evicted() && present.bytes.saturating_add(bytes) <= self.all.bytes_max;
        if fits {
            present.bytes += bytes;
            *self.visitor.lock_bytes() += bytes;
        }
        drop(present);
        evicted.iter().for_each(|visitor| visitor.send_away());
        if fits { Ok(()) } else { Err(Full) }
    }

    /// Gives back the bytes of its request, which was decoded.
    pub(crate) fn give_back(&self) {
        let mut present = self.all.lock();
        present.bytes -= std::mem::take(&mut *self.visitor.lock_bytes());
    }

    /// Its request is complete: the server works, and it keeps its slot.
    pub(crate) fn works(&self) {
        let mut present = self.all.lock();
        if !self.visitor.is_answered.load(Ordering::Relaxed) {
            present.waiting_for.remove(&(Waits::ForRequest, self.number));
        }
    }

    /// Its answer is given, and not taken yet.
    pub(crate) fn answers(&self) {
        let mut present = self.all.lock();
        self.visitor.is_answered.store(true, Ordering::Relaxed);
        present.waiting_for.remove(&(Waits::ForRequest, self.number));
        if !self.is_evicted() && !self.is_known() {
            let key = (Waits::ForAnswerTaken, self.number);
            present.waiting_for.insert(key, Arc::clone(&self.visitor));
        }
    }

    /// Its caller was authenticated: it gives up its slot, and is no longer evicted.
    pub(crate) fn becomes_known(&self) {
        let mut present = self.all.lock();
        if self.is_evicted() || self.visitor.is_known.swap(true, Ordering::Relaxed) {
            return;
        }
        self.leave(&mut present);
    }

    fn leave(&self, present: &mut Present) {
        present.waiting_for.remove(&(Waits::ForRequest, self.number));
        present.waiting_for.remove(&(Waits::ForAnswerTaken, self.number));
        present.count -= 1;
        present.bytes -= std::mem::take(&mut *self.visitor.lock_bytes());
    }

    fn is_known(&self) -> bool {
        self.visitor.is_known.load(Ordering::Relaxed)
    }

    /// A part of its answer is given to its connection.
    pub(crate) fn part_given(&self) {
        self.visitor.unwritten.fetch_add(1, Ordering::Relaxed);
    }

    /// A part of its answer was written, or its connection ended.
    pub(crate) fn part_written(&self) {
        self.visitor.unwritten.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether another took its slot. If not, `waker` is woken when that happens.
    pub(crate) fn poll_evicted(&self, waker: &Waker) -> bool {
        let mut kept = self.visitor.lock_waker();
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
        drop(kept);
        self.is_evicted()
    }

    /// Why it was evicted.
    pub(crate) fn eviction(&self) -> ApiError {
        if self.all.is_stopping.load(Ordering::Relaxed) {
            ApiError::draining()
        } else {
            ApiError::overloaded()
        }
    }

    /// Whether it was evicted.
    pub(crate) fn is_evicted(&self) -> bool {
        self.visitor.is_evicted.load(Ordering::Relaxed)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut present = self.all.lock();
        if !self.is_evicted() && !self.is_known() {
            self.leave(&mut present);
        }
    }
}

impl Visitor {
    /// Ends the exchange. If its caller does not take the parts of its answer, only the end of its connection gives back
    /// their memory, whether or not a client was authenticated there: otherwise that memory would be unbounded. A connection is
    /// not ended in other cases, as making it again costs more than ending one exchange.
    fn send_away(&self) {
        let is_answered = self.is_answered.load(Ordering::Relaxed);
        if self.unwritten.load(Ordering::Relaxed) > 0 {
            self.peer.end(Ending::Now);
        } else if !is_answered {
            self.peer.pause();
        }
        if let Some(waker) = self.lock_waker().take() {
            waker.wake();
        }
    }

    fn lock_waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock()
    }

    fn lock_bytes(&self) -> MutexGuard<'_, usize> {
        self.bytes.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Arc<Peer> {
        Arc::new(Peer::new(([127, 0, 0, 1], 1).into(), 1, 1))
    }

    fn is_away(stranger: &Stranger) -> bool {
        stranger.poll_evicted(Waker::noop())
    }

    #[test]
    fn a_new_exchange_takes_the_place_of_the_oldest_unfinished_one() {
        let all = Strangers::new(2, 100);
        let peer = peer();
        let first = all.admit(&peer).unwrap();
        let second = all.admit(&peer).unwrap();
        first.works();
        let third = all.admit(&peer).unwrap();
        assert!(!is_away(&first), "it is at work");
        assert!(is_away(&second));
        third.works();
        assert!(all.admit(&peer).is_err(), "everybody works");
        first.answers();
        first.works();
        let fourth = all.admit(&peer).unwrap();
        assert!(is_away(&first), "it does not take its answer");
        drop((first, second, third, fourth));
        assert_eq!(all.lock().count, 0);
    }

    #[test]
    fn bytes_are_taken_from_the_oldest_unfinished_one() {
        let all = Strangers::new(10, 100);
        let peer = peer();
        let (first, second) = (all.admit(&peer).unwrap(), all.admit(&peer).unwrap());
        first.take(60).unwrap();
        second.take(60).unwrap();
        assert!(is_away(&first) && !is_away(&second));
        assert!(first.take(1).is_err());
        assert!(second.take(41).is_err(), "there is only itself left");
        assert!(is_away(&second));
        drop((first, second));
        let present = all.lock();
        assert_eq!((present.count, present.bytes), (0, 0));
    }

    #[test]
    fn who_keeps_us_waiting_for_a_request_goes_first() {
        let all = Strangers::new(2, 100);
        let (answered, unfinished) = (all.admit(&peer()).unwrap(), all.admit(&peer()).unwrap());
        answered.answers();
        let third = all.admit(&peer()).unwrap();
        assert!(is_away(&unfinished) && !is_away(&answered));
        third.works();
        let _fourth = all.admit(&peer()).unwrap();
        assert!(is_away(&answered));
    }

    #[test]
    fn one_that_is_known_has_no_place() {
        let all = Strangers::new(1, 100);
        let known = all.admit(&peer()).unwrap();
        known.take(100).unwrap();
        known.becomes_known();
        let stranger = all.admit(&peer()).unwrap();
        stranger.take(100).unwrap();
        known.take(100).unwrap();
        known.answers();
        assert!(!is_away(&known) && !is_away(&stranger));
        drop((known, stranger));
        let present = all.lock();
        assert_eq!((present.count, present.bytes), (0, 0));
        assert!(present.waiting_for.is_empty());
    }

    #[test]
    fn decoded_bytes_are_given_back() {
        let all = Strangers::new(10, 100);
        let stranger = all.admit(&peer()).unwrap();
        stranger.take(100).unwrap();
        stranger.give_back();
        stranger.take(100).unwrap();
        assert!(!is_away(&stranger));
    }

    #[tokio::test]
    async fn a_clients_connection_ends_where_an_answer_is_not_taken() {
        let all = Strangers::new(1, 100);
        let (takes, takes_not) = (peer(), peer());
        takes.authenticated();
        takes_not.authenticated();
        let first = all.admit(&takes).unwrap();
        first.answers();
        first.part_given();
        first.part_written();
        let second = all.admit(&takes_not).unwrap();
        second.answers();
        second.part_given();
        let third = all.admit(&takes).unwrap();
        assert!(is_away(&first) && is_away(&second) && !is_away(&third));
        assert_eq!(takes_not.ends().await, Ending::Now);
        let nothing = tokio::time::timeout(std::time::Duration::ZERO, takes.ends());
        assert!(nothing.await.is_err());
    }

    #[tokio::test]
    async fn a_connection_does_not_end_for_a_request_that_is_not_whole() {
        let all = Strangers::new(1, 100);
        let stranger = peer();
        let first = all.admit(&stranger).unwrap();
        let _second = all.admit(&stranger).unwrap();
        assert!(is_away(&first));
        let waiting = tokio::time::timeout(std::time::Duration::ZERO, stranger.ends());
        assert!(waiting.await.is_err());
    }
}
