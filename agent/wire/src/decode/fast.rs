//! Nearly all frames: Ethernet with one VLAN tag at most, IPv4 without options or IPv6
//! without extensions, not fragmented, and TCP with no options or the timestamps of every
//! Linux segment, or UDP; and those in one VXLAN or Geneve, which is what a mirror and a
//! Gateway Load Balancer send.
//!
//! Whatever is unusual in any way is `None`: the general way decides. What is `Some` here is
//! the same there (a property test).

use base::{Address, Frame, LinkType};

use super::{Layer, Packet, PacketFlags, TcpHeader, Transport, tcp, tunnel};
use crate::checksum::protocol;

const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
const VLAN: [u8; 2] = [0x81, 0x00];
const BRIDGED: [u8; 2] = [0x65, 0x58];

/// Decodes what nearly all frames are, small enough to be part of the caller's loop: there
/// the packet need not go through memory.
#[inline(always)]
pub(super) fn first(frame: &Frame<'_>) -> Option<Packet> {
    decode::<First>(frame)
}

/// Decodes that and a little more: any TCP options, one VXLAN or
/// Geneve.
pub(super) fn second(frame: &Frame<'_>, layer: Layer) -> Option<Packet> {
    match layer {
        Layer::Innermost => decode::<Second>(frame),
        Layer::Outermost => decode::<Outer>(frame),
    }
}

#[inline(always)]
fn decode<S: Scope>(frame: &Frame<'_>) -> Option<Packet> {
    if frame.link != LinkType::Ethernet {
        return None;
    }
    let on_wire = frame.bytes.len().max(frame.original_len as usize);
    ethernet::<S>(frame.bytes, on_wire, 0)
}

/// How much is decoded, known when it is compiled.
trait Scope {
    /// Whether TCP options other than the timestamps are.
    const OPTIONS: bool;
    /// What a datagram to the port of a tunnel is.
    const TUNNEL: Tunnel;
}

#[derive(PartialEq, Eq)]
enum Tunnel {
    /// More than this way can do.
    Refused,
    Entered,
    /// What was asked for.
    Datagram,
}

struct First;

impl Scope for First {
    const OPTIONS: bool = false;
    const TUNNEL: Tunnel = Tunnel::Refused;
}

struct Second;

impl Scope for Second {
    const OPTIONS: bool = true;
    const TUNNEL: Tunnel = Tunnel::Entered;
}

struct Inner;

impl Scope for Inner {
    const OPTIONS: bool = true;
    const TUNNEL: Tunnel = Tunnel::Refused;
}

struct Outer;

impl Scope for Outer {
    const OPTIONS: bool = true;
    const TUNNEL: Tunnel = Tunnel::Datagram;
}

/// Reads a frame that starts at `at` of the captured one; `bytes` are its own.
#[inline(always)]
fn ethernet<S: Scope>(bytes: &[u8], on_wire: usize, at: usize) -> Option<Packet> {
    let (head, rest) = bytes.split_first_chunk::<14>()?;
    match [head[12], head[13]] {
        IPV4 => ipv4::<S>(rest, on_wire - 14, at + 14),
        IPV6 => ipv6::<S>(rest, on_wire - 14, at + 14),
        VLAN => {
            let (tag, rest) = rest.split_first_chunk::<4>()?;
            match [tag[2], tag[3]] {
                IPV4 => ipv4::<S>(rest, on_wire - 18, at + 18),
                IPV6 => ipv6::<S>(rest, on_wire - 18, at + 18),
                _ => None,
            }
        }
        _ => None,
    }
}

/// What is in a tunnel's datagram, whose payload starts at `at` and has `len` octets.
#[inline(never)]
fn tunnelled(port: u16, payload: &[u8], len: usize, at: usize) -> Option<Packet> {
    let payload = payload.get(..len).unwrap_or(payload);
    let (&[first, _, k0, k1, a, b, c, _], rest) = payload.split_first_chunk::<8>()?;
    let mut packet = if tunnel::is_vxlan_port(port) {
        if first & tunnel::VXLAN_HAS_VNI == 0 {
            return None;
        }
        ethernet::<Inner>(rest, len - 8, at + 8)
    } else {
        if first >> 6 != 0 {
            return None;
        }
        // What a Gateway Load Balancer sends has options, and IP inside.
        let options = usize::from(first & 0x3f) * 4;
        let inside = rest.get(options..)?;
        let (on_wire, at) = (len - 8 - options, at + 8 + options);
        match [k0, k1] {
            IPV4 => ipv4::<Inner>(inside, on_wire, at),
            IPV6 => ipv6::<Inner>(inside, on_wire, at),
            BRIDGED => ethernet::<Inner>(inside, on_wire, at),
            _ => None,
        }
    }?;
    packet.flags = packet.flags.with(PacketFlags::TUNNELLED);
    packet.tunnel_id = u32::from_be_bytes([0, a, b, c]);
    Some(packet)
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
fn ipv4<S: Scope>(bytes: &[u8], on_wire: usize, at: usize) -> Option<Packet> {
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
    transport::<S>(&ip, rest)
}

#[inline(always)]
fn ipv6<S: Scope>(bytes: &[u8], on_wire: usize, at: usize) -> Option<Packet> {
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
    transport::<S>(&ip, rest)
}

#[inline(always)]
fn transport<S: Scope>(ip: &Ip, bytes: &[u8]) -> Option<Packet> {
    // Nothing below is usual with less, so a length of 0 goes no further.
    let carried = ip.ip_len.checked_sub(ip.header_len)?;
    match ip.protocol {
        protocol::TCP => {
            let (h, options) = bytes.split_first_chunk::<20>()?;
            let mut header = tcp::fixed(h);
            let header_len = usize::from(h[12] >> 4) * 4;
            match header_len {
                20 => {}
                32 if let Some(&[1, 1, 8, 10, v0, v1, v2, v3, e0, e1, e2, e3]) =
                    options.first_chunk::<12>() =>
                {
                    header.tsval = u32::from_be_bytes([v0, v1, v2, v3]);
                    header.tsecr = u32::from_be_bytes([e0, e1, e2, e3]);
                    header.options = TcpHeader::TIMESTAMPS;
                }
                _ if !S::OPTIONS => return None,
                _ => tcp::read_options(&mut header, options.get(..header_len.checked_sub(20)?)?),
            }
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
            if length > carried {
                return None;
            }
            let payload = length.checked_sub(8)?;
            if tunnel::is_port(destination) {
                match S::TUNNEL {
                    Tunnel::Entered => {
                        let at = ip.at + ip.header_len + 8;
                        return tunnelled(destination, bytes.get(8..)?, payload, at);
                    }
                    Tunnel::Datagram => {}
                    Tunnel::Refused => return None,
                }
            }
            let source = u16::from_be_bytes([s0, s1]);
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
        payload_at: (ip.at + ip.header_len + header_len) as u16,
        payload_captured: captured as u32,
        transport,
    })
}
