//! What each client takes of the server, so that none takes it from the others.
//!
//! A client has a rate, places for calls at work, and places for calls that wait. Calls beyond the places at
//! work wait their turn before their body is read, so that they cost next to nothing; the client's own
//! calls wait for each other, and other clients' don't.

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroU32,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};
use tessera_authority::Principal;
use tessera_core::{ClientName, Realm, RealmKind, RealmName};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use super::{
    bytes::ByteBudget,
    log::{burst, sampler},
    route::{Route, Work},
};
use crate::{
    limits::{ClientLimits, Limits},
    status,
};

/// All clients that called in the last minutes, and what they share.
pub(crate) struct Clients {
    limits: ClientLimits,
    known: Mutex<HashMap<(RealmName, ClientName), Arc<Client>>>,
    /// Places in realms that may not take all of them.
    realms: BTreeMap<RealmName, Arc<Semaphore>>,
    at_work: Arc<Semaphore>,
    reserved: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// One client in one realm.
pub(crate) struct Client {
    calls: Option<DefaultDirectRateLimiter>,
    /// In KiB.
    disk: Option<DefaultDirectRateLimiter>,
    at_work: Arc<Semaphore>,
    heavy: Arc<Semaphore>,
    counting: Arc<Semaphore>,
    queued: AtomicUsize,
    queued_max: usize,
    waiting: Arc<Semaphore>,
    pub(crate) request_bytes: Arc<ByteBudget>,
    /// Refusals of the client that are logged.
    pub(super) log: DefaultDirectRateLimiter,
}

/// A call's places, until it is answered and the answer is taken.
#[derive(Debug)]
pub(crate) struct Places(#[expect(dead_code, reason = "given back when dropped")] Vec<OwnedSemaphorePermit>);

impl Clients {
    pub(crate) fn new<'a>(limits: &Limits, realms: impl Iterator<Item = &'a Realm>) -> Self {
        let sandboxes = realms.filter(|realm| realm.kind == RealmKind::Sandbox);
        let share = limits.sandbox_calls_in_flight_max;
        Self {
            limits: limits.per_client.clone(),
            known: Mutex::default(),
            realms: sandboxes
                .map(|realm| (realm.name.clone(), Arc::new(Semaphore::new(share))))
                .collect(),
            at_work: Arc::new(Semaphore::new(limits.calls_in_flight_max)),
            reserved: Arc::new(Semaphore::new(limits.calls_reserved)),
            waiting: Arc::new(Semaphore::new(limits.waiting_calls_max)),
        }
    }

    /// The client that `principal` is.
    pub(crate) fn of(&self, principal: &Principal) -> Arc<Client> {
        let key = (principal.realm_name().clone(), principal.client().clone());
        let mut known = self.lock();
        let client = known
            .entry(key)
            .or_insert_with(|| Arc::new(Client::new(&self.limits)));
        Arc::clone(client)
    }

    /// Lets a call of `client` begin, once it is its turn. `is_administrator` is asked only where the
    /// common places are taken.
    pub(crate) async fn enter(
        &self,
        client: &Client,
        realm: &RealmName,
        route: &Route,
        is_administrator: impl FnOnce() -> bool,
    ) -> Result<Places, Status> {
        match route.work {
            Work::Call | Work::Heavy => {
                let mut places = Vec::with_capacity(4);
                if route.work == Work::Heavy {
                    places.push(client.heavy_turn().await?);
                }
                places.push(client.turn().await?);
                if let Some(realm) = self.realms.get(realm) {
                    places.push(place(realm)?);
                }
                let reserved = || {
                    let may = route.is_administration && is_administrator();
                    may.then(|| place(&self.reserved).ok()).flatten()
                };
                let common = place(&self.at_work);
                places.push(common.or_else(|full| reserved().ok_or(full))?);
                Ok(Places(places))
            }
            Work::Wait | Work::Watch => self.wait(client),
        }
    }

    /// A place for a call of `client` that waits for something to happen.
    pub(crate) fn wait(&self, client: &Client) -> Result<Places, Status> {
        Ok(Places(vec![place(&client.waiting)?, place(&self.waiting)?]))
    }

    /// Forgets clients that take nothing.
    pub(crate) fn forget_idle(&self) {
        self.lock()
            .retain(|_, client| Arc::strong_count(client) > 1 || !client.is_fresh(&self.limits));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(RealmName, ClientName), Arc<Client>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    fn new(limits: &ClientLimits) -> Self {
        Self {
            calls: limits.calls_per_second.map(|rate| {
                let burst = rate.saturating_mul(TWO);
                RateLimiter::direct(Quota::per_second(rate).allow_burst(burst))
            }),
            disk: limits
                .disk_mib_per_hour
                .and_then(disk_quota)
                .map(RateLimiter::direct),
            at_work: Arc::new(Semaphore::new(limits.calls_in_flight_max)),
            heavy: Arc::new(Semaphore::new(1)),
            counting: Arc::new(Semaphore::new(1)),
            queued: AtomicUsize::new(0),
            queued_max: limits.calls_queued_max,
            waiting: Arc::new(Semaphore::new(limits.waiting_calls_max)),
            request_bytes: ByteBudget::new(limits.request_bytes_max),
            log: sampler(REFUSALS_LOGGED_PER_SECOND),
        }
    }

    /// Counts a call, or the part of one that is found to cost more.
    pub(crate) fn spend(&self, cost: u32) -> Result<(), Status> {
        spend(self.calls.as_ref(), cost).map_err(status::rate_limited)
    }

    /// Counts what a call is about to write.
    pub(crate) fn write(&self, kib: u32) -> Result<(), Status> {
        spend(self.disk.as_ref(), kib).map_err(status::disk_quota_used)
    }

    /// A place for a call at work, once it is its turn.
    async fn turn(&self) -> Result<OwnedSemaphorePermit, Status> {
        self.turn_at(&self.at_work).await
    }

    /// The place for a call that works for long, once it is its turn.
    async fn heavy_turn(&self) -> Result<OwnedSemaphorePermit, Status> {
        self.turn_at(&self.heavy).await
    }

    /// The place for a call that counts sessions, once it is its turn. It is another one than that for heavy
    /// calls, as who waits for it is at work already.
    pub(super) async fn counting_turn(&self) -> Result<OwnedSemaphorePermit, Status> {
        self.turn_at(&self.counting).await
    }

    async fn turn_at(&self, places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Status> {
        if let Ok(place) = Arc::clone(places).try_acquire_owned() {
            return Ok(place);
        }
        let _queued = Queued::join(&self.queued, self.queued_max)?;
        let place = Arc::clone(places).acquire_owned().await;
        place.map_err(|_| status::overloaded())
    }

    /// Whether it is as a client that never called.
    fn is_fresh(&self, limits: &ClientLimits) -> bool {
        let is_full = |limiter: Option<&DefaultDirectRateLimiter>, burst: Option<NonZeroU32>| {
            let (Some(limiter), Some(burst)) = (limiter, burst) else {
                return true;
            };
            // Taking the whole burst from one that is about to be forgotten harms nobody.
            matches!(limiter.check_n(burst), Ok(Ok(())))
        };
        let calls = limits.calls_per_second.map(|rate| rate.saturating_mul(TWO));
        let disk = limits.disk_mib_per_hour.map(disk_burst);
        self.at_work.available_permits() == limits.calls_in_flight_max
            && self.waiting.available_permits() == limits.waiting_calls_max
            && self.request_bytes.taken() == 0
            && is_full(self.disk.as_ref(), disk)
            && is_full(self.calls.as_ref(), calls)
            // Else who comes back has another burst of lines.
            && is_full(Some(&self.log), Some(burst(REFUSALS_LOGGED_PER_SECOND)))
    }
}

/// One that waits its turn.
struct Queued<'a>(&'a AtomicUsize);

impl<'a> Queued<'a> {
    fn join(queued: &'a AtomicUsize, max: usize) -> Result<Self, Status> {
        let before = queued.fetch_add(1, Ordering::Relaxed);
        let joined = Self(queued);
        if before < max {
            Ok(joined)
        } else {
            Err(status::overloaded())
        }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Refusals a second of one client that are logged.
const REFUSALS_LOGGED_PER_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);
const TWO: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);

fn place(semaphore: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Status> {
    Arc::clone(semaphore)
        .try_acquire_owned()
        .map_err(|_| status::overloaded())
}

/// KiB, in bursts of half a minute's.
fn disk_quota(mib_per_hour: NonZeroU32) -> Option<Quota> {
    let each = Duration::from_secs(3600) / mib_per_hour.get().saturating_mul(1024);
    Some(Quota::with_period(each)?.allow_burst(disk_burst(mib_per_hour)))
}

fn disk_burst(mib_per_hour: NonZeroU32) -> NonZeroU32 {
    let kib = mib_per_hour.get().saturating_mul(1024) / 120;
    NonZeroU32::new(kib).unwrap_or(NonZeroU32::MIN)
}

/// Takes `cost`; if there is too little left, says how long until there is enough.
fn spend(limiter: Option<&DefaultDirectRateLimiter>, cost: u32) -> Result<(), Duration> {
    let (Some(limiter), Some(cost)) = (limiter, NonZeroU32::new(cost)) else {
        return Ok(());
    };
    match limiter.check_n(cost) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(not_until)) => Err(not_until.wait_time_from(DefaultClock::default().now())),
        // It costs more than a burst: such a call is one that never fits.
        Err(_) => Err(Duration::from_secs(60)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> ClientLimits {
        ClientLimits {
            calls_per_second: NonZeroU32::new(10),
            calls_in_flight_max: 1,
            calls_queued_max: 1,
            waiting_calls_max: 1,
            disk_mib_per_hour: NonZeroU32::new(4),
            ..ClientLimits::default()
        }
    }

    #[test]
    fn a_call_counts_for_what_it_costs() {
        let client = Client::new(&limits());
        client.spend(15).unwrap();
        client.spend(5).unwrap();
        assert!(client.spend(1).is_err());
        client.spend(0).unwrap();
        assert!(Client::new(&limits()).spend(21).is_err(), "more than a burst");
    }

    #[test]
    fn half_a_minutes_disk_may_be_written_at_once() {
        let client = Client::new(&limits());
        client.write(4 * 1024 / 120).unwrap();
        assert!(client.write(1).is_err());
    }

    #[tokio::test]
    async fn calls_wait_their_turn_and_too_many_are_refused() {
        let client = Arc::new(Client::new(&limits()));
        let place = client.turn().await.unwrap();
        let next = tokio::spawn({
            let client = Arc::clone(&client);
            async move { client.turn().await }
        });
        while client.queued.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        assert!(client.turn().await.is_err());
        drop(place);
        drop(next.await.unwrap().unwrap());
        assert_eq!(client.queued.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_client_is_forgotten_only_when_it_takes_nothing() {
        let client = Client::new(&limits());
        assert!(client.is_fresh(&limits()));
        let client = Client::new(&limits());
        client.write(1).unwrap();
        assert!(!client.is_fresh(&limits()));
        let client = Client::new(&limits());
        let _waiting = place(&client.waiting).unwrap();
        assert!(!client.is_fresh(&limits()));
    }
}
