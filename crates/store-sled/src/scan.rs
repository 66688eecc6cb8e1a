//! Reading every row once, on all cores: the hash of the whole is the sum of the parts'.

use std::{num::NonZero, ops::Bound, thread};

use parking_lot::Mutex;
use sled::Db;

use super::{
    error::failed,
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

/// Keys from the first byte, up to but without the second; none: to the end.
type Part = (u8, Option<u8>);

/// Hashes all rows but the one with the seal, and shows those of the tables in [`VISITED`] to `visit`.
pub(super) fn scan(
    db: &Db,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
) -> Result<StateHash, StoreError> {
    let visited = VISITED.map(|table| table as u8);
    let (shown, hashed): (Vec<Part>, Vec<Part>) = parts()
        .into_iter()
        .partition(|(first, _)| visited.contains(first));
    let waiting = Mutex::new(hashed);
    let hash_waiting = || {
        let mut state = StateHash::EMPTY;
        loop {
            let part = waiting.lock().pop();
            let Some(part) = part else { return Ok(state) };
            state.merge(hash_part(db, part, |_, _| Ok(()))?);
        }
    };
    thread::scope(|scope| {
        let others = thread::available_parallelism().map_or(1, NonZero::get) - 1;
        let others: Vec<_> = (0..others).map(|_| scope.spawn(hash_waiting)).collect();
        let mut state = StateHash::EMPTY;
        for part in shown {
            state.merge(hash_part(db, part, &mut visit)?);
        }
        state.merge(hash_waiting()?);
        for other in others {
            state.merge(other.join().unwrap_or_else(|_| Err(failed("reading panicked")))?);
        }
        Ok(state)
    })
}

/// A part for each table, and for what is before, between and after the tables: nothing should be there,
/// and if something is it must show in the hash.
fn parts() -> Vec<Part> {
    let mut bounds: Vec<u8> = Table::ALL
        .iter()
        .flat_map(|table| [*table as u8, *table as u8 + 1])
        .collect();
    bounds.push(0);
    bounds.sort_unstable();
    bounds.dedup();
    let ends = bounds.iter().skip(1).copied().map(Some).chain([None]);
    bounds.iter().copied().zip(ends).collect()
}

fn hash_part(
    db: &Db,
    (first, end): Part,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
) -> Result<StateHash, StoreError> {
    // Not from the key `[0]`: the empty key is before it.
    let begin = if first == 0 {
        Bound::Unbounded
    } else {
        Bound::Included([first])
    };
    let end = end.map_or(Bound::Unbounded, |end| Bound::Excluded([end]));
    let mut state = StateHash::EMPTY;
    for row in db.range((begin, end)) {
        let (key, value) = row.map_err(failed)?;
        if *key != *SEAL_KEY {
            state.add(&key, &value);
        }
        visit(&key, &value)?;
    }
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_cover_every_key_once() {
        let parts = parts();
        assert_eq!(parts.first().unwrap().0, 0);
        assert_eq!(parts.last().unwrap().1, None);
        assert!(parts.windows(2).all(|pair| pair[0].1 == Some(pair[1].0)));
        for table in Table::ALL {
            assert!(parts.contains(&(table as u8, Some(table as u8 + 1))), "{table:?}");
        }
    }
}
