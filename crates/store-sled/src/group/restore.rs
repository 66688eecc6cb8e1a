//! Writing the records of a backup.

use std::sync::Arc;

use tessera_core::{Event, PolicyRevision, SessionId, Timestamp};
use tessera_store::{BackupEnd, BackupRecord, ClientChange, CutoffKey, PolicyFiles, StoreError};

use super::overlay::Group;
use crate::{
    archive::Place,
    rows::{self, CutoffRow, Meta, PolicyRow},
};

impl Group<'_> {
    /// Writes a record over an earlier one with the same key. Audit records also go to files, so this does not take
    /// them.
    pub(crate) fn restore(&mut self, record: BackupRecord) -> Result<(), StoreError> {
        match record {
            BackupRecord::Session(session) => {
                self.read.clear();
                self.put_session(&Arc::from(session))
            }
            BackupRecord::NoSession(id) => self.restore_no_session(id),
            BackupRecord::ApiKey(key) => self.put_api_key(&key),
            BackupRecord::NoApiKey(id) => {
                if let Some(key) = self.row("an API key", &rows::api_key_key(&id))? {
                    self.remove_api_key(&key);
                }
                Ok(())
            }
            BackupRecord::Client {
                realm,
                client,
                is_disabled,
            } => self.put_client(&ClientChange {
                realm,
                client,
                is_disabled,
            }),
            BackupRecord::SigningKey(key) => self.put(rows::signing_key_key(&key.id), &key),
            BackupRecord::NoSigningKey(id) => self.restore_no_row(rows::signing_key_key(&id)),
            BackupRecord::Request(key, record) => self.put_request(&key, &record),
            BackupRecord::NoRequest(key) => self.restore_no_row(rows::request_key(&key)),
            BackupRecord::Policy {
                revision,
                files,
                replaced_at,
            } => self.restore_policy(&revision, &files, replaced_at),
            BackupRecord::NoPolicy(revision) => self.restore_no_policy(&revision),
            BackupRecord::Event(event) => self.put(rows::event_key(event.sequence), &event),
            BackupRecord::NoEvent(sequence) => self.restore_no_row(rows::event_key(sequence)),
            BackupRecord::Cutoff { until, event } => {
                let Some(key) = rows::cutoff_key(&event) else {
                    return Ok(());
                };
                self.restore_no_cutoff_at(&key)?;
                self.put_empty(rows::cutoff_expiry_key(until, &key));
                self.put(key, &CutoffRow { until, event: &event })
            }
            BackupRecord::NoCutoff(key) => self.restore_no_cutoff(&key),
            BackupRecord::StalenessBound(realm, bound) => {
                self.put(rows::staleness_bound_key(&realm), &(&realm, bound))
            }
            BackupRecord::Audit(..) => Err(StoreError::Failed {
                detail: "an audit record is no row of a restore".to_owned(),
            }),
        }
    }

    /// Sets the state to that of the position which a backup names. `place` is where its audit records are.
    pub(crate) fn restore_end(&mut self, end: BackupEnd, place: Option<Place>) -> Result<(), StoreError> {
        if let Some(revision) = &end.policy {
            self.put(rows::policy_in_force_key(), revision)?;
        }
        if let Some(revision) = &end.policy_reconciled {
            self.put(rows::policy_reconciled_key(), revision)?;
        }
        if let Some(backup) = &end.last_backup {
            self.put(rows::last_backup_key(), backup)?;
        }
        self.state.meta = Meta {
            log_id: end.log,
            last: end.last,
            floor: end.floor,
            audit: end.audit_head,
            archive: place,
            group: self.state.meta.group,
            purged: end.purged,
        };
        self.state.times = end.times;
        self.state.policy = end.policy;
        Ok(())
    }

    fn restore_no_row(&mut self, key: Vec<u8>) -> Result<(), StoreError> {
        self.remove(key);
        Ok(())
    }

    fn restore_no_session(&mut self, id: SessionId) -> Result<(), StoreError> {
        match self.session_row(id)? {
            Some(row) => self.remove_session(&row),
            None => Ok(()),
        }
    }

    fn restore_policy(
        &mut self,
        revision: &PolicyRevision,
        files: &PolicyFiles,
        replaced_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        self.put_policy(revision, files)?;
        self.replaced(revision, replaced_at)
    }

    fn restore_no_policy(&mut self, revision: &PolicyRevision) -> Result<(), StoreError> {
        let key = rows::policy_key(revision);
        if let Some(row) = self.row::<PolicyRow>("a policy", &key)? {
            for part in 0..row.parts {
                self.remove(rows::policy_part_key(revision, part));
            }
            self.remove(key);
        }
        Ok(())
    }

    fn restore_no_cutoff(&mut self, key: &CutoffKey) -> Result<(), StoreError> {
        let row = rows::cutoff_key_of(key.kind, &key.realm, &key.target);
        self.restore_no_cutoff_at(&row)
    }

    fn restore_no_cutoff_at(&mut self, key: &[u8]) -> Result<(), StoreError> {
        if let Some(old) = self.row::<CutoffRow<Event>>("a cutoff", key)? {
            self.remove(rows::cutoff_expiry_key(old.until, key));
            self.remove(key.to_vec());
        }
        Ok(())
    }
}
