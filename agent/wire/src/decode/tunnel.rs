//! What wraps frames and packets in IP: GRE and ERSPAN, VXLAN, Geneve, IP in IP, MPLS in IP.

use super::general::{Walked, ip};
use super::ipv4::Ip;
use super::link::{self, Inside};
use super::span::Span;
use super::{Undecoded, udp};
use crate::checksum::protocol;

/// Tunnels inside each other; a mirrored overlay packet has two.
const MAX_DEPTH: usize = 6;

const IPV4: u8 = 4;
const IPV6: u8 = 41;
const GRE: u8 = 47;
/// RFC 4023.
const MPLS: u8 = 137;

const VXLAN_PORT: u16 = 4789;
/// Linux's default, from before there was a number.
const VXLAN_PORT_LINUX: u16 = 8472;
const GENEVE_PORT: u16 = 6081;

/// RFC 7348's flag I.
pub(super) const VXLAN_HAS_VNI: u8 = 0x08;

const ERSPAN_1_AND_2: u16 = 0x88be;
const ERSPAN_3: u16 = 0x22eb;

/// Whether a UDP destination port may mean a tunnel.
#[inline(always)]
pub(super) const fn is_port(port: u16) -> bool {
    is_vxlan_port(port) || port == GENEVE_PORT
}

/// Whether a UDP destination port may mean VXLAN.
#[inline(always)]
pub(super) const fn is_vxlan_port(port: u16) -> bool {
    matches!(port, VXLAN_PORT | VXLAN_PORT_LINUX)
}

/// What is inside a tunnel's header.
struct Opened {
    inside: Inside,
    at: usize,
    end: usize,
    id: u32,
}

