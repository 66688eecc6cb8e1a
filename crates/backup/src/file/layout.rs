//! The lengths of the parts of a file, and its marks.

/// The newest format that this version knows.
pub const FORMAT: u32 = 1;

pub(super) const MAGIC: &[u8; 8] = b"TSRBKUP\n";
pub(super) const KEY_ID_BYTES: usize = 51;
pub(super) const SALT_BYTES: usize = 32;
pub(super) const HEAD_BYTES: usize = 8 + 4 + KEY_ID_BYTES + SALT_BYTES;
pub(super) const HASH_BYTES: usize = 32;
/// How many bytes of content a chunk has, except the last one.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;
/// The bit in a chunk's length that marks the last chunk.
pub(super) const LAST: u32 = 1 << 31;
