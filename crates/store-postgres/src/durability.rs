//! What a server does not lose once it has acknowledged it.

use deadpool_postgres::ClientWrapper;

use crate::{error::OpenError, options::Durability};

/// What an acknowledged answer survives, and the settings that ensure it.
#[derive(PartialEq, Eq)]
pub(crate) struct Survives {
    wanted: Durability,
    fsync: bool,
    pages: bool,
    standbys: String,
}

impl Survives {
    /// Asks a server, and refuses one that loses what it acknowledges.
    pub(crate) async fn at(client: &ClientWrapper, wanted: Durability) -> Result<Self, OpenError> {
        let sql = "SELECT current_setting('fsync')::bool, current_setting('full_page_writes')::bool, \
        current_setting('synchronous_standby_names')";
        let row = client.query_one(sql, &[]).await?;
        let found = Self {
            wanted,
            fsync: row.try_get(0)?,
            pages: row.try_get(1)?,
            standbys: row.try_get(2)?,
        };
        match found.problem() {
            None => Ok(found),
            Some(problem) => Err(OpenError::Durability {
                wanted: wanted.as_str(),
                problem: problem.to_owned(),
            }),
        }
    }

    fn problem(&self) -> Option<&'static str> {
        match self.wanted {
            Durability::Managed => None,
            _ if !self.fsync => Some("`fsync` is off, so a crash of the server loses what was acknowledged"),
            _ if !self.pages => {
                Some("`full_page_writes` is off, so a crash of the server can damage what was acknowledged")
            }
            Durability::Quorum if self.standbys.is_empty() => Some(
                "`synchronous_standby_names` is empty, so no standby has what was acknowledged when the primary is lost",
            ),
            Durability::Quorum | Durability::Local => None,
        }
    }

    /// Logs it.
    pub(crate) fn say(&self) {
        let survives = match self.wanted {
            Durability::Managed => "what the provider of the database says",
            Durability::Quorum => "the loss of the primary: a synchronous standby has it",
            Durability::Local if self.standbys.is_empty() => {
                "a crash of the server, and not the loss of its disk"
            }
            Durability::Local => {
                "a crash of the server, and the loss of its disk: a synchronous standby has it"
            }
        };
        tracing::info!(
            durability = self.wanted.as_str(),
            fsync = self.fsync,
            full_page_writes = self.pages,
            synchronous_standby_names = self.standbys,
            "an acknowledged answer survives {survives}"
        );
    }
}
