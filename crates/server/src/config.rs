//! The configuration of `tessera serve`: one TOML file. Every key is known, or the file is refused.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use axum::http::HeaderValue;
use serde::{Deserialize, Deserializer, de::Error as _};
use tessera_authority::KeyRotation;
use tessera_authority::Options;
use tessera_core::{
    OnPolicyLoss, Realm, RealmKind, RealmLimits, RealmName,
    limits::{ISSUER_BYTES_MAX, TOKEN_BYTES_DEFAULT, TOKEN_BYTES_MAX, TOKEN_BYTES_MIN},
    secret,
};

use crate::{
    edge::AddressRange,
    http::HttpOptions,
    limits::{ClientLimits, Limits},
    telemetry::LogFormat,
};

mod bounded;

pub use bounded::{Count, Time};
use bounded::{optional_path, path, paths};

/// The configuration file can't be used. The message says where, and what was expected.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It can't be read.
    #[error("the configuration `{path}` can't be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// It is not as it should be.
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
    /// Where the state is.
    pub store: StoreConfig,
    /// The policy files.
    pub policy: PolicyConfig,
    /// The authority's own secret.
    pub keys: KeysConfig,
    /// Logging.
    #[serde(default)]
    pub log: LogConfig,
    /// The realms, by name.
    pub realms: BTreeMap<RealmName, RealmConfig>,
}

/// `[server]`. `tessera.example.toml` says of each bound why it has its default.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Where gRPC is served.
    pub listen: SocketAddr,
    /// Where probes and metrics are served; none: nowhere.
    pub admin_listen: Option<SocketAddr>,
    /// Calls at work at once.
    pub calls_in_flight_max: Count<1, 1_000_000>,
    /// Further calls at work at once, for administrators.
    pub calls_reserved_for_administrators: Count<0, 1_000_000>,
    /// Exchanges at once with callers that have no credential, or have not shown it yet.
    pub unauthenticated_calls_max: Count<1, 1_000_000>,
    /// Calls that wait for something, watches among them.
    pub waiting_calls_max: Count<1, 1_000_000>,
    /// MiB of requests that are read and not yet decoded.
    pub request_mib_max: Count<8, 65_536>,
    /// MiB of answers that are given and not yet taken.
    pub answer_mib_max: Count<16, 65_536>,
    /// Connections at once.
    pub connections_max: Count<1, 1_000_000>,
    /// Connections of one address at once.
    pub connections_per_address_max: Count<1, 1_000_000>,
    /// Streams of one connection at once.
    pub streams_per_connection_max: Count<1, 65_536>,
    /// How long a connection may be without a call.
    pub connection_idle_max: Time<1, 86_400>,
    /// The same for one on which no client was authenticated.
    pub unauthenticated_idle_max: Time<1, 86_400>,
    /// How long a message may take to arrive.
    pub message_time_max: Time<1, 3600>,
    /// How long an answer may take to be taken.
    pub answer_time_max: Time<1, 3600>,
    /// Calls a second of one client; 0: no limit.
    pub calls_per_second_per_client: Count<0, 1_000_000>,
    /// Calls at work at once of one client; further ones wait their turn.
    pub calls_in_flight_per_client_max: Count<1, 1_000_000>,
    /// Calls of one client that wait their turn.
    pub calls_queued_per_client_max: Count<0, 1_000_000>,
    /// Calls of one client that wait for something, and its watches.
    pub waiting_calls_per_client_max: Count<1, 1_000_000>,
    /// MiB an hour that one client's calls may write; 0: no limit.
    pub disk_mib_per_hour_per_client: Count<0, 1_000_000>,
    /// Calls at work at once in a realm of the kind `sandbox`.
    pub sandbox_calls_in_flight_max: Count<1, 1_000_000>,
    /// Refused credentials a second from one address.
    pub refusals_per_second_per_address: Count<1, 1_000_000>,
    /// Requests a second from one address for what everybody may see; 0: no limit.
    pub open_requests_per_second_per_address: Count<0, 1_000_000>,
    /// Signatures a second that are checked for proxies.
    pub proxy_checks_per_second: Count<1, 1_000_000>,
    /// Proxies whose `x-forwarded-for` says who calls: addresses, or ranges such as `10.0.0.0/8`.
    #[serde(deserialize_with = "address_ranges")]
    pub trusted_proxies: Vec<AddressRange>,
    /// How long a required verifier may go on answering without hearing of revocations.
    pub staleness_bound_max: Time<1, 3600>,
    /// The longest that a call may take.
    pub call_time_max: Time<1, 3600>,
    /// How long calls under way may go on once the server stops.
    pub drain_time_max: Time<0, 3600>,
    /// How long closing the store may take after that; then the process is ended.
    pub close_time_max: Time<1, 3600>,
    /// The longest access token that is issued, in bytes.
    pub token_bytes_max: Count<{ TOKEN_BYTES_MIN as u32 }, { TOKEN_BYTES_MAX as u32 }>,
    /// How many verified tokens are kept, about 1.5 KiB each.
    pub verified_tokens_max: Count<0, 100_000_000>,
    /// Origins whose pages may call the HTTP endpoints from a browser, such as `https://app.example.org`.
    pub cors_origins: Vec<Origin>,
    /// Whether proxies may ask, at `/forward-auth` and over Envoy's `ext_authz`.
    pub proxies: bool,
    /// Where clients reach the HTTP endpoints, such as `https://auth.example.org/tessera`. None: at the origin of
    /// the realm's issuer.
    pub public_url: Option<PublicUrl>,
    /// TLS; none: plaintext, for a loopback or a proxy that ends TLS.
    pub tls: Option<TlsConfig>,
}

