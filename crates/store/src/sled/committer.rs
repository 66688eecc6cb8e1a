//! The one thread that writes. It takes all jobs that wait, runs them one after the other, and makes
//! what they wrote durable together: one sync serves them all.

use std::{iter, sync::Arc, thread};

use tokio::sync::{mpsc, oneshot};

use super::{
    archiving::Archived,
    disk::Disk,
    purge::Purge,
    rows::Meta,
    shared::Shared,
    stage::{Finished, Group, Stage},
};
use crate::{
    caught::caught,
    error::StoreError,
    store::{Job, PurgeReport},
    times::Times,
};

/// How many jobs one group has at most.
const GROUP_MAX: usize = 1024;

/// Something for the writer to do.
pub(super) enum Work {
    Job {
        job: Job,
        answer: Answer<()>,
    },
    Purge {
        purge: Purge,
        answer: Answer<PurgeReport>,
    },
    /// Take records out of the rows that are in files now.
    Archived {
        archived: Archived,
        answer: Answer<()>,
    },
    /// Let those that wait patiently go without others.
    Patience,
    Close {
        answer: Answer<()>,
    },
}

/// What waits for the writer.
pub(super) struct Waiting {
    pub(super) work: mpsc::Receiver<Work>,
    /// Work that goes with that of others, and never by itself.
    pub(super) patient: mpsc::Receiver<Work>,
}

pub(super) type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// An answer that waits for the group to be durable. Those of jobs that failed or only read wait too:
/// what they saw may be of this group.
enum Pending {
    Job(Answer<()>, Result<(), StoreError>),
    Purge(Answer<PurgeReport>, Result<PurgeReport, StoreError>),
}

/// The writer.
struct Committer {
    disk: Disk,
    shared: Arc<Shared>,
    meta: Meta,
    times: Times,
}

/// Starts the writer. It ends after [`Work::Close`], or when nobody can send it work any more.
pub(super) fn start(
    disk: Disk,
    shared: Arc<Shared>,
    meta: Meta,
    waiting: Waiting,
) -> std::io::Result<thread::JoinHandle<()>> {
    let times = shared.times();
    let committer = Committer {
        disk,
        shared,
        meta,
        times,
    };
    thread::Builder::new()
        .name("tessera-store".to_owned())
        .spawn(move || committer.serve(waiting))
}

impl Committer {
    fn serve(mut self, waiting: Waiting) {
        let Waiting {
            mut work,
            mut patient,
        } = waiting;
        let mut closing = None;
        while closing.is_none() {
            let Some(first) = work.blocking_recv() else { break };
            let mut group = Vec::new();
            let mut next = Some(first);
            while let Some(item) = next {
                match item {
                    Work::Close { answer } => {
                        closing = Some(answer);
                        break;
                    }
                    item => group.push(item),
                }
                next = if group.len() < GROUP_MAX {
                    work.try_recv().ok()
                } else {
                    None
                };
            }
            let is_awaited = group.iter().any(|work| !matches!(work, Work::Patience));
            group.extend(iter::from_fn(|| patient.try_recv().ok()));
            self.shared.set_awaited(is_awaited);
            self.shared.set_committing(true);
            self.commit(group);
            self.shared.set_committing(false);
            self.shared.set_awaited(false);
        }
        // Whoever still waits, or sends later, is answered that the store is closed.
        drop((work, patient));
        let result = self.close();
        if let Some(answer) = closing {
            let _ = answer.send(result);
        }
    }

    fn commit(&mut self, work: Vec<Work>) {
        let mut pending = Vec::with_capacity(work.len());
        let result = if self.shared.is_healthy() {
            self.run_group(work, &mut pending)
        } else {
            // Dropping the work answers it.
            drop(work);
            Err(StoreError::Closed)
        };
        if let Err(error) = &result {
            self.shared.fail(error);
        }
        pending
            .into_iter()
            .for_each(|pending| pending.answer(result.as_ref().err()));
    }

    fn run_group(&mut self, work: Vec<Work>, pending: &mut Vec<Pending>) -> Result<(), StoreError> {
        let mut group = Group::new(self.meta, self.times.clone());
        for item in work {
            // A failure of the database ends the group; what was not run yet is dropped, which answers it.
            self.run_work(item, &mut group, pending)?;
        }
        if group.writes_nothing() {
            return Ok(());
        }
        let Finished {
            changes,
            events,
            meta,
            times,
        } = group.finish(self.disk.next_group())?;
        self.shared.raise_floor(meta.floor);
        self.shared.set_archive(meta.archive);
        self.disk.commit(changes)?;
        self.shared.publish(events, &meta, &times);
        (self.meta, self.times) = (meta, times);
        Ok(())
    }

    fn run_work(&self, work: Work, group: &mut Group, pending: &mut Vec<Pending>) -> Result<(), StoreError> {
        match work {
            Work::Job { mut job, answer } => {
                let (result, failure) = self.run_job(group, |stage| job(stage));
                pending.push(Pending::Job(answer, result));
                failure
            }
            Work::Purge { purge, answer } => {
                let (result, failure) = self.run_job(group, |stage| purge.run(stage));
                pending.push(Pending::Purge(answer, result));
                failure
            }
            Work::Archived { archived, answer } => {
                let (result, failure) = self.run_job(group, |stage| archived.run(stage));
                pending.push(Pending::Job(answer, result));
                failure
            }
            // `serve` keeps the latter.
            Work::Patience | Work::Close { .. } => Ok(()),
        }
    }

    /// Runs one job, and keeps what it wrote where it answers Ok. The second value is a failure of the
    /// database itself, whatever the job made of it.
    fn run_job<T>(
        &self,
        group: &mut Group,
        job: impl FnOnce(&mut Stage<'_>) -> Result<T, StoreError>,
    ) -> (Result<T, StoreError>, Result<(), StoreError>) {
        let mut stage = Stage::new(self.disk.db(), group, &self.shared.revocations);
        let result = match caught(|| job(&mut stage)) {
            Ok(result) => result,
            Err(panic) => Err(StoreError::Failed {
                detail: format!("a job {panic}"),
            }),
        };
        match stage.finish() {
            Err(failure) => (result, Err(failure)),
            Ok(staged) => {
                if result.is_ok() {
                    group.merge(staged, &self.shared.revocations);
                }
                (result, Ok(()))
            }
        }
    }

    fn close(self) -> Result<(), StoreError> {
        if self.shared.close() {
            self.disk.close()
        } else {
            self.disk.leave();
            Err(StoreError::Failed {
                detail: "it failed before; what was acknowledged is safe".to_owned(),
            })
        }
    }
}

impl Pending {
    /// Sends the answer, or the failure of its group. That nobody listens any more is no concern.
    fn answer(self, failure: Option<&StoreError>) {
        match self {
            Self::Job(answer, result) => {
                let _ = answer.send(failure.map_or(result, |error| Err(error.clone())));
            }
            Self::Purge(answer, result) => {
                let _ = answer.send(failure.map_or(result, |error| Err(error.clone())));
            }
        }
    }
}
