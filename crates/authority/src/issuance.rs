//! Issuing tokens: Issue and Refresh.

pub(crate) mod denial;
pub(crate) mod error;
pub(crate) mod issue;
pub(crate) mod issuer;
pub(crate) mod refresh;
pub(crate) mod scopes;
pub(crate) mod tokens;
