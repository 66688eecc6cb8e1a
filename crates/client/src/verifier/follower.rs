//! The task that follows the authority: one session after another.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tessera_core::Cursor;

use super::{
    following::Following,
    session::{End, Session},
    view::{Problem, Shared},
};
use crate::{
    addresses::Round,
    connection::{Credential, Node},
    diagnosis::Plaintext,
    problem_log::ProblemLog,
    retry::Backoff,
};

const BACKOFF: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// The shortest time that counts as silence: less may be a busy machine.
const SILENCE_MIN: Duration = Duration::from_millis(200);

/// Follows until it is aborted.
pub(super) async fn follow(shared: Arc<Shared>, nodes: Vec<Node>, credential: Credential) {
    let mut following = Following {
        round: Round::new(shared.options.connection.addresses()),
        shared,
        nodes,
        credential,
        place: None,
        key_set: None,
        backoff: Backoff::new(BACKOFF, BACKOFF_MAX),
        problems: ProblemLog::new(
            "following the revocations was interrupted",
            "the revocations are followed",
        ),
        left: None,
    };
    loop {
        following.shared.at.store(following.round.at(), Ordering::Relaxed);
        let end = match Session::open(&mut following).await {
            Ok(session) => session.run().await,
            Err(end) => end,
        };
        let wait = following.after(end);
        tokio::time::sleep(wait).await;
    }
}

impl Following {
    /// Everything up to `cursor` is in force.
    pub(super) fn reached(&mut self, cursor: &str) {
        self.place = Some(cursor.to_owned());
        // For resuming, only the authority interprets a cursor. One that can't be read names no position here.
        self.shared.place.send_replace(Cursor::parse(cursor).ok());
    }

    /// The address that is followed, or tried.
    pub(super) fn node(&self) -> Option<&Node> {
        self.nodes.get(self.round.at())
    }

    /// The host and port of the address, if the problem should be diagnosed: not while another address is left to try,
    /// since the diagnosis takes time.
    pub(super) fn plaintext(&self) -> Option<&Plaintext> {
        let node = self.node().filter(|_| self.round.is_at_last())?;
        node.plaintext.as_ref()
    }

    /// The longest silence of an address. If it is the only one, or if each was tried, up to the bound: the known state
    /// is stale after that anyway. Otherwise short enough that each of the others can be tried within the bound: half
    /// of it for the followed one, and the rest for all others.
    pub(super) fn silence_max(&self, has_answered: bool) -> Duration {
        let addresses = self.shared.options.connection.addresses();
        let bound = self.shared.options.bound;
        let longest = if !addresses.are_several() || self.round.is_over() {
            bound
        } else if has_answered {
            bound / 2
        } else {
            bound / u32::try_from(2 * (addresses.count() - 1)).unwrap_or(u32::MAX)
        };
        longest.max(SILENCE_MIN)
    }

    pub(super) fn ping_interval(&self) -> Duration {
        self.shared.options.bound / 4
    }

    /// A ping was answered, on a stream of this age. A young stream does not count yet: an address that fails after
    /// each answer is left like one that never answers, so that streams that end at once don't cause a loop without a
    /// wait.
    pub(super) fn answered(&mut self, age: Duration) {
        self.backoff.reset();
        self.problems.worked();
        if age >= self.ping_interval() && self.round.worked() {
            self.tell_of_move();
        }
    }

    fn tell_of_move(&mut self) {
        let Some((before, why)) = self.left.take() else {
            return;
        };
        let (addresses, now) = (self.shared.options.connection.addresses(), self.round.at());
        if now != before {
            tracing::warn!(
                address = addresses.get(now),
                before = addresses.get(before),
                why,
                "the revocations are followed at another address"
            );
        }
    }

