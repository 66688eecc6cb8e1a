//! Reading every row once, on all cores: the hash of the whole is the sum of the hashes of its parts.

use std::{num::NonZero, ops::Bound, thread};

use parking_lot::Mutex;
use sled::Db;

use super::{
    error::failed,
    progress::StartProgress,
    rows::{SEAL_KEY, Table},
    state_hash::StateHash,
};
use tessera_store::StoreError;

/// The tables whose rows are shown to the visitor, each in the order of its keys.
pub(super) const VISITED: [Table; 6] = [
    Table::Meta,
    Table::Event,
    Table::Cutoff,
    Table::PolicyInForce,
    Table::Seal,
    Table::Times,
];

/// The most pieces of a table. A free thread takes the next piece, since tables differ in size.
const PIECES: u8 = 16;
/// How many rows are read between two reports of progress.
const TOLD_EVERY: u64 = 1024;

/// The keys between two bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    from: Bound<Vec<u8>>,
    to: Bound<Vec<u8>>,
}

/// Hashes all rows except the one with the seal, and shows those of the tables in [`VISITED`] to `visit`.
pub(super) fn scan(
    db: &Db,
    progress: &StartProgress,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
) -> Result<StateHash, StoreError> {
    let visited = VISITED.map(|table| table as u8);
    let (shown, hashed): (Vec<_>, Vec<_>) = parts()
        .into_iter()
        .partition(|part| part.table().is_some_and(|first| visited.contains(&first)));
    let mut waiting = Vec::new();
    for part in hashed {
        waiting.extend(part.pieces(db)?);
    }
    let waiting = Mutex::new(waiting);
    let hash_waiting = || {
        let mut state = StateHash::EMPTY;
        loop {
            let part = waiting.lock().pop();
            let Some(part) = part else { return Ok(state) };
            state.merge(hash_part(db, &part, progress, |_, _| Ok(()))?);
        }
    };
    thread::scope(|scope| {
        let others = thread::available_parallelism().map_or(1, NonZero::get) - 1;
        let others: Vec<_> = (0..others).map(|_| scope.spawn(hash_waiting)).collect();
        let mut state = StateHash::EMPTY;
        for part in &shown {
            state.merge(hash_part(db, part, progress, &mut visit)?);
        }
        state.merge(hash_waiting()?);
        for other in others {
            state.merge(other.join().unwrap_or_else(|_| Err(failed("reading panicked")))?);
        }
        Ok(state)
    })
}

/// A part for each table, and for the ranges before, between and after the tables. These should be empty; a row there
/// must show in the hash.
fn parts() -> Vec<Part> {
    let mut bounds: Vec<u8> = Table::ALL
        .iter()
        .flat_map(|table| [*table as u8, *table as u8 + 1])
        .collect();
    bounds.push(0);
    bounds.sort_unstable();
    bounds.dedup();
    let ends = bounds
        .iter()
        .skip(1)
        .map(|end| Bound::Excluded(vec![*end]))
        .chain([Bound::Unbounded]);
    let begins = bounds.iter().map(|begin| match begin {
        // Not from the key `[0]`, since the empty key is before it.
        0 => Bound::Unbounded,
        begin => Bound::Included(vec![*begin]),
    });
    begins.zip(ends).map(|(from, to)| Part { from, to }).collect()
}

impl Part {
    /// The first byte of its keys.
    fn table(&self) -> Option<u8> {
        match &self.from {
            Bound::Included(key) => key.first().copied(),
            _ => None,
        }
    }

    /// The same keys in parts that have about as many rows each, if the keys are evenly distributed.
    fn pieces(self, db: &Db) -> Result<Vec<Self>, StoreError> {
        let mut rows = db.range((self.from.clone(), self.to.clone()));
        let (Some(first), Some(last)) = (rows.next(), rows.next_back()) else {
            return Ok(vec![self]);
        };
        let ((first, _), (last, _)) = (first.map_err(failed)?, last.map_err(failed)?);
        Ok(self.cut_at(&cuts(&first, &last)))
    }

    /// The same keys in parts that end before these cuts. Each cut is a key of this part, and greater than the one
    /// before.
    fn cut_at(self, cuts: &[Vec<u8>]) -> Vec<Self> {
        let begins = cuts.iter().cloned().map(Bound::Included);
        let ends = cuts.iter().cloned().map(Bound::Excluded);
        let begins = [self.from].into_iter().chain(begins);
        let ends = ends.chain([self.to]);
        begins.zip(ends).map(|(from, to)| Self { from, to }).collect()
    }
}

