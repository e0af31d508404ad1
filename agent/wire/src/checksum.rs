//! The Internet checksum (RFC 1071), its incremental update (RFC 1624), and the
//! pseudo-headers of UDP, TCP and ICMPv6.
//!
//! Odd lengths are padded with a zero octet, as RFC 1071 section 4.1 does. Sums are kept in
//! 64 bits, so no buffer that fits memory can overflow one.

use core::net::IpAddr;

use crate::bytes::u16_at;

/// IP protocol numbers used in pseudo-headers.
pub mod protocol {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
}

/// Adds up 16-bit words without folding.
fn add(sum: u64, bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(2);
    let sum = words
        .by_ref()
        .fold(sum, |sum, word| sum + u64::from(u16_at(word, 0)));
    match words.remainder() {
        [last] => sum + (u64::from(*last) << 8),
        _ => sum,
    }
}

/// The carries added back in: RFC 1071 section 1 (1).
fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // Not above 0xffff after the loop.
    u16::try_from(sum).unwrap_or(u16::MAX)
}

/// The checksum of `bytes`, in which its own field must be zero.
#[must_use]
pub fn internet(bytes: &[u8]) -> u16 {
    !fold(add(0, bytes))
}

/// Whether `bytes` with their checksum field in place are intact.
#[must_use]
pub fn verify(bytes: &[u8]) -> bool {
    fold(add(0, bytes)) == 0xffff
}

/// The new checksum after one 16-bit word changed: `RFC 1624 §3: HC' = ~(~HC + ~m + m')`.
#[must_use]
pub fn update(check: u16, old: u16, new: u16) -> u16 {
    !fold(u64::from(!check) + u64::from(!old) + u64::from(new))
}

/// The new checksum after octets at an even offset changed from `old` to `new`, which have
/// the same length. A UDP caller leaves a checksum of 0 ("none") alone.
#[must_use]
pub fn update_bytes(check: u16, old: &[u8], new: &[u8]) -> u16 {
    let removed = old.chunks(2).map(|word| {
        let [high, low] = [word.first(), word.get(1)].map(|octet| octet.copied().unwrap_or(0));
        u64::from(!u16::from_be_bytes([high, low]))
    });
    !fold(add(u64::from(!check) + removed.sum::<u64>(), new))
}

/// The pseudo-header: RFC 768, RFC 9293 section 3.1, RFC 8200 section 8.1. The words of the
/// IPv4 and the IPv6 form differ only in zeros.
fn pseudo(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> u64 {
    let address = |sum, address| match address {
        IpAddr::V4(v4) => add(sum, &v4.octets()),
        IpAddr::V6(v6) => add(sum, &v6.octets()),
    };
    let length = length as u64;
    let sum = (length & 0xffff) + (length >> 16) + u64::from(protocol);
    address(address(sum, source), destination)
}

/// The checksum of a UDP, TCP or ICMPv6 segment, in which its own field must be zero.
/// A UDP checksum that comes out as 0 is returned as 0xffff: `RFC 768: "transmitted as all
/// ones"`.
#[must_use]
pub fn transport(source: IpAddr, destination: IpAddr, protocol: u8, segment: &[u8]) -> u16 {
    let check = !fold(add(
        pseudo(source, destination, protocol, segment.len()),
        segment,
    ));
    if check == 0 && protocol == protocol::UDP {
        0xffff
    } else {
        check
    }
}

/// Whether a UDP, TCP or ICMPv6 segment with its checksum in place is intact. A UDP
/// checksum of 0 is "none" over IPv4 and wrong over IPv6 (RFC 8200 section 8.1).
#[must_use]
pub fn verify_transport(source: IpAddr, destination: IpAddr, protocol: u8, segment: &[u8]) -> bool {
    if protocol == protocol::UDP && segment.len() >= 8 && u16_at(segment, 6) == 0 {
        return source.is_ipv4();
    }
    fold(add(
        pseudo(source, destination, protocol, segment.len()),
        segment,
    )) == 0xffff
}

#[cfg(test)]
mod tests;