/// `[server.tls]`: PEM files.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate, and those that lead to its root.
    #[serde(deserialize_with = "path")]
    pub certificate: PathBuf,
    /// Its private key.
    #[serde(deserialize_with = "path")]
    pub private_key: PathBuf,
    /// Clients must present a certificate of this authority; none: they need none.
    #[serde(default, deserialize_with = "optional_path")]
    pub client_ca: Option<PathBuf>,
}

/// `[store]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// The data directory; it is made where it is missing.
    #[serde(deserialize_with = "path")]
    pub path: PathBuf,
    /// Memory for cached pages, in MiB.
    #[serde(default = "default_cache_mib")]
    pub cache_mib: Count<1, 1_048_576>,
    /// How long audit records are kept.
    #[serde(default = "default_audit_retention")]
    pub audit_retention: Time<3600, { 3650 * 86_400 }>,
}

/// `[policy]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    /// The directory with `model.conf`, `catalogue.toml` and the rules.
    #[serde(deserialize_with = "path")]
    pub path: PathBuf,
    /// Whether a change in the directory is put in force by itself; otherwise only SIGHUP and
    /// `tessera policy apply | reload` do it.
    #[serde(default = "yes")]
    pub watch: bool,
}

/// `[keys]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysConfig {
    /// The file with the server key (PASERK `k4.local.…`). It is made at the first start. The
    /// environment's `TESSERA_SERVER_KEY` takes precedence.
    #[serde(deserialize_with = "path")]
    pub file: PathBuf,
    /// Files with earlier server keys, which still open what they made.
    #[serde(default, deserialize_with = "paths")]
    pub previous: Vec<PathBuf>,
    /// How long a signing key signs before it is replaced; none: until `tessera key rotate`.
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

/// `[realms.<name>]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RealmConfig {
    /// `production` or `sandbox`.
    pub kind: RealmKind,
    /// The `iss` of its tokens.
    #[serde(deserialize_with = "issuer")]
    pub issuer: String,
    /// Life of an access token where the caller names none.
    pub access_ttl: Option<Time<1, { 3650 * 86_400 }>>,
    /// The longest life of an access token.
    pub access_ttl_max: Option<Time<1, { 3650 * 86_400 }>>,
    /// Life of a refresh token that is not used.
    pub idle_ttl: Option<Time<1, { 3650 * 86_400 }>>,
    /// The longest life of a session.
    pub session_ttl_max: Option<Time<1, { 3650 * 86_400 }>>,
    /// How long a retry of the last refresh gives the same successor, at most `60s`; `0s` turns it off.
    pub grace: Option<Time<0, { RealmLimits::GRACE_MAX.0 }>>,
    /// How often a retry is answered within `grace`; further ones are refused, and end nothing.
    pub grace_replays_max: Option<Count<1, 255>>,
    /// How many sessions are kept for each client.
    pub sessions_per_client_max: Option<Count<1, { u32::MAX }>>,
    /// What a change of policy does to live sessions whose scopes it takes: `narrow`, `revoke` or `expire`.
    #[serde(default)]
    pub on_policy_loss: OnPolicyLoss,
}

impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let wrong = |message: String| ConfigError::Wrong {
            path: path.to_owned(),
            message,
        };
        // What is no TOML may be another file, which is not ours to show.
        toml::de::DeTable::parse(&text).map_err(|error| wrong(without_excerpt(&error, &text)))?;
        let mut config: Self = toml::from_str(&text)
            .map_err(|error| wrong(secret::mask(error.to_string().trim_end()).into()))?;
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
        for (name, realm) in &self.realms {
            realm
                .check()
                .map_err(|problem| format!("[realms.{name}]: {problem}"))?;
        }
        Ok(())
    }

    /// How signing keys follow each other.
    #[must_use]
    pub fn key_rotation(&self) -> KeyRotation {
        KeyRotation {
            publish_for: self.keys.publish_for.seconds(),
            every: self.keys.rotate_every.map(Time::seconds),
        }
    }

    fn resolve(&mut self, base: &Path) {
        let mut paths = vec![&mut self.store.path, &mut self.policy.path, &mut self.keys.file];
        paths.extend(&mut self.keys.previous);
        if let Some(tls) = &mut self.server.tls {
            paths.extend([&mut tls.certificate, &mut tls.private_key]);
            paths.extend(&mut tls.client_ca);
        }
        for path in paths {
            *path = base.join(&*path);
        }
    }
}

impl RealmConfig {
    fn limits(&self) -> RealmLimits {
        let default = RealmLimits::default();
        let access_ttl_max = self.access_ttl_max.map_or(default.access_ttl_max, Time::seconds);
        let session_ttl_max = self
            .session_ttl_max
            .map_or(default.session_ttl_max, Time::seconds);
        RealmLimits {
            access_ttl_default: self
                .access_ttl
                .map_or(default.access_ttl_default, Time::seconds)
                .min(access_ttl_max),
            access_ttl_max,
            idle_ttl: self
                .idle_ttl
                .map_or(default.idle_ttl, Time::seconds)
                .min(session_ttl_max),
            session_ttl_max,
            grace: self.grace.map_or(default.grace, Time::seconds),
            grace_replays_max: self.grace_replays_max.map_or(default.grace_replays_max, |max| {
                u8::try_from(max.number()).unwrap_or(u8::MAX)
            }),
            sessions_per_client_max: self.sessions_per_client_max.map_or_else(
                || match self.kind {
                    RealmKind::Production => default.sessions_per_client_max,
                    RealmKind::Sandbox => SANDBOX_SESSIONS_PER_CLIENT_MAX,
                },
                |max| max.number().into(),
            ),
        }
    }

    fn check(&self) -> Result<(), String> {
        let limits = self.limits();
        if limits.access_ttl_max > limits.session_ttl_max {
            return Err("`access_ttl_max` must not be longer than `session_ttl_max`".to_owned());
        }
        if self
            .access_ttl
            .is_some_and(|ttl| ttl.seconds() > limits.access_ttl_max)
        {
            return Err("`access_ttl` must not be longer than `access_ttl_max`".to_owned());
        }
        Ok(())
    }
}

/// A realm for trying out leaves the disk to the others.
const SANDBOX_SESSIONS_PER_CLIENT_MAX: u64 = 100_000;
const MIB: usize = 1024 * 1024;

