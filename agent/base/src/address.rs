//! One form for both address families, cheap to compare and to hash.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IP address as two 64-bit halves in host order; IPv4 is mapped (`::ffff:a.b.c.d`,
/// RFC 4291 section 2.5.5.2), so that one flow table holds both families.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Address {
    /// Bits 127 to 64; 0 for IPv4.
    pub high: u64,
    /// Bits 63 to 0.
    pub low: u64,
}

const MAPPED: u64 = 0x0000_ffff_0000_0000;

impl Address {
    /// IPv4 from its 32 bits in host order.
    #[must_use]
    #[inline]
    pub const fn v4(bits: u32) -> Self {
        Self {
            high: 0,
            low: MAPPED | bits as u64,
        }
    }

    /// IPv6 from its 16 octets in wire order.
    #[must_use]
    #[inline]
    pub const fn v6(octets: [u8; 16]) -> Self {
        let bits = u128::from_be_bytes(octets);
        Self {
            high: (bits >> 64) as u64,
            low: bits as u64,
        }
    }

    /// Whether this is a mapped IPv4 address.
    #[must_use]
    #[inline]
    pub const fn is_v4(self) -> bool {
        self.high == 0 && self.low >> 32 == 0xffff
    }

    /// For printing and for prefixes; a mapped address comes back as IPv4.
    #[must_use]
    pub const fn ip(self) -> IpAddr {
        if self.is_v4() {
            IpAddr::V4(Ipv4Addr::from_bits(self.low as u32))
        } else {
            IpAddr::V6(Ipv6Addr::from_bits(
                (self.high as u128) << 64 | self.low as u128,
            ))
        }
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::v4(ip.to_bits()),
            IpAddr::V6(ip) => Self::v6(ip.octets()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_come_back() {
        for text in [
            "10.1.2.3",
            "255.255.255.255",
            "0.0.0.0",
            "2001:db8::1",
            "::",
        ] {
            let ip: IpAddr = text.parse().expect("an address");
            assert_eq!(Address::from(ip).ip(), ip);
            assert_eq!(Address::from(ip).is_v4(), ip.is_ipv4());
        }
    }

    #[test]
    fn order_is_numeric() {
        let address = |text: &str| Address::from(text.parse::<IpAddr>().expect("an address"));
        assert!(address("9.255.255.255") < address("10.0.0.0"));
        assert!(address("2001:db8::1") < address("2001:db8:1::"));
    }
}
