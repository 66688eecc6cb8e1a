//! Following the audit trail as it grows.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tessera_policy::Permission;
use tessera_store::{AuditEntry, AuditHead, AuditLink, AuditQuery};
use tessera_token::ExportedPart;
use tokio::{
    sync::watch as signal,
    time::{Interval, MissedTickBehavior, interval},
};

use crate::{
    audit::{error::AuditError, filter::AuditFilter, trail::AuditTrail},
    credential::error::AuthenticateError,
    error::Unavailable,
    principal::Principal,
};

/// Records read at once.
const STEP: usize = 512;
/// How often the permission of the caller to read them is checked again.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// One reader of the trail, which reads as it has room and delays no other caller.
pub struct AuditTail {
    trail: Arc<AuditTrail>,
    principal: Principal,
    filter: AuditFilter,
    head: signal::Receiver<AuditHead>,
    draining: signal::Receiver<bool>,
    checks: Interval,
    position: u64,
    with_digests: bool,
    /// The last requested record; `None`: the tail has no end.
    end: Option<AuditHead>,
    /// The position after which it began, if a checkpoint is to be signed at its end.
    signs_after: Option<u64>,
    /// How many records were shown.
    records: u64,
    batch: VecDeque<Tailed>,
}

/// Which part of the trail is followed.
#[derive(Clone, Debug, Default)]
pub struct TailStart {
    /// Which records.
    pub filter: AuditFilter,
    /// After this position; `None`: only future records.
    pub after: Option<u64>,
    /// Whether it ends with the record that is the last one now.
    pub stops_at_end: bool,
    /// Whether a digest replaces a record that is not shown, so that the links can be checked.
    pub with_digests: bool,
}

/// Which part of the trail a tail reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailBegin {
    /// Everything after this position,
    pub after: u64,
    /// up to this one; `None`: without an end.
    pub through: Option<u64>,
}

/// The next item of a tail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tailed {
    /// A record.
    Record(Box<AuditEntry>),
    /// What is left of a record that is not shown.
    Digest(AuditDigest),
    /// The end of a tail with digests: a checkpoint of exactly what it had, which is not recorded. With it, the reader
    /// can verify that the first and the last record are what was written, and that no record was left out.
    Checkpoint(String),
}

/// What is left of a record that is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditDigest {
    /// Its position.
    pub position: u64,
    /// The link of the record before it.
    pub previous: AuditLink,
    /// The SHA-256 of its bytes.
    pub digest: [u8; 32],
}

/// Why a tail ended.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AuditTailEnd {
    /// The credential that authenticated the caller no longer works.
    #[error(transparent)]
    Refused(#[from] AuthenticateError),
    /// Policy no longer permits it, or the trail can't be read.
    #[error(transparent)]
    Failed(#[from] AuditError),
}

impl AuditTrail {
    /// Begins to follow the records of the caller's realm.
    ///
    /// # Errors
    /// See [`AuditError`].
    pub fn tail_audit(
        self: &Arc<Self>,
        principal: Principal,
        start: TailStart,
    ) -> Result<AuditTail, AuditError> {
        self.shared.require(&principal, &Permission::ReadAudit)?;
        if *self.shared.draining.borrow() {
            return Err(Unavailable::Draining.into());
        }
        let mut checks = interval(CHECK_INTERVAL);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(AuditTail {
            head: self.shared.store.log().audit_head(),
            draining: self.shared.draining.subscribe(),
            checks,
            position: start.after.unwrap_or_else(|| self.audit_position()),
            with_digests: start.with_digests,
            end: start
                .stops_at_end
                .then(|| *self.shared.store.log().audit_head().borrow()),
            signs_after: None,
            records: 0,
            batch: VecDeque::new(),
            trail: Arc::clone(self),
            principal,
            filter: start.filter,
        })
    }
}

impl AuditTail {
    /// Says which part of the trail follows.
    ///
    /// # Errors
    /// Fails if the trail can't be read.
    pub async fn begin(&mut self) -> Result<TailBegin, AuditError> {
        let Some(end) = self.end.filter(|end| end.position > self.position) else {
            return Ok(TailBegin {
                after: self.position,
                through: self.end.map(|end| end.position),
            });
        };
        // Records before the first one that exists were too old to be kept.
        let first = AuditQuery::after(self.position, 1);
        let first = self.trail.read_audit(&self.principal, first).await?;
        if let Some(entry) = first.entries.first() {
            self.position = entry.position.saturating_sub(1);
        }
        self.signs_after = self.with_digests.then_some(self.position);
        Ok(TailBegin {
            after: self.position,
            through: Some(end.position),
        })
    }

    /// The next record; `None` at the end.
    ///
    /// # Errors
    /// Fails once, at the end.
    pub async fn next(&mut self) -> Result<Option<Tailed>, AuditTailEnd> {
        loop {
            if let Some(entry) = self.batch.pop_front() {
                return Ok(Some(entry));
            }
            if let Some(end) = self.end.filter(|end| self.position >= end.position) {
                return Ok(self.checkpoint(&end).map(Tailed::Checkpoint));
            }
            self.turn().await?;
            let last = self.head.borrow_and_update().position;
            let last = self.end.map_or(last, |end| end.position.min(last));
            if self.position < last {
                self.read(last).await?;
            }
        }
    }

    async fn turn(&mut self) -> Result<(), AuditTailEnd> {
        let is_behind = self.position < self.head.borrow().position;
        let draining = async {
            // An error means that the authority was dropped, which is equivalent.
            drop(self.draining.wait_for(|is_draining| *is_draining).await);
        };
        tokio::select! {
            biased;
            () = draining => Err(AuditError::from(Unavailable::Draining).into()),
            _ = self.checks.tick() => self.check().await,
            () = std::future::ready(()), if is_behind => Ok(()),
            changed = self.head.changed() => changed
                .map_err(|_| AuditError::from(Unavailable::Draining).into()),
        }
    }

    /// A stream outlives the call that began it, so the caller's credential is checked again.
    async fn check(&self) -> Result<(), AuditTailEnd> {
        self.trail.credentials.still_works(&self.principal).await?;
        let allowed = self.trail.shared.require(&self.principal, &Permission::ReadAudit);
        Ok(allowed.map_err(AuditError::from)?)
    }

    async fn read(&mut self, last: u64) -> Result<(), AuditTailEnd> {
        let query = AuditQuery {
            through: last,
            ..self.filter.query(self.position, STEP)
        };
        let page = self.trail.read_audit(&self.principal, query).await;
        let page = page.map_err(AuditError::from)?;
        self.position = page.through;
        let entries = page.entries.into_iter();
        let shown: VecDeque<_> = entries.filter_map(|entry| self.shown(entry)).collect();
        self.batch = shown;
        Ok(())
    }

    /// A checkpoint of what was shown, once.
    fn checkpoint(&mut self, end: &AuditHead) -> Option<String> {
        let part = ExportedPart {
            after: self.signs_after.take()?,
            realm: self.principal.realm_name().clone(),
            records: self.records,
        };
        self.trail.signed_checkpoint(Some(part), end)
    }

    fn shown(&mut self, entry: AuditEntry) -> Option<Tailed> {
        if self.filter.takes(self.principal.realm_name(), &entry.record) {
            self.records += 1;
            return Some(Tailed::Record(Box::new(entry)));
        }
        self.with_digests.then(|| {
            Tailed::Digest(AuditDigest {
                position: entry.position,
                previous: entry.previous,
                digest: entry.digest(),
            })
        })
    }
}
