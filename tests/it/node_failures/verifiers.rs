//! Verifiers of the Rust SDK, one that watches each node and one that knows all of them: in any failure, none accepts a
//! revoked token for longer than its staleness bound.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tessera_client::{ApiKey, Connection, Verifier, VerifierOptions};
use tokio::time::sleep;

use super::World;

const BOUND: Duration = Duration::from_secs(2);
/// How long a token is checked after its revocation: longer than a node is frozen.
const ASKED_FOR: Duration = Duration::from_secs(30);

pub(super) struct Verifiers {
    /// Each with its name in a failure message.
    all: Vec<(String, Verifier)>,
    /// Access tokens, and the time of the revocation's answer.
    revoked: Mutex<Vec<(String, Instant)>>,
    accepted: AtomicU64,
}

impl Verifiers {
    pub(super) fn start(addresses: &[String], api_key: &str) -> Self {
        let one_each = addresses.iter().cloned().enumerate();
        let one_each = one_each.map(|(node, address)| (format!("of node {node}"), address));
        let of_all = ("of all nodes".to_owned(), addresses.join(","));
        let all = one_each.chain([of_all]).map(|(name, addresses)| {
            let connection = Connection::new(addresses, ApiKey::parse(api_key).unwrap());
            let options = VerifierOptions::new(connection, "production", "api").unwrap();
            (name, Verifier::start(options.staleness_bound(BOUND)).unwrap())
        });
        Self {
            all: all.collect(),
            revoked: Mutex::default(),
            accepted: AtomicU64::new(0),
        }
    }

    /// Counts the verifiers that accept a valid token.
    pub(super) fn accepted(&self, token: &str) {
        let accepting = self.all.iter().filter(|(_, verifier)| accepts(verifier, token));
        self.accepted
            .fetch_add(accepting.count() as u64, Ordering::Relaxed);
    }

    /// The token must be refused once the bound has passed.
    pub(super) fn must_refuse(&self, token: &str) {
        self.revoked.lock().push((token.to_owned(), Instant::now()));
    }

    pub(super) fn count_accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}

fn accepts(verifier: &Verifier, token: &str) -> bool {
    verifier.verify(token, None).claims().is_some()
}

/// Checks the revoked tokens at all verifiers, until the end.
pub(super) async fn ask(world: Arc<World>) {
    let verifiers = &world.verifiers;
    while !world.is_over() {
        let revoked = {
            let mut revoked = verifiers.revoked.lock();
            revoked.retain(|(_, at)| at.elapsed() < ASKED_FOR);
            revoked.clone()
        };
        for (token, answered_at) in &revoked {
            for (name, verifier) in &verifiers.all {
                let since = answered_at.elapsed();
                if since > BOUND && accepts(verifier, token) {
                    let fault = format!("a verifier {name} accepts what was revoked {since:?} ago");
                    world.ledger.fault(fault);
                }
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
}
