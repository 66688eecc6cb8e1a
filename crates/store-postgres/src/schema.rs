//! The schema: made, brought up to date, or refused.
//!
//! Migrations are embedded, and applied in order within one transaction under a lock, each with a row that has its
//! digest. The first version of a change only adds, so that nodes of the previous version keep running beside it.

use deadpool_postgres::ClientWrapper;
use tessera_store::StoreError;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    connect::Query,
    error::OpenError,
    options::{Migrate, PostgresOptions},
    partition,
    state::State,
};

/// The migrations, oldest first; the first has version 1.
const MIGRATIONS: [&str; 1] = [include_str!("migrations/0001_schema.sql")];

/// The lock that orders migrations of all schemas of a database: the letters of `tessera` as one number.
const LOCK: i64 = 0x7465_7373_6572_6100;

/// The newest version of the schema that is known.
pub(crate) fn known() -> i32 {
    i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX)
}

/// Makes the schema what this version needs, or returns the reason against it. Returns the version that it had; 0 if
/// there was none.
pub(crate) async fn prepare(client: &ClientWrapper, options: &PostgresOptions) -> Result<i32, OpenError> {
    client.batch_execute("BEGIN").await?;
    let prepared = within(client, options).await;
    let end = if prepared.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = client.batch_execute(end).await;
    let before = prepared?;
    ended?;
    Ok(before)
}

async fn within(client: &ClientWrapper, options: &PostgresOptions) -> Result<i32, OpenError> {
    let schema = &options.schema;
    client.batch_execute("SET LOCAL statement_timeout = 0").await?;
    client.query("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    let found = applied(client, schema).await?;
    let version = i32::try_from(found.len()).unwrap_or(i32::MAX);
    if version > known() {
        return Err(OpenError::NewerSchema {
            schema: schema.clone(),
            found: version,
            known: known(),
        });
    }
    for (migration, (digest, version)) in MIGRATIONS.iter().zip(found.iter().zip(1..)) {
        if *digest != digest_of(migration) {
            return Err(OpenError::OtherMigration {
                schema: schema.clone(),
                version,
            });
        }
    }
    if version == known() {
        return Ok(version);
    }
    if options.migrate == Migrate::Refuse {
        return Err(OpenError::OlderSchema {
            schema: schema.clone(),
            found: version,
            known: known(),
        });
    }
    if version == 0 {
        begin(client, schema).await?;
    }
    for (migration, version) in MIGRATIONS.iter().zip(1..).skip(found.len()) {
        client.batch_execute(migration).await?;
        let digest = digest_of(migration);
        let note = "INSERT INTO migration (version, digest) VALUES ($1, $2)";
        client.execute(note, &[&version, &digest]).await?;
        tracing::info!(schema, version, "the schema was migrated");
    }
    if version == 0 {
        fill(client).await?;
    }
    Ok(version)
}

/// The digests of the migrations that were applied; empty if the schema does not exist, or is empty.
async fn applied(client: &ClientWrapper, schema: &str) -> Result<Vec<String>, OpenError> {
    let tables = "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
        WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')";
    let tables: Vec<Row> = client.query(tables, &[&schema]).await?;
    let names: Vec<String> = tables.iter().filter_map(|row| row.try_get(0).ok()).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    if !["migration", "meta", "commit_group"]
        .iter()
        .all(|ours| names.iter().any(|name| name == ours))
    {
        return Err(OpenError::Foreign {
            schema: schema.to_owned(),
        });
    }
    let rows = client
        .query("SELECT digest FROM migration ORDER BY version", &[])
        .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

async fn begin(client: &ClientWrapper, schema: &str) -> Result<(), OpenError> {
    client
        .batch_execute(&format!(
            "CREATE SCHEMA IF NOT EXISTS {schema}; \
             CREATE TABLE migration (version integer PRIMARY KEY, digest text NOT NULL, \
             applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
        ))
        .await?;
    Ok(())
}

/// The first rows of a new log.
async fn fill(client: &ClientWrapper) -> Result<(), OpenError> {
    for table in partition::TABLES {
        partition::create(client, table, 0).await?;
    }
    let log = random_id()?;
    client
        .execute(
            "INSERT INTO meta (product, log_id) VALUES ('tessera', $1)",
            &[&log],
        )
        .await?;
    let Query { sql, values } = State::empty().insert(Uuid::nil())?;
    let values: Vec<_> = values
        .iter()
        .map(|value| value.as_ref() as &(dyn tokio_postgres::types::ToSql + Sync))
        .collect();
    client.execute(sql, &values).await?;
    Ok(())
}

/// A new id, of random bytes.
pub(crate) fn random_id() -> Result<Uuid, StoreError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| StoreError::Failed {
        detail: format!("no random bytes: {error}"),
    })?;
    Ok(uuid::Builder::from_random_bytes(bytes).into_uuid())
}

fn digest_of(migration: &str) -> String {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(migration.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
