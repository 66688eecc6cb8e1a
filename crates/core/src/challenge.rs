//! `WWW-Authenticate`, as RFC 6750 §3 has it: what a caller is told whose request is refused.
//!
//! The SDKs say the same, word for word: `sdk/challenges.json` is the table that all of them are tested with.

use std::fmt::Display;

/// For a request without a bearer token. No error code: the client may not have known that it needs one.
pub const NO_TOKEN: &str = r#"Bearer realm="tessera""#;

/// For a token that is not good, or several. Why is for the log only.
pub const NOT_GOOD: &str =
    r#"Bearer realm="tessera", error="invalid_token", error_description="a good access token is needed""#;

/// For a token that lacks scopes: what is missing, with spaces between.
#[must_use]
pub fn lacks(scopes: &impl Display) -> String {
    format!(
        r#"Bearer realm="tessera", error="insufficient_scope", error_description="the access token lacks a scope", scope="{scopes}""#
    )
}
