//! Tessera over the wire.
//!
//! [`serve`] takes a bound listener, an authority and a future that says when to stop. Fields are parsed
//! into the domain's types in `fields` and `convert`, every call passes `edge`, and every failure is an
//! `error::ApiError`, of which gRPC, HTTP and OAuth each make what their callers read.
#![forbid(unsafe_code)]

mod admin;
mod convert;
mod edge;
mod error;
mod fields;
mod frames;
mod grpc;
mod http;
mod limits;
mod listen;
mod metrics;
mod pem;
mod proxies;
mod serve;
mod service;
mod starting;
mod tls;

pub use edge::{AddressRange, AddressRangeError};
pub use grpc::code::code_name;
pub use http::HttpOptions;
pub use limits::{ClientLimits, Limits};
pub use pem::{PemError, PemFile};
pub use serve::{Listeners, ServeError, ServeOptions, serve};
pub use starting::Starting;
pub use tls::{Tls, TlsConfig, TlsError};
