//! The SDK of Tessera, for services.
//!
//! - [`Client`]: typed calls, each with a deadline, retried only where a retry is safe.
//! - [`TokenSource`]: an access token that is always valid, from an API key.
//! - [`Verifier`]: verifies access tokens without a call, and knows how stale its knowledge of
//!   revocations may be.
//! - [`AuthorizeLayer`], made by [`Verifier::require`]: protects a service of tonic, axum or anything else that tower
//!   can wrap.
//! - [`AttachToken`]: calls a service with the tokens of a [`TokenSource`].
//!
//! A service that accepts tokens:
//!
//! ```no_run
//! use axum::{Extension, Router, routing::get};
//! use tessera_client::{ApiKey, Claims, Connection, Scope, Verifier, VerifierOptions};
//!
//! async fn list(Extension(claims): Extension<Claims>) -> String {
//!     format!("the videos of {}", claims.subject)
//! }
//!
//! # async fn service() -> Result<Router, Box<dyn std::error::Error>> {
//! let key = ApiKey::parse(&std::env::var("TESSERA_API_KEY")?)?;
//! let connection = Connection::new("http://127.0.0.1:7600", key);
//! let verifier = Verifier::start(VerifierOptions::new(connection, "production", "api")?)?;
//! let read = Scope::parse("videos:read")?;
//! let router = Router::new().route("/videos", get(list).layer(verifier.require(read)));
//! # Ok(router)
//! # }
//! ```
//!
//! Without a layer, [`Verifier::verify`] answers with a [`Decision`]:
//!
//! ```
//! use tessera_client::{Decision, Scope, Verifier};
//!
//! fn hello(verifier: &Verifier, token: &str, read: &Scope) {
//!     match verifier.verify(token, Some(read)) {
//!         Decision::Allow(claims) => println!("hello {}", claims.subject),
//!         Decision::Deny(reason) => println!("401, and for the log: {reason}"),
//!         Decision::Stale { .. } => println!("503: try again"),
//!     }
//! }
//! ```
//!
//! A service that revokes and must not accept what it has revoked itself:
//!
//! ```
//! use tessera_client::{Client, Verifier, v1::{RevokeRequest, revoke_request::Target}};
//!
//! # async fn log_out(client: Client, verifier: Verifier, token: String) -> Result<(), Box<dyn std::error::Error>> {
//! let request = RevokeRequest { target: Some(Target::Token(token)), ..RevokeRequest::default() };
//! let revoked = client.revoke(request).await?;
//! verifier.applied(&revoked.cursor).await?;
//! # Ok(())
//! # }
//! ```
//!
//! The crate `tessera-testkit` provides an authority for testing such services.
#![forbid(unsafe_code)]

mod addresses;
mod calls;
mod connection;
mod diagnosis;
mod error;
mod layer;
mod problem_log;
mod retry;
mod token_source;
mod verifier;

pub use calls::{Client, ClientOptions};
pub use connection::{Connection, ConnectionError};
pub use error::{CallError, ErrorKind};
pub use layer::{
    AttachToken, AttachTokenLayer, Authorize, AuthorizeLayer, Claims, Requirement, Requirements,
};
pub use tessera_core::{AccessClaims, Scope, ScopeTemplate};
/// The messages of the wire.
pub use tessera_proto::v1;
/// An API key; its `Debug` output shows only the part that names it.
pub use tessera_token::ApiKeySecret as ApiKey;
pub use token_source::{AccessToken, TokenError, TokenRequest, TokenSource};
pub use verifier::{
    AppliedError, Decision, DenyReason, Mode, NotReadyError, Verifier, VerifierOptions, VerifierStatus,
};
