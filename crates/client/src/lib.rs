//! The SDK of Tessera, for services.
//!
//! - [`Client`]: typed calls, each with a deadline, retried only where a retry is safe.
//! - [`TokenSource`]: an access token that is always valid, from an API key.
//! - [`Verifier`]: verifies access tokens without a call, and knows how stale its knowledge of
//!   revocations may be.
//!
//! A service that accepts tokens:
//!
//! ```no_run
//! use tessera_client::{ApiKey, Connection, Decision, Scope, Verifier, VerifierOptions};
//!
//! # async fn service(token: &str) -> Result<(), Box<dyn std::error::Error>> {
//! let key = ApiKey::parse(&std::env::var("TESSERA_API_KEY")?)?;
//! let connection = Connection::new("http://127.0.0.1:7600", key);
//! let verifier = Verifier::start(VerifierOptions::new(connection, "production", "api")?)?;
//! verifier.ready().await;
//! let read = Scope::parse("videos:read")?;
//! match verifier.verify(token, Some(&read)) {
//!     Decision::Allow(claims) => println!("hello {}", claims.subject),
//!     Decision::Deny(reason) => println!("401: {reason}"),
//!     Decision::Stale { .. } => println!("503: try again"),
//! }
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod calls;
mod connection;
mod error;
mod retry;
mod token_source;
mod verifier;

pub use calls::{Client, ClientOptions};
pub use connection::{Connection, ConnectionError};
pub use error::{CallError, ErrorKind};
pub use tessera_core::{AccessClaims, Scope};
/// The messages of the wire.
pub use tessera_proto::v1;
/// An API key; its `Debug` shows only the part that names it.
pub use tessera_token::ApiKeySecret as ApiKey;
pub use token_source::{AccessToken, TokenError, TokenRequest, TokenSource};
pub use verifier::{Decision, DenyReason, Mode, Verifier, VerifierOptions, VerifierStatus};
