//! `[server]`: sockets, bounds, and TLS.

use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf};

use serde::{Deserialize, Deserializer, de::Error as _};
use tessera_authority::Options;
use tessera_core::{
    AddressRange,
    limits::{TOKEN_BYTES_DEFAULT, TOKEN_BYTES_MAX, TOKEN_BYTES_MIN},
};
use tessera_server::{ClientLimits, HttpOptions, Limits, RateLimits, SandboxLimits, TlsConfig};

use super::{
    address::{Origin, PublicUrl},
    bounded::{Count, Time, optional_path, path},
};

const MIB: usize = 1024 * 1024;

/// `[server]`. `tessera.example.toml` says why each bound has its default.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// The address of the gRPC socket.
    #[serde(deserialize_with = "socket_address")]
    pub listen: SocketAddr,
    /// The address of the socket for probes and metrics; `None`: they are not served.
    #[serde(deserialize_with = "optional_socket_address")]
    pub admin_listen: Option<SocketAddr>,
    /// Calls at work at once.
    pub calls_in_flight_max: Count<1, 1_000_000>,
    /// Further calls at work at once, for administrators.
    pub calls_reserved_for_administrators: Count<0, 1_000_000>,
    /// Exchanges at once with callers that have no credential, or have not sent it yet.
    pub unauthenticated_calls_max: Count<1, 1_000_000>,
    /// Calls that wait for something, including watches.
    pub waiting_calls_max: Count<1, 1_000_000>,
    /// MiB of requests that are read and not yet decoded.
    pub request_mib_max: Count<8, 65_536>,
    /// MiB of answers that are given and not yet taken by the peer.
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
    /// How long the peer may take to take an answer.
    pub answer_time_max: Time<1, 3600>,
    /// Calls per second of one client; 0: no limit.
    pub calls_per_second_per_client: Count<0, 1_000_000>,
    /// Calls at work at once of one client; further ones wait for their turn.
    pub calls_in_flight_per_client_max: Count<1, 1_000_000>,
    /// Calls of one client that wait for their turn.
    pub calls_queued_per_client_max: Count<0, 1_000_000>,
    /// Calls of one client that wait for something, and its watches.
    pub waiting_calls_per_client_max: Count<1, 1_000_000>,
    /// MiB per hour that one client's calls may write; 0: no limit.
    pub disk_mib_per_hour_per_client: Count<0, 1_000_000>,
    /// Calls at work at once of all clients of a realm of the kind `sandbox`.
    pub calls_in_flight_per_sandbox_max: Count<1, 1_000_000>,
    /// Calls per second of all clients of a realm of the kind `sandbox`; 0: no limit.
    pub calls_per_second_per_sandbox: Count<0, 1_000_000>,
    /// MiB per hour that the calls of all clients of a realm of the kind `sandbox` may write; 0: no limit.
    pub disk_mib_per_hour_per_sandbox: Count<0, 1_000_000>,
    /// Refused credentials per second from one address.
    pub refusals_per_second_per_address: Count<1, 1_000_000>,
    /// Requests per second from one address for public content; 0: no limit.
    pub open_requests_per_second_per_address: Count<0, 1_000_000>,
    /// Signatures per second that are checked for proxies.
    pub proxy_checks_per_second: Count<1, 1_000_000>,
    /// Proxies whose `x-forwarded-for` names the caller: addresses, or ranges such as `10.0.0.0/8`.
    #[serde(deserialize_with = "address_ranges")]
    pub trusted_proxies: Vec<AddressRange>,
    /// How long a required verifier may keep answering without receiving revocations.
    pub staleness_bound_max: Time<1, 3600>,
    /// The longest time of a call.
    pub call_time_max: Time<1, 3600>,
    /// How long running calls may continue once the server stops.
    pub drain_time_max: Time<0, 3600>,
    /// How long closing the store may take after that; then the process ends.
    pub close_time_max: Time<1, 3600>,
    /// The longest access token that is issued, in bytes.
    pub token_bytes_max: Count<{ TOKEN_BYTES_MIN as u32 }, { TOKEN_BYTES_MAX as u32 }>,
    /// How many verified tokens are kept, about 1.5 KiB each.
    pub verified_tokens_max: Count<0, 100_000_000>,
    /// Origins whose pages may call the HTTP endpoints from a browser, such as `https://app.example.org`.
    pub cors_origins: Vec<Origin>,
    /// Whether proxies may call, at `/forward-auth` and over Envoy's `ext_authz`.
    pub proxies: bool,
    /// Where clients reach the HTTP endpoints, such as `https://auth.example.org/tessera`. `None`: at the origin of the
    /// realm's issuer.
    pub public_url: Option<PublicUrl>,
    /// TLS; `None`: plaintext, for a loopback address or a proxy that ends TLS.
    #[serde(deserialize_with = "tls")]
    pub tls: Option<TlsConfig>,
}

