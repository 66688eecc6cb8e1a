//! The last position of the log that was reported, with its tag.

use std::sync::Arc;

use parking_lot::Mutex;
use tessera_core::Cursor;
use tessera_token::ServerKeys;

/// Between two events all introspections report the same position, and computing its tag again would add to the cost of
/// each.
#[derive(Default)]
pub(crate) struct LastPosition(Mutex<Option<(Arc<ServerKeys>, Cursor)>>);

impl LastPosition {
    /// `cursor` with its tag by `keys`.
    pub(crate) fn authenticated(&self, keys: &Arc<ServerKeys>, cursor: Cursor) -> Cursor {
        let mut last = self.0.lock();
        if let Some((of, told)) = &*last
            && Arc::ptr_eq(of, keys)
            && *told
                == (Cursor {
                    tag: told.tag,
                    ..cursor
                })
        {
            return *told;
        }
        let told = keys.authenticate_cursor(cursor);
        *last = Some((Arc::clone(keys), told));
        told
    }
}

#[cfg(test)]
mod tests {
    use tessera_core::{CursorTag, FilterDigest, LogId, Sequence};
    use tessera_token::ServerKey;

    use super::*;

    #[test]
    fn a_position_has_the_tag_of_the_keys_in_use() {
        let keys = || Arc::new(ServerKeys::new(ServerKey::generate().unwrap(), Vec::new()));
        let cursor = |sequence| Cursor {
            log: LogId::from_bytes([1; 16]),
            sequence: Sequence(sequence),
            filter: FilterDigest::NONE,
            tag: CursorTag::default(),
        };
        let (last, first, second) = (LastPosition::default(), keys(), keys());
        for (keys, sequence) in [(&first, 1), (&first, 1), (&first, 2), (&second, 2), (&first, 1)] {
            let told = last.authenticated(keys, cursor(sequence));
            assert_eq!(told, keys.authenticate_cursor(cursor(sequence)));
        }
    }
}
