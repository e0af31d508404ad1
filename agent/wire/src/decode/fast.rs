//! Nearly all frames: Ethernet with one VLAN tag at most, IPv4 without options or IPv6
//! without extensions, not fragmented, and TCP with no options or the timestamps of every
//! Linux segment, or UDP that is no tunnel.
//!
//! Whatever is unusual in any way is `None`: the general way decides. What is `Some` here is
//! the same there (a property test).

use base::{Address, Frame, LinkType};

use super::{Packet, PacketFlags, TcpHeader, Transport, tcp, tunnel};
use crate::checksum::protocol;

const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
const VLAN: [u8; 2] = [0x81, 0x00];
/// NOP, NOP, timestamps of ten octets.
const TIMESTAMPS: [u8; 4] = [1, 1, 8, 10];

/// Decodes what it knows.
#[inline(always)]
pub(super) fn decode(frame: &Frame<'_>) -> Option<Packet> {
    if frame.link != LinkType::Ethernet {
        return None;
    }
    let bytes = frame.bytes;
    let on_wire = bytes.len().max(frame.original_len as usize);
    let (head, rest) = bytes.split_first_chunk::<14>()?;
    match [head[12], head[13]] {
        IPV4 => ipv4(rest, on_wire - 14, 14),
        IPV6 => ipv6(rest, on_wire - 14, 14),
        VLAN => {
            let (tag, rest) = rest.split_first_chunk::<4>()?;
            match [tag[2], tag[3]] {
                IPV4 => ipv4(rest, on_wire - 18, 18),
                IPV6 => ipv6(rest, on_wire - 18, 18),
                _ => None,
            }
        }
        _ => None,
    }
}

/// What both IP headers say.
struct Ip {
    source: Address,
    destination: Address,
    protocol: u8,
    ttl: u8,
    ip_id: u16,
    flags: PacketFlags,
    ip_len: usize,
    header_len: usize,
    /// Octets before the IP header.
    at: usize,
}

#[inline(always)]
fn ipv4(bytes: &[u8], on_wire: usize, at: usize) -> Option<Packet> {
    let (h, rest) = bytes.split_first_chunk::<20>()?;
    let ip_len = usize::from(u16::from_be_bytes([h[2], h[3]]));
    let place = u16::from_be_bytes([h[6], h[7]]);
    if h[0] != 0x45 || place & 0x3fff != 0 || ip_len > on_wire {
        return None;
    }
    let ip = Ip {
        source: Address::v4(u32::from_be_bytes([h[12], h[13], h[14], h[15]])),
        destination: Address::v4(u32::from_be_bytes([h[16], h[17], h[18], h[19]])),
        protocol: h[9],
        ttl: h[8],
        ip_id: u16::from_be_bytes([h[4], h[5]]),
        flags: if place & 0x4000 == 0 {
            PacketFlags::none()
        } else {
            PacketFlags::DONT_FRAGMENT
        },
        ip_len,
        header_len: 20,
        at,
    };
    transport(&ip, rest)
}

#[inline(always)]
fn ipv6(bytes: &[u8], on_wire: usize, at: usize) -> Option<Packet> {
    let (h, rest) = bytes.split_first_chunk::<40>()?;
    let ip_len = 40 + usize::from(u16::from_be_bytes([h[4], h[5]]));
    if h[0] >> 4 != 6 || ip_len > on_wire {
        return None;
    }
    let &[_, _, _, _, _, _, _, _, addresses @ ..] = h;
    let (source, destination) = addresses.split_first_chunk::<16>()?;
    let ip = Ip {
        source: Address::v6(*source),
        destination: Address::v6(*destination.first_chunk()?),
        protocol: h[6],
        ttl: h[7],
        ip_id: 0,
        flags: PacketFlags::DONT_FRAGMENT,
        ip_len,
        header_len: 40,
        at,
    };
    transport(&ip, rest)
}

#[inline(always)]
fn transport(ip: &Ip, bytes: &[u8]) -> Option<Packet> {
    // Nothing below is usual with less, so a length of 0 goes no further.
    let carried = ip.ip_len.checked_sub(ip.header_len)?;
    match ip.protocol {
        protocol::TCP => {
            let (h, options) = bytes.split_first_chunk::<20>()?;
            let mut header = tcp::fixed(h);
            let header_len = match h[12] >> 4 {
                5 => 20,
                8 => {
                    let &[k0, k1, k2, k3, v0, v1, v2, v3, e0, e1, e2, e3] =
                        options.first_chunk::<12>()?;
                    if [k0, k1, k2, k3] != TIMESTAMPS {
                        return None;
                    }
                    header.tsval = u32::from_be_bytes([v0, v1, v2, v3]);
                    header.tsecr = u32::from_be_bytes([e0, e1, e2, e3]);
                    header.options = TcpHeader::TIMESTAMPS;
                    32
                }
                _ => return None,
            };
            let payload = carried.checked_sub(header_len)?;
            let [source, destination] = tcp::ports(h);
            let transport = Transport::Tcp(header);
            packet(
                ip,
                bytes,
                source,
                destination,
                header_len,
                payload,
                transport,
            )
        }
        protocol::UDP => {
            let &[s0, s1, d0, d1, l0, l1, _, _] = bytes.first_chunk::<8>()?;
            let destination = u16::from_be_bytes([d0, d1]);
            let length = usize::from(u16::from_be_bytes([l0, l1]));
            if tunnel::is_port(destination) || length > carried {
                return None;
            }
            let source = u16::from_be_bytes([s0, s1]);
            let payload = length.checked_sub(8)?;
            packet(ip, bytes, source, destination, 8, payload, Transport::Udp)
        }
        _ => None,
    }
}

#[inline(always)]
fn packet(
    ip: &Ip,
    bytes: &[u8],
    source_port: u16,
    destination_port: u16,
    header_len: usize,
    payload_len: usize,
    transport: Transport,
) -> Option<Packet> {
    // The header was there, so this is not below 0.
    let captured = bytes.len().saturating_sub(header_len).min(payload_len);
    Some(Packet {
        source: ip.source,
        destination: ip.destination,
        source_port,
        destination_port,
        protocol: ip.protocol,
        ttl: ip.ttl,
        ip_id: ip.ip_id,
        flags: ip.flags,
        fragment_id: 0,
        tunnel_id: 0,
        ip_len: ip.ip_len as u32,
        payload_len: payload_len as u32,
        payload_at: (ip.at + ip.header_len + header_len) as u32,
        payload_captured: captured as u32,
        transport,
    })
}