/// An IP address, and not a name: a name may have several addresses, or another one tomorrow.
fn socket_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        D::Error::custom(
            "expected an IP address and a port, such as 127.0.0.1:7600, 0.0.0.0:7600 or [::1]:7600",
        )
    })
}

fn optional_socket_address<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    socket_address(deserializer).map(Some)
}

impl ServerConfig {
    /// The two sockets must not be the same. Port 0 takes any that is free.
    pub(super) fn check(&self) -> Result<(), String> {
        let (listen, Some(admin)) = (self.listen, self.admin_listen) else {
            return Ok(());
        };
        let is_same_ip =
            listen.ip() == admin.ip() || listen.ip().is_unspecified() || admin.ip().is_unspecified();
        if listen.port() != 0 && listen.port() == admin.port() && is_same_ip {
            return Err(format!(
                "[server]: `admin_listen` is the address of `listen`, {listen}: probes and metrics need one of their own"
            ));
        }
        Ok(())
    }

    pub(super) fn limits(&self) -> Limits {
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
                rates: RateLimits {
                    calls_per_second: rate(self.calls_per_second_per_client.number()),
                    disk_mib_per_hour: rate(self.disk_mib_per_hour_per_client.number()),
                },
                calls_in_flight_max: self.calls_in_flight_per_client_max.get(),
                calls_queued_max: self.calls_queued_per_client_max.get(),
                waiting_calls_max: self.waiting_calls_per_client_max.get(),
                ..ClientLimits::default()
            },
            per_sandbox: SandboxLimits {
                rates: RateLimits {
                    calls_per_second: rate(self.calls_per_second_per_sandbox.number()),
                    disk_mib_per_hour: rate(self.disk_mib_per_hour_per_sandbox.number()),
                },
                calls_in_flight_max: self.calls_in_flight_per_sandbox_max.get(),
            },
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
        let (client, sandbox) = (&limits.per_client, &limits.per_sandbox);
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
            calls_per_second_per_client: Count::of(rate(client.rates.calls_per_second)),
            calls_in_flight_per_client_max: Count::of(client.calls_in_flight_max),
            calls_queued_per_client_max: Count::of(client.calls_queued_max),
            waiting_calls_per_client_max: Count::of(client.waiting_calls_max),
            disk_mib_per_hour_per_client: Count::of(rate(client.rates.disk_mib_per_hour)),
            calls_in_flight_per_sandbox_max: Count::of(sandbox.calls_in_flight_max),
            calls_per_second_per_sandbox: Count::of(rate(sandbox.rates.calls_per_second)),
            disk_mib_per_hour_per_sandbox: Count::of(rate(sandbox.rates.disk_mib_per_hour)),
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

/// `[server.tls]`: PEM files.
#[derive(Deserialize)]
#[serde(remote = "TlsConfig", deny_unknown_fields)]
struct TlsFiles {
    #[serde(deserialize_with = "path")]
    certificate: PathBuf,
    #[serde(deserialize_with = "path")]
    private_key: PathBuf,
    #[serde(default, deserialize_with = "optional_path")]
    client_ca: Option<PathBuf>,
}

fn tls<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<TlsConfig>, D::Error> {
    TlsFiles::deserialize(deserializer).map(Some)
}

fn address_ranges<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<AddressRange>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let parsed = texts.iter().map(|text| text.parse::<AddressRange>());
    parsed.collect::<Result<_, _>>().map_err(D::Error::custom)
}
