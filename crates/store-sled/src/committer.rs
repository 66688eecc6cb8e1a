//! The only thread that writes. It takes all units that wait, runs them one after the other, and makes their writes
//! durable together: one sync serves all of them.

use std::{
    iter, mem,
    sync::{Arc, Weak},
    thread,
    time::Instant,
};

use tessera_store::{
    CommittedGroup, Placed, PurgeReport, StoreError, UnitOfWork,
    backend::{Pauses, caught},
};
use tokio::sync::{mpsc, oneshot};

use super::{
    archiving::Archived,
    backup::turn::{Noted, Turn},
    disk::Disk,
    group::Group,
    purge::Purge,
    rows::Table,
    shared::Shared,
    state::State,
};

/// How many units one group has at most.
const GROUP_MAX: usize = 1024;

/// Work for the writer.
pub(super) enum Work {
    Unit {
        unit: UnitOfWork,
        answer: Answer<Placed>,
    },
    Purge {
        purge: Purge,
        answer: Answer<PurgeReport>,
    },
    /// Remove records from the rows that are in files now.
    Archived {
        archived: Archived,
        answer: Answer<()>,
    },
    /// Commit the background units without others.
    Background,
    /// A turn of a backup, between two groups.
    Backup(Turn),
    Close {
        answer: Answer<()>,
    },
}

/// The queues of the writer.
pub(super) struct Waiting {
    pub(super) work: mpsc::Receiver<Work>,
    /// Work that is committed with other work, and never by itself.
    pub(super) background: mpsc::Receiver<Work>,
}

pub(super) type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// An answer that waits until the group is durable. Answers of units that wrote nothing wait too: they may have seen
/// writes of this group.
enum Pending {
    Unit(Answer<Placed>, Result<Placed, StoreError>),
    Purge(Answer<PurgeReport>, PurgeReport),
    Archived(Answer<()>),
}

/// The writer.
struct Committer {
    disk: Disk,
    shared: Arc<Shared>,
    state: State,
    /// Where changed keys are noted for a backup in progress.
    noted: Weak<Noted>,
}

/// Starts the writer. It ends after [`Work::Close`], or when no sender is left.
pub(super) fn start(
    disk: Disk,
    shared: Arc<Shared>,
    state: State,
    waiting: Waiting,
) -> std::io::Result<thread::JoinHandle<()>> {
    let committer = Committer {
        disk,
        shared,
        state,
        noted: Weak::new(),
    };
    thread::Builder::new()
        .name("tessera-store".to_owned())
        .spawn(move || committer.serve(waiting))
}

