//! Checking that the audit trail is what was written: each record follows the one before it, and the signed state is
//! the state that is present.
//!
//! The same check applies to a running authority's trail and to an export.

use tessera_core::{AuditAction, RealmName, Timestamp};
use tessera_policy::Permission;
use tessera_store::{AuditEntry, AuditHead, AuditLink, AuditQuery, StoreError};
use tessera_token::{Checkpoint, CheckpointPublicKey};

use crate::{
    audit::{error::AuditError, tail::AuditDigest, trail::AuditTrail},
    error::Unavailable,
    principal::Principal,
};

/// Records read at once.
const STEP: usize = 1024;

/// Reads a trail from its first record to its last, and reports where it is not as expected.
#[derive(Debug)]
pub struct TrailCheck {
    keys: Vec<CheckpointPublicKey>,
    report: TrailReport,
    /// The link of the record before, which the next record must name.
    link: Option<AuditLink>,
}

/// The properties of a trail that was read without a fault.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrailReport {
    /// Records that were read.
    pub records: u64,
    /// Records of which only the digest was present.
    pub hidden: u64,
    /// The position of the first. Those before it were too old to be kept, or are missing: the trail itself can't tell
    /// which.
    pub first: u64,
    /// Its time.
    pub first_at: Option<Timestamp>,
    /// The position of the last.
    pub last: u64,
    /// Its time.
    pub last_at: Option<Timestamp>,
    /// The link of the last.
    pub link: AuditLink,
    /// Checkpoints whose signature is right.
    pub signed: u64,
    /// Checkpoints by a key that is not known here.
    pub unknown: u64,
    /// Everything up to this position is covered by a signature that was checked; 0: nothing.
    pub signed_through: u64,
}

/// Where a trail differs from what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrailFault {
    /// Records are missing, or were moved.
    #[error("records are missing or moved: {found} follows {after}")]
    Missing {
        /// The last one before.
        after: u64,
        /// The one that follows it.
        found: u64,
    },
    /// A record, or the one before it, is not what was written.
    #[error(
        "record {before} or record {position} was changed, or another record stood between them: {position} does not follow {before}"
    )]
    Broken {
        /// The record before.
        before: u64,
        /// The record that does not follow it.
        position: u64,
    },
    /// A checkpoint says that the trail was different.
    #[error("the checkpoint at record {position} was signed for other records than those before it")]
    SignedOther {
        /// The position of the checkpoint.
        position: u64,
    },
    /// A checkpoint names a known key, which did not sign it.
    #[error("the signature of the checkpoint at record {position} is wrong")]
    SignatureWrong {
        /// The position of the checkpoint.
        position: u64,
    },
    /// The signature of an export covers another part of the trail.
    #[error("records are missing, or there are more: what was signed begins after record {after}")]
    OtherPart {
        /// The record after which that part begins.
        after: u64,
    },
    /// An export shows fewer records than what was signed, or more.
    #[error(
        "{shown} records are shown, and {signed} were signed: a digest is in the place of a record that was shown"
    )]
    RecordsHidden {
        /// How many there are.
        shown: u64,
        /// How many there were.
        signed: u64,
    },
    /// A record belongs to another realm than the export.
    #[error("record {position} is of another realm than the export")]
    OtherRealm {
        /// The position of the record.
        position: u64,
    },
    /// An export is not signed by a known key.
    #[error(
        "the export is not signed by this key: use the key of the authority that made it, or one kept from then"
    )]
    SignedByOther,
    /// The trail ends too early.
    #[error("the trail ends with record {last} and should go on to record {expected}")]
    CutOff {
        /// The last record.
        last: u64,
        /// The expected last record.
        expected: u64,
    },
    /// The last record is not what was written.
    #[error("record {position}, the last, is not what was written")]
    LastBroken {
        /// The record.
        position: u64,
    },
    /// The data can't be read.
    #[error("the trail can't be read after record {after}: {problem}")]
    Unreadable {
        /// The last record that was read.
        after: u64,
        /// What is wrong with it.
        problem: String,
    },
}

