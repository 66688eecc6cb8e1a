//! Tessera's use cases, with a directory for each noun.
//!
//! A request passes through these steps in order, and each type can be made only from the step before it:
//!
//! > credential → [`Principal`] → grant → claims → tokens + session → event
//!
//! Nothing leaves this crate before the store has committed it. There is no gRPC, HTTP or protobuf in this crate: the
//! server converts at its edge.
#![forbid(unsafe_code)]

mod access;
mod audit;
mod authority;
mod credential;
mod error;
mod following;
mod heavy;
mod issuance;
mod log;
mod open;
mod operation;
mod others;
mod page;
mod policy;
mod principal;
mod refusal;
mod report;
mod session;
mod shared;
mod signing_key;
#[cfg(test)]
mod testing;
mod turns;
mod verified;
mod watch;

pub use access::{
    accepted::Access,
    check::{AccessCheck, RequiredAccess},
    error::{AccessError, IntrospectError, TokenRejection},
    introspect::{Introspection, TokenKind},
};
pub use audit::{
    error::AuditError,
    filter::AuditFilter,
    line::{AuditLine, AuditLineActor},
    list::AuditOrder,
    sink::{AuditSinks, SinkState},
    tail::{AuditDigest, AuditTail, AuditTailEnd, TailBegin, TailStart, Tailed},
    trail::AuditTrail,
    verify::{TrailCheck, TrailFault, TrailReport},
};
pub use authority::Authority;
pub use credential::{
    api_key::{ApiKeyTerms, CreateApiKey, NewApiKey, ROLLS_MAX, RollApiKey, RolledApiKey},
    credentials::Credentials,
    ending_count::EndingApiKeys,
    error::{ApiKeyError, AuthenticateError},
    list::{Descendants, ListApiKeys},
};
pub use error::{CallNotAllowed, SetupError, Unavailable};
pub use issuance::{
    error::{IssueError, RefreshError, TokenTooLarge},
    issue::{Issued, request::IssueRequest},
    issuer::Issuance,
    refresh::{RefreshRequest, Refreshed, outcome::RefreshOutcome},
    tokens::{PresentedToken, TokenSet},
};
pub use log::{
    administer::ListedSubscriber,
    error::{SubscriberError, WatchError},
    fence::Fence,
    subscribers::{Propagated, StalenessBound},
};
pub use open::{Options, check_realms, check_signing_keys};
pub use operation::{
    backup::{BackupError, BackupPart, BackupState, BackupStream, Backups, MadeBackup},
    purge::Purging,
    restore::{Restored, Restoring, end_everything},
    timekeeping::Timekeeping,
};
pub use others::OtherNodes;
pub use page::{LIST_BYTES_MAX, LIST_SIZE_DEFAULT, LIST_SIZE_MAX, Listed};
pub use policy::{
    applied::Applied,
    change::Trigger,
    error::{ApplyError, ExplainError},
    explain::{Ask, Asked, ExplainedDecision},
    history::{Attempt, AttemptOutcome, PolicyStatus},
    impact::SessionImpact,
    plan::Plan,
    plan_id::PlanId,
    policies::Policies,
};
pub use principal::Principal;
pub use refusal::Refusals;
pub use session::{
    error::{RevokeError, SessionError},
    list::{ListedSession, SessionsBy},
    revoke::{
        operation::Revoked,
        request::{RevokeRequest, RevokeTarget},
    },
    sessions::Sessions,
};
pub use signing_key::{
    error::SigningKeyError,
    key_set::PublishedKey,
    rotate::SigningKeyState,
    schedule::KeyRotation,
    server_key::{PreviousServerKey, ServerKeyStatus},
    signing_keys::SigningKeys,
};
pub use watch::{
    filter::WatchFilter,
    message::{StartAt, SubscriberMessage, WatchEnd, WatchMessage, WatchStart},
    watcher::Watcher,
    watches::Watches,
};
