//! The interface to the storage of sessions, events, API keys, signing keys and audit records.
//!
//! A unit of work names its reads ([`Reads`]), decides with a pure function of a [`Snapshot`], and returns its effects
//! as data ([`Changes`]): the session, its events, its audit record. A [`Store`] commits them together, **durable
//! before it answers**, and may batch units. [`StoreReader`] is the reading part; the [`Log`] is one struct for all
//! backends.
//!
//! [`MemoryStore`] is the backend for trials and tests; `tessera-store-sled` is the durable one on local disk. Every
//! backend passes `tessera-store-conformance`.
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
mod nodes;
mod page;
mod pauses;
mod reads;
mod record;
mod snapshot;
mod store;
mod times;
mod unit;

pub use audit::{AuditBytes, AuditEntry, AuditHead, AuditLink, AuditPage, AuditQuery};
pub use backup::{BackupEnd, BackupError, BackupRecord, BackupVisitor, CutoffKey};
pub use error::StoreError;
pub use log::Log;
pub use memory::MemoryStore;
pub use node::{Alone, NodeFence, NodeReport, OtherNode, SubscriberKey, SubscriberState};
pub use nodes::Nodes;
pub use page::{Page, PageRequest, SessionIndex};
pub use reads::Reads;
pub use record::{
    CommitObserver, CommittedGroup, EventBatch, LastBackup, NewEvent, PolicyFiles, PurgeBefore, PurgeReport,
    RequestKey, RequestRecord, Settings, StoreHealth,
};
pub use snapshot::{ClientState, Snapshot, StoredSession};
pub use store::{SessionVisitor, Store, StoreReader};
pub use times::{Outage, Times};
pub use unit::{Changes, ClientChange, Decision, Placed, Priority, SettingChange, UnitOfWork};
