//! The audit trail: records of actions, each written in the same commit as the action.

mod facts;
mod record;

pub use self::{
    facts::{AuditFacts, AuditKind, AuditOutcome},
    record::{Actor, AuditAction, AuditRecord},
};
