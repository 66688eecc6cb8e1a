//! Errors of the database, and what they mean.

use std::fmt;

use tessera_store::StoreError;
use tokio_postgres::error::{DbError, Severity, SqlState};

/// A store can't be opened. Each message says what to do, and none contains the connection's password.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A setting can't be used.
    #[error("the setting `{setting}` {problem}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The database can't be reached, or refuses.
    #[error("the database can't be used: {detail}. {}", what_to_do(.detail))]
    Away {
        /// Its error.
        detail: String,
    },
    /// The database is read-only.
    #[error(
        "the database is read-only (a standby, or `default_transaction_read_only`): name the primary, or all hosts, so that the one that writes is found"
    )]
    ReadOnly,
    /// The server is too old.
    #[error("the server is PostgreSQL {found}, and version 15 or later is needed: upgrade it")]
    OldServer {
        /// Its version.
        found: String,
    },
    /// It is not PostgreSQL.
    #[error(
        "the server is {found}, and PostgreSQL 15 or later is needed: others lack its locks, or promise less"
    )]
    OtherServer {
        /// What it reports to be.
        found: String,
    },
    /// A pooler gives a session's connection to others.
    #[error(
        "a pooler before the database gives each transaction a connection of its own, so nothing of a session holds (settings, prepared statements): connect to PostgreSQL itself, or let the pooler keep one connection for each session (PgBouncer: pool_mode = session)"
    )]
    Pooled,
    /// The schema has tables of others.
    #[error("the schema `{schema}` has tables that are not Tessera's: choose another schema or database")]
    Foreign {
        /// The schema.
        schema: String,
    },
    /// The schema is missing or older, and must not be made or migrated.
    #[error(
        "the schema `{schema}` is at version {found}, and this version needs {known}: migrate it, or set migrate = \"auto\""
    )]
    OlderSchema {
        /// The schema.
        schema: String,
        /// Its version; 0 if there is none.
        found: i32,
        /// The required version.
        known: i32,
    },
    /// The schema was made by a newer version.
    #[error(
        "the schema `{schema}` is at version {found}, and this version knows up to {known}: use the version that made it, or a newer one"
    )]
    NewerSchema {
        /// The schema.
        schema: String,
        /// Its version.
        found: i32,
        /// The newest known version.
        known: i32,
    },
    /// A migration was changed after it had been applied.
    #[error(
        "migration {version} of the schema `{schema}` is not the one that this version has: use the version that made it, or a newer one"
    )]
    OtherMigration {
        /// The schema.
        schema: String,
        /// The migration.
        version: i32,
    },
    /// The target of a restore is not empty.
    #[error("the schema `{schema}` is not empty: restore into another schema or database")]
    NotEmpty {
        /// The schema.
        schema: String,
    },
    /// A restore into it was begun, and not finished.
    #[error(
        "a restore into the schema `{schema}` was begun and not finished, so what was revoked may be alive in it: run `tessera restore` with this configuration, or restore the backup into an empty schema"
    )]
    Restoring {
        /// The schema.
        schema: String,
    },
    /// The database loses what it acknowledges.
    #[error("durability = \"{wanted}\" is set, and {problem}: change the database, or the setting")]
    Durability {
        /// The requested durability.
        wanted: &'static str,
        /// What does not match.
        problem: String,
    },
    /// The lock that orders all writes does not exclude others here.
    #[error(
        "a second connection got the lock of the first: this is no PostgreSQL, or something between does not pass locks on; connect to PostgreSQL itself"
    )]
    NoLock,
    /// The stored data is inconsistent.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<tokio_postgres::Error> for OpenError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::away(describe(&error))
    }
}

/// The remedy, by the code in a server's error.
fn what_to_do(detail: &str) -> &'static str {
    let is_any = |codes: &[&str]| codes.iter().any(|code| detail.ends_with(&format!("({code})")));
    if is_any(&["53300"]) {
        "Let it have more connections (`max_connections`, or the limit of the role or database), or end others: a node uses up to 16"
    } else if is_any(&["53100"]) {
        "Its disk is full: make room there"
    } else if is_any(&["26000", "42P05", "08P01"]) {
        "Where a pooler is before it, connect to PostgreSQL itself, or let the pooler keep one connection for each session"
    } else if is_any(&["42883", "42704", "0A000"]) {
        "It lacks what is needed: use PostgreSQL 15 or later, and no pooler or database that is like it in part"
    } else if detail.contains("server does not support TLS") {
        "Let it have TLS (`ssl = on`); in a network that you trust, the url can have `sslmode=disable`"
    } else if detail.contains("performing TLS handshake") {
        "Check the names in its certificate, and `ca`: the roots that its certificate is checked with"
    } else {
        "Check that it runs, and that the address, user and password are right"
    }
}

