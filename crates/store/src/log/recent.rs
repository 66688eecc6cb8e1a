//! The most recent committed events, so that many watchers read the log without decoding rows.

use std::{collections::VecDeque, sync::Arc};

use tessera_core::{Event, Sequence};

/// How many events are held.
pub(super) const CAPACITY: usize = 4096;

/// The last events of the log, without a gap.
#[derive(Debug, Default)]
pub(super) struct Recent {
    events: VecDeque<Arc<Event>>,
}

impl Recent {
    pub(super) fn extend(&mut self, events: impl IntoIterator<Item = Arc<Event>>) {
        for event in events {
            if self.events.len() == CAPACITY {
                self.events.pop_front();
            }
            self.events.push_back(event);
        }
    }

    pub(super) fn forget_through(&mut self, floor: Sequence) {
        while self.events.front().is_some_and(|event| event.sequence <= floor) {
            self.events.pop_front();
        }
    }

    /// Up to `limit` events after `after` and up to `through`; `None` if they are not all here.
    pub(super) fn after(&self, after: Sequence, through: Sequence, limit: usize) -> Option<Vec<Arc<Event>>> {
        let first = self.events.front()?.sequence;
        let skip = usize::try_from(after.next().0.checked_sub(first.0)?).ok()?;
        let events = self.events.iter().skip(skip).take(limit);
        Some(
            events
                .take_while(|event| event.sequence <= through)
                .cloned()
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use tessera_core::{EventBody, RealmName, Timestamp};

    use super::*;

    fn event(sequence: u64) -> Arc<Event> {
        Arc::new(Event {
            sequence: Sequence(sequence),
            occurred_at: Timestamp::EPOCH,
            relevant_until: Timestamp::EPOCH,
            realm: RealmName::parse("production").unwrap(),
            note: String::new(),
            body: EventBody::RealmRevoked,
        })
    }

    fn places(events: Option<Vec<Arc<Event>>>) -> Option<Vec<u64>> {
        events.map(|events| events.iter().map(|event| event.sequence.0).collect())
    }

    #[test]
    fn it_answers_only_where_it_reaches_far_enough_back() {
        let mut recent = Recent::default();
        assert_eq!(places(recent.after(Sequence(0), Sequence(9), 10)), None);
        recent.extend((5..=9).map(event));
        assert_eq!(places(recent.after(Sequence(3), Sequence(9), 10)), None);
        assert_eq!(
            places(recent.after(Sequence(4), Sequence(9), 2)),
            Some(vec![5, 6])
        );
        assert_eq!(places(recent.after(Sequence(7), Sequence(8), 10)), Some(vec![8]));
        recent.forget_through(Sequence(6));
        assert_eq!(places(recent.after(Sequence(5), Sequence(9), 10)), None);
        assert_eq!(
            places(recent.after(Sequence(6), Sequence(9), 10)),
            Some(vec![7, 8, 9])
        );
    }

    #[test]
    fn it_is_bounded() {
        let mut recent = Recent::default();
        recent.extend((1..=CAPACITY as u64 + 1).map(event));
        assert_eq!(recent.events.len(), CAPACITY);
        assert_eq!(places(recent.after(Sequence(0), Sequence(1), 1)), None);
    }
}
