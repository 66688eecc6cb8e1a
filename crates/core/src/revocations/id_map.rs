//! Identifiers, each kept until a time, with a small value. There may be millions, so an entry without a value costs
//! about 32 bytes.

use std::{
    hash::{BuildHasher, RandomState},
    mem,
};

use hashbrown::HashTable;

use crate::time::Timestamp;

/// How many entries one step of forgetting checks, at least.
const STEP_MIN: usize = 4096;
/// In how many steps all entries are checked, if there are many.
const STEPS: usize = 64;

/// Identifiers of 16 bytes without a value.
pub(super) type IdSet = IdMap<()>;

/// Identifiers of 16 bytes. The entries are stored densely, and the table only holds their positions.
#[derive(Clone, Debug)]
pub(super) struct IdMap<V> {
    places: HashTable<u32>,
    entries: Vec<Entry<V>>,
    hasher: RandomState,
    /// Where the next step of forgetting begins.
    next: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry<V> {
    id: [u8; 16],
    /// Seconds since the epoch, rounded up; a later time than fits (the year 2106) means forever.
    until: u32,
    value: V,
}

impl<V> Default for IdMap<V> {
    fn default() -> Self {
        Self {
            places: HashTable::new(),
            entries: Vec::new(),
            hasher: RandomState::new(),
            next: 0,
        }
    }
}

impl IdSet {
    /// Adds an identifier, or keeps it longer.
    pub(super) fn insert(&mut self, id: &[u8; 16], until: Timestamp) {
        // An empty value is not needed.
        let _ = self.put(id, until, ());
    }
}

impl<V: Copy> IdMap<V> {
    /// Adds an identifier, or keeps it longer; its value is `value` from here on. Returns the previous value.
    pub(super) fn put(&mut self, id: &[u8; 16], until: Timestamp, value: V) -> Option<V> {
        let until = seconds(until.plus_millis(999));
        if let Some(entry) = self.place(id).and_then(|place| self.entries.get_mut(place)) {
            entry.until = entry.until.max(until);
            return Some(mem::replace(&mut entry.value, value));
        }
        let Ok(place) = u32::try_from(self.entries.len()) else {
            // Four billion revocations exceed the memory of any machine that runs this.
            return None;
        };
        if self.entries.len() == self.entries.capacity() {
            // A quarter more, not double: unused space is memory, too.
            self.entries.reserve_exact((self.entries.len() / 4).max(16));
        }
        let id = *id;
        self.entries.push(Entry { id, until, value });
        self.point_at(&id, place);
        None
    }

    pub(super) fn contains(&self, id: &[u8; 16]) -> bool {
        self.place(id).is_some()
    }

