//! All failures at once between an authority and a verifier, while its answers are checked.

use std::{sync::Arc, time::Duration};

use tessera_client::{
    Mode, Verifier,
    v1::{IssueRequest, revoke_request::Target},
};
use tessera_core::{Clock, ManualClock, Seconds, Timestamp};
use tessera_testkit::{Proxy, soon};
use tokio::time::Instant;

use crate::{
    bound::settled,
    checker::{Look, violation},
    world::{World, access, viewer},
};

pub(crate) const BOUND: Duration = Duration::from_millis(120);
const HOUR_SECONDS: i64 = 3600;
/// How many violations are kept in words.
const TOLD_MAX: usize = 10;

/// Pseudo-random numbers that are the same in each run (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16) % sides
    }

    /// True once in `times` on average.
    fn once_in(&mut self, times: u64) -> bool {
        self.roll(times) == 0
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.roll(to - from))
    }
}

/// What was checked.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) allowed: usize,
    /// With a clock that was more than the leeway ahead of, or behind, the authority's.
    pub(crate) allowed_ahead: usize,
    pub(crate) allowed_behind: usize,
    pub(crate) allowed_revoked: usize,
    pub(crate) denied: usize,
    pub(crate) stale: usize,
    pub(crate) restarts: usize,
    /// How often the verifier had moved to another address at the end of a round.
    pub(crate) moves: usize,
    pub(crate) snapshots_forced: usize,
    pub(crate) longest_age_allowed: Duration,
}

/// The result of one storm, or of several.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) seen: Seen,
    pub(crate) violations: Vec<String>,
}

/// A token, and its actual state.
struct Token {
    text: String,
    revoked_at: Option<Instant>,
    issued_at: Timestamp,
    expires_at: Timestamp,
}

/// An authority, a verifier of it, and the proxies between them.
pub(crate) struct Storm {
    world: World,
    /// One for each address that the verifier has.
    proxies: Vec<Proxy>,
    /// The address that it followed last.
    followed: String,
    verifier: Verifier,
    mode: Mode,
    /// The verifier's clock.
    clock: Arc<ManualClock>,
    /// How far it is ahead of the authority's.
    ahead: i64,
    dice: Dice,
    /// For how many rounds the current failure lasts.
    lasts: u64,
    tokens: Vec<Token>,
    outcome: Outcome,
}

impl Storm {
    /// A storm whose verifier has this many addresses.
    pub(crate) async fn gather(seed: u64, addresses: u64, mode: Mode) -> Self {
        let world = World::start().await;
        let mut proxies = Vec::new();
        for _ in 0..addresses {
            proxies.push(Proxy::to(&world.address).await);
        }
        let addresses: Vec<_> = proxies.iter().map(Proxy::address).collect();
        let clock = Arc::new(ManualClock::new(world.clock.now()));
        let options = world.options(BOUND, &addresses.join(",")).await;
        let shared = Arc::clone(&clock);
        let verifier = Verifier::start(options.clock(shared)).unwrap();
        soon("ready", verifier.ready(Duration::MAX)).await.unwrap();
        Self {
            world,
            followed: verifier.status().address,
            proxies,
            verifier,
            mode,
            clock,
            ahead: 0,
            dice: Dice(seed.wrapping_mul(0x7E55_E7A5_1234_5677)),
            lasts: 0,
            tokens: Vec::new(),
            outcome: Outcome::default(),
        }
    }

    pub(crate) async fn rage(mut self, rounds: usize) -> Outcome {
        for _ in 0..rounds {
            self.round().await;
        }
        if self.mode == Mode::FailClosed {
            self.calm_down().await;
        }
        self.outcome
    }

    async fn round(&mut self) {
        self.change_weather();
        self.move_clocks();
        self.issue_and_revoke().await;
        // Directly after Revoke has answered: the event may not have been sent yet.
        if self.dice.once_in(25) {
            self.world.kit.kill().await;
            let down_for = self.dice.millis(0, 30);
            self.look_for(down_for).await;
            self.world.kit.restart().await;
            self.outcome.seen.restarts += 1;
        }
        // If the log no longer has the events after the verifier's cursor, it needs a snapshot.
        if self.dice.once_in(50) {
            let authority = self.world.kit.authority();
            let purged = authority
                .purging()
                .purge(self.world.clock.now(), Seconds::days(90));
            purged.await.unwrap();
            self.outcome.seen.snapshots_forced += 1;
        }
        let time = self.dice.millis(5, 50);
        self.look_for(time).await;
        let followed = self.verifier.status().address;
        self.outcome.seen.moves += usize::from(followed != self.followed);
        self.followed = followed;
    }

    fn change_weather(&mut self) {
        if self.lasts > 0 {
            self.lasts -= 1;
            return;
        }
        self.lasts = self.dice.roll(6);
        for proxy in &self.proxies {
            proxy.resume();
            match self.dice.roll(8) {
                0 => proxy.stall(),
                1 => proxy.cut(),
                2 => proxy.delay(self.dice.millis(10, 260)),
                3 | 4 => proxy.disorder(self.dice.millis(20, 300)),
                5 => {
                    // Data in transit on the old connections arrives while new ones work.
                    proxy.disorder(self.dice.millis(20, 300));
                    proxy.cut();
                }
                _ => {}
            }
        }
    }

