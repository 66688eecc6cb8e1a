//! Hosts of routes and of requests.

use std::fmt;

/// The host of a route. The more exact ones come first: a request is decided by the routes of its exact host, otherwise
/// by those of a wildcard, otherwise by those without a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HostPattern {
    /// A name or an address, in lower case.
    Exactly(String),
    /// `*.` before this name: exactly one more label.
    Beneath(String),
    /// Every host.
    Any,
}

impl HostPattern {
    /// Reads the host of a route; `None` if it is not a host.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let Some(name) = text.strip_prefix("*.") else {
            return is_host(text).then(|| Self::Exactly(text.to_owned()));
        };
        // A label before an address is not a name; `*.0.0.1` would match addresses.
        let is_name = is_host(name) && !name.starts_with('[') && !ends_in_number(name);
        is_name.then(|| Self::Beneath(name.to_owned()))
    }

    /// Whether the pattern matches even an unknown host.
    pub(super) fn is_any(&self) -> bool {
        *self == Self::Any
    }

    /// The rank in which patterns are checked.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Exactly(_) => 0,
            Self::Beneath(_) => 1,
            Self::Any => 2,
        }
    }

    /// Whether the pattern matches a host, as [`host`] returns it.
    pub(super) fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exactly(name) => name == host,
            Self::Beneath(name) => host.split_once('.').is_some_and(|(_, rest)| rest == name),
            Self::Any => true,
        }
    }

    /// The hosts that both match, if there are any.
    pub(super) fn intersection(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Any, pattern) | (pattern, Self::Any) => Some(pattern.clone()),
            (Self::Exactly(name), pattern) | (pattern, Self::Exactly(name)) => {
                pattern.matches(name).then(|| Self::Exactly(name.clone()))
            }
            (Self::Beneath(one), Self::Beneath(other)) => (one == other).then(|| self.clone()),
        }
    }

    /// A host that the pattern matches, with `label` as the label that may vary.
    pub(super) fn example(&self, label: &str) -> String {
        match self {
            Self::Exactly(name) => name.clone(),
            Self::Beneath(name) => format!("{label}.{name}"),
            Self::Any => label.to_owned(),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(name) => f.write_str(name),
            Self::Beneath(name) => write!(f, "*.{name}"),
            Self::Any => Ok(()),
        }
    }
}

/// The host of a request in the form for comparisons: in lower case, without its port and without a dot at its end;
/// `None` if it is not a host.
pub(super) fn host(text: &str) -> Option<String> {
    let (name, port) = match text.rsplit_once(':') {
        // The colons of an address (RFC 3986 §3.2.2).
        Some((_, after)) if after.ends_with(']') => (text, ""),
        Some((name, port)) => (name, port),
        None => (text, ""),
    };
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
    (is_port && is_host(&name)).then_some(name)
}

/// Whether a text is a name or an address, in lower case.
fn is_host(text: &str) -> bool {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
    let is_address = |text: &str| text.parse::<std::net::Ipv6Addr>().is_ok();
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(address) => is_address(address),
        None => {
            !text.is_empty()
                && text.len() <= 253
                && text.chars().all(is_name)
                && text.split('.').all(|label| !label.is_empty())
        }
    }
}

/// Whether a name would be read as an IPv4 address (WHATWG URL, "ends in a number").
fn ends_in_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    last.bytes().all(|byte| byte.is_ascii_digit())
}