impl OpenError {
    fn away(detail: String) -> Self {
        // The library has no other name for this error.
        if detail.contains("does not allow writes") {
            return Self::ReadOnly;
        }
        Self::Away { detail }
    }
}

impl From<Failure> for OpenError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Away(detail) | Failure::Refused { detail, .. } => Self::away(detail),
            Failure::Store(error) => Self::Store(error),
        }
    }
}

/// A statement failed.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The connection is lost. What was sent may have been done.
    Away(String),
    /// The server refused a statement: its transaction is void.
    Refused { code: SqlState, detail: String },
    /// Data that was read, or that is to be written, is invalid.
    Store(StoreError),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away(detail) | Self::Refused { detail, .. } => f.write_str(detail),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        let detail = describe(&error);
        match error.as_db_error() {
            Some(refused) if !is_fatal(refused) => Self::Refused {
                code: refused.code().clone(),
                detail,
            },
            Some(_) => Self::Away(detail),
            // The value of a column does not have the requested type: the schema is a different one.
            None if !error.is_closed() && is_conversion(&error) => {
                Self::Store(StoreError::Damaged { detail })
            }
            None => Self::Away(detail),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Away(detail) => Self::Unavailable { detail },
            Failure::Refused { code, detail } if is_passing(&code) => Self::Unavailable { detail },
            Failure::Refused { detail, .. } => Self::Failed { detail },
            Failure::Store(error) => error,
        }
    }
}

impl Failure {
    /// Whether the same work may succeed a moment later, on this connection or another.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Away(_) => true,
            Self::Refused { code, .. } => is_passing(code),
            Self::Store(_) => false,
        }
    }

    /// Whether the server may refuse only one unit of a group. If it refuses all units, as without a lock in time, each
    /// unit alone would wait without success.
    pub(crate) fn is_of_one_unit(&self) -> bool {
        matches!(self, Self::Refused { .. }) && !self.is_passing()
    }

    /// Whether a row exists already that was treated as new.
    pub(crate) fn is_duplicate(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == SqlState::UNIQUE_VIOLATION)
    }
}

/// Locks that were not granted in time, deadlocks, a lack of resources, a shutdown, a standby: conditions, not defects.
fn is_passing(code: &SqlState) -> bool {
    let class = code.code().get(..2).unwrap_or_default();
    matches!(class, "08" | "40" | "53" | "55" | "57" | "58") || *code == SqlState::READ_ONLY_SQL_TRANSACTION
}

fn is_fatal(error: &DbError) -> bool {
    matches!(error.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
}

fn is_conversion(error: &tokio_postgres::Error) -> bool {
    let text = error.to_string();
    text.starts_with("error deserializing") || text.starts_with("error serializing")
}

/// The message of an error, without its subject: a detail of the server can contain the values of a row.
fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(refused) => format!("{} ({})", refused.message(), refused.code().code()),
        None => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(error);
            while let Some(cause) = source {
                let cause_text = cause.to_string();
                if !text.contains(&cause_text) {
                    text = format!("{text}: {cause_text}");
                }
                source = cause.source();
            }
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_refuses_passes_or_is_of_one_unit() {
        let refused = |code: SqlState| Failure::Refused {
            code,
            detail: String::new(),
        };
        let cases = [
            (refused(SqlState::LOCK_NOT_AVAILABLE), true, false),
            (refused(SqlState::TOO_MANY_CONNECTIONS), true, false),
            (refused(SqlState::DISK_FULL), true, false),
            (refused(SqlState::READ_ONLY_SQL_TRANSACTION), true, false),
            (refused(SqlState::CHECK_VIOLATION), false, true),
            (refused(SqlState::from_code("TS001")), false, true),
            (Failure::Away(String::new()), true, false),
            (Failure::Store(StoreError::Closed), false, false),
        ];
        for (failure, passes, is_of_one_unit) in cases {
            assert_eq!(
                (failure.is_passing(), failure.is_of_one_unit()),
                (passes, is_of_one_unit),
                "{failure:?}"
            );
        }
    }
}
