//! The configuration of `tessera serve`: one TOML file. A file with an unknown key is refused.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use tessera_authority::KeyRotation;
use tessera_core::{Realm, RealmName, read_small_text_or_pipe, secret};
use tessera_server::{HttpOptions, Limits};

mod address;
mod audit;
mod bounded;
mod fault;
mod realm;
mod sealer;
mod server;
mod store;
mod telemetry;

use crate::telemetry::LogFormat;

use bounded::{optional_path, path, paths};

pub use address::{Origin, PublicUrl};
pub use audit::{AuditConfig, SinkConfig, SinkFormat, SinkName, SinkUrl, SyslogAddress};
pub use bounded::{Count, Time};
pub use realm::{RealmConfig, check_issuer};
pub use sealer::{Label, Pkcs11Config, SealerConfig};
pub use server::ServerConfig;
pub use store::{DurabilitySetting, Engine, MigrateSetting, PostgresConfig, PostgresUrl, StoreConfig};
pub use telemetry::{CollectorUrl, Ratio, TelemetryConfig};

/// The configuration file can't be used. The message says where, and what was expected.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It can't be read.
    #[error("the configuration `{path}` can't be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// Its content is wrong.
    #[error("the configuration `{path}` is wrong: {message}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Line, column and what was expected.
        message: String,
    },
}

/// The whole file. Relative paths are relative to it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Sockets and bounds.
    #[serde(default)]
    pub server: ServerConfig,
    /// The location of the state.
    pub store: StoreConfig,
    /// The policy files.
    pub policy: PolicyConfig,
    /// The authority's own secret.
    pub keys: KeysConfig,
    /// The audit trail besides the data.
    #[serde(default)]
    pub audit: AuditConfig,
    /// Logging.
    #[serde(default)]
    pub log: LogConfig,
    /// Traces.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// The realms, by name.
    pub realms: BTreeMap<RealmName, RealmConfig>,
}

/// `[policy]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    /// The directory with `model.conf`, `catalogue.toml` and the rules.
    #[serde(deserialize_with = "path")]
    pub path: PathBuf,
    /// Whether a change in the directory is put in force automatically; otherwise only by SIGHUP and
    /// `tessera policy apply | reload`.
    #[serde(default = "yes")]
    pub watch: bool,
}

/// `[keys]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysConfig {
    /// The file with the server key (PASERK `k4.local.…`, or sealed). It is made at the first start. The environment's
    /// `TESSERA_SERVER_KEY` takes precedence, and then the file that its `TESSERA_SERVER_KEY_FILE` names.
    #[serde(deserialize_with = "path")]
    pub file: PathBuf,
    /// The file that tells whether the data directory is the latest one; `None`: beside `file`.
    #[serde(default, deserialize_with = "optional_path")]
    pub witness: Option<PathBuf>,
    /// Files with earlier server keys, which still open what they sealed.
    #[serde(default, deserialize_with = "paths")]
    pub previous: Vec<PathBuf>,
    /// What seals all of these at rest; `None`: they are not sealed.
    #[serde(default)]
    pub sealer: Option<SealerConfig>,
    /// How long a signing key signs before it is replaced; `None`: until `tessera key rotate`.
    #[serde(default)]
    pub rotate_every: Option<Time<3600, { 3650 * 86_400 }>>,
    /// How long a new signing key is published before it signs, at least.
    #[serde(default = "default_publish_for")]
    pub publish_for: Time<0, { 30 * 86_400 }>,
}

/// `[log]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// `text` or `json`.
    pub format: LogFormat,
}

impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = read_small_text_or_pipe(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let wrong = |message: String| ConfigError::Wrong {
            path: path.to_owned(),
            message,
        };
        let mut config: Self =
            toml::from_str(&text).map_err(|error| wrong(fault::without_values(&error, &text)))?;
        config
            .check()
            .map_err(|problem| wrong(secret::mask(&problem).into()))?;
        config.resolve(path.parent().unwrap_or(Path::new(".")));
        Ok(config)
    }

    /// The realms with their limits.
    #[must_use]
    pub fn realms(&self) -> Vec<Realm> {
        self.realms
            .iter()
            .map(|(name, realm)| Realm {
                name: name.clone(),
                kind: realm.kind,
                issuer: realm.issuer.clone(),
                limits: realm.limits(),
                on_policy_loss: realm.on_policy_loss,
            })
            .collect()
    }

    /// The server's bounds.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.server.limits()
    }

    /// How the HTTP endpoints are served.
    #[must_use]
    pub fn http(&self) -> HttpOptions {
        let origins = self.server.cors_origins.iter();
        HttpOptions {
            cors_origins: origins.map(|Origin(value)| value.clone()).collect(),
            proxies: self.server.proxies,
            public_url: self.server.public_url.clone().map(|PublicUrl(url)| url),
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.realms.is_empty() {
            return Err("[realms]: at least one realm is needed".to_owned());
        }
        self.store.check()?;
        for (name, realm) in &self.realms {
            realm
                .check()
                .map_err(|problem| format!("[realms.{name}]: {problem}"))?;
        }
        self.check_issuers()?;
        self.server.check()
    }

    /// Verifiers tell realms apart by the issuer.
    fn check_issuers(&self) -> Result<(), String> {
        let mut seen = BTreeMap::new();
        for (name, realm) in &self.realms {
            if let Some(other) = seen.insert(realm.issuer.as_str(), name) {
                return Err(format!(
                    "[realms.{name}]: `issuer` is that of [realms.{other}]: each realm needs its own"
                ));
            }
        }
        Ok(())
    }

    /// How signing keys replace each other.
    #[must_use]
    pub fn key_rotation(&self) -> KeyRotation {
        KeyRotation {
            publish_for: self.keys.publish_for.seconds(),
            every: self.keys.rotate_every.map(Time::seconds),
        }
    }

    fn resolve(&mut self, base: &Path) {
        let mut paths = vec![&mut self.policy.path, &mut self.keys.file];
        paths.extend(self.store.paths());
        paths.extend(&mut self.keys.previous);
        paths.extend(&mut self.keys.witness);
        paths.extend(self.keys.sealer.iter_mut().flat_map(SealerConfig::paths));
        if let Some(tls) = &mut self.server.tls {
            paths.extend([&mut tls.certificate, &mut tls.private_key]);
            paths.extend(&mut tls.client_ca);
        }
        paths.extend(self.telemetry.paths());
        paths.extend(self.audit.sinks.values_mut().flat_map(SinkConfig::paths));
        for path in paths {
            *path = base.join(&*path);
        }
    }
}

fn yes() -> bool {
    true
}

