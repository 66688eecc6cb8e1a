//! `WWW-Authenticate`, as RFC 6750 §3 specifies: the answer to a caller whose request is refused.
//!
//! The SDKs return the same text, word for word: all of them are tested with the table `sdk/challenges.json`.

use std::fmt::Display;

/// For a request without a bearer token. No error code: the client may not have known that it needs one.
pub const NO_TOKEN: &str = r#"Bearer realm="tessera""#;

/// For a token that is not valid, or for several tokens. The reason is for the log only.
pub const NOT_GOOD: &str =
    r#"Bearer realm="tessera", error="invalid_token", error_description="a good access token is needed""#;

/// For a token that lacks scopes: the missing ones, separated by spaces.
#[must_use]
pub fn lacks(scopes: &impl Display) -> String {
    format!(
        r#"Bearer realm="tessera", error="insufficient_scope", error_description="the access token lacks a scope", scope="{scopes}""#
    )
}
