//! `[audit.sinks.NAME]`: additional destinations of audit records.

use std::{collections::BTreeMap, path::PathBuf};

use http::Uri;
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{
    bounded::{optional_path, path},
    telemetry::CollectorUrl,
};

/// `[audit]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditConfig {
    /// The sinks, by name. The position is stored under the name: another name begins with the oldest record.
    pub sinks: BTreeMap<SinkName, SinkConfig>,
}

/// The name of a sink: 1 to 32 of `a-z`, `0-9` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SinkName(String);

/// The destination of a sink, and the format of its records.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase", tag = "kind")]
pub enum SinkConfig {
    /// Lines appended to a file. If it was renamed or removed, a new file is made, so that others may rotate it.
    File {
        /// The file.
        #[serde(deserialize_with = "path")]
        path: PathBuf,
        /// The format.
        #[serde(default)]
        format: SinkFormat,
    },
    /// Messages of syslog (RFC 5424).
    Syslog {
        /// `udp://HOST:PORT`, `tcp://HOST:PORT` (RFC 6587, counted) or `unix:PATH`.
        address: SyslogAddress,
        /// The format.
        #[serde(default)]
        format: SinkFormat,
    },
    /// Lines in the body of a POST.
    Http {
        /// The receiver.
        url: SinkUrl,
        /// A file with the token for the header `authorization: Bearer …`; it is read for each batch.
        #[serde(default, deserialize_with = "optional_path")]
        token_file: Option<PathBuf>,
        /// The format.
        #[serde(default)]
        format: SinkFormat,
    },
    /// Log records of OpenTelemetry (OTLP over gRPC).
    Otlp {
        /// The collector.
        endpoint: CollectorUrl,
        /// A file with one header of each request per line, as `name: value`. It is read for each request.
        #[serde(default, deserialize_with = "optional_path")]
        headers_file: Option<PathBuf>,
        /// The certificate authorities that may have signed the collector's certificate; `None`: those of the system.
        /// It is read for each connection.
        #[serde(default, deserialize_with = "optional_path")]
        ca: Option<PathBuf>,
        /// The format.
        #[serde(default)]
        format: SinkFormat,
    },
}

/// The format of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SinkFormat {
    /// As in exports.
    #[default]
    Json,
    /// The Open Cybersecurity Schema Framework.
    Ocsf,
}

/// The address of the syslog server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyslogAddress {
    /// A datagram for each message.
    Udp(String),
    /// A stream of counted messages.
    Tcp(String),
    /// A socket of datagrams on this machine.
    Unix(PathBuf),
}

/// A URL of `http` or `https`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkUrl(pub(crate) Uri);

impl SinkName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SinkConfig {
    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let paths = match self {
            Self::File { path, .. } => [Some(path), None],
            Self::Http { token_file, .. } => [token_file.as_mut(), None],
            Self::Syslog { .. } => [None, None],
            Self::Otlp { headers_file, ca, .. } => [headers_file.as_mut(), ca.as_mut()],
        };
        paths.into_iter().flatten()
    }
}

impl<'de> Deserialize<'de> for SinkName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_name = (1..=32).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if is_name {
            return Ok(Self(text));
        }
        Err(D::Error::custom(
            "the name of a sink has 1 to 32 of a-z, 0-9 and -",
        ))
    }
}

impl<'de> Deserialize<'de> for SyslogAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let socket = |rest: &str| {
            let (host, port) = rest.rsplit_once(':')?;
            (!host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)).then(|| rest.to_owned())
        };
        let address = match text.split_once(':') {
            Some(("udp", rest)) => rest.strip_prefix("//").and_then(socket).map(Self::Udp),
            Some(("tcp", rest)) => rest.strip_prefix("//").and_then(socket).map(Self::Tcp),
            Some(("unix", path)) if path.starts_with('/') => Some(Self::Unix(path.into())),
            _ => None,
        };
        address.ok_or_else(|| {
            D::Error::custom(
                "expected where syslog listens: `udp://HOST:PORT`, `tcp://HOST:PORT` or `unix:/dev/log`",
            )
        })
    }
}

impl<'de> Deserialize<'de> for SinkUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let uri = text.parse::<Uri>().ok();
        let uri =
            uri.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
        uri.map(Self)
            .ok_or_else(|| D::Error::custom("expected a URL, such as `https://siem.example.org/ingest`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<SinkConfig, String> {
        toml::from_str::<SinkConfig>(text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn a_sink_is_one_of_its_kinds_with_what_that_needs() {
        for good in [
            "kind = 'file'\npath = 'audit.jsonl'",
            "kind = 'syslog'\naddress = 'udp://[::1]:514'\nformat = 'ocsf'",
            "kind = 'syslog'\naddress = 'tcp://logs.example.org:601'",
            "kind = 'syslog'\naddress = 'unix:/dev/log'",
            "kind = 'http'\nurl = 'https://siem.example.org/in?a=b'\ntoken_file = 'token'",
            "kind = 'otlp'\nendpoint = 'https://collector.example.org:4317'",
            "kind = 'otlp'\nendpoint = 'http://[::1]'\nheaders_file = 'h'\nca = 'c'\nformat = 'ocsf'",
        ] {
            assert!(parse(good).is_ok(), "{good}: {:?}", parse(good));
        }
        for (bad, why) in [
            ("kind = 'file'", "path"),
            ("kind = 'fil'\npath = 'a'", "unknown variant"),
            ("kind = 'file'\npath = 'a'\nurl = 'b'", "unknown field"),
            ("kind = 'file'\npath = 'a'\nformat = 'xml'", "unknown variant"),
            ("kind = 'syslog'\naddress = 'localhost'", "udp://HOST:PORT"),
            (
                "kind = 'syslog'\naddress = 'udp://localhost:0'",
                "udp://HOST:PORT",
            ),
            ("kind = 'http'\nurl = 'ftp://a/b'", "expected a URL"),
            (
                "kind = 'http'\nurl = 'http://a/b'\ntoken_file = ''",
                "expected a path",
            ),
            ("kind = 'otlp'", "endpoint"),
            ("kind = 'otlp'\nendpoint = 'collector:4317'", "OTLP over gRPC"),
            ("kind = 'otlp'\nendpoint = 'http://a/v1/logs'", "without a path"),
            ("kind = 'otlp'\nendpoint = 'http://a'\nca = ''", "expected a path"),
            (
                "kind = 'otlp'\nendpoint = 'http://a'\ntoken_file = 'a'",
                "unknown field",
            ),
        ] {
            let said = parse(bad).unwrap_err();
            assert!(said.contains(why), "{bad}: {said}");
        }
    }

    #[test]
    fn every_file_of_a_sink_is_beneath_the_configuration() {
        for (text, files) in [
            ("kind = 'file'\npath = 'a'", 1),
            ("kind = 'syslog'\naddress = 'udp://localhost:514'", 0),
            ("kind = 'http'\nurl = 'http://a'\ntoken_file = 'b'", 1),
            (
                "kind = 'otlp'\nendpoint = 'http://a'\nheaders_file = 'b'\nca = 'c'",
                2,
            ),
            ("kind = 'otlp'\nendpoint = 'http://a'\nca = 'c'", 1),
        ] {
            assert_eq!(parse(text).unwrap().paths().count(), files, "{text}");
        }
    }
}
