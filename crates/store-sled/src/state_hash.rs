//! A hash over all live rows. When one row changes, only that row is hashed.

use sha2::{Digest, Sha256};

/// A hash of a set of rows: the sum of the rows' hashes. So it does not depend on their order, and a row can be removed
/// from it. It protects against damage, not against an adversary who can write the files: an adversary could also write
/// the seal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct StateHash {
    lanes: [u64; 4],
    rows: u64,
}

impl StateHash {
    /// Its size in bytes.
    pub(super) const LEN: usize = 40;

    /// The state of a new store without rows.
    pub(super) const EMPTY: Self = Self {
        lanes: [0; 4],
        rows: 0,
    };

    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) {
        for (lane, row) in self.lanes.iter_mut().zip(row_lanes(key, value)) {
            *lane = lane.wrapping_add(row);
        }
        self.rows = self.rows.wrapping_add(1);
    }

    pub(super) fn remove(&mut self, key: &[u8], value: &[u8]) {
        for (lane, row) in self.lanes.iter_mut().zip(row_lanes(key, value)) {
            *lane = lane.wrapping_sub(row);
        }
        self.rows = self.rows.wrapping_sub(1);
    }

    /// Adds the rows of another part of the same store.
    pub(super) fn merge(&mut self, other: Self) {
        for (lane, more) in self.lanes.iter_mut().zip(other.lanes) {
            *lane = lane.wrapping_add(more);
        }
        self.rows = self.rows.wrapping_add(other.rows);
    }

    /// The number of its rows.
    pub(super) fn rows(self) -> u64 {
        self.rows
    }

    pub(super) fn write_to(self, bytes: &mut Vec<u8>) {
        for number in self.lanes.into_iter().chain([self.rows]) {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
    }

    /// Reads what [`StateHash::write_to`] wrote.
    pub(super) fn read_from(bytes: &[u8; Self::LEN]) -> Self {
        let [a, b, c, d, rows] = numbers(bytes);
        Self {
            lanes: [a, b, c, d],
            rows,
        }
    }
}

fn row_lanes(key: &[u8], value: &[u8]) -> [u64; 4] {
    let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
    let digest: [u8; 32] = Sha256::new()
        .chain_update(length.to_be_bytes())
        .chain_update(key)
        .chain_update(value)
        .finalize()
        .into();
    numbers(&digest)
}

/// The first `N` big-endian numbers in `bytes`.
fn numbers<const N: usize>(bytes: &[u8]) -> [u64; N] {
    let mut numbers = [0; N];
    for (number, chunk) in numbers.iter_mut().zip(bytes.chunks_exact(8)) {
        *number = chunk
            .first_chunk::<8>()
            .map_or(0, |chunk| u64::from_be_bytes(*chunk));
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_added_and_removed_leaves_no_trace_and_order_does_not_matter() {
        let (mut one, mut other) = (StateHash::EMPTY, StateHash::EMPTY);
        one.add(b"a", b"1");
        one.add(b"b", b"2");
        other.add(b"b", b"2");
        other.add(b"c", b"3");
        other.add(b"a", b"1");
        assert_ne!(one, other);
        other.remove(b"c", b"3");
        assert_eq!(one, other);
        assert_eq!(one.rows(), 2);
    }

    #[test]
    fn a_byte_that_moves_from_key_to_value_changes_it() {
        let (mut one, mut other) = (StateHash::EMPTY, StateHash::EMPTY);
        one.add(b"ab", b"c");
        other.add(b"a", b"bc");
        assert_ne!(one, other);
    }

    #[test]
    fn it_survives_being_written_and_read() {
        let mut hash = StateHash::EMPTY;
        hash.add(b"key", b"value");
        let mut bytes = Vec::new();
        hash.write_to(&mut bytes);
        assert_eq!(StateHash::read_from(&bytes.try_into().unwrap()), hash);
    }
}
