//! Backups: all stored data, of all realms, at one position of the log, while all other calls continue.
//!
//! The data that the store shows is encoded on its thread, and goes to the caller in pieces. A caller that leaves ends
//! the work; one that takes nothing for a while is treated as one that has left. The last piece is given only after the
//! audit trail has the record of the backup.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tessera_backup::{BackupHead, BackupTail, Item, content, encode};
use tessera_core::{AuditAction, Timestamp};
use tessera_policy::Permission;
use tessera_store::{
    BackupEnd, BackupError as StoreBackupError, BackupRecord, Changes, LastBackup, SettingChange, StoreError,
};
use tokio::{
    runtime::Handle,
    sync::{OwnedMutexGuard, mpsc, watch as signal},
};

use crate::{
    error::{CallNotAllowed, Unavailable, from_store},
    principal::Principal,
    shared::Shared,
};

/// How many bytes of a backup are given at once.
const PIECE_BYTES: usize = 256 * 1024;
/// How many pieces wait for the caller.
const PIECES_MAX: usize = 4;
/// How long the caller may take no piece.
const STALL_MAX: Duration = Duration::from_secs(60);

/// A backup can't be made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BackupError {
    /// The caller may not do this.
    #[error(transparent)]
    NotAllowed(#[from] CallNotAllowed),
    /// Another one is being made.
    #[error("another backup is being made: one is made at a time")]
    Running,
    /// More was written in the meantime than the backup could include.
    #[error("more was written meanwhile than the backup could take in: try again when less is written")]
    Overtaken,
    /// The authority can't make one now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

from_store!(BackupError);

/// A part of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupPart {
    /// More of the backup's content.
    Content {
        /// The next bytes.
        bytes: Vec<u8>,
        /// How many records there are so far.
        records: u64,
    },
    /// It is complete: the last part.
    Made(Box<MadeBackup>),
}

/// A backup that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeBackup {
    /// Its head.
    pub head: BackupHead,
    /// Its tail.
    pub tail: BackupTail,
}

/// Backups, of which one is made at a time.
pub struct Backups {
    shared: Arc<Shared>,
    /// Held while one is made.
    turn: Arc<tokio::sync::Mutex<()>>,
    state: Mutex<BackupState>,
}

/// The state of backups, for an operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackupState {
    /// The last one that was made.
    pub last: Option<LastBackup>,
    /// Whether one is being made.
    pub is_running: bool,
    /// How many failed since the start, including those whose callers left.
    pub failed: u64,
}

/// A backup that is being made.
pub struct BackupStream {
    parts: mpsc::Receiver<Result<BackupPart, BackupError>>,
    draining: signal::Receiver<bool>,
}

impl Backups {
    /// `last` is the last backup that the store knows.
    pub(crate) fn new(shared: &Arc<Shared>, last: Option<LastBackup>) -> Self {
        Self {
            shared: Arc::clone(shared),
            turn: Arc::default(),
            state: Mutex::new(BackupState {
                last,
                ..BackupState::default()
            }),
        }
    }
}

impl BackupStream {
    /// The next part; `None` after the last one.
    ///
    /// # Errors
    /// See [`BackupError`]: the parts given before are of no use then.
    pub async fn next(&mut self) -> Option<Result<BackupPart, BackupError>> {
        let drained = async {
            // The sender lives as long as the authority.
            drop(self.draining.wait_for(|draining| *draining).await);
        };
        tokio::select! {
            // A backup may take longer than the time that a stopping server has.
            biased;
            () = drained => Some(Err(Unavailable::Draining.into())),
            part = self.parts.recv() => part,
        }
    }
}

impl Backups {
    /// Makes a backup of all realms. Dropping the returned stream ends the work.
    ///
    /// # Errors
    /// See [`BackupError`].
    pub fn create_backup(self: &Arc<Self>, principal: &Principal) -> Result<BackupStream, BackupError> {
        self.shared.require(principal, &Permission::CreateBackup)?;
        if !self.shared.speaks_for_all_realms(principal) {
            let required = format!("{} in a production realm", Permission::CreateBackup.scope());
            return Err(principal.not_allowed(required).into());
        }
        let turn = Arc::clone(&self.turn).try_lock_owned();
        let turn = turn.map_err(|_| BackupError::Running)?;
        let (sender, parts) = mpsc::channel(PIECES_MAX);
        let making = Making {
            backups: Arc::clone(self),
            principal: principal.clone(),
            sender,
        };
        self.state.lock().is_running = true;
        tokio::spawn(making.run(turn));
        Ok(BackupStream {
            parts,
            draining: self.shared.draining.subscribe(),
        })
    }

    /// The state of backups.
    #[must_use]
    pub fn backup_state(&self) -> BackupState {
        *self.state.lock()
    }

    fn backup_head(&self) -> BackupHead {
        let realms = self.shared.realms.values();
        BackupHead {
            version: content::VERSION,
            made_by: env!("CARGO_PKG_VERSION").to_owned(),
            log: self.shared.store.log().id(),
            begun_at: self.shared.now(),
            server_keys: self.shared.server_keys.load().ids().map(str::to_owned).collect(),
            realms: realms
                .map(|realm| (realm.name.clone(), realm.issuer.clone()))
                .collect(),
        }
    }
}

