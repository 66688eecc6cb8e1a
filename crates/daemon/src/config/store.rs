//! `[store]`: the location of the state.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Deserializer};
use tessera_store_postgres::{Durability, Migrate, PostgresOptions};

use super::bounded::{Count, Time, optional_path, path};

/// `[store]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// The engine that stores it.
    #[serde(default)]
    pub engine: Engine,
    /// The data directory of sled; it is made if it is missing.
    #[serde(default, deserialize_with = "path")]
    pub path: PathBuf,
    /// Memory for cached pages of sled, in MiB.
    #[serde(default = "default_cache_mib")]
    pub cache_mib: Count<1, 1_048_576>,
    /// How long audit records are kept.
    #[serde(default = "default_audit_retention")]
    pub audit_retention: Time<3600, { 3650 * 86_400 }>,
    /// The database, if that is the engine.
    #[serde(default)]
    pub postgres: Option<PostgresConfig>,
}

/// The engine that stores the state.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// A directory of this machine, for one process.
    #[default]
    Sled,
    /// A database, for several equal nodes.
    Postgres,
}

/// `[store.postgres]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// The connection string. `TESSERA_POSTGRES_URL` in the environment takes precedence.
    #[serde(default)]
    pub url: Option<PostgresUrl>,
    /// The file with the password.
    #[serde(default, deserialize_with = "optional_path")]
    pub password_file: Option<PathBuf>,
    /// The schema that has the tables.
    #[serde(default = "default_schema")]
    pub schema: String,
    /// What an acknowledged answer must survive.
    #[serde(default)]
    pub durability: DurabilitySetting,
    /// What a start does if the schema is older.
    #[serde(default)]
    pub migrate: MigrateSetting,
    /// The certificate authorities that may have signed the server's certificate, as PEM; unset: those of the system.
    #[serde(default, deserialize_with = "optional_path")]
    pub ca: Option<PathBuf>,
    /// The name of this node, for people; unset: the machine's name and the process id.
    #[serde(default)]
    pub node: Option<String>,
}

/// A connection string without a password. Errors and `Debug` never show a password.
#[derive(Clone)]
pub struct PostgresUrl(pub(crate) String);

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgresUrl(..)")
    }
}

impl PostgresUrl {
    /// Reads a connection string.
    ///
    /// # Errors
    /// Fails if it is not one, or has a password; the error says what to do instead, and does not contain the text.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        match PostgresOptions::new(text).has_password() {
            Ok(false) => Ok(Self(text.to_owned())),
            Ok(true) => Err(
                "a password is in it: put that into a file, which `password_file` names, or all of it into the environment's TESSERA_POSTGRES_URL",
            ),
            Err(_) => Err("expected a connection string such as postgresql://tessera@db1,db2/tessera"),
        }
    }
}

impl<'de> Deserialize<'de> for PostgresUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // It is checked later with the rest: the error line here would show a password that is in no known form.
        String::deserialize(deserializer).map(Self)
    }
}

/// `durability`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DurabilitySetting {
    /// The loss of the primary with its disk.
    Quorum,
    /// A crash of the server.
    #[default]
    Local,
    /// Whatever the provider promises.
    Managed,
}

impl From<DurabilitySetting> for Durability {
    fn from(setting: DurabilitySetting) -> Self {
        match setting {
            DurabilitySetting::Quorum => Self::Quorum,
            DurabilitySetting::Local => Self::Local,
            DurabilitySetting::Managed => Self::Managed,
        }
    }
}

/// `migrate`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MigrateSetting {
    /// It brings the schema up to date.
    #[default]
    Auto,
    /// It refuses; `tessera store migrate` does it.
    Refuse,
}

impl From<MigrateSetting> for Migrate {
    fn from(setting: MigrateSetting) -> Self {
        match setting {
            MigrateSetting::Auto => Self::Auto,
            MigrateSetting::Refuse => Self::Refuse,
        }
    }
}

impl StoreConfig {
    /// Whether several nodes share the state.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.engine == Engine::Postgres
    }

    /// Checks the combination of settings.
    pub(super) fn check(&self) -> Result<(), String> {
        match self.engine {
            Engine::Sled if self.path.as_os_str().is_empty() => {
                Err("[store]: `path` is missing, the data directory".to_owned())
            }
            Engine::Postgres if self.postgres.is_none() => {
                Err("[store]: engine = \"postgres\" needs a section [store.postgres]".to_owned())
            }
            _ => self
                .postgres
                .iter()
                .flat_map(|postgres| &postgres.url)
                .try_for_each(|url| {
                    let problem = |problem| format!("[store.postgres]: `url`: {problem}");
                    PostgresUrl::parse(&url.0).map(drop).map_err(problem)
                }),
        }
    }

    /// The paths that it names.
    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let data = (self.engine == Engine::Sled).then_some(&mut self.path);
        let files = self.postgres.iter_mut();
        data.into_iter()
            .chain(files.flat_map(|postgres| postgres.password_file.iter_mut().chain(&mut postgres.ca)))
    }
}

fn default_schema() -> String {
    "tessera".to_owned()
}

fn default_cache_mib() -> Count<1, 1_048_576> {
    Count::of(256)
}

fn default_audit_retention() -> Time<3600, { 3650 * 86_400 }> {
    Time::of(std::time::Duration::from_secs(90 * 86_400))
}
