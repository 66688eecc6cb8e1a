//! The vocabulary of Tessera: names, scopes, time, claims, sessions, events and cursors.
//!
//! Everything here is a plain value or a pure function of (now, input, state). There is no IO except reading small
//! files, no async, and only [`SystemClock`] reads a clock.
//!
//! Start with [`session`], the state machine of refresh tokens, and [`event`], the revocation log.
#![forbid(unsafe_code)]

mod address_range;
pub mod api_key;
pub mod audit;
mod authorization;
pub mod challenge;
pub mod claims;
pub mod clock;
mod credential;
pub mod cursor;
pub mod event;
pub mod family;
pub mod id;
pub mod limits;
pub mod name;
mod node_addresses;
pub mod path;
pub mod realm;
pub mod revocations;
mod revoke_reason;
pub mod scope;
mod scope_template;
pub mod secret;
mod secret_hash;
mod sequence;
pub mod session;
mod short_text;
pub mod signing_key;
mod small_file;
mod spans;
mod spelling;
mod subject;
pub mod time;
mod visible;

pub use address_range::{AddressRange, AddressRangeError};
pub use api_key::{ApiKey, ApiKeyStatus};
pub use audit::{AuditAction, AuditFacts, AuditKind, AuditOutcome, AuditRecord};
pub use authorization::AuthorizationHeader;
pub use claims::{AccessClaims, NBF_BACKDATE};
pub use clock::{
    Clock, ClockState, LastTimes, MachineClock, ManualClock, SteadyClock, SystemClock, SystemUptime, Uptime,
};
pub use credential::CredentialId;
pub use cursor::{Cursor, CursorTag, FilterDigest};
pub use event::{Event, EventBody, EventKind, EventTarget};
pub use family::{Presented, RefreshFamily, Refusal, Verdict};
pub use id::{ApiKeyId, DecisionId, KeyId, LogId, PolicyRevision, RequestId, SessionId, TokenId};
pub use limits::LEEWAY_MAX;
pub use name::{Audience, ClientName, Label, NameError, RealmName, RoleName, Subject, SubscriberName};
pub use node_addresses::{NodeAddresses, NodeAddressesError};
pub use path::{CalledPath, PathError, PathParameters, PathPattern};
pub use realm::{OnPolicyLoss, Realm, RealmKind, RealmLimits};
pub use revocations::Revocations;
pub use revoke_reason::RevokeReason;
pub use scope::{Scope, ScopeSet};
pub use scope_template::{NoScopeError, ScopeFromPath, ScopeTemplate};
pub use secret_hash::SecretHash;
pub use sequence::Sequence;
pub use session::{Condition, PolicyEffect, Refreshable, Session, SessionState};
pub use signing_key::{KeyStatus, SigningKey};
pub use small_file::{SMALL_FILE_BYTES_MAX, read_small, read_small_text, read_small_text_or_pipe};
pub use spans::SPANS;
pub use time::{Seconds, Timestamp};
pub use visible::{is_hidden, visible};
