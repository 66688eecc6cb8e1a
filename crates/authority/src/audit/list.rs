//! Reading the audit trail in pages.
//!
//! There is no index by actor or subject: a list reads the records of the requested times. One call reads a bounded
//! number of records. It returns a page token if there may be more, even if it found nothing yet.

use tessera_policy::Permission;
use tessera_store::{AuditEntry, AuditPage, AuditQuery, StoreError};

use crate::{
    audit::{error::AuditError, filter::AuditFilter, trail::AuditTrail},
    error::Unavailable,
    page::{LIST_BYTES_MAX, Listed, page_request},
    principal::Principal,
};

/// Records read before other callers get a turn.
const STEP: usize = 512;
/// Positions that are skipped at once when reading backwards.
const WINDOW_MAX: u64 = 64 * STEP as u64;
/// Records that one call reads at most.
const SCAN_MAX: usize = 20_000;

/// Which end of the trail a list begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditOrder {
    /// With the newest record.
    NewestFirst,
    /// With the oldest.
    OldestFirst,
}

impl AuditTrail {
    /// The audit records of the caller's realm that match a filter.
    ///
    /// # Errors
    /// See [`AuditError`].
    pub async fn audit_records(
        &self,
        principal: &Principal,
        filter: &AuditFilter,
        order: AuditOrder,
        page_size: usize,
        page_token: &str,
    ) -> Result<Listed<AuditEntry>, AuditError> {
        self.shared.require(principal, &Permission::ReadAudit)?;
        let request = page_request(page_size, page_token, |text| text.parse::<u64>().ok())
            .ok_or(AuditError::PageTokenInvalid)?;
        let list = AuditList {
            trail: self,
            principal,
            filter,
            found: Vec::new(),
            bytes: 0,
            limit: request.limit,
        };
        let (items, next) = match order {
            AuditOrder::OldestFirst => list.oldest_first(request.after.unwrap_or(0)).await?,
            AuditOrder::NewestFirst => list.newest_first(request.after).await?,
        };
        Ok(Listed {
            items,
            next_page_token: next.map_or_else(String::new, |position| position.to_string()),
        })
    }
}

struct AuditList<'a> {
    trail: &'a AuditTrail,
    principal: &'a Principal,
    filter: &'a AuditFilter,
    found: Vec<AuditEntry>,
    bytes: usize,
    limit: usize,
}

/// The records of a page, and the position at which the next page continues; `None` on the last.
type Found = (Vec<AuditEntry>, Option<u64>);

impl AuditList<'_> {
    async fn oldest_first(mut self, mut after: u64) -> Result<Found, Unavailable> {
        let last = self.trail.audit_position();
        let mut scanned = 0;
        while after < last && scanned < SCAN_MAX {
            let page = self.page(AuditQuery {
                through: last,
                ..self.filter.query(after, STEP)
            });
            let page = page.await?;
            scanned += STEP;
            for entry in page.entries {
                let position = entry.position;
                if self.is_full_with(entry) {
                    return Ok((self.found, Some(position.saturating_sub(1))));
                }
            }
            after = page.through;
        }
        Ok((self.found, (after < last).then_some(after)))
    }

    /// Reads the trail backwards, a step at a time. `before` is the position at which the page before ended.
    async fn newest_first(mut self, before: Option<u64>) -> Result<Found, Unavailable> {
        let last = self.trail.audit_position();
        let mut through = before.map_or(last, |before| before.saturating_sub(1).min(last));
        let Some(first) = self.first(through).await? else {
            return Ok((self.found, None));
        };
        let (mut scanned, mut window) = (0, STEP as u64);
        while through >= first && scanned < SCAN_MAX {
            let after = through.saturating_sub(window).max(first.saturating_sub(1));
            let page = self.page(AuditQuery {
                through,
                ..self.filter.query(after, STEP)
            });
            let page = page.await?;
            scanned += STEP;
            if page.through < through {
                // More than one step of the requested times: the newest of them come first.
                window = STEP as u64;
                continue;
            }
            // If nothing is of the requested times, chunks are skipped: reading many costs little.
            window = if page.entries.is_empty() {
                window.saturating_mul(2).min(WINDOW_MAX)
            } else {
                STEP as u64
            };
            for entry in page.entries.into_iter().rev() {
                let position = entry.position;
                if self.is_full_with(entry) {
                    return Ok((self.found, Some(position.saturating_add(1))));
                }
            }
            through = after;
        }
        Ok((self.found, (through >= first).then(|| through.saturating_add(1))))
    }

    /// The first record of the requested times, up to a position.
    async fn first(&self, through: u64) -> Result<Option<u64>, Unavailable> {
        let mut after = 0;
        while after < through {
            let page = self.page(AuditQuery {
                through,
                ..self.filter.query(after, STEP)
            });
            let page = page.await?;
            if let Some(entry) = page.entries.first() {
                return Ok(Some(entry.position));
            }
            after = page.through;
        }
        Ok(None)
    }

    async fn page(&self, query: AuditQuery) -> Result<AuditPage, Unavailable> {
        Ok(self.trail.read_audit(self.principal, query).await?)
    }

    /// Takes an entry that matches; returns whether the page had no room for it.
    fn is_full_with(&mut self, entry: AuditEntry) -> bool {
        if !self.filter.takes(self.principal.realm_name(), &entry.record) {
            return false;
        }
        // Names are repeated as text, which makes the answer about twice as long.
        let bytes = self.bytes.saturating_add(entry.encoded.len().saturating_mul(2));
        if self.found.len() >= self.limit || (bytes > LIST_BYTES_MAX && !self.found.is_empty()) {
            return true;
        }
        self.bytes = bytes;
        self.found.push(entry);
        false
    }
}

impl AuditTrail {
    /// Reads a part of the trail for a caller, when its turn comes.
    pub(crate) async fn read_audit(
        &self,
        principal: &Principal,
        query: AuditQuery,
    ) -> Result<AuditPage, StoreError> {
        self.reads
            .page(&self.shared.store, principal.whose(), query)
            .await
    }

    /// The position of the last audit record.
    #[must_use]
    pub fn audit_position(&self) -> u64 {
        self.shared.store.log().audit_position()
    }
}