/// The packet inside all tunnels; the packet itself if it is none.
pub(super) fn innermost(mut walked: Walked<'_>) -> Result<Walked<'_>, Undecoded> {
    for _ in 0..MAX_DEPTH {
        let header = walked.span.until(walked.packet.end);
        let Some(opened) = open(&header, &walked.packet)? else {
            return Ok(walked);
        };
        if opened.at >= opened.end {
            return Err(Undecoded::TunnelEmpty);
        }
        let span = header.inside(opened.end);
        let (span, v6, at) = link::to_ip(span, opened.inside, opened.at)?;
        walked = Walked {
            span,
            packet: ip(&span, v6, at)?,
            tunnel_id: match opened.id {
                0 => walked.tunnel_id,
                id => id,
            },
        };
    }
    Err(Undecoded::TunnelDepth)
}

/// Reads the tunnel header behind `packet`; `None` if there is none. A first fragment is
/// looked into, since the inside starts there.
fn open(span: &Span<'_>, packet: &Ip) -> Result<Option<Opened>, Undecoded> {
    if !packet.is_first() {
        return Ok(None);
    }
    let plain = |inside| {
        Ok(Some(Opened {
            inside,
            at: packet.payload,
            end: packet.end,
            id: 0,
        }))
    };
    match packet.protocol {
        IPV4 => plain(Inside::Ipv4),
        IPV6 => plain(Inside::Ipv6),
        MPLS => plain(Inside::Type(link::MPLS)),
        GRE => gre(span, packet).map(Some),
        protocol::UDP => {
            let udp = udp::parse(span, packet)?;
            let at = packet.payload + udp::HEADER;
            let (inside, at, id) = match udp.destination_port {
                VXLAN_PORT | VXLAN_PORT_LINUX => match vxlan(span, at, udp.end)? {
                    Some(found) => found,
                    None => return Ok(None),
                },
                GENEVE_PORT => match geneve(span, at, udp.end)? {
                    Some(found) => found,
                    None => return Ok(None),
                },
                _ => return Ok(None),
            };
            Ok(Some(Opened {
                inside,
                at,
                end: udp.end,
                id,
            }))
        }
        _ => Ok(None),
    }
}

/// RFC 2784 with the key and sequence number of RFC 2890; version 1 is RFC 2637's (PPTP).
fn gre(span: &Span<'_>, packet: &Ip) -> Result<Opened, Undecoded> {
    const CHECKSUM: u16 = 0x8000;
    const ROUTING: u16 = 0x4000;
    const KEY: u16 = 0x2000;
    const SEQUENCE: u16 = 0x1000;
    const ACKNOWLEDGEMENT: u16 = 0x0080;

    let at = packet.payload;
    let flags = span.u16(at)?;
    let kind = span.u16(at + 2)?;
    // RFC 1701's source routes are gone from RFC 2784.
    if flags & ROUTING != 0 || flags & 7 > 1 {
        return Err(Undecoded::TunnelHeader);
    }
    let has = |flag: u16| if flags & flag == 0 { 0 } else { 4 };
    let key_at = at + 4 + has(CHECKSUM);
    let mut id = 0;
    let mut inside_at = key_at + has(KEY) + has(SEQUENCE);
    if flags & 7 == 1 {
        inside_at += has(ACKNOWLEDGEMENT);
    } else if flags & KEY != 0 {
        id = span.u32(key_at)?;
    }
    let opened = |inside, at, id| Opened {
        inside,
        at,
        end: packet.end,
        id,
    };
    match kind {
        // Type I has no header of its own, and no sequence number to tell (draft-foschiano-erspan).
        ERSPAN_1_AND_2 if flags & SEQUENCE == 0 => Ok(opened(Inside::Ethernet, inside_at, id)),
        ERSPAN_1_AND_2 | ERSPAN_3 => {
            let (at, session) = erspan(span, inside_at)?;
            Ok(opened(Inside::Ethernet, at, session))
        }
        kind => Ok(opened(Inside::Type(kind), inside_at, id)),
    }
}

/// draft-foschiano-erspan sections 4.2 and 4.3: where the frame starts, and the session.
fn erspan(span: &Span<'_>, at: usize) -> Result<(usize, u32), Undecoded> {
    let first = span.u32(at)?;
    let session = first & 0x3ff;
    match first >> 28 {
        1 => Ok((at + 8, session)),
        2 => {
            // P, FT, Hw ID, D, Gra, O; frame type 0 is Ethernet, O announces eight octets more.
            let last = span.u16(at + 10)?;
            if last >> 10 & 0x1f != 0 {
                return Err(Undecoded::TunnelHeader);
            }
            Ok((at + 12 + usize::from(last & 1) * 8, session))
        }
        _ => Err(Undecoded::TunnelHeader),
    }
}

type Found = Option<(Inside, usize, u32)>;

/// RFC 7348 section 5. Without the I flag, or too short, it is a datagram to that port.
fn vxlan(span: &Span<'_>, at: usize, end: usize) -> Result<Found, Undecoded> {
    if end < at + 8 {
        return Ok(None);
    }
    let &[flags, _, _, _, vni @ .., _] = span.array::<8>(at)?;
    if flags & VXLAN_HAS_VNI == 0 {
        return Ok(None);
    }
    Ok(Some((Inside::Ethernet, at + 8, vni24(vni))))
}

/// RFC 8926 section 3.4. Of another version it is a datagram to that port.
fn geneve(span: &Span<'_>, at: usize, end: usize) -> Result<Found, Undecoded> {
    if end < at + 8 {
        return Ok(None);
    }
    let &[first, _, k0, k1, vni @ .., _] = span.array::<8>(at)?;
    let inside_at = at + 8 + usize::from(first & 0x3f) * 4;
    if first >> 6 != 0 || inside_at > end {
        return Ok(None);
    }
    let kind = u16::from_be_bytes([k0, k1]);
    Ok(Some((Inside::Type(kind), inside_at, vni24(vni))))
}

fn vni24([a, b, c]: [u8; 3]) -> u32 {
    u32::from_be_bytes([0, a, b, c])
}
