//! The stored audit trail: records at positions without a gap, each linked to all records before it.
//!
//! A record is encoded once. Its *link* is the SHA-256 of the previous link, its position and the digest of those
//! bytes. So a record that a reader may not see can be left out: its digest is kept, and the links can still be
//! checked. A reader that knows one link can verify everything before it: a record that was changed, removed or
//! inserted changes each link after it. A record is kept with the link before it, so the first kept record can be
//! checked, too.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tessera_core::{AuditRecord, Timestamp};

use crate::error::StoreError;

/// The prefix of a link's hash input, so that no other hash of this project equals it.
const DOMAIN: &[u8] = b"tessera audit link v1";
/// The version of the encoding, the first byte of each record.
const VERSION: u8 = 2;

/// The hash of a record and of all before it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLink(pub [u8; 32]);

/// One record of the trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its position, from 1 on.
    pub position: u64,
    /// The link of the record before it.
    pub previous: AuditLink,
    /// Its bytes, which its own link covers: see [`encode`](Self::encode).
    pub encoded: Vec<u8>,
    /// The decoded bytes.
    pub record: AuditRecord,
}

/// The stored part of a record: the entry follows from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditBytes {
    /// Its position.
    pub position: u64,
    /// The link of the record before it.
    pub previous: AuditLink,
    /// Its bytes.
    pub encoded: Vec<u8>,
}

impl AuditBytes {
    /// The entry.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the bytes are not a record.
    pub fn entry(self) -> Result<AuditEntry, StoreError> {
        AuditEntry::decode(self.position, self.previous, self.encoded)
    }
}

impl From<AuditEntry> for AuditBytes {
    fn from(entry: AuditEntry) -> Self {
        Self {
            position: entry.position,
            previous: entry.previous,
            encoded: entry.encoded,
        }
    }
}

/// The last record of the trail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    /// Its position; 0 if there has been no record.
    pub position: u64,
    /// Its link.
    pub link: AuditLink,
}

/// The part of the trail to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditQuery {
    /// Records after this position,
    pub after: u64,
    /// up to this one,
    pub through: u64,
    /// that are not earlier than this
    pub from: Timestamp,
    /// and not later than this.
    pub until: Timestamp,
    /// How many records to look at, at most. A chunk of records that is skipped because of its times counts as one.
    pub limit: usize,
}

/// What was found in a part of the trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditPage {
    /// The records, in order.
    pub entries: Vec<AuditEntry>,
    /// Everything up to this position was looked at. The next query continues after it, unless it is the end of the
    /// query.
    pub through: u64,
}

impl AuditQuery {
    /// Up to `limit` records of any time after a position.
    #[must_use]
    pub fn after(position: u64, limit: usize) -> Self {
        Self {
            after: position,
            through: u64::MAX,
            from: Timestamp::EPOCH,
            until: Timestamp::MAX,
            limit,
        }
    }

    /// Whether the query includes a record of this time.
    #[must_use]
    pub fn takes(&self, at: Timestamp) -> bool {
        self.from <= at && at <= self.until
    }
}

impl AuditLink {
    /// The link before the first record.
    pub const BEGIN: Self = Self([0; 32]);

    /// Reads what `Display` writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut link = [0; 32];
        for (byte, pair) in link.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(link))
    }

    /// The link of the record after this one, from the digest of its bytes.
    #[must_use]
    pub fn follow(&self, position: u64, digest: &[u8; 32]) -> Self {
        let mut hash = Sha256::new();
        hash.update(DOMAIN);
        hash.update(self.0);
        hash.update(position.to_be_bytes());
        hash.update(digest);
        Self(hash.finalize().into())
    }
}

/// As hexadecimal digits.
impl fmt::Display for AuditLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for AuditLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl AuditHead {
    /// A trail without a record.
    pub const EMPTY: Self = Self {
        position: 0,
        link: AuditLink::BEGIN,
    };

    /// The head after `record` is appended, and the record's bytes.
    ///
    /// # Errors
    /// Fails if the record can't be encoded.
    pub fn append(&self, record: &AuditRecord) -> Result<(Self, Vec<u8>), StoreError> {
        let encoded = AuditEntry::encode(record)?;
        let position = self.position.saturating_add(1);
        let link = self.link.follow(position, &AuditEntry::digest_of(&encoded));
        Ok((Self { position, link }, encoded))
    }
}

impl AuditEntry {
    /// The bytes of a record: a version, then the record as postcard encodes it.
    ///
    /// # Errors
    /// Fails if the record can't be encoded.
    pub fn encode(record: &AuditRecord) -> Result<Vec<u8>, StoreError> {
        postcard::to_extend(record, vec![VERSION]).map_err(|error| StoreError::Failed {
            detail: format!("an audit record can't be written: {error}"),
        })
    }

    /// Decodes a record.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the bytes are not a record.
    pub fn decode(position: u64, previous: AuditLink, encoded: Vec<u8>) -> Result<Self, StoreError> {
        let damaged = |problem: String| StoreError::Damaged {
            detail: format!("the audit record {position} {problem}"),
        };
        let record = match encoded.split_first() {
            Some((&VERSION, body)) => match postcard::take_from_bytes(body) {
                Ok((record, [])) => record,
                Ok(_) => return Err(damaged("is too long".to_owned())),
                Err(error) => return Err(damaged(format!("can't be read: {error}"))),
            },
            Some((version, _)) => return Err(damaged(format!("has the unknown version {version}"))),
            None => return Err(damaged("is empty".to_owned())),
        };
        Ok(Self {
            position,
            previous,
            encoded,
            record,
        })
    }

    /// The SHA-256 of a record's bytes.
    #[must_use]
    pub fn digest_of(encoded: &[u8]) -> [u8; 32] {
        Sha256::digest(encoded).into()
    }

    /// The SHA-256 of its bytes.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Self::digest_of(&self.encoded)
    }

    /// Its link. A changed record has a different link, which does not match the one in the next record.
    #[must_use]
    pub fn link(&self) -> AuditLink {
        self.previous.follow(self.position, &self.digest())
    }
}