fn default_publish_for() -> Time<0, { 30 * 86_400 }> {
    Time::of(Duration::from_secs(KeyRotation::default().publish_for.0.into()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tessera_core::RealmLimits;

    use super::*;

    const EXAMPLE: &str = include_str!("../../../tessera.example.toml");

    fn read(text: &str) -> Result<Config, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tessera.toml");
        fs::write(&path, text).unwrap();
        Config::read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn the_example_is_right_and_spells_out_the_defaults() {
        let config = read(EXAMPLE).unwrap();
        let names: Vec<_> = config
            .realms()
            .iter()
            .map(|realm| realm.name.to_string())
            .collect();
        assert_eq!(names, ["production", "sandbox"]);
        let production = config.realms().remove(0);
        assert_eq!(production.limits, RealmLimits::default());
        assert_eq!(
            format!("{:?}", config.limits()),
            format!("{:?}", Limits::default())
        );
        assert_eq!(config.server.listen, ServerConfig::default().listen);
        assert!(config.http().proxies);
        let without = EXAMPLE.replacen("proxies = true", "proxies = false", 1);
        assert!(!read(&without).unwrap().http().proxies);
    }

    #[test]
    fn a_secret_in_the_wrong_place_is_not_repeated() {
        let secret = "tsk_production_0123456789abcdef0123456789abcdef";
        for (from, to) in [
            ("cache_mib = 256", format!("cache_mib = \"{secret}\"")),
            ("cache_mib = 256", format!("{secret} = 256")),
            ("cache_mib = 256", format!("cache_mib = x # {secret}")),
            ("kind = \"sandbox\"", format!("kind = \"{secret}\"")),
            ("[realms.sandbox]", format!("[realms.{secret}]")),
            ("[realms.sandbox]", format!("[{secret}]")),
            ("grace = \"10s\"", format!("grace = \"{secret}\"")),
            (
                "issuer = \"https://auth.example.org/production\"",
                format!("issuer = \"\"\n{secret}"),
            ),
            ("cors_origins = []", format!("cors_origins = [\"{secret}\"]")),
            (
                "trusted_proxies = []",
                format!("trusted_proxies = [\"{secret}\"]"),
            ),
            ("format = \"text\"", format!("format = \"{secret}\"")),
        ] {
            assert!(EXAMPLE.contains(from), "{from}");
            let said = read(&EXAMPLE.replacen(from, &to, 1)).err().unwrap_or_default();
            assert!(!said.contains("0123456789abcdef"), "{to}: {said}");
        }
    }

    #[test]
    fn no_value_is_repeated() {
        for (from, to) in [
            ("cache_mib = 256", "cache_mib = \"hunter2\""),
            ("cache_mib = 256", "cache_mib = hunter2"),
            ("kind = \"sandbox\"", "kind = \"hunter2\""),
            ("format = \"text\"", "format = \"hunter2\""),
            (
                "[policy]",
                "[telemetry]\nheaders = { authorization = \"hunter2\" }\n[policy]",
            ),
            (
                "[policy]",
                "[telemetry]\nendpoint = \"http://127.0.0.1:1/hunter2\"\n[policy]",
            ),
            (
                "[policy]",
                "[audit.sinks.siem]\nkind = \"http\"\nurl = \"https://x/?key=hunter2\"\ntokens = 3\n[policy]",
            ),
            (
                "[policy]",
                "[audit]\nsinks.siem = { kind = \"http\", url = \"https://x/?key=hunter2\", tokens = 3 }\n[policy]",
            ),
            ("[policy]", "\"hunter2 is it\" = 1\n[policy]"),
            ("[realms.sandbox]", "[realms.\"hunter2 is it\"]"),
            ("listen = \"127.0.0.1:7600\"", "listen = \"hunter2\""),
            ("grace = \"10s\"", "grace = \"hunter2\""),
        ] {
            let said = wrong(from, to);
            assert!(!said.contains("hunter2") && said.contains("line"), "{to}: {said}");
        }
        let said = read("STRIPE_KEY=\"sk_live_hunter2\"\n").unwrap_err();
        assert!(!said.contains("hunter2") && said.contains("STRIPE_KEY"), "{said}");
    }

    #[test]
    fn lives_of_api_keys_have_bounds() {
        let limits = "[realms.production]";
        let refused = |to: &str| {
            let with = EXAMPLE.replacen(limits, &format!("{limits}\n{to}"), 1);
            read(&with).unwrap_err()
        };
        for to in ["api_key_ttl_max = \"0s\"", "api_key_ttl_default = \"4000d\""] {
            let said = refused(to);
            assert!(
                said.contains("from 1m to 3650d") && said.contains("line"),
                "{said}"
            );
        }
        let swapped = refused("api_key_ttl_default = \"90d\"\napi_key_ttl_max = \"30d\"");
        assert!(
            swapped.contains("must not be longer than `api_key_ttl_max`"),
            "{swapped}"
        );
    }

    #[test]
    fn origins_that_browsers_send_are_taken() {
        let origins = [
            "https://app.example.org",
            "http://localhost:3000",
            "http://127.0.0.1:8080",
            "http://[::1]:8080",
            "https://app.example.org:8443",
            "http://[::1]:8080",
            "capacitor://localhost",
        ];
        for origin in origins {
            let text = EXAMPLE.replacen("cors_origins = []", &format!("cors_origins = [\"{origin}\"]"), 1);
            assert_eq!(read(&text).unwrap().http().cors_origins, [origin]);
        }
    }

    /// The error for the example with one of its texts replaced.
    fn wrong(from: &str, to: &str) -> String {
        assert!(EXAMPLE.contains(from), "{from}");
        read(&EXAMPLE.replacen(from, to, 1)).unwrap_err()
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let unknown = wrong("cache_mib", "cash_mib");
        assert!(
            unknown.contains("cash_mib") && unknown.contains("line"),
            "{unknown}"
        );
        let grace = wrong("grace = \"10s\"", "grace = \"61s\"");
        assert!(
            grace.contains("from 0s to 1m") && grace.contains("line"),
            "{grace}"
        );
        let never = wrong("idle_ttl = \"30d\"", "idle_ttl = \"0s\"");
        assert!(
            never.contains("from 1s to 3650d") && never.contains("line"),
            "{never}"
        );
        assert!(wrong("kind = \"production\"", "kind = \"live\"").contains("production"));
        assert!(wrong("access_ttl = \"1h\"", "access_ttl = \"1 hour\"").contains("90s"));
        assert!(wrong("access_ttl = \"1h\"", "access_ttl = \"25h\"").contains("access_ttl_max"));
        let huge = wrong("connections_max = 4096", "connections_max = 9223372036854775807");
        let before = EXAMPLE.split("connections_max = 4096").next().unwrap();
        let line = format!("line {}", before.lines().count() + 1);
        assert!(
            huge.contains(&line) && huge.contains("from 1 to 1000000"),
            "{huge}"
        );
        let none = wrong("connections_max = 4096", "connections_max = 0");
        assert!(none.contains("connections_max"), "{none}");
        let negative = wrong("calls_in_flight_max = 4096", "calls_in_flight_max = -1");
        assert!(negative.contains("from 1 to 1000000"), "{negative}");
        let long = wrong("call_time_max = \"30s\"", "call_time_max = \"30d\"");
        assert!(long.contains("from 1s to 1h"), "{long}");
        for (to, said) in [
            ("", "not an empty text"),
            ("da\\u0000ta", "NUL"),
            (&"x".repeat(300), "too long"),
            (&"x/".repeat(3000), "too long"),
        ] {
            let refused = wrong("path = \"data\"", &format!("path = \"{to}\""));
            assert!(refused.contains(said) && refused.contains("line"), "{refused}");
        }
    }

    #[test]
    fn addresses_that_are_none_are_named_with_their_place() {
        let name = wrong("127.0.0.1:7600", "localhost:7600");
        assert!(name.contains("an IP address and a port"), "{name}");
        let same = wrong("127.0.0.1:7601", "127.0.0.1:7600");
        assert!(
            same.contains("probes and metrics need one of their own"),
            "{same}"
        );
        let issuers = wrong("example.org/sandbox", "example.org/production");
        assert!(issuers.contains("each realm needs its own"), "{issuers}");
        let range = wrong("trusted_proxies = []", "trusted_proxies = [\"10.0.0.1/8\"]");
        assert!(range.contains("10.0.0.0/8") && range.contains("line"), "{range}");
        for origin in [
            "app.example.org",
            "ws://app.example.org",
            "https://127.1",
            "https://0x7f000001",
            "http://[0:0::1]",
            "https://app.example.org/",
            "https://app.example.org/login",
            "https://App.example.org",
            "https://app.example.org:443",
            "http://app.example.org:80",
            "https://app.example.org:x",
            "https://*.example.org",
            "https://ann@app.example.org",
            "https://",
            "https://b\u{fc}cher.example",
            "*",
            "null",
            "",
        ] {
            let said = wrong("cors_origins = []", &format!("cors_origins = [\"{origin}\"]"));
            let before = EXAMPLE.split("cors_origins = []").next().unwrap();
            let line = format!("line {}, column", before.lines().count() + 1);
            assert!(
                said.contains(&line) && said.contains("no path"),
                "{origin}: {said}"
            );
        }
    }

    #[test]
    fn no_secret_is_repeated_that_was_given_in_the_wrong_place() {
        let key = "k4.local.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        for (before, wrong) in [
            ("file = \"server.key\"", format!("file = \"{key}\"")),
            ("previous = []", format!("previous = [\"{key}\"]")),
        ] {
            assert!(EXAMPLE.contains(before), "{before}");
            let message = read(&EXAMPLE.replace(before, &wrong)).unwrap_err();
            assert!(message.contains("looks like a secret"), "{message}");
            assert!(!message.contains("AAAA"), "{message}");
        }
        for url in [
            "postgres:/joe:hunter2@h/x",
            "?foo=hunter2",
            "postgresql://a:hunter2@b/c",
        ] {
            let section = format!("[store.postgres]\nurl = \"{url}\"\n[store]");
            let message = read(&EXAMPLE.replace("[store]", &section)).unwrap_err();
            assert!(
                message.contains("[store.postgres]") && !message.contains("hunter2"),
                "{message}"
            );
        }
        let store = EXAMPLE.replace(
            "[store]",
            "[store.postgres]\nurl = \"postgresql://a:hunter2@b/c\"\n[store]",
        );
        let message = read(&store).unwrap_err();
        assert!(
            message.contains("password_file") && !message.contains("hunter2"),
            "{message}"
        );
    }
}
