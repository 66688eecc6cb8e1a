//! `[telemetry]`: the destination of traces. The standard variables of OpenTelemetry take precedence.

use std::{num::NonZeroU32, path::PathBuf, str::FromStr};

use http::Uri;
use serde::{Deserialize, Deserializer, de::Error as _};

use super::bounded::{Count, optional_path};
use crate::outgoing_tls;

/// `[telemetry]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// The collector; if there is none here and none in the environment, nothing is traced.
    pub endpoint: Option<CollectorUrl>,
    /// A file with one header of each request to the collector per line, as `name: value`. It is read for each request.
    #[serde(deserialize_with = "optional_path")]
    pub headers_file: Option<PathBuf>,
    /// The certificate authorities that may have signed the collector's certificate; `None`: those of the system. It is
    /// read for each connection.
    #[serde(deserialize_with = "optional_path")]
    pub ca: Option<PathBuf>,
    /// `service.name` of the spans.
    pub service_name: String,
    /// The part of the calls that begin a trace which is traced.
    pub sample_ratio: Ratio,
    /// How many calls per second of each client continue the trace of their caller, and how many of all callers without
    /// a client have a span.
    pub calls_per_second: Count<1, 1_000_000>,
}

/// A URL of a collector: `http` or `https`, a host, and an optional port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectorUrl(Uri);

/// A number from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio(f64);

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            endpoint: None,
            headers_file: None,
            ca: None,
            service_name: "tessera".to_owned(),
            sample_ratio: Ratio(1.0),
            calls_per_second: Count::of(100),
        }
    }
}

impl TelemetryConfig {
    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        self.headers_file.iter_mut().chain(&mut self.ca)
    }

    /// [`calls_per_second`](Self::calls_per_second).
    pub(crate) fn rate(&self) -> NonZeroU32 {
        NonZeroU32::new(self.calls_per_second.number()).unwrap_or(NonZeroU32::MIN)
    }
}

impl CollectorUrl {
    /// Whether it is `https`.
    pub(crate) fn is_tls(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// The host, without the brackets of an IPv6 address.
    pub(crate) fn host(&self) -> &str {
        let host = self.0.host().unwrap_or_default();
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port; the default of OTLP over gRPC if none is named.
    pub(crate) fn port(&self) -> u16 {
        self.0.port_u16().unwrap_or(4317)
    }

    /// The URL.
    pub(crate) fn uri(&self) -> &Uri {
        &self.0
    }

    /// Whether data that is sent there in plaintext stays on this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        outgoing_tls::is_loopback(self.host())
    }
}

impl FromStr for CollectorUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uri = text.parse::<Uri>().ok().filter(|uri| {
            let authority = uri.authority().map_or("", |authority| authority.as_str());
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
                && !authority.contains('@')
                && uri.port_u16() != Some(0)
                && matches!(
                    uri.path_and_query().map(http::uri::PathAndQuery::as_str),
                    None | Some("/")
                )
        });
        uri.map(Self).ok_or(
            "expected the URL of a collector that takes OTLP over gRPC, such as `https://collector.example.org:4317`, without a \
             path, and without a password: `headers_file` is for what is secret",
        )
    }
}

impl<'de> Deserialize<'de> for CollectorUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

impl Ratio {
    /// The number.
    pub(crate) fn get(self) -> f64 {
        self.0
    }
}

impl FromStr for Ratio {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.trim().parse::<f64>().ok();
        let number = number.filter(|number| (0.0..=1.0).contains(number));
        number.map(Self).ok_or("expected a number from 0 to 1")
    }
}

impl<'de> Deserialize<'de> for Ratio {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        f64::deserialize(deserializer)?
            .to_string()
            .parse()
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_a_url_without_a_path_or_a_password() {
        for (good, host, port, is_tls) in [
            ("http://localhost:4317", "localhost", 4317, false),
            (
                "https://collector.example.org",
                "collector.example.org",
                4317,
                true,
            ),
            ("https://[::1]:14317/", "::1", 14317, true),
        ] {
            let url: CollectorUrl = good.parse().unwrap();
            assert_eq!(
                (url.host(), url.port(), url.is_tls()),
                (host, port, is_tls),
                "{good}"
            );
        }
        for bad in [
            "",
            "collector:4317",
            "grpc://collector:4317",
            "https://",
            "https://ann:secret@collector:4317",
            "https://collector:4317/v1/traces",
            "https://collector:4317/?key=x",
            "https://collector:0",
        ] {
            assert!(bad.parse::<CollectorUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_no_ratio_is_refused() {
        let parse = |text: &str| toml::from_str::<TelemetryConfig>(text);
        assert_eq!(parse("sample_ratio = 0.25").unwrap().sample_ratio.get(), 0.25);
        for bad in ["sample_ratio = 1.5", "sample_ratio = -0.1", "sample_ratio = nan"] {
            let said = parse(bad).unwrap_err();
            assert!(said.message().contains("from 0 to 1"), "{bad}: {said}");
        }
    }
}
