//! The way that decodes everything, one layer after the other.

use base::{Frame, LinkType};

use super::ipv4::{self, Ip};
use super::link::{self, Inside};
use super::span::Span;
use super::{
    Fragment, Layer, Packet, PacketFlags, Transport, Undecoded, icmp, ipv6, tcp, tunnel, udp,
};
use crate::checksum::protocol;

/// As [`super::decode`].
#[inline(never)]
pub(super) fn decode(frame: &Frame<'_>, layer: Layer) -> Result<Packet, Undecoded> {
    let bytes = frame.bytes;
    let inside = match frame.link {
        LinkType::Ethernet => Inside::Ethernet,
        LinkType::Raw => Inside::Ip,
        LinkType::LinuxCooked => Inside::Cooked,
        LinkType::LinuxCooked2 => Inside::Cooked2,
        LinkType::Loopback => Inside::Loopback,
        LinkType::Ppp => Inside::Ppp,
        LinkType::Other => return Err(Undecoded::LinkType),
    };
    let span = Span {
        bytes,
        end: bytes.len().max(frame.original_len as usize),
        whole: true,
    };
    let (span, v6, at) = link::to_ip(span, inside, 0)?;
    let first = Walked {
        span,
        packet: ip(&span, v6, at)?,
        tunnel_id: 0,
    };
    let last = match layer {
        Layer::Outermost => first,
        Layer::Innermost => tunnel::innermost(first)?,
    };
    let mut decoded = transport(&last, layer)?;
    if last.packet.payload != first.packet.payload {
        decoded.flags = decoded.flags.with(PacketFlags::TUNNELLED);
    }
    Ok(decoded)
}

/// An IP header, and what was passed on the way to it.
#[derive(Copy, Clone)]
pub(super) struct Walked<'a> {
    /// What the IP packet is in.
    pub(super) span: Span<'a>,
    pub(super) packet: Ip,
    /// Of the last tunnel that has one; 0: none.
    pub(super) tunnel_id: u32,
}

/// Reads the IP header at `at`.
pub(super) fn ip(span: &Span<'_>, v6: bool, at: usize) -> Result<Ip, Undecoded> {
    if v6 {
        ipv6::parse(span, at)
    } else {
        ipv4::parse(span, at)
    }
}

/// Reads the header above IP.
fn transport(walked: &Walked<'_>, layer: Layer) -> Result<Packet, Undecoded> {
    let ip = &walked.packet;
    let span = walked.span.until(ip.end);
    let mut ports = (0, 0);
    // Where the payload is; of what has no header that is known it is not counted.
    let mut payload = ip.payload..ip.payload;
    let transport = match (ip.fragment, ip.protocol) {
        (Some(fragment @ Fragment { offset: 1.., .. }), _) => Transport::Fragment(fragment),
        (_, protocol::TCP) => {
            let (source, destination, header, len) = tcp::parse(&span, ip)?;
            ports = (source, destination);
            payload = ip.payload + len..ip.end;
            Transport::Tcp(header)
        }
        (_, protocol::UDP) => {
            let udp = udp::parse(&span, ip)?;
            ports = (udp.source_port, udp.destination_port);
            payload = ip.payload + udp::HEADER..udp.end;
            Transport::Udp
        }
        (_, number) if icmp::is_of(ip.v6, number) => {
            let (identifier, message) = icmp::parse(&span, ip, layer)?;
            ports = (identifier, identifier);
            if !matches!(message, Transport::Other) {
                payload = ip.payload + icmp::HEADER..ip.end;
            }
            message
        }
        _ => Transport::Other,
    };
    let captured = span.bytes.len().min(payload.end);
    Ok(Packet {
        source: ip.source,
        destination: ip.destination,
        source_port: ports.0,
        destination_port: ports.1,
        protocol: ip.protocol,
        ttl: ip.ttl,
        ip_id: ip.ip_id,
        flags: ip.flags,
        fragment_id: ip.fragment.map_or(0, |fragment| fragment.id),
        tunnel_id: walked.tunnel_id,
        ip_len: ip.ip_len as u32,
        payload_len: payload.len() as u32,
        // Further in than this are only headers stacked to no purpose.
        payload_at: u16::try_from(payload.start).map_err(|_| Undecoded::LinkDepth)?,
        payload_captured: captured.saturating_sub(payload.start) as u32,
        transport,
    })
}
