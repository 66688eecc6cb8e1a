//! What is checked of a database before it is used.

use deadpool_postgres::ClientWrapper;

use crate::{
    anew::IS_MARKED,
    connect::{Connection, Connector},
    error::OpenError,
    options::PostgresOptions,
    state::number,
};

/// The oldest version of PostgreSQL.
const VERSION_MIN: i32 = 150_000;
/// A lock that no store takes.
const LOCK: i64 = 0x7465_7373_6572_61ff;

/// Refuses a server that can't be used, whatever the schema is.
pub(crate) async fn server(client: &ClientWrapper) -> Result<(), OpenError> {
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

/// Proves with a second connection that the lock which orders all writes keeps others out.
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
    // Another node may be at the same.
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

/// Refuses a schema in which a restore was begun and not finished: what was revoked may be alive in it.
pub(crate) async fn is_whole(client: &ClientWrapper, options: &PostgresOptions) -> Result<(), OpenError> {
    let is_marked: bool = client.query_one(IS_MARKED, &[]).await?.try_get(0)?;
    if is_marked && !options.restores {
        return Err(OpenError::Restoring {
            schema: options.schema.clone(),
        });
    }
    Ok(())
}