impl TrailCheck {
    /// Begins a check. Only these keys may have signed.
    #[must_use]
    pub fn new(keys: Vec<CheckpointPublicKey>) -> Self {
        Self {
            keys,
            report: TrailReport::default(),
            link: None,
        }
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// See [`TrailFault`].
    pub fn take(&mut self, entry: &AuditEntry) -> Result<(), TrailFault> {
        self.follow(entry.position, entry.previous)?;
        if let AuditAction::Checkpoint { token, .. } = &entry.record.action {
            let before = AuditHead {
                position: entry.position.saturating_sub(1),
                link: entry.previous,
            };
            self.checkpoint(entry.position, before, token)?;
        }
        self.report.first_at.get_or_insert(entry.record.at);
        self.report.last_at = Some(entry.record.at);
        self.report.records += 1;
        self.note(entry.position, entry.link());
        Ok(())
    }

    /// Takes the digest of the next record, whose content may not be shown.
    ///
    /// # Errors
    /// See [`TrailFault`].
    pub fn take_digest(&mut self, digest: &AuditDigest) -> Result<(), TrailFault> {
        self.follow(digest.position, digest.previous)?;
        let link = digest.previous.follow(digest.position, &digest.digest);
        self.report.hidden += 1;
        self.note(digest.position, link);
        Ok(())
    }

    fn follow(&mut self, position: u64, previous: AuditLink) -> Result<(), TrailFault> {
        let before = self.report.last;
        match self.link {
            Some(_) if position != before.saturating_add(1) => {
                return Err(TrailFault::Missing {
                    after: before,
                    found: position,
                });
            }
            Some(link) if link != previous => return Err(TrailFault::Broken { before, position }),
            // There is no record before the first one.
            None if position == 1 && previous != AuditLink::BEGIN => {
                return Err(TrailFault::Broken { before: 0, position });
            }
            Some(_) => {}
            None => self.report.first = position,
        }
        Ok(())
    }

    fn note(&mut self, position: u64, link: AuditLink) {
        self.link = Some(link);
        self.report.last = position;
        self.report.link = link;
    }

    /// Each realm has a record of the same checkpoint: all except the first come after the part that it covers.
    fn checkpoint(&mut self, position: u64, before: AuditHead, token: &str) -> Result<(), TrailFault> {
        let Some(signed) = self.signed(position, token)? else {
            self.report.unknown += 1;
            return Ok(());
        };
        let is_there = signed.position == before.position && signed.link == before.link.to_string();
        let was_there = signed.position < before.position
            && (signed.position <= self.report.signed_through || signed.position < self.report.first);
        if is_there {
            self.report.signed_through = signed.position;
        } else if !was_there {
            return Err(TrailFault::SignedOther { position });
        }
        self.report.signed += 1;
        Ok(())
    }

    /// The content of a checkpoint; `None` if it names a key that is not known here.
    fn signed(&self, position: u64, token: &str) -> Result<Option<Checkpoint>, TrailFault> {
        let named = Checkpoint::key_id_of(token);
        let key = self.keys.iter().find(|key| Some(key.id()) == named.as_ref());
        key.map(|key| key.verify(token).ok_or(TrailFault::SignatureWrong { position }))
            .transpose()
    }

    /// Takes the checkpoint of an export of this realm: it covers exactly what was read.
    ///
    /// # Errors
    /// See [`TrailFault`]; a checkpoint that none of the keys signed is a fault here.
    pub fn take_checkpoint(&mut self, token: &str, realm: &RealmName) -> Result<(), TrailFault> {
        let end = AuditHead {
            position: self.report.last,
            link: self.report.link,
        };
        let signed = self.signed(end.position, token)?;
        let signed = signed.ok_or(TrailFault::SignedByOther)?;
        let Some(part) = signed.export.filter(|part| part.realm == *realm) else {
            return Err(TrailFault::SignedOther {
                position: end.position,
            });
        };
        let (after, shown, signed) = (part.after, self.report.records, part.records);
        if after.saturating_add(1) != self.report.first {
            return Err(TrailFault::OtherPart { after });
        }
        if shown != signed {
            return Err(TrailFault::RecordsHidden { shown, signed });
        }
        self.checkpoint(end.position, end, token)
    }

    /// How far the check is.
    #[must_use]
    pub fn report(&self) -> &TrailReport {
        &self.report
    }

    /// Ends the check, and returns the report of the whole trail; `head` is what the last record should be, if that is
    /// known.
    ///
    /// # Errors
    /// See [`TrailFault`].
    pub fn finish(self, head: Option<AuditHead>) -> Result<TrailReport, TrailFault> {
        let last = self.report.last;
        match head {
            Some(head) if head.position > last => Err(TrailFault::CutOff {
                last,
                expected: head.position,
            }),
            Some(head) if head.position == last && last > 0 && head.link != self.report.link => {
                Err(TrailFault::LastBroken { position: last })
            }
            _ => Ok(self.report),
        }
    }
}

impl AuditTrail {
    /// The public key that signs checkpoints now, `k4.public.…`.
    #[must_use]
    pub fn checkpoint_key(&self) -> String {
        self.shared
            .server_keys
            .load()
            .current()
            .checkpoints()
            .public()
            .to_string()
    }

    /// Reads the whole trail, of all realms, and checks it; `progress` is told how far it is.
    ///
    /// # Errors
    /// Refuses a caller that may not read the trail. A fault of the trail is part of the answer.
    pub async fn verify_audit(
        &self,
        principal: &Principal,
        mut progress: impl FnMut(&TrailReport, u64),
    ) -> Result<Result<TrailReport, TrailFault>, AuditError> {
        self.shared.require(principal, &Permission::ReadAudit)?;
        let entered = self.heavy.enter(principal).await?;
        let head = *self.shared.store.log().audit_head().borrow();
        let mut check = TrailCheck::new(
            self.shared
                .server_keys
                .load()
                .checkpoint_keys()
                .cloned()
                .collect(),
        );
        let mut after = 0;
        while after < head.position {
            let query = AuditQuery {
                through: head.position,
                ..AuditQuery::after(after, STEP)
            };
            let page = match self.read_audit(principal, query).await {
                Ok(page) => page,
                Err(StoreError::Damaged { detail }) => {
                    return Ok(Err(TrailFault::Unreadable {
                        after,
                        problem: detail,
                    }));
                }
                Err(error) => return Err(Unavailable::from(error).into()),
            };
            after = page.through;
            let checked = entered.run(move |_| {
                for entry in &page.entries {
                    check.take(entry)?;
                }
                Ok(check)
            });
            match checked.await? {
                Ok(so_far) => check = so_far,
                Err(fault) => return Ok(Err(fault)),
            }
            progress(check.report(), head.position);
        }
        Ok(check.finish(Some(head)))
    }
}

#[cfg(test)]
mod tests;
