//! The addresses of an authority's nodes, as they are given to clients.

use std::fmt;

use crate::secret::redact;

/// More are a mistake: an authority has a handful of nodes.
const ADDRESSES_MAX: usize = 16;

/// The addresses of one authority in the given order, without duplicates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAddresses(Vec<String>);

/// Addresses that can't be used together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeAddressesError {
    /// There is none.
    #[error("no address: name at least one, such as https://auth.example.org:7600")]
    None,
    /// There are more than 16.
    #[error("{0} addresses are more than {ADDRESSES_MAX}")]
    TooMany(usize),
    /// One is not the URL of a server.
    #[error("`{0}` is not an address: write https://HOST:PORT, or http://HOST:PORT without encryption")]
    Malformed(String),
    /// Some have encryption and some do not: an API key must not be sent without encryption if another address has it.
    #[error("some of the addresses have encryption and some have not: use https:// for all of {0}")]
    Mixed(NodeAddresses),
}

impl NodeAddresses {
    /// These addresses; each text may contain several, separated by commas.
    pub fn new<A: Into<String>>(texts: impl IntoIterator<Item = A>) -> Self {
        let mut given: Vec<String> = Vec::new();
        for listed in texts {
            for address in listed.into().split(',').map(str::trim) {
                if !given.iter().any(|other| is_same(other, address)) {
                    given.push(with_lower_case_scheme(address));
                }
            }
        }
        Self(given)
    }

    /// The addresses.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }

    /// Checks whether a client can use them together.
    ///
    /// # Errors
    /// Fails if there is none, if there are more than 16, if one is not the URL of a server, and if only some have
    /// encryption.
    pub fn check(&self) -> Result<(), NodeAddressesError> {
        // A misspelled scheme must not cause an API key to be sent without encryption.
        if let Some(malformed) = self.0.iter().find(|address| !is_of_a_server(address)) {
            return Err(NodeAddressesError::Malformed(without_secrets(malformed)));
        }
        let encrypted = self.0.iter().filter(|a| a.starts_with("https://")).count();
        match self.0.len() {
            0 => Err(NodeAddressesError::None),
            count if count > ADDRESSES_MAX => Err(NodeAddressesError::TooMany(count)),
            count if encrypted != 0 && encrypted != count => Err(NodeAddressesError::Mixed(self.clone())),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for NodeAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

/// Whether it is `http` or `https` with a host, and at most a port after it.
fn is_of_a_server(address: &str) -> bool {
    let rest = address
        .strip_prefix("https://")
        .or_else(|| address.strip_prefix("http://"));
    let Some(authority) = rest.map(|rest| rest.strip_suffix('/').unwrap_or(rest)) else {
        return false;
    };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_port = |port: &str| {
        port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    let is_host = !host.is_empty() && !host.contains(['/', '@', '?', '#', ' ']);
    is_host && port.is_none_or(is_port)
}

/// Hides a user name and a password before the host, and an API key that was given as the address.
fn without_secrets(address: &str) -> String {
    match address.rsplit_once('@') {
        Some((_, host)) => format!("…@{}", redact(host)),
        None => redact(address).into_owned(),
    }
}

/// Schemes are the same in any case (RFC 3986, section 3.1).
fn with_lower_case_scheme(address: &str) -> String {
    match address.split_once("://") {
        Some((scheme, rest)) => format!("{}://{rest}", scheme.to_ascii_lowercase()),
        None => address.to_owned(),
    }
}

/// Whether two addresses are the same, in any notation.
fn is_same(one: &str, other: &str) -> bool {
    let plain = |address: &str| address.trim_end_matches('/').to_ascii_lowercase();
    plain(one) == plain(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_given_is_a_table() {
        let none = "no address: name at least one";
        let mixed = "some of the addresses have encryption";
        let many: Vec<_> = (0..=ADDRESSES_MAX).map(|n| format!("http://h{n}:1")).collect();
        let just: Vec<_> = many.iter().take(ADDRESSES_MAX).map(String::as_str).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let none_at_all = "`htps://a:1` is not an address";
        let table: [(&[&str], &str); 18] = [
            (&["http://a:1"], ""),
            (&["HTTPS://a:1/"], ""),
            (&["http://[::1]:7600"], ""),
            (&["https://auth.example.org"], ""),
            (&["htps://a:1"], none_at_all),
            (&["http://a:1,htps://a:1"], none_at_all),
            (&["grpc://a:1"], "`grpc://a:1` is not an address"),
            (&["http://a:1/path"], "`http://a:1/path` is not an address"),
            (&["http://u:p@a:1"], "`…@a:1` is not an address"),
            (&["http://a:70000"], "`http://a:70000` is not an address"),
            (&["http://:1"], "`http://:1` is not an address"),
            (&["https://a:1", "https://b:1"], ""),
            (&["http://a:1,http://b:1", "http://c:1"], ""),
            (&[], none),
            (&["https://a:1", "http://b:1"], mixed),
            (&["https://a:1", "b:1"], "`b:1` is not an address"),
            (&just, ""),
            (&many, "17 addresses are more than 16"),
        ];
        for (given, expected) in table {
            let checked = NodeAddresses::new(given.iter().copied()).check();
            let problem = checked.err().map(|error| error.to_string()).unwrap_or_default();
            assert_eq!(expected.is_empty(), problem.is_empty(), "{given:?}: {problem}");
            assert!(problem.starts_with(expected), "{given:?}: {problem}");
        }
    }

    #[test]
    fn an_error_has_no_secret_that_was_given_as_an_address() {
        let key = "tsk_production_0123456789abcdefghjkmnpqrstvwxyz";
        for given in [
            key,
            &format!("http://user:{key}@host"),
            &format!("http://host/{key}"),
        ] {
            let error = NodeAddresses::new([given]).check().unwrap_err().to_string();
            assert!(!error.contains("0123456789"), "{error}");
        }
    }

    #[test]
    fn an_address_that_is_given_twice_is_there_once() {
        let addresses = NodeAddresses::new(["http://a:1", "http://b:1 , HTTP://A:1/", "http://b:1"]);
        assert_eq!(addresses.to_string(), "http://a:1, http://b:1");
    }
}
