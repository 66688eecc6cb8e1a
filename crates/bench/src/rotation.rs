//! Rotations of rows by the bare group program: the baseline of refreshes on PostgreSQL.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio_postgres::NoTls;
use tonic::Status;
use uuid::Uuid;

use crate::{bare::Bare, failure::Failure};

/// The table of its rows; `group` fills it with a copy of the authority's sessions.
pub(crate) const TABLE: &str = "tessera_bench.rotation";

/// The program, and the rows that it rotates, each in turn.
pub(crate) struct Rotations {
    bare: Bare,
    ids: Vec<Uuid>,
    next: AtomicUsize,
}

impl Rotations {
    /// Starts the program with the rows that are in the table now.
    pub(crate) async fn start(url: &str) -> Result<Arc<Self>, Failure> {
        let failed = |error| Failure::at("starting the bare group program", error);
        Ok(Arc::new(Self {
            bare: Bare::start(url, TABLE).await.map_err(failed)?,
            ids: ids(url).await.map_err(failed)?,
            next: AtomicUsize::new(0),
        }))
    }

    /// Reads and writes the next row, and returns when that is committed.
    pub(crate) async fn rotate(&self) -> Result<(), Status> {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let id = next.checked_rem(self.ids.len()).and_then(|at| self.ids.get(at));
        let id = id.ok_or_else(|| Status::not_found("there are no rows to rotate"))?;
        self.bare.rotate(*id).await.map_err(Status::unavailable)
    }
}

/// In an order that has nothing to do with the order in the table, like that of the sessions that are refreshed:
/// neighbours on a page are cheaper.
async fn ids(url: &str) -> Result<Vec<Uuid>, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    let rows = client
        .query(
            &format!("SELECT id FROM {TABLE} ORDER BY hashtext(id::text)"),
            &[],
        )
        .await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}
