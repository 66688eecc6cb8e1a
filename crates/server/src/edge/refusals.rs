//! Refused credentials, by address: a caller that guesses must soon wait, before anything is looked up.

use std::{
    collections::{HashMap, HashSet, hash_map::RandomState},
    hash::BuildHasher,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    time::{Duration, Instant},
};

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};
use parking_lot::{Mutex, MutexGuard};

use crate::error::ApiError;

/// How many credentials that worked are remembered. One that is forgotten is only treated as a new one.
const PROVEN_MAX: usize = 16 * 1024;

/// The addresses that were refused lately.
pub(crate) struct Refusals {
    rate: DefaultKeyedRateLimiter<IpAddr>,
    /// Addresses whose next credentials are not looked up, and until when.
    blocked: Mutex<HashMap<IpAddr, Instant>>,
    /// Hashes of credentials that worked: callers behind the same address as a guessing one can continue.
    proven: Mutex<HashSet<u64>>,
    hasher: RandomState,
}

impl Refusals {
    pub(crate) fn new(per_second: NonZeroU32) -> Self {
        let burst = per_second.saturating_mul(NonZeroU32::MIN.saturating_add(4));
        Self {
            rate: RateLimiter::keyed(Quota::per_second(per_second).allow_burst(burst)),
            blocked: Mutex::default(),
            proven: Mutex::default(),
            hasher: RandomState::new(),
        }
    }

    /// Whether a credential from `address` may be looked up.
    pub(crate) fn admit(&self, address: IpAddr, credential: &str) -> Result<(), ApiError> {
        let wait = {
            let blocked = self.lock_blocked();
            let until = blocked.get(&network_of(address));
            until.map(|until| until.saturating_duration_since(Instant::now()))
        };
        match wait.filter(|wait| !wait.is_zero()) {
            Some(wait) if !self.is_proven(credential) => Err(ApiError::rate_limited(wait)),
            _ => Ok(()),
        }
    }

    /// A credential worked.
    pub(crate) fn accepted(&self, credential: &str) {
        let hash = self.hasher.hash_one(credential);
        let mut proven = self.proven.lock();
        if proven.len() >= PROVEN_MAX && !proven.contains(&hash) {
            proven.clear();
        }
        proven.insert(hash);
    }

    /// A credential from `address` was refused; fails if that happens too often.
    pub(crate) fn refused(&self, address: IpAddr) -> Result<(), ApiError> {
        let network = network_of(address);
        self.rate.check_key(&network).map_err(|not_until| {
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            let wait = wait.max(Duration::from_millis(1));
            self.lock_blocked().insert(network, Instant::now() + wait);
            ApiError::rate_limited(wait)
        })
    }

    pub(crate) fn forget_idle(&self) {
        let now = Instant::now();
        self.lock_blocked().retain(|_, until| now < *until);
        self.rate.retain_recent();
    }

    fn is_proven(&self, credential: &str) -> bool {
        let hash = self.hasher.hash_one(credential);
        let proven = self.proven.lock();
        proven.contains(&hash)
    }

    fn lock_blocked(&self) -> MutexGuard<'_, HashMap<IpAddr, Instant>> {
        self.blocked.lock()
    }
}

/// The part of an address that is counted: for IPv6 the /64, as one host has all of it.
pub(crate) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess_until_blocked(refusals: &Refusals, address: IpAddr) {
        for _ in 0..100 {
            if refusals.refused(address).is_err() {
                return;
            }
        }
        panic!("never told to wait");
    }

    #[test]
    fn a_guesser_is_refused_before_the_look_up_and_its_neighbours_are_not() {
        let refusals = Refusals::new(NonZeroU32::MIN);
        let (address, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        refusals.accepted("good");
        guess_until_blocked(&refusals, address);
        assert!(refusals.admit(address, "guess").is_err());
        refusals.admit(address, "good").unwrap();
        refusals.admit(other, "guess").unwrap();
    }

    #[test]
    fn one_host_is_counted_once() {
        let same = ["2001:db8::1", "2001:db8::ffff:2"].map(|text| network_of(text.parse().unwrap()));
        assert_eq!(same[0], same[1]);
        assert_ne!(same[0], network_of("2001:db8:0:1::1".parse().unwrap()));
        assert_eq!(
            network_of("::ffff:192.0.2.1".parse().unwrap()),
            IpAddr::from([192, 0, 2, 1])
        );
    }
}
