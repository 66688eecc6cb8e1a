//! The open connections of a socket: how many there may be, and which one ends for a new one.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use prometheus_client::metrics::gauge::Gauge;

use super::limits::SocketLimits;
use crate::edge::{Ending, Peer, network_of};

/// A client's connection is not ended for a new one before it has been idle for this long.
const CLIENT_IDLE_MIN: Duration = Duration::from_secs(10);

/// All connections of a socket.
#[derive(Clone)]
pub(super) struct Registry {
    connections_max: usize,
    per_address_max: usize,
    open: Gauge,
    connections: Arc<Mutex<Connections>>,
}

#[derive(Default)]
struct Connections {
    next: u64,
    peers: HashMap<u64, Arc<Peer>>,
    /// Connections that were told to end, and no longer count.
    ending: HashMap<u64, Arc<Peer>>,
    per_address: HashMap<IpAddr, usize>,
}

/// One connection's share; given back when it is dropped.
pub(super) struct Share {
    registry: Registry,
    number: u64,
    pub(super) peer: Arc<Peer>,
}

impl Registry {
    pub(super) fn new(limits: &SocketLimits, open: Gauge) -> Self {
        Self {
            connections_max: limits.connections_max,
            per_address_max: limits.connections_per_address_max,
            open,
            connections: Arc::default(),
        }
    }

    /// Whether there is a slot for one more connection; if not, the idlest is ended for it. The caller has one that
    /// waits.
    pub(super) fn makes_room(&self) -> bool {
        let mut connections = self.lock();
        connections.peers.len() < self.connections_max || connections.end_idlest(|_| true)
    }

    /// Ends the connection whose loss matters least.
    pub(super) fn end_idlest(&self) {
        self.lock().end_idlest(|_| true);
    }

    /// A share for a new connection; `None` if its address has used its share, and no connection of it can be ended.
    pub(super) fn admit(&self, peer: Peer) -> Option<Share> {
        let network = network_of(peer.address().ip());
        let mut connections = self.lock();
        let of_address = connections.per_address.get(&network).copied().unwrap_or(0);
        let is_same = |other: &Peer| network_of(other.address().ip()) == network;
        if of_address >= self.per_address_max && !connections.end_idlest(is_same) {
            return None;
        }
        let number = connections.next;
        connections.next += 1;
        let peer = Arc::new(peer);
        connections.peers.insert(number, Arc::clone(&peer));
        *connections.per_address.entry(network).or_default() += 1;
        self.open.inc();
        Some(Share {
            registry: self.clone(),
            number,
            peer,
        })
    }

    /// Ends connections that have been idle for too long, and those that do not take an answer.
    pub(super) fn end_overdue(&self, limits: &SocketLimits) {
        for peer in self.lock().peers.values() {
            let idle_max = if peer.is_authenticated() {
                limits.connection_idle_max
            } else {
                limits.stranger_idle_max
            };
            let is_stuck = peer
                .answer_untaken_for()
                .is_some_and(|time| time > limits.answer_time_max);
            if is_stuck {
                tracing::debug!(address = %peer.address(), "an answer was not taken in time");
                peer.end(Ending::Now);
            } else if peer.idle_for().is_some_and(|time| time > idle_max) {
                peer.end(Ending::Gracefully);
            }
        }
    }

    pub(super) fn end_all(&self, ending: Ending) {
        self.lock().peers.values().for_each(|peer| peer.end(ending));
    }

    /// Ends the connections on which no exchange has been running for this long. If one has just ended, its answer may
    /// still be in transit.
    pub(super) fn end_unused(&self, for_long: Duration) {
        let connections = self.lock();
        let all = connections.peers.values().chain(connections.ending.values());
        all.filter(|peer| peer.idle_for().is_some_and(|time| time >= for_long))
            .for_each(|peer| peer.end(Ending::Now));
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock()
    }
}

