//! A whole Tessera authority inside a test, for testing services that accept or get its tokens.
//!
//! [`TestAuthority::start`] gives a real one: its gRPC on a free port of this machine, its state in memory, its policy
//! that of `tessera dev`, and a clock that stands still until the test moves it. Nothing here needs a sleep.
//!
//! ```
//! use std::time::Duration;
//! use tessera_client::{Decision, DenyReason, Scope};
//! use tessera_testkit::TestAuthority;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let authority = TestAuthority::start().await;
//! let verifier = authority.verifier("api").await;
//! let read = Scope::parse("videos:read")?;
//!
//! let session = authority.issue("user:ann", &["videos:read"]).await;
//! assert!(matches!(verifier.verify(&session.access_token, Some(&read)), Decision::Allow(_)));
//!
//! authority.revoke_subject("user:ann").await;
//! let decision = verifier.verify(&session.access_token, Some(&read));
//! assert!(matches!(decision, Decision::Deny(DenyReason::Revoked)));
//!
//! let session = authority.issue("user:ann", &["videos:read"]).await;
//! authority.clock().advance(Duration::from_secs(2 * 3600));
//! let decision = verifier.verify(&session.access_token, Some(&read));
//! assert!(matches!(decision, Decision::Deny(DenyReason::Expired)));
//! # Ok(())
//! # }
//! ```
//!
//! What a service does while it can't receive revocations:
//!
//! ```
//! use std::time::Duration;
//! use tessera_client::{Decision, Verifier};
//! use tessera_testkit::{TestAuthority, until};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let authority = TestAuthority::start().await;
//! let options = authority.verifier_options("api").staleness_bound(Duration::from_millis(300));
//! let verifier = Verifier::start(options)?;
//! verifier.ready(Duration::from_secs(10)).await?;
//! let session = authority.issue("user:ann", &["videos:read"]).await;
//!
//! authority.stall();
//! let is_stale = || matches!(verifier.verify(&session.access_token, None), Decision::Stale { .. });
//! until("stale", is_stale).await;
//!
//! authority.resume();
//! until("fresh again", || !is_stale()).await;
//! # Ok(())
//! # }
//! ```
//!
//! Two clocks are used. The test's clock decides what is expired. Staleness, and when a
//! [`TokenSource`](tessera_client::TokenSource) renews, follow the machine's monotonic clock.
//!
//! Every function here panics if it fails: use it only in tests.
#![forbid(unsafe_code)]
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, and this is for tests only"
)]

mod authority;
mod builder;
mod clock;
mod process;
mod proxy;
mod serving;
mod waiting;
pub mod world;

pub use authority::{Session, TestAuthority};
pub use builder::TestAuthorityBuilder;
pub use clock::TestClock;
pub use proxy::Proxy;
pub use waiting::{soon, until};
