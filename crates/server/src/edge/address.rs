//! Who calls: the other end of the connection, or whom a trusted proxy calls for.

use std::{fmt, net::IpAddr, str::FromStr};

use http::HeaderMap;

/// Addresses that share their first bits, such as `10.0.0.0/8` or `2001:db8::/32`; or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    first: IpAddr,
    bits: u8,
}

/// A text is no range of addresses.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected an address or a range, such as `10.0.0.0/8` or `2001:db8::/32`, without bits after the prefix"
)]
pub struct AddressRangeError;

impl AddressRange {
    /// Whether `address` is in the range.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.bits);
                let prefix = |bits: u32| bits.checked_shr(shift).unwrap_or(0);
                prefix(first.to_bits()) == prefix(address.to_bits())
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.bits);
                let prefix = |bits: u128| bits.checked_shr(shift).unwrap_or(0);
                prefix(first.to_bits()) == prefix(address.to_bits())
            }
            _ => false,
        }
    }
}

impl FromStr for AddressRange {
    type Err = AddressRangeError;

    fn from_str(text: &str) -> Result<Self, AddressRangeError> {
        let (first, bits) = text
            .split_once('/')
            .map_or((text, None), |(first, bits)| (first, Some(bits)));
        let first: IpAddr = first.parse().map_err(|_| AddressRangeError)?;
        let longest = if first.is_ipv4() { 32 } else { 128 };
        let bits = bits
            .map_or(Ok(longest), str::parse)
            .map_err(|_| AddressRangeError)?;
        let after_the_prefix = match first {
            IpAddr::V4(first) => u128::from(first.to_bits()) << 96,
            IpAddr::V6(first) => first.to_bits(),
        };
        let is_plain = after_the_prefix.checked_shl(bits.into()).unwrap_or(0) == 0;
        if bits > longest || !is_plain {
            return Err(AddressRangeError);
        }
        Ok(Self { first, bits })
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

/// Who calls over a connection from `peer`. Each trusted proxy has added, at the end of `x-forwarded-for`,
/// whom it was called by: the last one that is not such a proxy is the caller. What comes before that, the
/// caller wrote.
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
    fn ranges_hold_what_they_say() {
        assert!(range("10.0.0.0/8").contains(address("10.255.0.1")));
        assert!(range("10.0.0.0/8").contains(address("::ffff:10.255.0.1")));
        assert!(!range("10.0.0.0/8").contains(address("11.0.0.0")));
        assert!(range("0.0.0.0/0").contains(address("192.0.2.1")));
        assert!(!range("0.0.0.0/0").contains(address("2001:db8::1")));
        assert!(range("192.0.2.1").contains(address("192.0.2.1")));
        assert!(range("2001:db8::/32").contains(address("2001:db8:1::1")));
        for wrong in [
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0",
            "",
            "2001:db8::/129",
            "10.0.0.0/-1",
        ] {
            assert!(wrong.parse::<AddressRange>().is_err(), "{wrong}");
        }
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
