//! ICMP (RFC 792) and ICMPv6 (RFC 4443): echoes, and errors with the packet that they quote.

use super::general::{Walked, ip};
use super::ipv4::Ip;
use super::span::Span;
use super::{Fragment, IcmpError, Layer, Quoted, Transport, Undecoded, tunnel};
use crate::checksum::protocol;

/// Type, code, checksum and four octets that the type gives a meaning.
pub(super) const HEADER: usize = 8;

/// Whether the protocol number is the ICMP of this IP version.
pub(super) const fn is_of(v6: bool, number: u8) -> bool {
    number == if v6 { protocol::ICMPV6 } else { protocol::ICMP }
}

/// What a message says; the echo's identifier beside it (0 for others).
pub(super) fn parse(
    span: &Span<'_>,
    packet: &Ip,
    layer: Layer,
) -> Result<(u16, Transport), Undecoded> {
    let at = packet.payload;
    packet.carries(4, Undecoded::IcmpLength)?;
    let kind = span.u8(at)?;
    let what = match (packet.v6, kind) {
        (false, 0) | (true, 129) => What::Echo { reply: true },
        (false, 8) | (true, 128) => What::Echo { reply: false },
        // Unreachable, source quench, redirect, time exceeded, parameter problem.
        (false, 3 | 4 | 5 | 11 | 12) => What::Error,
        // Below 128 all are errors; RFC 4443 has four.
        (true, 1..=4) => What::Error,
        _ => return Ok((0, Transport::Other)),
    };
    packet.carries(HEADER, Undecoded::IcmpLength)?;
    let &[_, code, _, _, a, b, c, d] = span.array::<HEADER>(at)?;
    Ok(match what {
        What::Echo { reply } => (
            u16::from_be_bytes([a, b]),
            Transport::Echo {
                reply,
                sequence: u16::from_be_bytes([c, d]),
            },
        ),
        What::Error => (
            0,
            Transport::IcmpError(IcmpError {
                kind,
                code,
                next_hop_mtu: match (packet.v6, kind, code) {
                    // RFC 1191 section 4: the low 16 bits.
                    (false, 3, 4) => Some(u32::from(u16::from_be_bytes([c, d]))),
                    (true, 2, _) => Some(u32::from_be_bytes([a, b, c, d])),
                    _ => None,
                },
                quoted: quoted(&span.inside(packet.end), at + HEADER, packet.v6, layer),
            }),
        ),
    })
}

enum What {
    Echo { reply: bool },
    Error,
}

/// The flow of the quoted packet: of the one inside its tunnels, if that far is quoted and
/// the innermost flow is asked for.
fn quoted(span: &Span<'_>, at: usize, v6: bool, layer: Layer) -> Option<Quoted> {
    let outer = Walked {
        span: *span,
        packet: ip(span, v6, at).ok()?,
        tunnel_id: 0,
    };
    let inner = match layer {
        Layer::Innermost => tunnel::innermost(outer).unwrap_or(outer),
        Layer::Outermost => outer,
    };
    flow(&inner).or_else(|| flow(&outer))
}

/// RFC 792 promises eight octets above IP: the ports and TCP's sequence number.
fn flow(Walked { span, packet, .. }: &Walked<'_>) -> Option<Quoted> {
    let at = packet.payload;
    if let Some(Fragment { offset: 1.., .. }) = packet.fragment {
        return None;
    }
    let (ports, seq) = match packet.protocol {
        protocol::TCP => (
            (span.u16(at).ok()?, span.u16(at + 2).ok()?),
            span.u32(at + 4).ok(),
        ),
        protocol::UDP => ((span.u16(at).ok()?, span.u16(at + 2).ok()?), None),
        protocol::ICMP | protocol::ICMPV6 => match (packet.protocol, span.u8(at).ok()?) {
            (protocol::ICMP, 0 | 8) | (protocol::ICMPV6, 128 | 129) => {
                let identifier = span.u16(at + 4).ok()?;
                ((identifier, identifier), None)
            }
            _ => ((0, 0), None),
        },
        _ => ((0, 0), None),
    };
    Some(Quoted {
        source: packet.source,
        destination: packet.destination,
        source_port: ports.0,
        destination_port: ports.1,
        protocol: packet.protocol,
        seq,
    })
}
