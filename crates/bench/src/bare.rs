//! The bare group program: the least that a store of this kind can do, and so the baseline of one.
//!
//! It reads a row and writes it again, for all waiting callers in one transaction of two round trips, under an advisory
//! lock that is held until the commit. Two connections alternate, so that the lock does not idle for a round trip.
//!
//! The figures of the store on PostgreSQL use this file, too, so it uses nothing of this crate.

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_postgres::{Client, Error, NoTls, Statement, types::ToSql};
use uuid::Uuid;

/// How many callers share a transaction at most, as in a node.
const GROUP_MAX: usize = 1024;
/// How many callers may wait for the writers; further callers wait for a slot.
const WAITING_MAX: usize = 4096;
/// Connections that write in turn.
const WRITERS: usize = 2;

/// The program, running.
pub(crate) struct Bare {
    waiting: mpsc::Sender<Waiting>,
}

struct Waiting {
    id: Uuid,
    answer: oneshot::Sender<Result<(), String>>,
}

/// One of the connections, with its statements.
struct Writer {
    client: Client,
    begin: Statement,
    lock: Statement,
    read: Statement,
    write: Statement,
    commit: Statement,
}

impl Bare {
    /// Connects to the database at `url`, whose `table` has the rows, with an `id` and a `body`. It runs on the caller's
    /// runtime, and ends when it is dropped.
    pub(crate) async fn start(url: &str, table: &str) -> Result<Self, Error> {
        let (waiting, receiver) = mpsc::channel(WAITING_MAX);
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..WRITERS {
            let writer = Writer::connect(url, table).await?;
            tokio::spawn(writer.run(Arc::clone(&receiver)));
        }
        Ok(Self { waiting })
    }

    /// Reads and writes the row with this id. Returns when that is committed, or says why it is not.
    pub(crate) async fn rotate(&self, id: Uuid) -> Result<(), String> {
        let (answer, answered) = oneshot::channel();
        let ended = || "the writers have ended".to_owned();
        let sent = self.waiting.send(Waiting { id, answer }).await;
        sent.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }
}

impl Writer {
    async fn connect(url: &str, table: &str) -> Result<Self, Error> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(connection);
        let read = format!("SELECT id, body FROM {table} WHERE id = ANY($1)");
        let write = format!(
            "UPDATE {table} b SET body = n.body FROM unnest($1::uuid[], $2::bytea[]) AS n (id, body) WHERE b.id = n.id"
        );
        Ok(Self {
            begin: client.prepare("BEGIN").await?,
            lock: client.prepare("SELECT pg_advisory_xact_lock(7)").await?,
            read: client.prepare(&read).await?,
            write: client.prepare(&write).await?,
            commit: client.prepare("COMMIT").await?,
            client,
        })
    }

    async fn run(self, receiver: Arc<Mutex<mpsc::Receiver<Waiting>>>) {
        while let Some(group) = gather(&receiver).await {
            let ids = group.iter().map(|waiting| waiting.id).collect();
            let outcome = self.rotate(ids).await.map_err(|error| error.to_string());
            for waiting in group {
                // A caller that has gone needs no answer.
                let _ = waiting.answer.send(outcome.clone());
            }
        }
    }

    /// The two round trips: statements that are polled together are sent together.
    async fn rotate(&self, ids: Vec<Uuid>) -> Result<(), Error> {
        let client = &self.client;
        let named: [&(dyn ToSql + Sync); 1] = [&ids];
        let (_, _, rows) = tokio::try_join!(
            client.query(&self.begin, &[]),
            client.query(&self.lock, &[]),
            client.query(&self.read, &named),
        )?;
        let (mut ids, mut bodies) = (Vec::new(), Vec::new());
        for row in rows {
            ids.push(row.try_get::<_, Uuid>(0)?);
            bodies.push(row.try_get::<_, Vec<u8>>(1)?);
        }
        let values: [&(dyn ToSql + Sync); 2] = [&ids, &bodies];
        tokio::try_join!(
            client.query(&self.write, &values),
            client.query(&self.commit, &[]),
        )?;
        Ok(())
    }
}

/// All that wait, once one does. `None` if nobody can come any more.
async fn gather(receiver: &Mutex<mpsc::Receiver<Waiting>>) -> Option<Vec<Waiting>> {
    let mut receiver = receiver.lock().await;
    let mut group = vec![receiver.recv().await?];
    while group.len() < GROUP_MAX
        && let Ok(next) = receiver.try_recv()
    {
        group.push(next);
    }
    Some(group)
}
