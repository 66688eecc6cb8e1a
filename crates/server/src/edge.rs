//! The edge of the server: every request and every answer passes through it.
//!
//! `gate` decides from the head of a request whether its body is read; `Edge` then serves the call within its time,
//! counts it and logs it. This is the only way in, so no RPC and no endpoint can skip a step.

mod answer_body;
mod authorization;
mod bytes;
mod caller;
mod calls;
mod clients;
mod content_type;
mod exchange;
mod gate;
mod limits;
mod log;
mod metrics;
mod outcome;
mod pace;
mod peer;
mod rates;
mod refusals;
mod request_body;
mod route;
mod sampler;
mod strangers;
mod trace;

pub(crate) use answer_body::AnswerBody;
pub(crate) use authorization::authorization_in;
pub(crate) use calls::{Caller, Edge, exchange, log_revocation};
pub(crate) use content_type::is_of_type;
pub(crate) use exchange::Exchange;
pub(crate) use gate::Handlers;
pub use limits::{ClientLimits, Limits, RateLimits, SandboxLimits};
pub(crate) use metrics::{Metrics, TextFormat, TlsSeen};
pub use metrics::{SpanCounts, SpanOutcome};
pub(crate) use peer::{Ending, Peer};
pub(crate) use refusals::network_of;
pub(crate) use request_body::{BodyError, RequestBody};
pub use trace::Traces;
