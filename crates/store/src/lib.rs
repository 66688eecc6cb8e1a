//! Where Tessera keeps sessions, events, API keys, signing keys and audit records.
//!
//! The trait [`Store`] speaks the domain. Its heart is [`StoreExt::transact`]: an atomic
//! read-decide-write, in which everything that a decision causes (the session, its events, its audit
//! record) is committed together, **durable before it answers**.
//!
//! Two backends pass one conformance suite: [`MemoryStore`] for trying out and for tests, and
//! [`SledStore`].
#![forbid(unsafe_code)]

mod caught;
mod cutoff;
mod error;
mod memory;
mod sled;
mod store;
mod times;

pub use error::{OpenError, StoreError};
pub use memory::MemoryStore;
pub use sled::{SledOptions, SledStore};
pub use store::{
    EventBatch, Job, NewEvent, Page, PageRequest, Patience, PolicyFiles, PurgeReport, RequestKey,
    RequestRecord, SessionIndex, SessionVisitor, SharedRevocations, Store, StoreExt, Transaction,
};
pub use times::{Outage, Times};
