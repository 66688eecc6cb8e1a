//! The content of a backup: consecutive items, each its length in four bytes and then its postcard encoding.

use serde::{Deserialize, Serialize};
use tessera_core::{LogId, RealmName, Timestamp};
use tessera_store::{BackupEnd, BackupRecord};

/// The version of the items' format. A backup of a newer version is refused.
pub const VERSION: u32 = 1;
/// The maximum length of an item: the longest is a policy with its files.
const ITEM_BYTES_MAX: usize = 64 * 1024 * 1024;

/// One item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Item {
    /// The first item.
    Head(BackupHead),
    /// A stored record.
    Record(BackupRecord),
    /// The last item.
    Tail(BackupTail),
}

/// The information before the first record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupHead {
    /// The [`VERSION`] of its maker.
    pub version: u32,
    /// The version of Tessera that made it.
    pub made_by: String,
    /// The log.
    pub log: LogId,
    /// When it was begun.
    pub begun_at: Timestamp,
    /// The ids of the server keys that sealed the secrets in the records; the current one first.
    pub server_keys: Vec<String>,
    /// The realms that were served, with the issuer of each: they identify the installation.
    pub realms: Vec<(RealmName, String)>,
}

/// The information after the last record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupTail {
    /// The position whose state the backup has.
    pub end: BackupEnd,
    /// When it was complete.
    pub made_at: Timestamp,
    /// How many records there are, including records that later ones replace.
    pub records: u64,
}

/// The content of a backup can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// A newer version made it.
    #[error(
        "the backup says things of version {found}, and this Tessera reads up to {VERSION}: use the version that made it ({made_by}), or a newer one"
    )]
    Newer {
        /// The version found.
        found: u32,
        /// The version of Tessera that made it.
        made_by: String,
    },
    /// It is not the content of a backup.
    #[error("{problem}: a Tessera of another version, or something else, made it")]
    Malformed {
        /// What is wrong.
        problem: &'static str,
    },
}

/// Appends an item to a stream.
///
/// # Errors
/// Fails for an item that is too long, which does not happen.
pub fn encode(item: &Item, stream: &mut Vec<u8>) -> Result<(), ContentError> {
    let too_long = ContentError::Malformed {
        problem: "an item is too long",
    };
    let bytes = postcard::to_allocvec(item).map_err(|_| too_long.clone())?;
    if bytes.len() > ITEM_BYTES_MAX {
        return Err(too_long);
    }
    let length = u32::try_from(bytes.len()).map_err(|_| too_long)?;
    stream.extend_from_slice(&length.to_be_bytes());
    stream.extend_from_slice(&bytes);
    Ok(())
}

/// The items of a stream that arrives in pieces: a head, records, and a tail that counts them.
#[derive(Debug, Default)]
pub struct Items {
    waiting: Vec<u8>,
    records: u64,
    has_head: bool,
    has_tail: bool,
}

impl Items {
    /// Adds the next piece, and returns the items that are complete with it.
    ///
    /// # Errors
    /// Fails if the stream is not a backup.
    pub fn add(&mut self, piece: &[u8]) -> Result<Vec<Item>, ContentError> {
        self.waiting.extend_from_slice(piece);
        let (mut items, mut taken) = (Vec::new(), 0);
        while let Some((item, length)) = next(self.waiting.get(taken..).unwrap_or_default())? {
            taken += length;
            self.check(&item)?;
            items.push(item);
        }
        self.waiting.drain(..taken);
        Ok(items)
    }

    /// Checks that the stream was complete.
    ///
    /// # Errors
    /// Fails if it was not complete.
    pub fn finish(&self) -> Result<(), ContentError> {
        if self.has_tail && self.waiting.is_empty() {
            return Ok(());
        }
        Err(ContentError::Malformed {
            problem: "what the backup says has no end",
        })
    }

    fn check(&mut self, item: &Item) -> Result<(), ContentError> {
        let malformed = |problem| Err(ContentError::Malformed { problem });
        if self.has_tail {
            return malformed("there is more behind the end of what the backup says");
        }
        match item {
            Item::Head(head) => {
                if head.version > VERSION {
                    return Err(ContentError::Newer {
                        found: head.version,
                        made_by: head.made_by.clone(),
                    });
                }
                if std::mem::replace(&mut self.has_head, true) {
                    return malformed("the backup has two heads");
                }
            }
            _ if !self.has_head => return malformed("the backup has no head"),
            Item::Record(_) => self.records += 1,
            Item::Tail(tail) => {
                if tail.records != self.records {
                    return malformed("the backup has another number of records than it says");
                }
                self.has_tail = true;
            }
        }
        Ok(())
    }
}

/// The first item in the bytes, and its length in bytes; `None` if it is not complete.
fn next(bytes: &[u8]) -> Result<Option<(Item, usize)>, ContentError> {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    let malformed = |problem| ContentError::Malformed { problem };
    if length > ITEM_BYTES_MAX {
        return Err(malformed("an item is too long"));
    }
    let Some(item) = rest.get(..length) else {
        return Ok(None);
    };
    match postcard::take_from_bytes(item) {
        Ok((item, [])) => Ok(Some((item, length + 4))),
        _ => Err(malformed("an item can't be read")),
    }
}
