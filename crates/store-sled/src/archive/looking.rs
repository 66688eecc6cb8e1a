//! A query of the audit trail, over rows and files.

use std::ops::RangeInclusive;

use tessera_store::{AuditEntry, AuditPage, AuditQuery};

/// A query, and its progress.
pub(crate) struct Looking {
    pub(super) query: AuditQuery,
    /// The last record that is looked at.
    last: u64,
    /// Everything up to this position was looked at.
    pub(super) through: u64,
    left: usize,
    found: Vec<AuditEntry>,
}

impl Looking {
    /// The beginning of a query, if records up to `last` exist.
    pub(crate) fn at(query: &AuditQuery, last: u64) -> Self {
        Self {
            query: *query,
            last,
            through: query.after.min(last),
            left: query.limit,
            found: Vec::new(),
        }
    }

    /// The positions that are still to be looked at; `None` if the query is done.
    pub(crate) fn wanted(&self) -> Option<RangeInclusive<u64>> {
        (!self.is_done()).then(|| self.through.saturating_add(1)..=self.last)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.left == 0 || self.through >= self.last
    }

    /// Looks at the next record.
    pub(crate) fn look(&mut self, entry: AuditEntry) {
        self.left = self.left.saturating_sub(1);
        self.through = entry.position;
        if self.query.takes(entry.record.at) {
            self.found.push(entry);
        }
    }

    /// Skips records that do not exist.
    pub(crate) fn pass(&mut self, position: u64) {
        self.through = self.through.max(position.min(self.last));
    }

    /// Skips many records of other times; they count as one.
    pub(super) fn pass_chunk(&mut self, position: u64) {
        self.left = self.left.saturating_sub(1);
        self.pass(position);
    }

    /// The result.
    pub(crate) fn page(self) -> AuditPage {
        AuditPage {
            entries: self.found,
            through: self.through,
        }
    }
}
