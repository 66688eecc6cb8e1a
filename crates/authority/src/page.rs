//! Lists in pages.

use tessera_store::PageRequest;

/// Items per page if the caller names no number.
pub const LIST_SIZE_DEFAULT: usize = 50;
/// The most items per page.
pub const LIST_SIZE_MAX: usize = 500;

/// The most bytes of sessions per page, unless its first session alone is larger.
pub const LIST_BYTES_MAX: usize = 256 * 1024;

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T> {
    /// The items.
    pub items: Vec<T>,
    /// Names the next page; empty on the last.
    pub next_page_token: String,
}

/// The page that a token names; `None` if it is not a token of such a list. A token is the last key of the page before:
/// it discloses nothing that the page did not.
pub(crate) fn page_request<K>(
    size: usize,
    token: &str,
    parse: impl Fn(&str) -> Option<K>,
) -> Option<PageRequest<K>> {
    let after = if token.is_empty() {
        None
    } else {
        Some(parse(token)?)
    };
    let limit = if size == 0 {
        LIST_SIZE_DEFAULT
    } else {
        size.min(LIST_SIZE_MAX)
    };
    Some(PageRequest { after, limit })
}