/// Keys that divide those from `first` to `last` evenly; empty if they hardly differ.
fn cuts(first: &[u8], last: &[u8]) -> Vec<Vec<u8>> {
    let same = first
        .iter()
        .zip(last)
        .take_while(|(one, other)| one == other)
        .count();
    let (Some((prefix, first)), Some(last)) = (first.split_at_checked(same), last.get(same..)) else {
        return Vec::new();
    };
    let (first, last) = (leading_number(first), leading_number(last));
    let step = last.saturating_sub(first) / u64::from(PIECES);
    if step == 0 {
        return Vec::new();
    }
    let cut = |number| {
        let mut key = prefix.to_vec();
        key.extend_from_slice(&u64::to_be_bytes(first + step * u64::from(number)));
        key
    };
    (1..PIECES).map(cut).collect()
}

/// The first eight bytes; missing ones are 0.
fn leading_number(bytes: &[u8]) -> u64 {
    let bytes = bytes.iter().copied().chain([0; 8]).take(8);
    bytes.fold(0, |number, byte| number << 8 | u64::from(byte))
}

fn hash_part(
    db: &Db,
    part: &Part,
    progress: &StartProgress,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
) -> Result<StateHash, StoreError> {
    let mut state = StateHash::EMPTY;
    for row in db.range((part.from.clone(), part.to.clone())) {
        let (key, value) = row.map_err(failed)?;
        if *key != *SEAL_KEY {
            state.add(&key, &value);
            if state.rows().is_multiple_of(TOLD_EVERY) {
                progress.add(TOLD_EVERY);
            }
        }
        visit(&key, &value)?;
    }
    progress.add(state.rows() % TOLD_EVERY);
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_cover_every_key_once() {
        let parts = parts();
        assert_eq!(parts.first().unwrap().from, Bound::Unbounded);
        assert_covers(
            &parts,
            &Part {
                from: Bound::Unbounded,
                to: Bound::Unbounded,
            },
        );
        for table in Table::ALL {
            let part = Part {
                from: Bound::Included(vec![table as u8]),
                to: Bound::Excluded(vec![table as u8 + 1]),
            };
            assert!(parts.contains(&part), "{table:?}");
        }
    }

    /// Asserts that each part begins where the one before ends, and that together they are the whole.
    fn assert_covers(parts: &[Part], whole: &Part) {
        assert_eq!(parts.first().unwrap().from, whole.from);
        assert_eq!(parts.last().unwrap().to, whole.to);
        for pair in parts.windows(2) {
            let (Bound::Excluded(end), Bound::Included(begin)) = (&pair[0].to, &pair[1].from) else {
                panic!("{pair:?}");
            };
            assert_eq!(end, begin);
            if let Bound::Included(before) = &pair[0].from {
                assert!(before < begin);
            }
        }
    }

    #[test]
    fn pieces_cover_what_they_are_cut_from() {
        let whole = Part {
            from: Bound::Included(vec![7]),
            to: Bound::Excluded(vec![8]),
        };
        for (first, last, pieces) in [
            (&[7, 0][..], &[7, 255][..], 16),
            (&[7, 1, 2, 3], &[7, 1, 2, 3, 9], 16),
            (
                &[7, 1, 0, 0, 0, 0, 0, 0, 0, 0],
                &[7, 1, 0, 0, 0, 0, 0, 0, 0, 0, 255],
                16,
            ),
            (&[7, 0, 0, 0, 0, 0, 0, 0, 1], &[7, 1, 0, 0, 0, 0, 0, 0, 3], 16),
            (&[7, 5], &[7, 5], 1),
            (&[7, 1, 1, 1, 1, 1, 1, 1, 1], &[7, 1, 1, 1, 1, 1, 1, 1, 9], 16),
            (
                &[7, 0, 1, 1, 1, 1, 1, 1, 1, 1],
                &[7, 0, 1, 1, 1, 1, 1, 1, 1, 9, 1],
                16,
            ),
        ] {
            let parts = whole.clone().cut_at(&cuts(first, last));
            assert_covers(&parts, &whole);
            assert_eq!(parts.len(), pieces, "{first:?} {last:?}");
        }
    }

    #[test]
    fn every_row_is_hashed_once_and_counted() {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let mut expected = StateHash::EMPTY;
        for number in 0..5000_u32 {
            let table = Table::ALL[number as usize % Table::ALL.len()] as u8;
            let mut key = vec![table];
            key.extend_from_slice(&(number * 77).to_be_bytes());
            db.insert(&key, &number.to_be_bytes()).unwrap();
            expected.add(&key, &number.to_be_bytes());
        }
        // Keys that belong to no table.
        for key in [&b""[..], &[0], &[255, 255]] {
            db.insert(key, &b"x"[..]).unwrap();
            expected.add(key, b"x");
        }
        let mut shown = 0;
        let found = scan(&db, &StartProgress::default(), |key, _| {
            shown += u32::from(VISITED.iter().any(|table| key.first() == Some(&(*table as u8))));
            Ok(())
        });
        assert_eq!(found.unwrap(), expected);
        assert!(shown > 0);
    }
}