impl Committer {
    fn serve(mut self, waiting: Waiting) {
        let Waiting {
            mut work,
            mut background,
        } = waiting;
        let mut closing = None;
        let mut before = 0;
        while closing.is_none() {
            let Some(first) = work.blocking_recv() else { break };
            let Gathered {
                work: mut group,
                between,
            } = Gathered::of(first, &mut work, before);
            before = group.len();
            let is_awaited = group.iter().any(|work| !matches!(work, Work::Background));
            group.extend(iter::from_fn(|| background.try_recv().ok()));
            if !group.is_empty() {
                self.shared.set_awaited(is_awaited);
                self.shared.set_committing(true);
                self.commit(group);
                self.shared.set_committing(false);
                self.shared.set_awaited(false);
            }
            match between {
                Some(Between::Close(answer)) => closing = Some(answer),
                Some(Between::Backup(turn)) => {
                    turn.run(self.disk.db(), &self.shared, &self.state, &mut self.noted);
                }
                None => {}
            }
        }
        // Callers that still wait, or send later, are told that the store is closed.
        drop((work, background));
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
        let began = Instant::now();
        let units = work
            .iter()
            .filter(|work| matches!(work, Work::Unit { .. }))
            .count();
        let finished = {
            let mut group = Group::new(
                self.disk.db(),
                &self.shared.log,
                &self.shared.api_keys,
                self.state.clone(),
            );
            for item in work {
                // A failure of the database ends the group. Units that did not run yet are dropped, which answers them.
                let ran = caught(|| run(item, &mut group)).map_err(|detail| StoreError::Failed { detail });
                pending.extend(ran.flatten()?);
            }
            if group.writes_nothing() {
                return Ok(());
            }
            group.finish(self.disk.next_group())?
        };
        self.shared.log.raise_floor(finished.state.meta.floor);
        self.shared.set_archive(finished.state.meta.archive);
        let mut finished = finished;
        let noted = self.noted.upgrade();
        let keys = noted.as_ref().map(|_| Noted::keys_of(&finished.rows));
        let changes_api_keys = finished.rows.keys().any(|key| Table::ApiKey.has(key));
        let writing = Instant::now();
        self.disk.commit(mem::take(&mut finished.rows))?;
        let synced = writing.elapsed();
        if changes_api_keys {
            self.shared.api_keys.clear();
        }
        if let (Some(noted), Some(keys)) = (noted, keys) {
            noted.note(keys);
        }
        let events = finished.events.clone();
        self.state = self.shared.publish(finished);
        self.shared.log.tell_observer(&CommittedGroup {
            units,
            took: began.elapsed(),
            synced,
            events: &events,
        });
        Ok(())
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

/// Work between two groups.
enum Between {
    Close(Answer<()>),
    Backup(Turn),
}

/// The work of one group.
struct Gathered {
    work: Vec<Work>,
    between: Option<Between>,
}

impl Gathered {
    /// `first` and the waiting work, up to an item that must run by itself. If the previous group was large, more will
    /// arrive.
    fn of(first: Work, waiting: &mut mpsc::Receiver<Work>, before: usize) -> Self {
        let mut gathered = Self {
            work: Vec::new(),
            between: None,
        };
        gathered.add(first);
        gathered.take(waiting);
        gathered.wait_for_more(waiting, before, || thread::sleep(Pauses::LENGTH));
        gathered
    }

    fn wait_for_more(&mut self, waiting: &mut mpsc::Receiver<Work>, before: usize, pause: impl Fn()) {
        let mut pauses = Pauses::after(before);
        while self.between.is_none() && pauses.wants(self.work.len()) {
            pause();
            self.take(waiting);
        }
    }

    fn take(&mut self, waiting: &mut mpsc::Receiver<Work>) {
        while self.between.is_none() && self.work.len() < GROUP_MAX {
            match waiting.try_recv() {
                Ok(work) => self.add(work),
                Err(_) => return,
            }
        }
    }

    fn add(&mut self, work: Work) {
        match work {
            Work::Close { answer } => self.between = Some(Between::Close(answer)),
            Work::Backup(turn) => self.between = Some(Between::Backup(turn)),
            work => self.work.push(work),
        }
    }
}

/// Runs one item over the writes of the earlier ones. An error is a failure of the database.
fn run(work: Work, group: &mut Group<'_>) -> Result<Option<Pending>, StoreError> {
    Ok(match work {
        Work::Unit { mut unit, answer } => Some(Pending::Unit(answer, group.run(&mut unit)?)),
        Work::Purge { purge, answer } => Some(Pending::Purge(answer, purge.run(group)?)),
        Work::Archived { archived, answer } => {
            archived.run(group)?;
            Some(Pending::Archived(answer))
        }
        // `serve` handles the last two.
        Work::Background | Work::Close { .. } | Work::Backup(_) => None,
    })
}

impl Pending {
    /// Sends the answer, or the failure of its group. The caller may have stopped waiting.
    fn answer(self, failure: Option<&StoreError>) {
        let failed = failure.cloned();
        match self {
            Self::Unit(answer, result) => drop(answer.send(failed.map_or(result, Err))),
            Self::Purge(answer, report) => drop(answer.send(failed.map_or(Ok(report), Err))),
            Self::Archived(answer) => drop(answer.send(failed.map_or(Ok(()), Err))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn the_writer_waits_while_calls_come_fast() {
        let (sender, mut waiting) = mpsc::channel(8);
        let pauses = Cell::new(0);
        let mut gathered = Gathered::of(Work::Background, &mut waiting, 0);
        gathered.wait_for_more(&mut waiting, GROUP_MAX, || {
            for _ in 0..[5, 1][pauses.get()] {
                sender.try_send(Work::Background).unwrap();
            }
            pauses.set(pauses.get() + 1);
        });
        assert_eq!((gathered.work.len(), pauses.get()), (7, 2));
    }

    #[test]
    fn it_does_not_wait_before_it_closes() {
        let (sender, mut waiting) = mpsc::channel(8);
        let (answer, _closed) = oneshot::channel();
        for work in [Work::Background, Work::Close { answer }, Work::Background] {
            sender.try_send(work).unwrap();
        }
        let mut gathered = Gathered::of(Work::Background, &mut waiting, 0);
        assert!(matches!(gathered.between, Some(Between::Close(_))));
        gathered.wait_for_more(&mut waiting, GROUP_MAX, || panic!("it waits"));
        assert_eq!((gathered.work.len(), waiting.len()), (2, 1));
    }
}
