//! Tessera over the wire.
//!
//! [`serve`] takes a bound listener, an authority and a future that says when to stop. Fields are parsed
//! into the domain's types in `fields` and `convert`, every call passes `edge`, and every error becomes
//! a status in `status`: nowhere else.
#![forbid(unsafe_code)]

mod admin;
mod code;
mod convert;
mod edge;
mod fields;
mod frames;
mod http;
mod limits;
mod listen;
mod metrics;
mod pem;
mod proxies;
mod serve;
mod service;
mod starting;
mod status;
mod tls;

pub use code::code_name;
pub use edge::{AddressRange, AddressRangeError};
pub use http::HttpOptions;
pub use limits::{ClientLimits, Limits};
pub use pem::{PemError, PemFile};
pub use serve::{Listeners, ServeError, ServeOptions, serve};
pub use starting::Starting;
pub use tls::{Tls, TlsConfig, TlsError};