    pub(super) fn get(&self, id: &[u8; 16]) -> Option<V> {
        let entry = self.entries.get(self.place(id)?)?;
        Some(entry.value)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Removes identifiers whose time passed before `now`, and passes their values to `gone`: all of a small set; a
    /// part of a large one, so that no caller waits long, and the rest in the next calls.
    pub(super) fn forget_expired(&mut self, now: Timestamp, mut gone: impl FnMut(V)) {
        let now = seconds(now);
        for _ in 0..(self.entries.len() / STEPS).max(STEP_MIN) {
            let Some(entry) = self.entries.get(self.next).copied() else {
                self.next = 0;
                return;
            };
            if entry.until < now {
                self.remove(self.next, &entry.id);
                gone(entry.value);
            } else {
                self.next += 1;
            }
        }
    }

    fn remove(&mut self, place: usize, id: &[u8; 16]) {
        let hash = self.hasher.hash_one(id);
        if let Ok(found) = self.places.find_entry(hash, |at| *at as usize == place) {
            found.remove();
        }
        self.entries.swap_remove(place);
        // The last entry moved here.
        let from = self.entries.len();
        if let Some(moved) = self.entries.get(place) {
            let hash = self.hasher.hash_one(moved.id);
            if let (Some(at), Ok(place)) = (
                self.places.find_mut(hash, |at| *at as usize == from),
                u32::try_from(place),
            ) {
                *at = place;
            }
        }
        if self.entries.len() < self.entries.capacity() / 4 {
            self.shrink();
        }
    }

    fn shrink(&mut self) {
        self.entries.shrink_to(self.entries.len() * 2);
        let (entries, hasher) = (&self.entries, &self.hasher);
        self.places
            .shrink_to(entries.len() * 2, |at| hash_at(entries, hasher, *at));
    }

    fn point_at(&mut self, id: &[u8; 16], place: u32) {
        let (entries, hasher) = (&self.entries, &self.hasher);
        self.places
            .insert_unique(hasher.hash_one(id), place, |at| hash_at(entries, hasher, *at));
    }

    fn place(&self, id: &[u8; 16]) -> Option<usize> {
        let is_it = |at: &u32| {
            self.entries
                .get(*at as usize)
                .is_some_and(|entry| entry.id == *id)
        };
        let place = self.places.find(self.hasher.hash_one(id), is_it)?;
        usize::try_from(*place).ok()
    }
}

fn hash_at<V>(entries: &[Entry<V>], hasher: &RandomState, place: u32) -> u64 {
    entries
        .get(place as usize)
        .map_or(0, |entry| hasher.hash_one(entry.id))
}

fn seconds(time: Timestamp) -> u32 {
    u32::try_from(time.as_seconds().max(0)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn id(number: u32) -> [u8; 16] {
        let mut id = [0; 16];
        id[12..].copy_from_slice(&number.to_be_bytes());
        id
    }

    fn at(seconds: u32) -> Timestamp {
        Timestamp::from_seconds(seconds.into())
    }

    proptest! {
        /// Against a map that does the same without saving memory.
        #[test]
        fn it_has_what_a_map_has(
            steps in prop::collection::vec((0u32..40, 0u32..100, prop::bool::weighted(0.2)), 0..300),
        ) {
            let (mut set, mut map) = (IdSet::default(), HashMap::new());
            for (number, time, forgets) in steps {
                if forgets {
                    set.forget_expired(at(time), drop);
                    map.retain(|_, until| *until >= time);
                } else {
                    set.insert(&id(number), at(time));
                    let until = map.entry(number).or_insert(time);
                    *until = time.max(*until);
                }
                prop_assert_eq!(set.len(), map.len());
                for number in 0..40 {
                    prop_assert_eq!(set.contains(&id(number)), map.contains_key(&number));
                }
            }
        }
    }

    #[test]
    fn a_time_within_a_second_is_kept_to_its_end() {
        let mut set = IdSet::default();
        set.insert(&id(1), at(5).plus_millis(1));
        set.forget_expired(at(6), drop);
        assert!(set.contains(&id(1)));
        set.forget_expired(at(7), drop);
        assert!(!set.contains(&id(1)));
    }

    #[test]
    fn many_are_forgotten_in_steps_and_their_memory_given_back() {
        let mut set = IdSet::default();
        let many = 1_000_000;
        (0..many).for_each(|number| set.insert(&id(number), at(number % 2)));
        let held = set.entries.capacity() * size_of::<Entry<()>>() + set.places.allocation_size();
        assert!(
            held / many as usize <= 40,
            "{} bytes an entry",
            held / many as usize
        );
        set.forget_expired(at(1), drop);
        assert!(set.len() > 900_000, "no step looks at all of them");
        for _ in 0..2 * STEPS {
            set.forget_expired(at(1), drop);
        }
        assert_eq!(set.len(), many as usize / 2);
        assert!((0..many).all(|number| set.contains(&id(number)) == (number % 2 == 1)));
        for _ in 0..20 * STEPS {
            set.forget_expired(at(2), drop);
        }
        assert_eq!((set.len(), set.places.len()), (0, 0));
        assert!(set.entries.capacity() < 100 && set.places.allocation_size() < 1000);
    }
}