/// A backup in progress.
struct Making {
    backups: Arc<Backups>,
    principal: Principal,
    sender: mpsc::Sender<Result<BackupPart, BackupError>>,
}

impl Making {
    /// Holds the turn until no task works for the backup any longer.
    async fn run(self, turn: OwnedMutexGuard<()>) {
        let made = self.make().await;
        {
            let mut state = self.backups.state.lock();
            state.is_running = false;
            match &made {
                Ok(made) => state.last = Some(last(made)),
                Err(_) => state.failed += 1,
            }
        }
        drop(turn);
        let part = made.map(|made| BackupPart::Made(Box::new(made)));
        match &part {
            Err(_) if self.sender.is_closed() => {
                tracing::warn!("no backup was made: the caller left");
            }
            Err(error) => tracing::warn!(%error, "no backup was made"),
            Ok(_) => {}
        }
        // There is no receiver if the caller has left.
        let _ = self.sender.send(part).await;
    }

    async fn make(&self) -> Result<MadeBackup, BackupError> {
        let packer = Arc::new(Mutex::new(Packer::default()));
        let head = self.backups.backup_head();
        packer.lock().add(&Item::Head(head.clone()))?;
        let end = self.backups.shared.store.back_up(self.visitor(&packer)).await;
        let end = end.map_err(|error| self.failed(error))?;
        let made_at = self.backups.shared.now();
        let (records, rest) = packer.lock().finish(end.clone(), made_at)?;
        for bytes in rest {
            self.give(bytes, records).await?;
        }
        let made = MadeBackup {
            head,
            tail: BackupTail {
                end,
                made_at,
                records,
            },
        };
        self.record(&made).await?;
        Ok(made)
    }

    /// Encodes on the thread of the store, and waits there for the caller to take it.
    fn visitor(&self, packer: &Arc<Mutex<Packer>>) -> tessera_store::BackupVisitor {
        let (packer, sender, runtime) = (Arc::clone(packer), self.sender.clone(), Handle::current());
        Box::new(move |record: BackupRecord| {
            let mut packer = packer.lock();
            if packer.add_record(record).is_err() {
                return ControlFlow::Break(());
            }
            while let Some(bytes) = packer.piece() {
                let records = packer.records;
                let part = Ok(BackupPart::Content { bytes, records });
                if runtime.block_on(sender.send_timeout(part, STALL_MAX)).is_err() {
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        })
    }

    async fn give(&self, bytes: Vec<u8>, records: u64) -> Result<(), BackupError> {
        let part = Ok(BackupPart::Content { bytes, records });
        let given = self.sender.send_timeout(part, STALL_MAX).await;
        given.map_err(|_| Unavailable::OutOfTime.into())
    }

    fn failed(&self, error: StoreBackupError) -> BackupError {
        match error {
            StoreBackupError::Busy => BackupError::Running,
            // The caller has left, or takes nothing.
            StoreBackupError::BrokenOff => Unavailable::OutOfTime.into(),
            StoreBackupError::Overtaken => BackupError::Overtaken,
            StoreBackupError::Store(error) => {
                if self.backups.shared.store.health().takes_writes {
                    tracing::error!(%error, "the backup could not read what is kept");
                }
                error.into()
            }
        }
    }

    /// Records that the backup was made.
    async fn record(&self, made: &MadeBackup) -> Result<(), StoreError> {
        let position = made.tail.end.last;
        let changes = Changes {
            audit: vec![
                self.principal
                    .record(made.tail.made_at, AuditAction::BackedUp { position }),
            ],
            settings: vec![SettingChange::BackedUp(last(made))],
            ..Changes::default()
        };
        self.backups.shared.store.write(changes).await.map(drop)
    }
}

fn last(made: &MadeBackup) -> LastBackup {
    LastBackup {
        at: made.tail.made_at,
        position: made.tail.end.last,
    }
}

/// Makes pieces of items.
#[derive(Default)]
struct Packer {
    content: Vec<u8>,
    records: u64,
}

impl Packer {
    fn add(&mut self, item: &Item) -> Result<(), BackupError> {
        let encoded = encode(item, &mut self.content);
        encoded.map_err(|_| Unavailable::Defect("a record can't be encoded for a backup").into())
    }

    fn add_record(&mut self, record: BackupRecord) -> Result<(), BackupError> {
        self.records += 1;
        self.add(&Item::Record(record))
    }

    /// A full piece, if there is one.
    fn piece(&mut self) -> Option<Vec<u8>> {
        if self.content.len() < PIECE_BYTES {
            return None;
        }
        let rest = self.content.split_off(PIECE_BYTES);
        Some(std::mem::replace(&mut self.content, rest))
    }

    /// Returns how many records there are, and the last pieces.
    fn finish(&mut self, end: BackupEnd, made_at: Timestamp) -> Result<(u64, Vec<Vec<u8>>), BackupError> {
        let records = self.records;
        self.add(&Item::Tail(BackupTail {
            end,
            made_at,
            records,
        }))?;
        let mut pieces = Vec::new();
        while let Some(piece) = self.piece() {
            pieces.push(piece);
        }
        pieces.push(std::mem::take(&mut self.content));
        Ok((records, pieces))
    }
}
