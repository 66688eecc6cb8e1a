//! How to reach a store, and what is required of it.

use std::{fmt, time::Duration};

use zeroize::Zeroizing;

use crate::error::OpenError;

/// What an acknowledged answer must survive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The loss of the primary with its disk: a synchronous standby has the data.
    Quorum,
    /// A crash of the server: its disk has the data.
    #[default]
    Local,
    /// What the provider of the database guarantees. Nothing is checked.
    Managed,
}

impl Durability {
    /// The name in settings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quorum => "quorum",
            Self::Local => "local",
            Self::Managed => "managed",
        }
    }
}

/// What a start does if the schema is older than this version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Migrate {
    /// Brings it up to date.
    #[default]
    Auto,
    /// Refuses it.
    Refuse,
}

/// How a [`PostgresStore`](crate::PostgresStore) uses its database.
#[derive(Clone)]
pub struct PostgresOptions {
    url: Zeroizing<String>,
    password: Option<Zeroizing<String>>,
    /// The schema that has the tables.
    pub schema: String,
    /// What an acknowledged answer must survive.
    pub durability: Durability,
    /// What happens if the schema is older.
    pub migrate: Migrate,
    /// The certificates that verify the server's certificate, as PEM; `None` uses those of the system.
    pub roots: Option<Vec<u8>>,
    /// The name of this node in displays: by default the machine's name, and the number of the process.
    pub node: String,
    /// Whether it is opened, or made from a backup, to end everything in it: other opens are refused until that is
    /// done.
    pub restores: bool,
    /// How many connections are used for reading, at most.
    pub readers: usize,
    /// How long a unit of work is retried while the database is unavailable.
    pub commit_timeout: Duration,
}

impl PostgresOptions {
    /// Options for a connection string: `postgresql://user:password@host1,host2/database?…`, or `host=… user=…`.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self {
            url: Zeroizing::new(url.to_owned()),
            password: None,
            schema: "tessera".to_owned(),
            durability: Durability::default(),
            migrate: Migrate::default(),
            roots: None,
            node: name_of_node(),
            restores: false,
            readers: 8,
            commit_timeout: Duration::from_secs(10),
        }
    }

    /// Connects with this password instead of the one in the connection string.
    pub fn set_password(&mut self, password: &str) {
        self.password = Some(Zeroizing::new(password.to_owned()));
    }

    /// Whether the connection string has a password.
    ///
    /// # Errors
    /// Fails if it is not a connection string.
    pub fn has_password(&self) -> Result<bool, OpenError> {
        Ok(self.config()?.get_password().is_some())
    }

    /// The parsed connection string, with the password.
    pub(crate) fn config(&self) -> Result<tokio_postgres::Config, OpenError> {
        // The parser's error could contain a part of the password.
        let parsed: Result<tokio_postgres::Config, _> = self.url().parse();
        let mut config = parsed.map_err(|_| OpenError::Setting {
            setting: "url",
            problem: "is no connection string of PostgreSQL".to_owned(),
        })?;
        if let Some(password) = &self.password {
            config.password(password.as_bytes());
        }
        Ok(config)
    }

    /// The connection string.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Checks that need no database.
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let of = |setting, problem: &str| OpenError::Setting {
            setting,
            problem: problem.to_owned(),
        };
        let mut letters = self.schema.bytes();
        let is_name = letters.next().is_some_and(|first| first.is_ascii_lowercase())
            && letters.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
            && self.schema.len() <= 40
            && !self.schema.starts_with("pg_");
        if !is_name {
            return Err(of(
                "schema",
                "is no name of up to 40 lower-case letters, digits and underscores",
            ));
        }
        if self.readers == 0 {
            return Err(of("readers", "is 0"));
        }
        Ok(())
    }
}

fn name_of_node() -> String {
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}:{}", machine.trim(), std::process::id())
}

/// Without the connection string, which has a password.
impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("schema", &self.schema)
            .field("durability", &self.durability)
            .field("migrate", &self.migrate)
            .field("node", &self.node)
            .field("readers", &self.readers)
            .field("commit_timeout", &self.commit_timeout)
            .finish_non_exhaustive()
    }
}