impl ServerConfig {
    fn limits(&self) -> Limits {
        let rate = |count: u32| NonZeroU32::new(count);
        Limits {
            calls_in_flight_max: self.calls_in_flight_max.get(),
            calls_reserved: self.calls_reserved_for_administrators.get(),
            unauthenticated_calls_max: self.unauthenticated_calls_max.get(),
            waiting_calls_max: self.waiting_calls_max.get(),
            request_bytes_max: self.request_mib_max.get() * MIB,
            answer_bytes_max: self.answer_mib_max.get() * MIB,
            connections_max: self.connections_max.get(),
            connections_per_address_max: self.connections_per_address_max.get(),
            streams_per_connection_max: self.streams_per_connection_max.number(),
            connection_idle_max: self.connection_idle_max.get(),
            stranger_idle_max: self.unauthenticated_idle_max.get(),
            message_time_max: self.message_time_max.get(),
            answer_time_max: self.answer_time_max.get(),
            call_time_max: self.call_time_max.get(),
            drain_time_max: self.drain_time_max.get(),
            close_time_max: self.close_time_max.get(),
            per_client: ClientLimits {
                calls_per_second: rate(self.calls_per_second_per_client.number()),
                calls_in_flight_max: self.calls_in_flight_per_client_max.get(),
                calls_queued_max: self.calls_queued_per_client_max.get(),
                waiting_calls_max: self.waiting_calls_per_client_max.get(),
                disk_mib_per_hour: rate(self.disk_mib_per_hour_per_client.number()),
                ..ClientLimits::default()
            },
            sandbox_calls_in_flight_max: self.sandbox_calls_in_flight_max.get(),
            refusals_per_second_per_address: rate(self.refusals_per_second_per_address.number())
                .unwrap_or(NonZeroU32::MIN),
            open_requests_per_second_per_address: rate(self.open_requests_per_second_per_address.number()),
            proxy_checks_per_second: rate(self.proxy_checks_per_second.number()).unwrap_or(NonZeroU32::MIN),
            trusted_proxies: self.trusted_proxies.clone(),
        }
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        let limits = Limits::default();
        let client = &limits.per_client;
        let rate = |rate: Option<NonZeroU32>| rate.map_or(0, NonZeroU32::get) as usize;
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7600)),
            admin_listen: Some(SocketAddr::from(([127, 0, 0, 1], 7601))),
            calls_in_flight_max: Count::of(limits.calls_in_flight_max),
            calls_reserved_for_administrators: Count::of(limits.calls_reserved),
            unauthenticated_calls_max: Count::of(limits.unauthenticated_calls_max),
            waiting_calls_max: Count::of(limits.waiting_calls_max),
            request_mib_max: Count::of(limits.request_bytes_max / MIB),
            answer_mib_max: Count::of(limits.answer_bytes_max / MIB),
            connections_max: Count::of(limits.connections_max),
            connections_per_address_max: Count::of(limits.connections_per_address_max),
            streams_per_connection_max: Count::of(limits.streams_per_connection_max as usize),
            connection_idle_max: Time::of(limits.connection_idle_max),
            unauthenticated_idle_max: Time::of(limits.stranger_idle_max),
            message_time_max: Time::of(limits.message_time_max),
            answer_time_max: Time::of(limits.answer_time_max),
            calls_per_second_per_client: Count::of(rate(client.calls_per_second)),
            calls_in_flight_per_client_max: Count::of(client.calls_in_flight_max),
            calls_queued_per_client_max: Count::of(client.calls_queued_max),
            waiting_calls_per_client_max: Count::of(client.waiting_calls_max),
            disk_mib_per_hour_per_client: Count::of(rate(client.disk_mib_per_hour)),
            sandbox_calls_in_flight_max: Count::of(limits.sandbox_calls_in_flight_max),
            refusals_per_second_per_address: Count::of(rate(Some(limits.refusals_per_second_per_address))),
            open_requests_per_second_per_address: Count::of(rate(
                limits.open_requests_per_second_per_address,
            )),
            proxy_checks_per_second: Count::of(rate(Some(limits.proxy_checks_per_second))),
            trusted_proxies: Vec::new(),
            staleness_bound_max: Time::of(Options::STALENESS_BOUND_MAX),
            call_time_max: Time::of(limits.call_time_max),
            drain_time_max: Time::of(limits.drain_time_max),
            close_time_max: Time::of(limits.close_time_max),
            token_bytes_max: Count::of(TOKEN_BYTES_DEFAULT),
            verified_tokens_max: Count::of(20_000),
            cors_origins: Vec::new(),
            proxies: HttpOptions::default().proxies,
            public_url: None,
            tls: None,
        }
    }
}

fn address_ranges<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<AddressRange>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let parsed = texts.iter().map(|text| text.parse::<AddressRange>());
    parsed.collect::<Result<_, _>>().map_err(D::Error::custom)
}

