//! A frame from Ethernet down to the ports: where its layers are, and what a relay or a
//! dissector wants to know of them.
//!
//! [`Frame`] owns offsets, not octets, so a caller may change the octets afterwards. Up to
//! two VLAN tags; IPv4 options and IPv6 extension headers are skipped. Octets after the IP
//! packet (Ethernet's padding) belong to no layer. Checksums are not looked at: see
//! [`crate::checksum`].
//!
//! A fragment other than the first has no ports, and a first one may be too short to have
//! them; a whole packet that cuts its UDP, TCP or ICMP header is an error.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ops::Range;

use crate::Reason;
use crate::bytes::{array_at, u8_at, u16_at};
use crate::checksum::protocol;

/// Octets of an Ethernet header without tags.
pub const ETHERNET_LEN: usize = 14;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const VLAN: u16 = 0x8100;
const QINQ: u16 = 0x88a8;
const MAX_TAGS: usize = 2;
/// RFC 8200 section 4.1 foresees seven; more is an attack or a mistake.
const MAX_EXTENSIONS: usize = 8;

/// What is in a frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Where the IP header starts.
    pub l3: usize,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// The protocol above IP and its extension headers.
    pub protocol: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// The TOS octet or traffic class: DSCP and ECN.
    pub tos: u8,
    /// Octets of the IP packet, its header included.
    pub ip_len: usize,
    /// IPv4's DF; always true for IPv6, which routers never fragment.
    pub dont_fragment: bool,
    /// Where this fragment starts in the original's payload, in octets; 0 if whole.
    pub fragment_offset: u16,
    /// Whether more fragments follow.
    pub more_fragments: bool,
    /// Source and destination port of UDP and TCP.
    pub ports: Option<(u16, u16)>,
    /// Where the header above IP starts (in a later fragment: its data).
    pub l4: usize,
    /// What the innermost header carries.
    pub payload: Range<usize>,
}

impl Frame {
    /// Reads a frame that starts with an Ethernet header.
    ///
    /// # Errors
    /// [`Reason::NotOurs`] for anything but IP inside (ARP, LLDP), [`Reason::TooManyTags`],
    /// and what [`Frame::parse_ip`] says.
    pub fn parse(frame: &[u8]) -> Result<Self, Reason> {
        let mut at = 12;
        for _ in 0..=MAX_TAGS {
            if frame.len() < at + 2 {
                return Err(Reason::TooShort);
            }
            match u16_at(frame, at) {
                VLAN | QINQ => at += 4,
                IPV4 | IPV6 => return Self::parse_ip(frame, at + 2),
                _ => return Err(Reason::NotOurs),
            }
        }
        Err(Reason::TooManyTags)
    }

    /// Reads a frame whose IP header starts at `l3`; offsets count from the frame's start.
    ///
    /// # Errors
    /// [`Reason::TooShort`] when a header is cut, [`Reason::BadVersion`] when it is neither
    /// IPv4 nor IPv6, [`Reason::BadLength`] for a length field that contradicts its header,
    /// [`Reason::Truncated`] when the packet claims more than there is,
    /// [`Reason::TooManyExtensions`].
    pub fn parse_ip(frame: &[u8], l3: usize) -> Result<Self, Reason> {
        let packet = frame.get(l3..).ok_or(Reason::TooShort)?;
        let mut parsed = match packet.first() {
            None => return Err(Reason::TooShort),
            Some(first) => match first >> 4 {
                4 => ipv4(packet)?,
                6 => ipv6(packet)?,
                _ => return Err(Reason::BadVersion),
            },
        };
        transport(&mut parsed, packet)?;
        // Up to here offsets count from the IP header.
        parsed.l3 = l3;
        parsed.l4 += l3;
        parsed.payload = parsed.payload.start + l3..parsed.payload.end + l3;
        Ok(parsed)
    }

    /// Where the IP packet is in the frame.
    #[must_use]
    pub const fn ip(&self) -> Range<usize> {
        self.l3..self.l3 + self.ip_len
    }

    /// Where the header above IP and its payload are in the frame.
    #[must_use]
    pub const fn segment(&self) -> Range<usize> {
        self.l4..self.l3 + self.ip_len
    }

    /// Whether this is a part of a packet only.
    #[must_use]
    pub const fn is_fragment(&self) -> bool {
        self.more_fragments || self.fragment_offset != 0
    }
}

