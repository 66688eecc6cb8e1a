//! The addresses of an authority's nodes, and the order in which they are used.
//!
//! tonic can balance calls over addresses (`Channel::balance_list`), but it only checks whether a connection can be
//! made. A client must also leave a node that answers UNAVAILABLE, or that is frozen, and an error of a stream must
//! name its address. So each address has its own channel, and this module chooses among them, for verifiers and for
//! calls.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tessera_core::{NodeAddresses, NodeAddressesError};

use crate::retry::fraction;

/// The addresses of one authority, in the order in which they are tried. Clones share which one is preferred, so that a
/// failure that one clone finds spares the others an attempt.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    given: Arc<NodeAddresses>,
    tried: Arc<[String]>,
    preferred: Arc<AtomicUsize>,
}

/// One pass over the addresses, in search of one that works.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    addresses: Addresses,
    at: usize,
    failed: usize,
}

// === impl Addresses ===

impl Addresses {
    /// These addresses, in random order; each text may contain several, separated by commas. So many clients spread
    /// over the nodes, and over the remaining ones if a node fails.
    pub(crate) fn new<A: Into<String>>(addresses: impl IntoIterator<Item = A>) -> Self {
        let given = NodeAddresses::new(addresses);
        let mut tried = given.as_slice().to_vec();
        shuffle(&mut tried);
        Self {
            given: Arc::new(given),
            tried: tried.into(),
            preferred: Arc::default(),
        }
    }

    /// The same in the order in which they were given.
    pub(crate) fn in_order(self) -> Self {
        Self {
            tried: self.given.as_slice().into(),
            ..self
        }
    }

    /// Checks whether they can be used together.
    pub(crate) fn check(&self) -> Result<(), NodeAddressesError> {
        self.given.check()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.tried.iter().map(String::as_str)
    }

    pub(crate) fn are_several(&self) -> bool {
        self.tried.len() > 1
    }

    pub(crate) fn count(&self) -> usize {
        self.tried.len().max(1)
    }

    pub(crate) fn get(&self, index: usize) -> &str {
        self.tried.get(index).map_or("", String::as_str)
    }

    /// The address at `index` did not work: others need not try it first.
    pub(crate) fn leave(&self, index: usize) {
        // If another one is preferred already, another clone was faster.
        let _ =
            self.preferred
                .compare_exchange(index, self.after(index), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The address at `index` works.
    pub(crate) fn prefer(&self, index: usize) {
        self.preferred.store(index, Ordering::Relaxed);
    }

    fn after(&self, index: usize) -> usize {
        (index + 1) % self.count()
    }
}

impl std::fmt::Display for Addresses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.given.fmt(f)
    }
}

fn shuffle(addresses: &mut [String]) {
    for last in (1..addresses.len()).rev() {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "it is cut to a place of the list"
        )]
        let other = ((last + 1) as f64 * fraction()) as usize;
        addresses.swap(last, other.min(last));
    }
}

// === impl Round ===

impl Round {
    /// Begins at the address that worked last.
    pub(crate) fn new(addresses: &Addresses) -> Self {
        Self {
            addresses: addresses.clone(),
            at: addresses.preferred.load(Ordering::Relaxed) % addresses.count(),
            failed: 0,
        }
    }

    /// The current address.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Continues with the next address, because this one failed. Returns whether each has failed once more, so that it
    /// is time to wait.
    #[must_use]
    pub(crate) fn leave(&mut self) -> bool {
        self.addresses.leave(self.at);
        self.at = self.addresses.after(self.at);
        self.failed += 1;
        self.failed.is_multiple_of(self.addresses.count())
    }

    /// Whether each address has failed.
    pub(crate) fn is_over(&self) -> bool {
        self.failed >= self.addresses.count()
    }

    /// Whether the current address is the last one left in this round.
    pub(crate) fn is_at_last(&self) -> bool {
        (self.failed + 1).is_multiple_of(self.addresses.count())
    }

    /// The current address works. Returns whether one had failed before.
    pub(crate) fn worked(&mut self) -> bool {
        let had_failed = std::mem::take(&mut self.failed) > 0;
        if had_failed {
            self.addresses.prefer(self.at);
        }
        had_failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(addresses: &[&str]) -> Addresses {
        Addresses::new(addresses.iter().copied()).in_order()
    }

    #[test]
    fn many_clients_spread_over_the_nodes_and_each_tries_all() {
        let given = ["http://a:1", "http://b:1", "http://c:1"];
        let mut first = std::collections::BTreeMap::<_, usize>::new();
        for _ in 0..600 {
            let addresses = Addresses::new(given);
            let mut tried: Vec<_> = addresses.iter().collect();
            *first.entry(tried.join(" ")).or_default() += 1;
            tried.sort_unstable();
            assert_eq!(tried, given);
        }
        // All six orders occur by chance: none is rare.
        assert_eq!(first.len(), 6, "{first:?}");
        assert!(first.values().all(|count| *count > 40), "{first:?}");
        assert_eq!(of(&given).iter().collect::<Vec<_>>(), given);
    }

    #[test]
    fn which_address_is_next_is_a_table() {
        // For each count of addresses: the address after each failure, and whether it waits there.
        let table: [(usize, &[(usize, bool)]); 3] = [
            (1, &[(0, true), (0, true), (0, true)]),
            (2, &[(1, false), (0, true), (1, false), (0, true)]),
            (3, &[(1, false), (2, false), (0, true), (1, false), (2, false)]),
        ];
        for (count, expected) in table {
            let names: Vec<_> = (0..count).map(|n| format!("http://h{n}:1")).collect();
            let mut round = Round::new(&Addresses::new(names).in_order());
            for (step, (at, waits)) in expected.iter().enumerate() {
                assert_eq!(round.is_over(), step >= count, "{count} {step}");
                assert_eq!(round.is_at_last(), *waits, "{count} {step}");
                assert_eq!((round.leave(), round.at()), (*waits, *at), "{count} {step}");
            }
        }
    }

    #[test]
    fn what_worked_last_is_tried_first() {
        let addresses = of(&["http://a:1", "http://b:1", "http://c:1"]);
        let mut round = Round::new(&addresses);
        // A round without a failure does not change the preference: another may have changed it in the meantime.
        let mut other = Round::new(&addresses);
        assert!(!round.leave() && !round.leave());
        assert_eq!(round.at(), 2);
        assert!(!other.worked());
        assert!(round.worked() && !round.is_over());
        assert_eq!(Round::new(&addresses).at(), 2);
        // A late report of an old failure changes nothing.
        addresses.leave(0);
        assert_eq!(Round::new(&addresses).at(), 2);
        addresses.leave(2);
        assert_eq!(Round::new(&addresses).at(), 0);
        // A round that worked begins again: it waits only when each has failed again.
        assert!(!round.leave() && !round.leave() && round.leave());
    }
}
