//! What a segment is by tcptrace's definitions: by octets seen before and not by time.

use base::{Sender, TcpClass, TcpClasses};
use wire::decode::TcpHeader;

use super::classify::Segment;
use super::detail::Repeat;
use super::state::{Notes, TcpFlow};

/// What was found out about a segment.
#[derive(Copy, Clone, Debug)]
pub(super) struct Found {
    /// Octets that were sent before.
    pub(super) repeated: u32,
    /// It fills a hole before what was sent.
    pub(super) late: bool,
    pub(super) ack: Repeat,
}

/// Whether a segment goes into a closed window, by what the other end said last.
pub(super) fn is_probe(flow: &TcpFlow, sender: Sender, segment: &Segment<'_>) -> bool {
    let o = sender.other().index();
    let closed = flow.notes[o].has(Notes::SEQ) && flow.sides[o].window == 0;
    segment.space() > 0 && closed && !segment.tcp.has(TcpHeader::SYN)
}

/// The classes of a segment; the state is as before it.
pub(super) fn classify(
    flow: &TcpFlow,
    sender: Sender,
    segment: &Segment<'_>,
    found: Found,
) -> TcpClasses {
    let tcp = segment.tcp;
    let mut classes = TcpClasses::NONE;
    if tcp.has(TcpHeader::ACK) && !tcp.any(TcpHeader::RST) && tcp.window == 0 {
        classes.insert(TcpClass::ZeroWindow);
    }
    if is_probe(flow, sender, segment) {
        classes.insert(TcpClass::ZeroWindowProbe);
    } else {
        if found.repeated > 0 {
            classes.insert(TcpClass::Retransmission);
        }
        if found.late {
            classes.insert(TcpClass::OutOfOrder);
        }
    }
    if found.ack != Repeat::No {
        classes.insert(TcpClass::DuplicateAck);
    }
    classes
}