/// RFC 791 section 3.1.
fn ipv4(packet: &[u8]) -> Result<Frame, Reason> {
    if packet.len() < 20 {
        return Err(Reason::TooShort);
    }
    let header = usize::from(u8_at(packet, 0) & 0x0f) * 4;
    let total = usize::from(u16_at(packet, 2));
    if header < 20 || total < header {
        return Err(Reason::BadLength);
    }
    if total > packet.len() {
        return Err(Reason::Truncated);
    }
    let fragment = u16_at(packet, 6);
    Ok(Frame {
        l3: 0,
        source: Ipv4Addr::from(array_at::<4>(packet, 12)).into(),
        destination: Ipv4Addr::from(array_at::<4>(packet, 16)).into(),
        protocol: u8_at(packet, 9),
        ttl: u8_at(packet, 8),
        tos: u8_at(packet, 1),
        ip_len: total,
        dont_fragment: fragment & 0x4000 != 0,
        // 13 bits of 8 octets each fit 16 bits.
        fragment_offset: (fragment & 0x1fff) << 3,
        more_fragments: fragment & 0x2000 != 0,
        ports: None,
        l4: header,
        payload: header..total,
    })
}

/// RFC 8200 sections 3 and 4.
fn ipv6(packet: &[u8]) -> Result<Frame, Reason> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const AUTHENTICATION: u8 = 51;
    const DESTINATION: u8 = 60;
    const MOBILITY: u8 = 135;

    if packet.len() < 40 {
        return Err(Reason::TooShort);
    }
    let total = 40 + usize::from(u16_at(packet, 4));
    let Some(packet) = packet.get(..total) else {
        return Err(Reason::Truncated);
    };
    let mut next = u8_at(packet, 6);
    let mut at = 40;
    let mut fragment = 0;
    let mut seen = 0;
    // Behind the header of a later fragment is data, whatever Next Header says.
    while fragment & 0xfff8 == 0
        && matches!(
            next,
            HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION | MOBILITY
        )
    {
        if packet.len() < at + 8 {
            return Err(Reason::TooShort);
        }
        if seen == MAX_EXTENSIONS {
            return Err(Reason::TooManyExtensions);
        }
        seen += 1;
        let units = usize::from(u8_at(packet, at + 1));
        let length = match next {
            FRAGMENT => {
                fragment = u16_at(packet, at + 2);
                8
            }
            // RFC 4302 §2.2: "in 32-bit words (4-byte units), minus "2"".
            AUTHENTICATION => (units + 2) * 4,
            _ => (units + 1) * 8,
        };
        next = u8_at(packet, at);
        at += length;
        if at > total {
            return Err(Reason::BadLength);
        }
    }
    let [high, low] = array_at::<2>(packet, 0);
    Ok(Frame {
        l3: 0,
        source: Ipv6Addr::from(array_at::<16>(packet, 8)).into(),
        destination: Ipv6Addr::from(array_at::<16>(packet, 24)).into(),
        protocol: next,
        ttl: u8_at(packet, 7),
        tos: (high << 4) | (low >> 4),
        ip_len: total,
        dont_fragment: true,
        fragment_offset: fragment & 0xfff8,
        more_fragments: fragment & 1 != 0,
        ports: None,
        l4: at,
        payload: at..total,
    })
}

/// Fills in ports and payload; offsets count from the IP header.
fn transport(frame: &mut Frame, packet: &[u8]) -> Result<(), Reason> {
    if frame.fragment_offset != 0 {
        return Ok(());
    }
    let header_len = match frame.protocol {
        protocol::UDP | protocol::ICMP | protocol::ICMPV6 => 8,
        protocol::TCP => 20,
        _ => return Ok(()),
    };
    let segment = packet.get(frame.l4..frame.ip_len).unwrap_or_default();
    if segment.len() < header_len {
        return if frame.more_fragments {
            Ok(())
        } else {
            Err(Reason::TooShort)
        };
    }
    let mut start = header_len;
    let mut end = segment.len();
    match frame.protocol {
        protocol::UDP => {
            let length = usize::from(u16_at(segment, 4));
            if length < header_len {
                return Err(Reason::BadLength);
            }
            if !frame.more_fragments {
                // Padding between the end of the datagram and that of the packet is no payload.
                if length > end {
                    return Err(Reason::BadLength);
                }
                end = length;
            }
        }
        protocol::TCP => {
            start = usize::from(u8_at(segment, 12) >> 4) * 4;
            if start < header_len || (start > end && !frame.more_fragments) {
                return Err(Reason::BadLength);
            }
            start = start.min(end);
        }
        _ => {}
    }
    if matches!(frame.protocol, protocol::UDP | protocol::TCP) {
        frame.ports = Some((u16_at(segment, 0), u16_at(segment, 2)));
    }
    frame.payload = frame.l4 + start..frame.l4 + end;
    Ok(())
}

#[cfg(test)]
mod tests;
