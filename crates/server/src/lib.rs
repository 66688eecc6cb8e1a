//! Tessera over the wire.
//!
//! [`serve`] takes a bound listener, an authority and a future that says when to stop. Fields are parsed into the
//! domain's types in `fields`, `grpc::convert` and `http`. Every call passes `edge`. Every failure is an
//! `error::ApiError`, which gRPC, HTTP and OAuth each convert to their own format.
#![forbid(unsafe_code)]

mod admin;
mod edge;
mod error;
mod fields;
mod grpc;
mod http;
mod listen;
mod proxies;
mod serve;
mod starting;

pub use edge::{ClientLimits, Limits, RateLimits, SandboxLimits, SpanCounts, SpanOutcome, Traces};
pub use grpc::code::code_name;
pub use http::HttpOptions;
pub use listen::{PemError, PemFile, Tls, TlsConfig, TlsError};
pub use serve::{Listeners, ServeError, ServeOptions, serve};
pub use starting::Starting;
