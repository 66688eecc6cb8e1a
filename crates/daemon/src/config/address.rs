//! Addresses of others: origins, and the address by which clients reach the server.

use std::net::{Ipv4Addr, Ipv6Addr};

use http::{HeaderValue, Uri};
use serde::{Deserialize, Deserializer, de::Error as _};

/// The origin of a page, as browsers send it: `scheme://host` with a port if it is not the default.
#[derive(Clone, Debug)]
pub struct Origin(pub(super) HeaderValue);

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

/// Whether a browser can send this as its `Origin` (RFC 6454 §6.2). Pages of applications have their own schemes.
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
        // There is no port within the brackets of an IPv6 address.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        // Browsers write an address in its one canonical form.
        Some(address) => address
            .parse::<Ipv6Addr>()
            .is_ok_and(|parsed| parsed.to_string() == address),
        // A host whose last label is a number is an IPv4 address (WHATWG URL §3.5), which browsers write in full.
        None if ends_in_a_number(host) => host.parse::<Ipv4Addr>().is_ok(),
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
    // No page has one of these schemes: a socket or a download that a page opens has the origin of the page.
    let is_page = !matches!(
        scheme,
        "ws" | "wss" | "ftp" | "file" | "data" | "blob" | "javascript"
    );
    is_scheme && is_page && is_host && is_port
}

fn ends_in_a_number(host: &str) -> bool {
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let (digits, radix) = match last.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (last, 10),
    };
    !last.is_empty() && digits.chars().all(|digit| digit.is_digit(radix))
}

/// A URL of `http` or `https`, optionally with a path, and without a query.
#[derive(Clone, Debug)]
pub struct PublicUrl(pub(super) String);

impl<'de> Deserialize<'de> for PublicUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let uri = text.parse::<Uri>().ok();
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
