//! The caller's address: the other end of the connection, or the address that a trusted proxy calls for.

use std::net::IpAddr;

use http::HeaderMap;
use tessera_core::AddressRange;

/// The caller of a connection from `peer`. Each trusted proxy has appended the address that called it to
/// `x-forwarded-for`: the last address that is not such a proxy is the caller. The caller itself wrote what comes
/// before that.
pub(super) fn caller(peer: IpAddr, headers: &HeaderMap, trusted: &[AddressRange]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|range| range.contains(address));
    let mut caller = peer.to_canonical();
    let lines: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
    let mut entries = lines
        .iter()
        .rev()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.rsplit(','));
    while is_trusted(caller) {
        match entries
            .next()
            .and_then(|entry| entry.trim().parse::<IpAddr>().ok())
        {
            Some(address) => caller = address.to_canonical(),
            None => break,
        }
    }
    caller
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> AddressRange {
        text.parse().unwrap()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_trusted_proxies_say_who_calls() {
        let headers = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-for", line.parse().unwrap());
            }
            headers
        };
        let trusted = [range("10.0.0.0/8")];
        let proxy = address("10.0.0.1");
        let of = |peer, lines: &[&str]| caller(peer, &headers(lines), &trusted);
        assert_eq!(of(address("192.0.2.9"), &["192.0.2.1"]), address("192.0.2.9"));
        assert_eq!(of(proxy, &["192.0.2.1"]), address("192.0.2.1"));
        assert_eq!(
            of(proxy, &["198.51.100.7, 192.0.2.1, 10.0.0.2"]),
            address("192.0.2.1")
        );
        assert_eq!(of(proxy, &["198.51.100.7", "192.0.2.1"]), address("192.0.2.1"));
        assert_eq!(of(proxy, &["192.0.2.1, nonsense"]), proxy);
        assert_eq!(of(proxy, &[]), proxy);
    }
}