    /// The authority's clock advances; the verifier's advances with it, and jumps up to an hour ahead and behind.
    fn move_clocks(&mut self) {
        let on = Duration::from_secs(self.dice.roll(20));
        self.world.clock.advance(on);
        if self.dice.once_in(6) {
            self.ahead = match self.dice.roll(5) {
                0 | 1 => 0,
                2 => HOUR_SECONDS,
                3 => -HOUR_SECONDS,
                _ => i64::try_from(self.dice.roll(7200)).unwrap() - HOUR_SECONDS,
            };
        }
        self.set_clock();
    }

    fn set_clock(&self) {
        let target = self.world.clock.now().as_millis() + self.ahead * 1000;
        self.clock.advance_millis(target - self.clock.now().as_millis());
    }

    async fn issue_and_revoke(&mut self) {
        // Most live for many hours, so that a verifier with a clock ahead has something to allow.
        let ttl = if self.dice.once_in(4) { 300 } else { 20 * 3600 };
        // No other token has this subject or label, so that a revocation ends this token alone.
        let number = self.tokens.len();
        let (subject, label) = (format!("user:u{number}"), format!("stream:{number}"));
        let issued = self.world.issue(IssueRequest {
            access_ttl: Some(prost_types::Duration {
                seconds: ttl,
                nanos: 0,
            }),
            labels: vec![label.clone()],
            ..viewer(&subject)
        });
        let issued = issued.await;
        let now = self.world.clock.now();
        let mut token = Token {
            text: access(&issued).to_owned(),
            revoked_at: None,
            issued_at: now,
            expires_at: now.plus_millis(ttl * 1000),
        };
        if self.dice.once_in(2) {
            let target = match self.dice.roll(4) {
                0 => Target::Token(token.text.clone()),
                1 => Target::SessionId(issued.session_id.clone()),
                2 => Target::Subject(subject),
                _ => Target::Label(label),
            };
            self.world.revoke(target).await;
            token.revoked_at = Some(Instant::now());
        }
        self.tokens.push(token);
    }

    /// Checks the last tokens, and random ones, again and again.
    async fn look_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let count = self.tokens.len();
            let any = usize::try_from(self.dice.roll(count as u64)).unwrap();
            for index in (count.saturating_sub(4)..count).chain([any]) {
                self.look(index).await;
            }
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
    }

    async fn look(&mut self, index: usize) {
        let token = &self.tokens[index];
        let (asked_at, behind) = (Instant::now(), self.verifier.status().behind);
        let look = Look {
            asked_at,
            behind,
            bound: BOUND,
            decision: self.verifier.verify_with(&token.text, None, self.mode).await,
            revoked_at: token.revoked_at,
            issued_at: token.issued_at,
            expires_at: token.expires_at,
            local_time: self.clock.now(),
            authority_time: self.world.clock.now(),
        };
        self.outcome.count(&look);
    }

    /// At the end the answer for every token is correct.
    async fn calm_down(&mut self) {
        self.proxies.iter().for_each(Proxy::resume);
        self.ahead = 0;
        self.set_clock();
        let now = self.clock.now();
        for token in self.tokens.iter().filter(|token| token.expires_at > now) {
            settled(&self.verifier, &token.text, token.revoked_at.is_some()).await;
        }
    }
}

impl Outcome {
    fn count(&mut self, look: &Look) {
        use tessera_client::Decision::{Allow, Deny, Stale};
        let seen = &mut self.seen;
        match &look.decision {
            Allow(_) => {
                seen.allowed += 1;
                let ahead = look.local_time.as_millis() - look.authority_time.as_millis();
                seen.allowed_ahead += usize::from(ahead > 30_000);
                seen.allowed_behind += usize::from(ahead < -30_000);
                if let Some(age) = look.age() {
                    seen.allowed_revoked += 1;
                    seen.longest_age_allowed = seen.longest_age_allowed.max(age);
                }
            }
            Deny(_) => seen.denied += 1,
            Stale { .. } => seen.stale += 1,
        }
        let violation = violation(look).filter(|_| self.violations.len() < TOLD_MAX);
        self.violations.extend(violation);
    }

    pub(crate) fn add(&mut self, other: Self) {
        let (seen, more) = (&mut self.seen, other.seen);
        seen.allowed += more.allowed;
        seen.allowed_ahead += more.allowed_ahead;
        seen.allowed_behind += more.allowed_behind;
        seen.allowed_revoked += more.allowed_revoked;
        seen.denied += more.denied;
        seen.stale += more.stale;
        seen.restarts += more.restarts;
        seen.moves += more.moves;
        seen.snapshots_forced += more.snapshots_forced;
        seen.longest_age_allowed = seen.longest_age_allowed.max(more.longest_age_allowed);
        self.violations.extend(other.violations);
    }

    pub(crate) fn assert_honest(&self) {
        assert!(self.violations.is_empty(), "{:#?}", self.violations);
    }
}
