//! What a relay does to a frame: whether it is to be impaired, and how it is changed.
//!
//! Reads bytes that anybody may have sent: never panics on them.

use std::net::IpAddr;

use wire::checksum::{protocol, update};
use wire::frame::Frame;

use super::config::{Matching, MtuLimit};

/// The relay's interface from which forward packets come.
pub const LEFT: &str = "left";
/// The relay's interface from which reverse packets come.
pub const RIGHT: &str = "right";

/// The type of an ICMP echo request or reply, v4 or v6; `None` for anything else.
fn echo_type(bytes: &[u8], frame: &Frame) -> Option<u8> {
    if frame.fragment_offset != 0 {
        return None;
    }
    let kind = *bytes.get(frame.l4)?;
    match frame.protocol {
        protocol::ICMP => matches!(kind, 0 | 8).then_some(kind),
        protocol::ICMPV6 => matches!(kind, 128 | 129).then_some(kind),
        _ => None,
    }
}

/// Sequence number of an ICMP echo message.
#[must_use]
pub fn echo_sequence(bytes: &[u8], frame: &Frame) -> Option<u16> {
    echo_type(bytes, frame)?;
    let field = bytes.get(frame.l4 + 6..frame.l4 + 8)?;
    Some(u16::from_be_bytes([field[0], field[1]]))
}

/// Whether the relay numbers, impairs and logs this packet.
#[must_use]
pub fn matches(matching: Matching, bytes: &[u8], frame: &Frame) -> bool {
    let udp = frame.protocol == protocol::UDP;
    let echo = echo_type(bytes, frame).is_some();
    match matching {
        Matching::Probes => udp || echo,
        Matching::Udp => udp,
        Matching::UdpPort(port) => {
            udp && frame
                .ports
                .is_some_and(|(from, to)| from == port || to == port)
        }
        Matching::Echo => echo,
        Matching::Tcp => frame.protocol == protocol::TCP,
        // Neighbour discovery and ICMP errors keep the rest working: never touched.
        Matching::Ip => echo || !matches!(frame.protocol, protocol::ICMP | protocol::ICMPV6),
    }
}

/// Where the checksum lies that covers the payload.
fn checksum_at(frame: &Frame) -> Option<usize> {
    match frame.protocol {
        protocol::UDP => Some(frame.l4 + 6),
        protocol::TCP => Some(frame.l4 + 16),
        protocol::ICMP | protocol::ICMPV6 => Some(frame.l4 + 2),
        _ => None,
    }
}

fn replace_sum(bytes: &mut [u8], at: usize, new: impl FnOnce(u16) -> u16) {
    if let Some(field) = bytes.get_mut(at..at + 2) {
        let sum = new(u16::from_be_bytes([field[0], field[1]]));
        field.copy_from_slice(&sum.to_be_bytes());
    }
}

/// Flips one payload bit, chosen by `draw`, in byte `byte` of the payload or any; returns
/// whether there was one to flip.
pub fn flip_bit(
    bytes: &mut [u8],
    frame: &Frame,
    draw: u64,
    byte: Option<usize>,
    fix_checksum: bool,
) -> bool {
    let length = frame.payload.len();
    if length == 0 || byte.is_some_and(|byte| byte >= length) {
        return false;
    }
    let drawn = usize::try_from((draw >> 3) % length as u64).unwrap_or(0);
    let at = frame.payload.start + byte.unwrap_or(drawn);
    let Some(place) = bytes.get_mut(at) else {
        return false;
    };
    let old = *place;
    *place ^= 1 << (draw & 7);
    let new = *place;
    if let Some(sum_at) = checksum_at(frame).filter(|_| fix_checksum) {
        let even = (at - frame.l4).is_multiple_of(2);
        let word = |value: u8| u16::from(value) << if even { 8 } else { 0 };
        let udp = frame.protocol == protocol::UDP;
        replace_sum(bytes, sum_at, |sum| match (udp, sum) {
            // 0 says that a UDP datagram over IPv4 has none.
            (true, 0) => 0,
            _ => match (udp, update(sum, word(old), word(new))) {
                // RFC 768: "If the computed checksum is zero, it is transmitted as all ones".
                (true, 0) => 0xffff,
                (_, fixed) => fixed,
            },
        });
    }
    true
}

/// Lowers TTL or hop limit by `hops`, as so many routers would. A packet that has not as
/// much left keeps 1: the relay loses nothing that it was not told to lose.
pub fn lower_ttl(bytes: &mut [u8], frame: &Frame, hops: u8) {
    let lowered = frame.ttl.saturating_sub(hops).max(1);
    let at = match frame.source {
        IpAddr::V4(_) => frame.l3 + 8,
        IpAddr::V6(_) => frame.l3 + 7,
    };
    if let Some(field) = bytes.get_mut(at) {
        *field = lowered;
    }
    if frame.source.is_ipv4() {
        // The word of the checksum's sum is TTL and protocol.
        let word = |ttl: u8| u16::from_be_bytes([ttl, 0]);
        replace_sum(bytes, frame.l3 + 10, |sum| {
            update(sum, word(frame.ttl), word(lowered))
        });
    }
}