    /// Records how a session ended. Returns how long to wait before the next one.
    fn after(&mut self, end: End) -> Duration {
        let at = self.round.at();
        if end.starts_again {
            self.place = None;
        }
        let problem = Problem {
            address: self.shared.options.connection.addresses().get(at).to_owned(),
            ..end.problem
        };
        self.left.get_or_insert_with(|| (at, problem.text.clone()));
        // A position that one node does not have, no other node has. A permanent problem is the same at each address:
        // the next one is tried, as it may be another authority by mistake, but not at once.
        let is_time_to_wait = end.is_about_place || self.round.leave() || problem.is_permanent;
        self.problems.failed(self.shared.told(&problem));
        self.shared.problem.send_replace(Some(problem));
        match is_time_to_wait {
            true => self.backoff.wait(),
            false => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use tessera_token::ApiKeySecret;

    use super::*;
    use crate::{Connection, VerifierOptions};

    fn following(addresses: &str) -> Following {
        let api_key = ApiKeySecret::generate(tessera_core::RealmKind::Production).unwrap();
        let connection = Connection::new(addresses, api_key).in_order();
        let credential = connection.credential().unwrap();
        let options = VerifierOptions::new(connection, "production", "api").unwrap();
        let shared = Arc::new(Shared::new(options));
        Following {
            round: Round::new(shared.options.connection.addresses()),
            shared,
            nodes: Vec::new(),
            credential,
            place: Some("a place".to_owned()),
            key_set: None,
            backoff: Backoff::new(BACKOFF, BACKOFF_MAX),
            problems: ProblemLog::new("", ""),
            left: None,
        }
    }

    const THREE: &str = "http://a:1,http://b:1,http://c:1";

    #[test]
    fn where_it_goes_on_and_whether_it_waits_is_a_table() {
        let permanent = || End {
            problem: Problem::permanent("permanent"),
            ..End::resume("")
        };
        let no_such_place = || End {
            is_about_place: true,
            ..End::start_again("expired")
        };
        // How it ended; the next address, whether it waits before, and whether it keeps its position.
        let table: [(End, usize, bool, bool); 7] = [
            (End::resume("gone"), 1, false, true),
            (End::start_again("not understood"), 2, false, false),
            (End::resume("gone"), 0, true, true),
            (permanent(), 1, true, true),
            (End::resume("gone"), 2, false, true),
            (no_such_place(), 2, true, false),
            (End::resume("gone"), 0, true, true),
        ];
        let mut following = following(THREE);
        for (step, (end, at, waits, keeps)) in table.into_iter().enumerate() {
            following.place = Some("a place".to_owned());
            let wait = following.after(end);
            let found = (following.round.at(), !wait.is_zero(), following.place.is_some());
            assert_eq!(found, (at, waits, keeps), "{step}");
        }
    }

    #[test]
    fn a_stream_that_ends_after_each_answer_is_waited_for() {
        let mut following = following(THREE);
        let mut ended = |age: Duration| {
            following.answered(age);
            !following.after(End::resume("gone")).is_zero()
        };
        let young = Duration::from_millis(2499);
        assert_eq!(
            [young; 6].map(&mut ended),
            [false, false, true, false, false, true]
        );
        // After an address has lasted, the whole round is tried again.
        assert_eq!([Duration::from_millis(2500); 4].map(&mut ended), [false; 4]);
    }

    #[test]
    fn how_long_nothing_may_come_is_a_table() {
        let seconds = Duration::from_secs;
        let mut one = following("http://a:1");
        for has_answered in [false, true] {
            assert_eq!(one.silence_max(has_answered), seconds(10));
        }
        let _ = one.after(End::resume("gone"));
        assert_eq!(one.silence_max(false), seconds(10));
        let silences = |of: &Following| [of.silence_max(true), of.silence_max(false)];
        let three = following(THREE);
        // A frozen address, and each of the others: within the bound.
        assert_eq!(silences(&three), [seconds(5), seconds(10) / 4]);
        let mut two = following("http://a:1,http://b:1");
        assert_eq!(silences(&two), [seconds(5), seconds(5)]);
        let _ = two.after(End::resume("gone"));
        assert_eq!(silences(&two), [seconds(5), seconds(5)]);
        // Each was tried: one may only be slow.
        let _ = two.after(End::resume("gone"));
        assert_eq!(silences(&two), [seconds(10), seconds(10)]);
        two.answered(seconds(3));
        assert_eq!(two.silence_max(true), seconds(5));
    }
}
