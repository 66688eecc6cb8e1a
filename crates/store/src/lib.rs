//! The port to where Tessera keeps sessions, events, API keys, signing keys and audit records.
//!
//! One idea: the reads are named ([`Reads`]), the decision is a pure function of a [`Snapshot`], and what it causes is
//! returned as data ([`Changes`]): the session, its events, its audit record. A [`Store`] commits that together,
//! **durable before it answers**, and batches as it likes. Reading is [`StoreReader`]; the [`Log`] is one struct for all
//! backends.
//!
//! [`MemoryStore`] is the backend for trying out and for tests; that which keeps is `tessera-store-sled`. Every backend
//! passes `tessera-store-conformance`.
#![forbid(unsafe_code)]

mod audit;
pub mod backend;
mod backup;
mod caught;
mod commit_span;
mod encoding;
mod error;
mod log;
mod memory;
mod node;
mod page;
mod record;
mod store;
mod times;
mod unit;

pub use audit::{AuditBytes, AuditEntry, AuditHead, AuditLink, AuditPage, AuditQuery};
pub use backup::{BackupEnd, BackupError, BackupRecord, BackupVisitor, CutoffKey};
pub use error::StoreError;
pub use log::Log;
pub use memory::MemoryStore;
pub use node::{Alone, NodeFence, NodeReport, OtherNode, SubscriberKey, SubscriberState};
pub use page::{Page, PageRequest, SessionIndex};
pub use record::{
    CommitObserver, CommittedGroup, EventBatch, LastBackup, NewEvent, PolicyFiles, PurgeBefore, PurgeReport,
    RequestKey, RequestRecord, Settings, StoreHealth,
};
pub use store::{Nodes, SessionVisitor, Store, StoreReader};
pub use times::{Outage, Times};
pub use unit::{
    Changes, ClientChange, ClientState, Decision, Placed, Priority, Reads, SettingChange, Snapshot,
    StoredSession, UnitOfWork,
};
