//! UDP (RFC 768).

use super::ipv4::Ip;
use super::span::Span;
use super::{PacketFlags, Undecoded};

/// Octets of the header.
pub(super) const HEADER: usize = 8;

/// A header and where its payload ends.
#[derive(Copy, Clone, Debug)]
pub(super) struct Udp {
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
    pub(super) end: usize,
}

/// Reads the header behind `ip`; `span` ends where the IP packet does.
pub(super) fn parse(span: &Span<'_>, ip: &Ip) -> Result<Udp, Undecoded> {
    ip.carries(HEADER, Undecoded::UdpLength)?;
    let &[s0, s1, d0, d1, l0, l1, ..] = span.array::<HEADER>(ip.payload)?;
    let carried = ip.end.saturating_sub(ip.payload);
    let length = match usize::from(u16::from_be_bytes([l0, l1])) {
        // RFC 2675 section 4; and what the stack writes where the length does not fit.
        0 if carried > usize::from(u16::MAX) => carried,
        length if length < HEADER => return Err(Undecoded::UdpLength),
        // The whole datagram's, of which this is a part.
        _ if ip.fragment.is_some() => carried,
        length if ip.flags.has(PacketFlags::CLIPPED) => length.min(carried),
        length if length > carried => return Err(Undecoded::UdpLength),
        length => length,
    };
    Ok(Udp {
        source_port: u16::from_be_bytes([s0, s1]),
        destination_port: u16::from_be_bytes([d0, d1]),
        end: ip.payload + length,
    })
}
