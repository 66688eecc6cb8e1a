//! Outgoing events, each encoded once for any number of watchers.

use parking_lot::Mutex;
use tessera_core::{Cursor, Event, FilterDigest};
use tessera_proto::WatchFrame;

use super::convert::revocation;

/// How many of the last events are kept encoded.
const EVENTS: usize = 1024;
/// For how many filters each is kept: its cursor belongs to the filtered stream.
const FILTERS: usize = 8;

/// The last events, encoded.
pub(crate) struct Frames(Vec<Mutex<Slot>>);

/// One event, by the filters of the streams that send it.
#[derive(Default)]
struct Slot {
    sequence: u64,
    frames: Vec<(FilterDigest, WatchFrame)>,
}

impl Default for Frames {
    fn default() -> Self {
        Self((0..EVENTS).map(|_| Mutex::default()).collect())
    }
}

impl Frames {
    /// The frame of an event, made by the first caller.
    pub(crate) fn event(&self, event: &Event, cursor: &Cursor) -> WatchFrame {
        let encode = || WatchFrame::from(revocation::event_response(event, cursor));
        let sequence = event.sequence.0;
        let place = usize::try_from(sequence).unwrap_or(0) % EVENTS;
        let Some(slot) = self.0.get(place) else {
            return encode();
        };
        let mut slot = slot.lock();
        if slot.sequence > sequence {
            // A stream that is far behind: the frames that the others need stay.
            return encode();
        }
        if slot.sequence < sequence {
            slot.sequence = sequence;
            slot.frames.clear();
        }
        if let Some((_, frame)) = slot.frames.iter().find(|(filter, _)| *filter == cursor.filter) {
            return frame.clone();
        }
        let frame = encode();
        if slot.frames.len() < FILTERS {
            slot.frames.push((cursor.filter, frame.clone()));
        }
        frame
    }
}

#[cfg(test)]
mod tests {
    use tessera_core::{CursorTag, EventBody, LogId, RealmName, Sequence, Timestamp};

    use super::*;

    fn event(sequence: u64) -> Event {
        Event {
            sequence: Sequence(sequence),
            occurred_at: Timestamp::EPOCH,
            relevant_until: Timestamp::EPOCH,
            realm: RealmName::parse("production").unwrap(),
            note: String::new(),
            body: EventBody::RealmRevoked,
        }
    }

    fn cursor(sequence: u64, filter: u8) -> Cursor {
        Cursor {
            log: LogId::from_bytes([7; 16]),
            sequence: Sequence(sequence),
            filter: FilterDigest([filter; 32]),
            tag: CursorTag::default(),
        }
    }

    /// Whether both share their bytes.
    fn are_one(one: &WatchFrame, other: &WatchFrame) -> bool {
        one.bytes().as_ptr() == other.bytes().as_ptr()
    }

    #[test]
    fn an_event_is_encoded_once_for_each_filter() {
        let frames = Frames::default();
        let first = frames.event(&event(5), &cursor(5, 0));
        assert!(are_one(&first, &frames.event(&event(5), &cursor(5, 0))));
        let filtered = frames.event(&event(5), &cursor(5, 1));
        assert!(!are_one(&first, &filtered));
        assert_ne!(first.bytes(), filtered.bytes());
    }

    #[test]
    fn one_that_lags_takes_nothing_from_the_others() {
        let frames = Frames::default();
        let later = 5 + EVENTS as u64;
        frames.event(&event(5), &cursor(5, 0));
        let new = frames.event(&event(later), &cursor(later, 0));
        let old = frames.event(&event(5), &cursor(5, 0));
        assert_ne!(old.bytes(), new.bytes());
        assert!(are_one(&new, &frames.event(&event(later), &cursor(later, 0))));
    }
}
