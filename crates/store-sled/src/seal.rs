//! The seal: the expected state of the rows, kept in a file beside sled's.
//!
//! sled does not notice all damage: after one flipped bit it may open and return *older* rows, and a spent refresh
//! token would be current again. So before a group of writes is applied, the seal records the state before it and the
//! state after it. A crash may leave either of them and nothing else; any other state at the opening of the store is
//! damage.
//!
//! The file has a header, then three slots, each in a separate block, so that a torn write damages only one:
//!
//! | block | what |
//! |---|---|
//! | 0 | magic, format version, checksum; written once |
//! | 1, 2 | the group in flight: even groups in one, odd groups in the other; synced before it is acknowledged |
//! | 3 | the state settled after a group; not synced, because a group in flight follows that is |
//!
//! The newest valid slot counts. A crash can tear the slots that were being written: at most that of the next group and
//! the settled one. Then the slot of the previous group is intact. It allows the state after that group, and the next
//! group's seal follows it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::{directory::sync_directory, state_hash::StateHash, syncing::Syncing};

/// The newest format of a data directory that this version knows.
pub(super) const FORMAT: u32 = 9;

const MAGIC: &[u8; 8] = b"TSRSEAL\n";
const BLOCK: u64 = 4096;
const SLOTS: u64 = 3;
const SETTLED_SLOT: u64 = 2;
const HEADER_LEN: usize = 20;
const SLOT_BODY_LEN: usize = 8 + 2 * StateHash::LEN;
const SLOT_LEN: usize = SLOT_BODY_LEN + 16;

/// The allowed states of the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seal {
    /// The number of the group.
    pub(super) group: u64,
    /// The state before it.
    pub(super) before: StateHash,
    /// The state after it; the same state if the group is settled.
    pub(super) after: StateHash,
}

/// Why the seal's file can't be used.
#[derive(Debug)]
pub(super) enum SealError {
    Io(io::Error),
    Damaged(String),
    NewerFormat(u32),
}

/// The seal's file, open for writing.
#[derive(Debug)]
pub(super) struct SealFile {
    file: File,
    syncing: Syncing,
}

impl Seal {
    /// The seal of a state that no group is changing.
    pub(super) fn settled(group: u64, state: StateHash) -> Self {
        Self {
            group,
            before: state,
            after: state,
        }
    }

    /// The seal, in the encoding of its row.
    pub(super) fn to_row(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SLOT_BODY_LEN);
        bytes.extend_from_slice(&self.group.to_be_bytes());
        self.before.write_to(&mut bytes);
        self.after.write_to(&mut bytes);
        bytes
    }

    /// Reads what [`Seal::to_row`] wrote; `None` for anything else.
    pub(super) fn from_row(bytes: &[u8]) -> Option<Self> {
        let (group, states) = bytes.split_first_chunk::<8>()?;
        let (before, after) = states.split_first_chunk::<{ StateHash::LEN }>()?;
        Some(Self {
            group: u64::from_be_bytes(*group),
            before: StateHash::read_from(before),
            after: StateHash::read_from(after.try_into().ok()?),
        })
    }

    /// Whether its group directly follows that of `earlier`.
    pub(super) fn follows(&self, earlier: &Self) -> bool {
        Some(self.group) == earlier.group.checked_add(1) && self.before == earlier.after
    }

    fn is_settled(&self) -> bool {
        self.before == self.after
    }

    fn slot(&self) -> u64 {
        if self.is_settled() {
            SETTLED_SLOT
        } else {
            self.group % 2
        }
    }
}

impl SealFile {
    /// Creates the file, with an empty state. It appears completely or not at all.
    pub(super) fn create(path: &Path) -> io::Result<()> {
        let unfinished = path.with_extension("new");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.write_all(&header_bytes())?;
        file.set_len(BLOCK * (SLOTS + 1))?;
        let seal = Self::over(file)?;
        seal.settle_everywhere(0, StateHash::EMPTY)?;
        std::fs::rename(&unfinished, path)?;
        sync_directory(path.parent().unwrap_or(Path::new(".")))
    }

