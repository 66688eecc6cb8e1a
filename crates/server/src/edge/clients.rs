//! The resources that each client takes of the server, so that no client takes them from the others.
//!
//! A client has a rate, slots for calls at work, and slots for calls that wait. Calls beyond the slots at work wait for
//! their turn before their body is read, so that they cost next to nothing. The client's own calls wait for each other,
//! and other clients' calls don't. All clients of a sandbox together have a rate and slots, too.

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use governor::DefaultDirectRateLimiter;
use parking_lot::{Mutex, MutexGuard};
use tessera_authority::Principal;
use tessera_core::{ClientName, Realm, RealmKind, RealmName};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    bytes::ByteBudget,
    limits::{ClientLimits, Limits, SandboxLimits},
    rates::{REFILLED_AFTER, Rates},
    route::{Route, Work},
    sampler::sampler,
};
use crate::error::ApiError;

/// All clients that called in the last minutes, and the state that they share.
pub(crate) struct Clients {
    limits: ClientLimits,
    last_uses: Mutex<HashMap<(RealmName, ClientName), LastUse>>,
    sandboxes: BTreeMap<RealmName, Arc<Sandbox>>,
    at_work: Arc<Semaphore>,
    reserved: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// A client, and when it last used something.
struct LastUse {
    client: Arc<Client>,
    busy_at: Instant,
}

/// What all clients of a sandbox realm take together.
struct Sandbox {
    rates: Rates,
    at_work: Arc<Semaphore>,
}

/// One client in one realm.
pub(crate) struct Client {
    rates: Rates,
    /// The realm, if it is a sandbox realm.
    sandbox: Option<Arc<Sandbox>>,
    at_work: Arc<Semaphore>,
    heavy: Arc<Semaphore>,
    counting: Arc<Semaphore>,
    queued: AtomicUsize,
    queued_max: usize,
    /// Refusals that are delayed.
    held_back: Semaphore,
    waiting: Arc<Semaphore>,
    pub(crate) request_bytes: Arc<ByteBudget>,
    /// Refusals of the client that are logged.
    pub(super) log: DefaultDirectRateLimiter,
}

/// A call's slots, until it is answered and the answer is taken.
#[derive(Debug)]
pub(crate) struct Places(#[expect(dead_code, reason = "given back when dropped")] Vec<OwnedSemaphorePermit>);

impl Clients {
    pub(crate) fn new<'a>(limits: &Limits, realms: impl Iterator<Item = &'a Realm>) -> Self {
        let sandboxes = realms.filter(|realm| realm.kind == RealmKind::Sandbox);
        Self {
            limits: limits.per_client.clone(),
            last_uses: Mutex::default(),
            sandboxes: sandboxes
                .map(|realm| (realm.name.clone(), Arc::new(Sandbox::new(&limits.per_sandbox))))
                .collect(),
            at_work: Arc::new(Semaphore::new(limits.calls_in_flight_max)),
            reserved: Arc::new(Semaphore::new(limits.calls_reserved)),
            waiting: Arc::new(Semaphore::new(limits.waiting_calls_max)),
        }
    }

    /// The client of `principal`.
    pub(crate) fn of(&self, principal: &Principal) -> Arc<Client> {
        let key = (principal.realm_name().clone(), principal.client().clone());
        self.named(key, Instant::now())
    }

    fn named(&self, name: (RealmName, ClientName), now: Instant) -> Arc<Client> {
        let mut known = self.lock();
        let sandbox = self.sandboxes.get(&name.0);
        let known = known.entry(name).or_insert_with(|| LastUse {
            client: Arc::new(Client::new(&self.limits, sandbox.cloned())),
            busy_at: now,
        });
        known.busy_at = now;
        Arc::clone(&known.client)
    }

    /// Lets a call of `client` begin when its turn comes. `is_administrator` is called only if the common slots are
    /// taken.
    pub(crate) async fn enter(
        &self,
        client: &Client,
        route: &Route,
        is_administrator: impl FnOnce() -> bool,
    ) -> Result<Places, ApiError> {
        match route.work {
            Work::Call | Work::Heavy => {
                let mut places = Vec::with_capacity(4);
                if route.work == Work::Heavy {
                    places.push(client.heavy_turn().await?);
                }
                places.push(client.turn().await?);
                if let Some(sandbox) = &client.sandbox {
                    places.push(place(&sandbox.at_work)?);
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

    /// A slot for a call of `client` that waits for something to happen.
    pub(crate) fn wait(&self, client: &Client) -> Result<Places, ApiError> {
        Ok(Places(vec![place(&client.waiting)?, place(&self.waiting)?]))
    }

    /// Forgets clients that have taken nothing for so long that their state equals that of a client that never called.
    pub(crate) fn forget_idle(&self, now: Instant) {
        self.lock().retain(|_, known| {
            if Arc::strong_count(&known.client) > 1 || known.client.holds_places(&self.limits) {
                known.busy_at = now;
            }
            now.saturating_duration_since(known.busy_at) < REFILLED_AFTER
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(RealmName, ClientName), LastUse>> {
        self.last_uses.lock()
    }
}

impl Sandbox {
    fn new(limits: &SandboxLimits) -> Self {
        Self {
            rates: Rates::new(&limits.rates),
            at_work: Arc::new(Semaphore::new(limits.calls_in_flight_max)),
        }
    }
}

impl Client {
    fn new(limits: &ClientLimits, sandbox: Option<Arc<Sandbox>>) -> Self {
        Self {
            rates: Rates::new(&limits.rates),
            sandbox,
            at_work: Arc::new(Semaphore::new(limits.calls_in_flight_max)),
            heavy: Arc::new(Semaphore::new(1)),
            counting: Arc::new(Semaphore::new(1)),
            queued: AtomicUsize::new(0),
            queued_max: limits.calls_queued_max,
            held_back: Semaphore::new(HELD_BACK_MAX),
            waiting: Arc::new(Semaphore::new(limits.waiting_calls_max)),
            request_bytes: ByteBudget::new(limits.request_bytes_max),
            log: sampler(REFUSALS_LOGGED_PER_SECOND),
        }
    }

    /// Counts a call, or additional cost that was found later.
    pub(crate) fn spend(&self, cost: u32) -> Result<(), ApiError> {
        self.rates.spend(cost).map_err(ApiError::rate_limited)?;
        match &self.sandbox {
            Some(sandbox) => sandbox.rates.spend(cost).map_err(ApiError::sandbox_rate_limited),
            None => Ok(()),
        }
    }

    /// Counts what a call is about to write.
    pub(crate) fn write(&self, kib: u32) -> Result<(), ApiError> {
        self.rates.write(kib).map_err(ApiError::disk_quota_used)?;
        match &self.sandbox {
            Some(sandbox) => sandbox
                .rates
                .write(kib)
                .map_err(ApiError::sandbox_disk_quota_used),
            None => Ok(()),
        }
    }

    /// Waits before a call is refused for its client's rate, for at most half of the time that it has left: a client
    /// that retries at once would take from others what its refusals cost.
    pub(super) async fn hold_back(&self, time_left: Duration) {
        if let Ok(_place) = self.held_back.try_acquire() {
            tokio::time::sleep(HELD_BACK_FOR.min(time_left / 2)).await;
        }
    }

    /// A slot for a call at work, when its turn comes.
    async fn turn(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        self.turn_at(&self.at_work).await
    }

    /// The slot for a call that works for long, when its turn comes.
    async fn heavy_turn(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        self.turn_at(&self.heavy).await
    }

    /// The slot for a call that counts sessions, when its turn comes. It differs from the slot for heavy calls, as a
    /// call that waits for it is at work already.
    pub(super) async fn counting_turn(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        self.turn_at(&self.counting).await
    }

    async fn turn_at(&self, places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, ApiError> {
        if let Ok(place) = Arc::clone(places).try_acquire_owned() {
            return Ok(place);
        }
        let _queued = Queued::join(&self.queued, self.queued_max)?;
        let place = Arc::clone(places).acquire_owned().await;
        place.map_err(|_| ApiError::overloaded())
    }

    /// Whether a call of the client is at work or waits, or bytes of one are kept.
    fn holds_places(&self, limits: &ClientLimits) -> bool {
        self.at_work.available_permits() != limits.calls_in_flight_max
            || self.waiting.available_permits() != limits.waiting_calls_max
            || self.request_bytes.taken() != 0
    }
}

/// A call that waits for its turn.
struct Queued<'a>(&'a AtomicUsize);

impl<'a> Queued<'a> {
    fn join(queued: &'a AtomicUsize, max: usize) -> Result<Self, ApiError> {
        let before = queued.fetch_add(1, Ordering::Relaxed);
        let joined = Self(queued);
        if before < max {
            Ok(joined)
        } else {
            Err(ApiError::overloaded())
        }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How long a refusal is delayed, and how many of one client at once.
const HELD_BACK_FOR: Duration = Duration::from_millis(100);
const HELD_BACK_MAX: usize = 1024;
/// Refusals a second of one client that are logged.
const REFUSALS_LOGGED_PER_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);

fn place(semaphore: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, ApiError> {
    Arc::clone(semaphore)
        .try_acquire_owned()
        .map_err(|_| ApiError::overloaded())
}

#[cfg(test)]
mod tests {
    use super::{super::limits::RateLimits, *};

    fn limits() -> ClientLimits {
        ClientLimits {
            rates: RateLimits {
                calls_per_second: NonZeroU32::new(10),
                disk_mib_per_hour: NonZeroU32::new(4),
            },
            calls_in_flight_max: 1,
            calls_queued_max: 1,
            waiting_calls_max: 1,
            ..ClientLimits::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_are_held_back_and_not_without_end() {
        let client = Client::new(&limits(), None);
        let start = tokio::time::Instant::now();
        client.hold_back(Duration::from_secs(5)).await;
        assert_eq!(start.elapsed(), HELD_BACK_FOR);
        client.hold_back(Duration::from_millis(20)).await;
        assert_eq!(start.elapsed(), HELD_BACK_FOR + Duration::from_millis(10));
        let _all = client.held_back.acquire_many(HELD_BACK_MAX as u32).await.unwrap();
        client.hold_back(Duration::from_secs(5)).await;
        assert_eq!(
            start.elapsed(),
            HELD_BACK_FOR + Duration::from_millis(10),
            "no place"
        );
    }

    #[tokio::test]
    async fn calls_wait_their_turn_and_too_many_are_refused() {
        let client = Arc::new(Client::new(&limits(), None));
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

    /// All clients, and one of them.
    fn clients() -> (Clients, (RealmName, ClientName)) {
        let limits = Limits {
            per_client: limits(),
            ..Limits::default()
        };
        let clients = Clients::new(&limits, std::iter::empty());
        let name = ("production".parse().unwrap(), "client:payments".parse().unwrap());
        (clients, name)
    }

    #[test]
    fn looking_for_idle_clients_takes_nothing_from_them() {
        let (clients, name) = clients();
        let start = Instant::now();
        clients.named(name.clone(), start).spend(15).unwrap();
        clients.forget_idle(start);
        let client = clients.named(name, start);
        client.write(4 * 1024 / 120).unwrap();
        client.spend(5).unwrap();
        assert!(client.spend(1).is_err(), "what was spent is still spent");
    }

    #[test]
    fn a_client_is_forgotten_only_when_it_takes_nothing() {
        let (clients, name) = clients();
        let start = Instant::now();
        let is_known = || clients.lock().contains_key(&name);
        let place = clients.wait(&clients.named(name.clone(), start)).unwrap();

        let later = start + 2 * REFILLED_AFTER;
        clients.forget_idle(later);
        assert!(is_known(), "a call of it waits");
        drop(place);
        clients.forget_idle(later + REFILLED_AFTER / 2);
        assert!(is_known(), "what it took is not whole again");
        clients.forget_idle(later + REFILLED_AFTER);
        assert!(!is_known());
    }
}
