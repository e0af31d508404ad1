//! Datagrams as received, with all that the kernel tells about them.
//!
//! Owns: the meaning of the control messages of received datagrams. Nothing is allocated
//! after [`Batch::new`]. Unknown or malformed control messages are skipped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use base::WallNanos;

use super::address;
use super::slots::{Message, Slots};
use crate::control::{Item, Reader, get_i32, get_i64, get_u32};

/// Not in libc for Linux/glibc: include/uapi/asm-generic/socket.h.
const SO_RXQ_OVFL: i32 = super::SO_RXQ_OVFL;

/// A received datagram.
#[derive(Copy, Clone, Debug)]
pub struct Received<'a> {
    /// The datagram without IP and UDP header; from the ICMP header on for ICMP sockets.
    pub payload: &'a [u8],
    /// It was longer than the batch has room for.
    pub truncated: bool,
    /// Who sent it (port 0 for ICMP).
    pub from: SocketAddr,
    /// The destination address in its IP header.
    pub to: Option<IpAddr>,
    /// The device that it came in by, 0 if unknown.
    pub ifindex: u32,
    /// TTL or hop limit as received.
    pub ttl: Option<u8>,
    /// TOS or traffic class as received.
    pub tos: Option<u8>,
    /// The kernel's receive stamp, of `CLOCK_REALTIME`.
    pub kernel: Option<WallNanos>,
    /// The device's receive stamp, of the device's clock.
    pub hardware: Option<WallNanos>,
    /// Datagrams that this socket's full buffer has dropped so far (`SO_RXQ_OVFL`);
    /// absent while there were none.
    pub overflow: Option<u32>,
    /// It came in IP fragments; this is the largest, in bytes of IP packet.
    pub fragment_bytes: Option<u32>,
}

/// Room for a number of datagrams, allocated once.
pub struct Batch {
    pub(crate) slots: Slots,
    /// Datagrams begin with an IPv4 header (raw ICMP sockets).
    pub(crate) ipv4_header: bool,
    /// An error of an earlier packet (errno) that the last receive met instead of data.
    pub soft_error: Option<i32>,
}

impl Batch {
    /// Room for `messages` (1 to 1024) datagrams of up to `bytes_each` bytes.
    #[must_use]
    pub fn new(messages: usize, bytes_each: usize) -> Self {
        Self {
            slots: Slots::new(messages, bytes_each),
            ipv4_header: false,
            soft_error: None,
        }
    }

    /// Datagrams that the last receive got.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.filled()
    }

    /// Whether the last receive got none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the last receive got, in the order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = Received<'_>> {
        let ipv4_header = self.ipv4_header;
        self.slots
            .messages()
            .map(move |message| received(&message, ipv4_header))
    }
}

fn received<'a>(message: &Message<'a>, ipv4_header: bool) -> Received<'a> {
    let from = address::decode(message.name);
    let mut found = Received {
        payload: if ipv4_header {
            after_ipv4_header(message.payload)
        } else {
            message.payload
        },
        truncated: message.flags & libc::MSG_TRUNC != 0,
        from: from.unwrap_or_else(|| (Ipv4Addr::UNSPECIFIED, 0).into()),
        to: None,
        ifindex: 0,
        ttl: None,
        tos: None,
        kernel: None,
        hardware: None,
        overflow: None,
        fragment_bytes: None,
    };
    for item in Reader::new(message.control) {
        apply(&mut found, item);
    }
    found
}

/// Raw IPv4 sockets deliver the IP header too (raw(7)); nothing is left if it is cut.
fn after_ipv4_header(packet: &[u8]) -> &[u8] {
    let words = packet.first().map_or(0, |first| usize::from(first & 0x0f));
    packet.get(words * 4..).unwrap_or(&[])
}

fn apply(found: &mut Received<'_>, item: Item<'_>) {
    match (item.level, item.kind) {
        (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING) => {
            (found.kernel, found.hardware) = stamps(item.data);
        }
        (libc::SOL_SOCKET, SO_RXQ_OVFL) => found.overflow = get_u32(item.data, 0),
        (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
            found.ttl = get_i32(item.data, 0).and_then(|ttl| u8::try_from(ttl).ok());
        }
        // One byte, unlike all its relatives.
        (libc::IPPROTO_IP, libc::IP_TOS) => found.tos = item.data.first().copied(),
        (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
            found.tos = get_i32(item.data, 0).and_then(|tos| u8::try_from(tos).ok());
        }
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            // struct in_pktinfo: device, local address, destination in the header.
            found.ifindex = get_u32(item.data, 0).unwrap_or(0);
            let octets = item
                .data
                .get(8..12)
                .and_then(|o| <[u8; 4]>::try_from(o).ok());
            found.to = octets.map(|octets| Ipv4Addr::from(octets).into());
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            // struct in6_pktinfo: destination, device.
            let octets = item
                .data
                .get(..16)
                .and_then(|o| <[u8; 16]>::try_from(o).ok());
            found.to = octets.map(|octets| Ipv6Addr::from(octets).into());
            found.ifindex = get_u32(item.data, 16).unwrap_or(0);
        }
        (libc::IPPROTO_IP, super::IP_RECVFRAGSIZE)
        | (libc::IPPROTO_IPV6, super::IPV6_RECVFRAGSIZE) => {
            found.fragment_bytes = get_u32(item.data, 0);
        }
        _ => {}
    }
}

/// struct scm_timestamping: software, unused, raw hardware; zero where there is none.
pub(crate) fn stamps(data: &[u8]) -> (Option<WallNanos>, Option<WallNanos>) {
    (stamp_at(data, 0), stamp_at(data, 32))
}

fn stamp_at(data: &[u8], at: usize) -> Option<WallNanos> {
    let seconds = u64::try_from(get_i64(data, at)?).ok()?;
    let nanos = u64::try_from(get_i64(data, at + 8)?).ok()?;
    if seconds == 0 && nanos == 0 {
        return None;
    }
    seconds
        .checked_mul(1_000_000_000)?
        .checked_add(nanos)
        .map(WallNanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_seconds_and_nanoseconds_and_zero_is_none() {
        let mut data = [0_u8; 48];
        assert_eq!(stamps(&data), (None, None));
        data[..8].copy_from_slice(&3_i64.to_ne_bytes());
        data[8..16].copy_from_slice(&7_i64.to_ne_bytes());
        data[40..48].copy_from_slice(&9_i64.to_ne_bytes());
        assert_eq!(
            stamps(&data),
            (Some(WallNanos(3_000_000_007)), Some(WallNanos(9)))
        );
        data[..8].copy_from_slice(&(-1_i64).to_ne_bytes());
        assert_eq!(stamps(&data).0, None);
        assert_eq!(stamps(&data[..40]).1, None);
    }

    #[test]
    fn the_ipv4_header_is_taken_off_with_its_options() {
        let mut packet = [0_u8; 32];
        packet[0] = 0x46;
        packet[24] = 0xee;
        assert_eq!(after_ipv4_header(&packet)[0], 0xee);
        assert_eq!(after_ipv4_header(&packet[..10]), &[] as &[u8]);
        assert_eq!(after_ipv4_header(&[]), &[] as &[u8]);
    }
}