    /// Opens the file and reads the newest valid seal.
    pub(super) fn open(path: &PathBuf) -> Result<(Self, Seal), SealError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(SealError::Io)?;
        let mut bytes = Vec::new();
        (&file)
            .take(BLOCK * (SLOTS + 1))
            .read_to_end(&mut bytes)
            .map_err(SealError::Io)?;
        check_header(&bytes)?;
        let newest = (0..SLOTS)
            .filter_map(|slot| read_slot(&bytes, slot))
            .max_by_key(|seal| (seal.group, seal.is_settled()))
            .ok_or_else(|| SealError::Damaged("the seal has no valid entry".to_owned()))?;
        Ok((Self::over(file).map_err(SealError::Io)?, newest))
    }

    fn over(file: File) -> io::Result<Self> {
        let syncing = Syncing::of(file.try_clone()?)?;
        Ok(Self { file, syncing })
    }

    /// Writes the seal of a group that is about to be applied, and begins to sync it.
    pub(super) fn begin(&mut self, seal: &Seal) -> io::Result<()> {
        self.write(seal, seal.slot())?;
        self.syncing.begin()
    }

    /// Waits until the seal of the group is durable.
    pub(super) fn begun(&mut self) -> io::Result<()> {
        self.syncing.wait()
    }

    /// Writes that a group is applied and durable. It is not synced: if it is lost, the seal of the group in flight
    /// allows the same state.
    pub(super) fn settle(&self, group: u64, state: StateHash) -> io::Result<()> {
        self.write(&Seal::settled(group, state), SETTLED_SLOT)
    }

    /// Writes into every slot, durably, that only this state is valid. After that, damage to one slot allows no other
    /// state.
    pub(super) fn settle_everywhere(&self, group: u64, state: StateHash) -> io::Result<()> {
        let seal = Seal::settled(group, state);
        // First the slot that no group in flight uses: one valid slot remains at any moment.
        for slot in [SETTLED_SLOT, 0, 1] {
            self.write(&seal, slot)?;
            self.file.sync_data()?;
        }
        Ok(())
    }

    fn write(&self, seal: &Seal, slot: u64) -> io::Result<()> {
        self.file
            .write_all_at(&slot_bytes(seal, slot), BLOCK * (slot + 1))
    }
}

fn header_bytes() -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&FORMAT.to_be_bytes());
    let checksum = checksum::<8>(&bytes);
    bytes.extend_from_slice(&checksum);
    bytes
}

fn check_header(bytes: &[u8]) -> Result<(), SealError> {
    let damaged = |problem: &str| Err(SealError::Damaged(format!("the seal's header {problem}")));
    let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
        return damaged("is cut off");
    };
    let Some((body, sum)) = header.split_last_chunk::<8>() else {
        return damaged("is cut off");
    };
    if checksum::<8>(body) != *sum || !body.starts_with(MAGIC) {
        return damaged("is not one");
    }
    match body.last_chunk::<4>().map(|format| u32::from_be_bytes(*format)) {
        Some(FORMAT) => Ok(()),
        Some(newer) if newer > FORMAT => Err(SealError::NewerFormat(newer)),
        Some(1..FORMAT) => damaged("is of a development version, before the first release"),
        _ => damaged("has a format that never was"),
    }
}

fn slot_bytes(seal: &Seal, slot: u64) -> Vec<u8> {
    let mut bytes = seal.to_row();
    let sum = slot_checksum(&bytes, slot);
    bytes.extend_from_slice(&sum);
    bytes
}

fn read_slot(file: &[u8], slot: u64) -> Option<Seal> {
    let start = usize::try_from(BLOCK * (slot + 1)).ok()?;
    let bytes = file.get(start..)?.first_chunk::<SLOT_LEN>()?;
    let (body, sum) = bytes.split_last_chunk::<16>()?;
    if slot_checksum(body, slot) != *sum {
        return None;
    }
    Seal::from_row(body)
}

/// The slot's number is part of it, so that a block at the wrong location is not valid there.
fn slot_checksum(body: &[u8], slot: u64) -> [u8; 16] {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&slot.to_be_bytes());
    bytes.extend_from_slice(body);
    checksum(&bytes)
}

/// The first `N` bytes of the SHA-256; `N` is at most 32.
fn checksum<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    let mut sum = [0; N];
    for (to, from) in sum.iter_mut().zip(digest) {
        *to = from;
    }
    sum
}
