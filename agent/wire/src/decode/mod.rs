//! A captured frame down to its transport header: what passive measurement starts from.

mod packet;
mod reason;

use base::Frame;

pub use packet::{Fragment, IcmpError, Packet, PacketFlags, Quoted, TcpHeader, Transport};
pub use reason::Undecoded;

/// Which IP header a flow is named by where a frame has several.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum Layer {
    /// The one inside all tunnels.
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
pub fn decode(frame: &Frame<'_>, layer: Layer) -> Result<Packet, Undecoded> {
    let _ = (frame, layer);
    Err(Undecoded::LinkType)
}