/// The ICMP answer to a packet that is too large, as a whole frame; `None` if the limit
/// has no router of that family or the packet deserves none.
#[must_use]
pub fn too_big_answer(bytes: &[u8], frame: &Frame, limit: &MtuLimit) -> Option<Vec<u8>> {
    let from = match frame.source {
        IpAddr::V4(_) => IpAddr::V4(limit.icmp_v4?),
        IpAddr::V6(_) => IpAddr::V6(limit.icmp_v6?),
    };
    let packet = bytes.get(frame.ip())?;
    let header = frame.l3;
    let mut answer = vec![0; header + 1_280];
    let mtu = u32::from(limit.bytes);
    let length = wire::icmp::emit_too_big(&mut answer[header..], packet, mtu, from)?;
    answer.truncate(header + length);
    answer[..header].copy_from_slice(&bytes[..header]);
    answer[..6].copy_from_slice(&bytes[6..12]);
    answer[6..12].copy_from_slice(&bytes[..6]);
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::checksum::{internet, transport, verify, verify_transport};

    fn udp(v6: bool, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x02; 12];
        let length = (8 + payload.len()) as u16;
        if v6 {
            bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            bytes.extend(length.to_be_bytes());
            bytes.extend([17, 64]);
            bytes.extend([0xfd; 16]);
            bytes.extend([0xfc; 16]);
        } else {
            bytes.extend([8, 0, 0x45, 0]);
            bytes.extend((20 + length).to_be_bytes());
            bytes.extend([0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
            let sum = internet(&bytes[14..34]);
            bytes[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        bytes.extend([0x10, 0, 0x03, 0x5e]);
        bytes.extend(length.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(payload);
        let frame = Frame::parse(&bytes).expect("well formed");
        let (from, to) = (frame.source, frame.destination);
        let sum = transport(from, to, 17, &bytes[frame.segment()]);
        bytes[frame.l4 + 6..frame.l4 + 8].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    fn intact(bytes: &[u8]) -> bool {
        let frame = Frame::parse(bytes).expect("well formed");
        let ip = frame.source.is_ipv6() || verify(&bytes[frame.l3..frame.l4]);
        ip && verify_transport(frame.source, frame.destination, 17, &bytes[frame.segment()])
    }

    #[test]
    fn one_bit_flips_and_the_checksum_tells_unless_it_is_fixed() {
        for v6 in [false, true] {
            for draw in 0..800u64 {
                let before = udp(v6, b"the payload, odd");
                let frame = Frame::parse(&before).expect("well formed");
                let mut wrong = before.clone();
                assert!(flip_bit(&mut wrong, &frame, draw, None, false));
                let bits: u32 = before
                    .iter()
                    .zip(&wrong)
                    .map(|(a, b)| (a ^ b).count_ones())
                    .sum();
                assert_eq!(bits, 1);
                assert_eq!(before[..frame.payload.start], wrong[..frame.payload.start]);
                assert!(!intact(&wrong));
                let mut fixed = before.clone();
                assert!(flip_bit(&mut fixed, &frame, draw, None, true));
                assert!(intact(&fixed));
                assert_eq!(fixed[frame.payload.clone()], wrong[frame.payload]);
            }
        }
    }

    #[test]
    fn a_chosen_byte_and_a_missing_one() {
        let mut bytes = udp(false, &[0; 9]);
        let frame = Frame::parse(&bytes).expect("well formed");
        assert!(flip_bit(&mut bytes, &frame, 3, Some(7), true));
        assert_eq!(bytes[frame.payload.clone()], [0, 0, 0, 0, 0, 0, 0, 8, 0]);
        assert!(!flip_bit(&mut bytes, &frame, 3, Some(9), true));
        let mut empty = udp(true, &[]);
        let frame = Frame::parse(&empty).expect("well formed");
        assert!(!flip_bit(&mut empty, &frame, 3, None, true));
    }

    #[test]
    fn hops_lower_the_ttl_and_keep_the_header_right() {
        for (v6, hops, left) in [
            (false, 3, 61),
            (true, 3, 61),
            (false, 64, 1),
            (true, 200, 1),
        ] {
            let mut bytes = udp(v6, b"x");
            let frame = Frame::parse(&bytes).expect("well formed");
            lower_ttl(&mut bytes, &frame, hops);
            assert_eq!(Frame::parse(&bytes).expect("well formed").ttl, left);
            assert!(intact(&bytes));
        }
    }

    #[test]
    fn filters() {
        let bytes = udp(false, b"x");
        let frame = Frame::parse(&bytes).expect("well formed");
        for (matching, expected) in [
            (Matching::Probes, true),
            (Matching::Udp, true),
            (Matching::Ip, true),
            (Matching::UdpPort(862), true),
            (Matching::UdpPort(863), false),
            (Matching::Echo, false),
            (Matching::Tcp, false),
        ] {
            assert_eq!(matches(matching, &bytes, &frame), expected, "{matching:?}");
        }
    }

    #[test]
    fn too_big_goes_back_to_the_sender() {
        let bytes = udp(false, &[7; 2_000]);
        let frame = Frame::parse(&bytes).expect("well formed");
        let mut limit = MtuLimit {
            bytes: 1_500,
            icmp_v4: None,
            icmp_v6: None,
        };
        assert_eq!(too_big_answer(&bytes, &frame, &limit), None);
        limit.icmp_v4 = Some([10, 0, 0, 254].into());
        let answer = too_big_answer(&bytes, &frame, &limit).expect("an answer");
        let parsed = Frame::parse(&answer).expect("well formed");
        assert_eq!(parsed.destination, frame.source);
        assert_eq!(answer[parsed.l4..parsed.l4 + 2], [3, 4]);
        assert_eq!(answer[parsed.l4 + 6..parsed.l4 + 8], 1_500u16.to_be_bytes());
    }
}
