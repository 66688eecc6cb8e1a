//! The database below the nodes, beside them: its rows, its transactions and its processor time.

use std::time::Duration;

use tokio_postgres::{Client, Error, NoTls};

use crate::{failure::Failure, process, rotation::TABLE};

/// A connection to it.
pub(crate) struct Database {
    client: Client,
    /// The number of its first process, if it runs on this machine.
    postmaster: Option<u32>,
}

impl Database {
    pub(crate) async fn connect(url: &str) -> Result<Self, Failure> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.map_err(failed)?;
        tokio::spawn(connection);
        let postmaster = postmaster(&client).await.map_err(failed)?;
        Ok(Self { client, postmaster })
    }

    /// Makes the table of the bare group program, with rows as many and as long as the sessions.
    pub(crate) async fn fill(&self) -> Result<(), Failure> {
        self.clear().await?;
        let schema = TABLE.split('.').next().unwrap_or_default();
        let statements = format!(
            "CREATE SCHEMA {schema}; \
             CREATE TABLE {TABLE} (id uuid PRIMARY KEY, body bytea NOT NULL) WITH (fillfactor = 75); \
             INSERT INTO {TABLE} SELECT id, body FROM tessera.session; \
             ANALYZE {TABLE}; ANALYZE tessera.session"
        );
        self.client.batch_execute(&statements).await.map_err(failed)
    }

    /// Removes that table.
    pub(crate) async fn clear(&self) -> Result<(), Failure> {
        let schema = TABLE.split('.').next().unwrap_or_default();
        let statement = format!("DROP SCHEMA IF EXISTS {schema} CASCADE");
        self.client.batch_execute(&statement).await.map_err(failed)
    }

    /// How many transactions have written something so far: those that read only get no number, and wait for no disk.
    pub(crate) async fn commits(&self) -> Result<u64, Failure> {
        let statement = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
        let row = self.client.query_one(statement, &[]).await.map_err(failed)?;
        let number: i64 = row.try_get(0).map_err(failed)?;
        Ok(u64::try_from(number).unwrap_or_default())
    }

    /// Whether its processor time can be read.
    pub(crate) fn is_here(&self) -> bool {
        self.postmaster.is_some()
    }

    /// The processor time of all its processes so far; nothing if they run elsewhere.
    pub(crate) fn cpu_time(&self) -> Result<Duration, Failure> {
        self.postmaster
            .map_or(Ok(Duration::ZERO), process::cpu_time_with_children)
    }
}

fn failed(error: Error) -> Failure {
    Failure::at("using the database", error)
}

/// The parent of the process that serves this connection. On another machine, or in another container, a process with
/// the same number would not have this connection in its title.
async fn postmaster(client: &Client) -> Result<Option<u32>, Error> {
    let statement = "SELECT pg_backend_pid(), coalesce(inet_client_port(), -1)";
    let row = client.query_one(statement, &[]).await?;
    let (process, port): (i32, i32) = (row.try_get(0)?, row.try_get(1)?);
    let read = |file| std::fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default();
    let from = match port {
        -1 => "[local]".to_owned(),
        port => format!("({port})"),
    };
    let title = read("cmdline");
    let is_it = title.starts_with("postgres:") && title.contains(&from);
    Ok(process::parent(&read("stat")).filter(|_| is_it))
}