impl Connections {
    /// Ends one of the connections that `may_end`: one that no client uses before one that a client does, and of those
    /// the one on which nothing began or ended for longest. If no client was authenticated, that may cut off a running
    /// exchange: otherwise a peer that leaves requests unfinished would keep slots that new connections need.
    fn end_idlest(&mut self, may_end: impl Fn(&Peer) -> bool) -> bool {
        let candidates = self.peers.iter().filter(|(_, peer)| may_end(peer));
        let idlest = candidates
            .filter_map(|(number, peer)| {
                let is_client = peer.is_authenticated();
                let may_end = !is_client || peer.idle_for().is_some_and(|time| time >= CLIENT_IDLE_MIN);
                may_end.then(|| ((!is_client, peer.quiet_for(), u64::MAX - number), *number))
            })
            .max();
        let Some((_, number)) = idlest else {
            return false;
        };
        if let Some(peer) = self.peers.remove(&number) {
            self.release(&peer);
            peer.end(Ending::Now);
            self.ending.insert(number, peer);
        }
        true
    }

    fn release(&mut self, peer: &Peer) {
        let network = network_of(peer.address().ip());
        if let Some(count) = self.per_address.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&network);
            }
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut connections = self.registry.lock();
        if connections.ending.remove(&self.number).is_none() {
            connections.peers.remove(&self.number);
            connections.release(&self.peer);
        }
        self.registry.open.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(connections_max: usize, per_address_max: usize) -> Registry {
        let limits = SocketLimits {
            connections_max,
            connections_per_address_max: per_address_max,
            streams_per_connection_max: 1,
            connection_idle_max: Duration::ZERO,
            stranger_idle_max: Duration::ZERO,
            answer_time_max: Duration::ZERO,
        };
        Registry::new(&limits, Gauge::default())
    }

    fn peer(host: u8) -> Peer {
        Peer::new(([192, 0, 2, host], 1).into(), 1, 1)
    }

    async fn has_ended(share: &Share) -> bool {
        tokio::time::timeout(Duration::ZERO, share.peer.ends())
            .await
            .is_ok()
    }

    #[tokio::test]
    async fn a_new_connection_takes_the_place_of_one_that_no_client_uses() {
        let registry = registry(2, 2);
        let first = registry.admit(peer(1)).unwrap();
        first.peer.authenticated();
        let busy = first.peer.begin_exchange();
        assert!(registry.makes_room());
        let second = registry.admit(peer(2)).unwrap();
        assert!(registry.makes_room());
        assert!(has_ended(&second).await && !has_ended(&first).await);
        let third = registry.admit(peer(3)).unwrap();
        third.peer.authenticated();
        assert!(!registry.makes_room(), "clients use both");
        drop((busy, second, third));
        assert!(registry.makes_room());
        assert_eq!(registry.lock().peers.len(), 1);
        assert!(registry.lock().ending.is_empty());
    }

    /// A new connection is served, whatever earlier ones left unfinished.
    #[tokio::test]
    async fn a_newcomer_is_not_the_idlest() {
        let registry = registry(3, 3);
        let busy: Vec<_> = (0..3)
            .map(|host| registry.admit(peer(host)).unwrap())
            .map(|share| (share.peer.begin_exchange(), share))
            .collect();
        assert!(registry.makes_room());
        let newcomer = registry.admit(peer(3)).unwrap();
        assert!(registry.makes_room());
        assert!(!has_ended(&newcomer).await);
        assert!(has_ended(&busy[0].1).await && has_ended(&busy[1].1).await);
    }

    #[tokio::test]
    async fn an_address_has_a_share() {
        let registry = registry(10, 1);
        let first = registry.admit(peer(1)).unwrap();
        let second = registry.admit(peer(1)).unwrap();
        assert!(has_ended(&first).await);
        second.peer.authenticated();
        assert!(registry.admit(peer(1)).is_none());
        registry.admit(peer(2)).unwrap();
        drop((first, second));
        assert!(registry.lock().per_address.is_empty());
        registry.admit(peer(1)).unwrap();
    }
}
