//! A captured frame down to its transport header: what passive measurement starts from.
//!
//! One protocol, one file. `stamped` and `fast` know the frames that nearly all are and
//! nothing else; `general` walks any frame layer by layer and gives the same for those. Lengths come from
//! the headers; a header is never read beyond the captured octets nor beyond the end that the
//! layer below gives it. What a tunnel wraps may be cut (a mirror with a packet length), so
//! there a length above what the tunnel carries is a cut and no contradiction.
//!
//! What never happens here: an allocation, a loop without a bound, a checksum (offloads leave
//! them undone), a reassembly.

mod fast;
mod general;
mod icmp;
mod ipv4;
mod ipv6;
mod link;
mod packet;
mod reason;
mod span;
mod stamped;
mod tcp;
mod tunnel;
mod udp;

use base::Frame;

pub use packet::{Fragment, IcmpError, Packet, PacketFlags, Quoted, TcpHeader, Transport};
pub use reason::Undecoded;
pub use stamped::{Stamped, stamped};

/// Which IP header a flow is named by where a frame has several.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum Layer {
    /// The one inside all tunnels. A packet inside the first fragment of a tunnel's packet is
    /// decoded there; the later fragments are the tunnel's. If there is no packet inside that
    /// can be decoded, the frame is undecoded for the reason that the inside gives.
    #[default]
    Innermost,
    /// The first one.
    Outermost,
}

/// Decodes one frame.
///
/// # Errors
/// Why there is no packet in it that could be measured; each reason is a counter, so that
/// frames in = frames decoded + the sum of the reasons.
#[inline]
pub fn decode(frame: &Frame<'_>, layer: Layer) -> Result<Packet, Undecoded> {
    match fast::first(frame) {
        Some(packet) => Ok(packet),
        None => unusual(frame, layer),
    }
}

#[inline(never)]
fn unusual(frame: &Frame<'_>, layer: Layer) -> Result<Packet, Undecoded> {
    match fast::second(frame, layer) {
        Some(packet) => Ok(packet),
        None => general::decode(frame, layer),
    }
}

#[cfg(test)]
mod tests;
