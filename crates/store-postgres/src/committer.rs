//! The writers. Each takes all units that wait, runs them as one transaction under the lock that orders all nodes'
//! writes, and answers once that is committed. Two writers alternate: one gathers units and waits for the lock while
//! the other commits.

mod attempt;
mod waiting;

use std::{
    iter,
    sync::Arc,
    time::{Duration, Instant},
};

use tessera_store::{StoreError, backend::Pauses};
use tokio::{
    sync::{Mutex, mpsc},
    time::sleep,
};

use self::attempt::{Answers, Attempt, Doubt, attempt, resolve};
pub(crate) use self::waiting::Waiting;
use crate::{connect::Connection, error::Failure, node::Node, read_set::ReadSet};

/// How many units one group has at most.
const GROUP_MAX: usize = 1024;
/// How long a writer waits before it tries again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Work for a writer.
pub(crate) enum Work {
    Unit(Box<Waiting>),
    /// Commit the background units without others.
    Background,
}

/// The queues of the writers.
pub(crate) struct Queue {
    work: mpsc::Receiver<Work>,
    /// Units that are committed with others, and never by themselves.
    background: mpsc::Receiver<Waiting>,
    /// How many units the previous group had.
    before: usize,
}

/// One of the writers.
pub(crate) struct Writer {
    pub(crate) number: usize,
    pub(crate) node: Arc<Node>,
    pub(crate) queue: Arc<Mutex<Queue>>,
    pub(crate) connection: Option<Connection>,
}

impl Queue {
    pub(crate) fn new(work: mpsc::Receiver<Work>, background: mpsc::Receiver<Waiting>) -> Self {
        Self {
            work,
            background,
            before: 0,
        }
    }

    /// The next group; `None` once no sender is left.
    async fn next(&mut self) -> Option<Vec<Waiting>> {
        let mut group = Vec::new();
        group.extend(self.work.recv().await?.unit());
        self.take(&mut group);
        let mut pauses = Pauses::after(self.before);
        while pauses.wants(group.len()) {
            sleep(Pauses::LENGTH).await;
            self.take(&mut group);
        }
        self.before = group.len();
        group.extend(iter::from_fn(|| self.background.try_recv().ok()));
        Some(group)
    }

    /// Takes what waits.
    fn take(&mut self, group: &mut Vec<Waiting>) {
        while group.len() < GROUP_MAX
            && let Ok(work) = self.work.try_recv()
        {
            group.extend(work.unit());
        }
    }
}

impl Work {
    fn unit(self) -> Option<Waiting> {
        match self {
            Self::Unit(waiting) => Some(*waiting),
            Self::Background => None,
        }
    }
}

impl Writer {
    /// Commits groups until no sender is left.
    pub(crate) async fn serve(mut self) {
        loop {
            // The lock is not held while the group commits: the other writer gathers units meanwhile.
            let next = self.queue.lock().await.next().await;
            let Some(mut group) = next else { return };
            group.retain(|waiting| !waiting.is_abandoned());
            if !group.is_empty() {
                self.node.set_committing(self.number, true);
                self.commit(group).await;
                self.node.set_committing(self.number, false);
            }
        }
    }

    /// Commits a group, and answers each of its units.
    async fn commit(&mut self, mut group: Vec<Waiting>) {
        match self.committed(&mut group).await {
            Ok(answers) => {
                for (waiting, answer) in group.into_iter().zip(answers) {
                    // The caller may have stopped waiting.
                    let _ = waiting.answer.send(answer);
                }
            }
            // The database refuses a write of one unit: the other units must not fail with it.
            Err(failure) if failure.is_of_one_unit() && group.len() > 1 => {
                for waiting in group {
                    Box::pin(self.commit(vec![waiting])).await;
                }
            }
            Err(failure) => {
                let error = StoreError::from(failure);
                tracing::warn!(%error, units = group.len(), "a group was not committed");
                for waiting in group {
                    let _ = waiting.answer.send(Err(error.clone()));
                }
            }
        }
    }

    /// Tries until the group is committed, or can't be, or no caller waits for it any longer.
    async fn committed(&mut self, group: &mut [Waiting]) -> Result<Answers, Failure> {
        let deadline = group.iter().map(|waiting| waiting.deadline).max();
        let mut tries = Tries::default();
        loop {
            let failure = match self.try_once(group, &mut tries).await {
                Ok(Some(answers)) => return Ok(answers),
                Ok(None) => continue,
                Err(failure) => failure,
            };
            // The transaction ends with its connection, in any state.
            self.connection = None;
            self.node.ensure_open()?;
            let is_late = deadline.is_none_or(|deadline| deadline <= Instant::now());
            if is_late || !failure.is_passing() {
                return Err(failure);
            }
            tracing::warn!(%failure, is_in_doubt = tries.doubt.is_some(), "a group is tried again");
            sleep(RETRY_PAUSE).await;
        }
    }

    /// Tries once, or finds out the result of the previous try. Returns `None` if the next try may succeed at once.
    async fn try_once(
        &mut self,
        group: &mut [Waiting],
        tries: &mut Tries,
    ) -> Result<Option<Answers>, Failure> {
        let node = Arc::clone(&self.node);
        let connection = self.connection().await?;
        if let Some(doubt) = tries.doubt.take() {
            return match resolve(&node, connection, &doubt).await {
                Ok(true) => Ok(Some(doubt.answers)),
                Ok(false) => Ok(None),
                Err(failure) => {
                    tries.doubt = Some(doubt);
                    Err(failure)
                }
            };
        }
        match attempt(&node, connection, group, &tries.load).await? {
            Attempt::Committed(answers) => Ok(Some(answers)),
            Attempt::InDoubt(doubt, failure) => {
                tries.doubt = Some(doubt);
                Err(failure)
            }
            Attempt::Duplicate(_, failure) if tries.has_loaded => Err(failure),
            Attempt::Duplicate(sessions, _) => {
                // A session that was not loaded exists already: run the group again with those sessions loaded.
                tries.has_loaded = true;
                tries.load.sessions.extend(sessions);
                Ok(None)
            }
        }
    }

    /// The writer's connection; a new one if there is none.
    async fn connection(&mut self) -> Result<&Connection, Failure> {
        let current = self.connection.take();
        let current = current.filter(|connection| !connection.client.is_closed());
        let connection = match current {
            Some(connection) => connection,
            None => self.node.connector.open().await?,
        };
        Ok(self.connection.insert(connection))
    }
}

/// What is known of earlier tries of a group.
#[derive(Default)]
struct Tries {
    /// The previous try may be committed.
    doubt: Option<Doubt>,
    /// What is loaded in addition to the units' reads.
    load: ReadSet,
    has_loaded: bool,
}
