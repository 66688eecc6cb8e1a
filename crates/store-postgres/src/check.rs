//! Checks of a database before it is used.

use deadpool_postgres::ClientWrapper;
use tokio_postgres::SimpleQueryMessage;

use crate::{
    anew::IS_MARKED,
    connect::{Connection, Connector},
    error::OpenError,
    options::PostgresOptions,
    state::number,
};

/// The oldest version of PostgreSQL.
const VERSION_MIN: i32 = 150_000;
/// A lock that no store uses.
const LOCK: i64 = 0x7465_7373_6572_61ff;

/// How often to check that a session keeps its connection: a pooler may return the same one by chance.
const LOOKS: usize = 3;
const PROCESS: &str = "SELECT pg_backend_pid()";

/// Refuses a pooler that gives the connection of a session to others between its transactions. Nothing is prepared
/// before this check, since that could fail at such a pooler.
pub(crate) async fn session(first: &Connection, connector: &Connector) -> Result<(), OpenError> {
    let second = connector.open_any().await?;
    for _ in 0..LOOKS {
        let before = process(&first.client, PROCESS).await?;
        let other = process(&second.client, &format!("BEGIN; {PROCESS}")).await?;
        let after = process(&first.client, PROCESS).await?;
        second.client.batch_execute("ROLLBACK").await?;
        if before != after || before == other {
            return Err(OpenError::Pooled);
        }
    }
    Ok(())
}

/// The process that serves a connection.
async fn process(client: &ClientWrapper, sql: &str) -> Result<String, OpenError> {
    let told = client.simple_query(sql).await?;
    let mut rows = told.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    Ok(rows.next().unwrap_or_default().to_owned())
}

/// Refuses a server that can't be used, whatever the schema is.
pub(crate) async fn server(client: &ClientWrapper) -> Result<(), OpenError> {
    let whole: String = client.query_one("SELECT version()", &[]).await?.try_get(0)?;
    if !whole.starts_with("PostgreSQL ") {
        let found = whole.split(" (").next().unwrap_or_default().to_owned();
        return Err(OpenError::OtherServer { found });
    }
    let sql = "SELECT current_setting('server_version_num')::int, current_setting('server_version'), \
        pg_is_in_recovery() OR current_setting('transaction_read_only')::bool";
    let row = client.query_one(sql, &[]).await?;
    let (version, name): (i32, String) = (row.try_get(0)?, row.try_get(1)?);
    if version < VERSION_MIN {
        return Err(OpenError::OldServer { found: name });
    }
    if row.try_get(2)? {
        return Err(OpenError::ReadOnly);
    }
    Ok(())
}

/// Proves with a second connection that the lock which orders all writes excludes others.
pub(crate) async fn lock(first: &Connection, connector: &Connector, key: u64) -> Result<(), OpenError> {
    let key = number(key & 0x7fff_ffff_ffff_ff00) ^ LOCK;
    let second = connector.open().await?;
    first.client.batch_execute("BEGIN").await?;
    let proved = prove(first, &second, key).await;
    first.client.batch_execute("ROLLBACK").await?;
    if proved? { Ok(()) } else { Err(OpenError::NoLock) }
}

async fn prove(first: &Connection, second: &Connection, key: i64) -> Result<bool, OpenError> {
    let mut attempts = 0;
    // Another node may run the same check.
    let took = loop {
        if try_lock(&first.client, key).await? || attempts == 50 {
            break attempts < 50;
        }
        attempts += 1;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    Ok(took && !try_lock(&second.client, key).await?)
}

async fn try_lock(client: &ClientWrapper, key: i64) -> Result<bool, OpenError> {
    let row = client
        .query_one("SELECT pg_try_advisory_xact_lock($1)", &[&key])
        .await?;
    Ok(row.try_get(0)?)
}

/// Refuses a schema in which a restore was begun and not finished: revoked tokens and keys may be valid in it.
pub(crate) async fn is_whole(client: &ClientWrapper, options: &PostgresOptions) -> Result<(), OpenError> {
    let is_marked: bool = client.query_one(IS_MARKED, &[]).await?.try_get(0)?;
    if is_marked && !options.restores {
        return Err(OpenError::Restoring {
            schema: options.schema.clone(),
        });
    }
    Ok(())
}