fn yes() -> bool {
    true
}

fn default_cache_mib() -> Count<1, 1_048_576> {
    Count::of(256)
}

/// Where a file is not TOML, and why, without a word of it.
fn without_excerpt(error: &toml::de::Error, text: &str) -> String {
    let before = error
        .span()
        .and_then(|span| text.get(..span.start))
        .unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("at line {line}, column {column}: {}", error.message())
}

fn default_publish_for() -> Time<0, { 30 * 86_400 }> {
    Time::of(Duration::from_secs(KeyRotation::default().publish_for.0.into()))
}

fn default_audit_retention() -> Time<3600, { 3650 * 86_400 }> {
    Time::of(Duration::from_secs(90 * 86_400))
}

/// Where a page comes from, as browsers say it: `scheme://host` with a port where it is not the usual one.
#[derive(Clone, Debug)]
pub struct Origin(HeaderValue);

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match HeaderValue::from_str(&text) {
            Ok(value) if is_origin(&text) => Ok(Self(value)),
            _ => Err(D::Error::custom(
                "expected an origin as browsers send it, such as `https://app.example.org`: scheme and host in lower \
                 case, a port where it is not the scheme's own, no path, no `/` at the end",
            )),
        }
    }
}

/// Whether a browser can send this as its `Origin` (RFC 6454 §6.2). Pages of applications have schemes of their own.
fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else {
        return false;
    };
    let is_lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme
            .chars()
            .all(|c| is_lower(c) || matches!(c, '+' | '-' | '.'));
    let (host, port) = match authority.rsplit_once(':') {
        // Within the brackets of an address of IPv6 there is no port.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(|c| is_lower(c) || matches!(c, '.' | '-' | '_')),
    };
    let is_port = port.is_none_or(|port| {
        let usual = match scheme {
            "http" => "80",
            "https" => "443",
            _ => "",
        };
        port != usual && !port.starts_with('0') && port.parse::<u16>().is_ok()
    });
    is_scheme && is_host && is_port
}

/// A URL of `http` or `https`, perhaps with a path, and without a query.
#[derive(Clone, Debug)]
pub struct PublicUrl(String);

impl<'de> Deserialize<'de> for PublicUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let uri = text.parse::<axum::http::Uri>().ok();
        let is_url = uri.is_some_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some()
                && uri.query().is_none()
        });
        if is_url {
            return Ok(Self(text));
        }
        Err(D::Error::custom(
            "expected a URL, such as `https://auth.example.org/tessera`, without a query",
        ))
    }
}

fn issuer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let is_plain = text
        .chars()
        .all(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\\'));
    if text.is_empty() || text.len() > ISSUER_BYTES_MAX || !is_plain {
        return Err(D::Error::custom(
            "expected 1 to 256 visible ASCII characters, such as a URL",
        ));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
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
    fn origins_that_browsers_send_are_taken() {
        let origins = [
            "https://app.example.org",
            "http://localhost:3000",
            "https://app.example.org:8443",
            "http://[::1]:8080",
            "capacitor://localhost",
        ];
        for origin in origins {
            let text = EXAMPLE.replacen("cors_origins = []", &format!("cors_origins = [\"{origin}\"]"), 1);
            assert_eq!(read(&text).unwrap().http().cors_origins, [origin]);
        }
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let wrong = |from: &str, to: &str| {
            assert!(EXAMPLE.contains(from), "{from}");
            read(&EXAMPLE.replacen(from, to, 1)).unwrap_err()
        };
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
        for origin in [
            "app.example.org",
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
        for (to, said) in [
            ("", "not an empty text"),
            ("da\\u0000ta", "NUL"),
            (&"x".repeat(300), "too long"),
            (&"x/".repeat(3000), "too long"),
        ] {
            let refused = wrong("path = \"data\"", &format!("path = \"{to}\""));
            assert!(refused.contains(said) && refused.contains("line"), "{refused}");
        }
        let range = wrong("trusted_proxies = []", "trusted_proxies = [\"10.0.0.1/8\"]");
        assert!(range.contains("10.0.0.0/8") && range.contains("line"), "{range}");
    }
}
