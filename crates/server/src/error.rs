//! The single type of a failure, for every kind of reader.
//!
//! Three renderers read it: `grpc::status` makes a gRPC status of it, `http::problem` a problem document, and
//! `http::oauth` an error of OAuth 2.0. Every failure has a reason from `error_reason.proto`. The text for the log and
//! the text for the caller are kept apart: a failed store is "unavailable" to callers. Only this module cuts the text
//! until it can be sent (`draft`).

mod api_error;
mod draft;
mod of_authority;
mod of_server;
mod size;

pub(crate) use api_error::{ApiError, DOMAIN, Violation};
