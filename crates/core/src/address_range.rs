//! Ranges of addresses of callers.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

/// Addresses that share their first bits, such as `10.0.0.0/8` or `2001:db8::/32`; or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AddressRange {
    first: IpAddr,
    bits: u8,
}

/// A text is not a range of addresses.
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

impl AddressRange {
    /// Whether every address of the range is in `other`.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.bits >= other.bits && other.contains(self.first)
    }

    /// IPv4 addresses written as IPv6 ones count as IPv4 addresses.
    fn canonical(first: IpAddr, bits: u8) -> (IpAddr, u8) {
        match (first.to_canonical(), bits.checked_sub(96)) {
            (IpAddr::V4(mapped), Some(bits)) if first.is_ipv6() => (mapped.into(), bits),
            _ => (first, bits),
        }
    }
}

impl TryFrom<String> for AddressRange {
    type Error = AddressRangeError;

    fn try_from(text: String) -> Result<Self, AddressRangeError> {
        text.parse()
    }
}

impl From<AddressRange> for String {
    fn from(range: AddressRange) -> Self {
        range.to_string()
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
        let (first, bits) = Self::canonical(first, bits);
        Ok(Self { first, bits })
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
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
        assert!(range("::ffff:10.0.0.0/104").contains(address("10.255.0.1")));
        assert!(!range("::ffff:10.0.0.0/104").contains(address("11.0.0.0")));
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
    fn a_range_is_within_another_as_a_table() {
        for (one, other, expected) in [
            ("10.1.0.0/16", "10.0.0.0/8", true),
            ("10.0.0.0/8", "10.0.0.0/8", true),
            ("10.0.0.0/8", "10.1.0.0/16", false),
            ("11.0.0.0/16", "10.0.0.0/8", false),
            ("10.0.0.1", "10.0.0.0/8", true),
            ("2001:db8::/48", "2001:db8::/32", true),
            ("2001:db8::/48", "0.0.0.0/0", false),
            ("0.0.0.0/0", "::/0", false),
        ] {
            assert_eq!(range(one).is_within(&range(other)), expected, "{one} {other}");
        }
    }

    #[test]
    fn a_range_is_written_as_it_is_read() {
        for text in ["10.0.0.0/8", "2001:db8::/32", "192.0.2.1/32", "0.0.0.0/0", "::/0"] {
            assert_eq!(range(text).to_string(), text);
        }
    }
}
