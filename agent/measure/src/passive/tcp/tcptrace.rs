//! What a segment is by tcptrace's definitions: by octets seen before and not by time.

use base::{Sender, TcpClass, TcpClasses};
use wire::decode::TcpHeader;

use super::classify::Segment;
use super::outstanding::Overlap;
use super::state::{Notes, TcpFlow};

/// The classes of a segment; the state is as before it.
pub(super) fn classify(
    flow: &TcpFlow,
    sender: Sender,
    segment: &Segment<'_>,
    overlap: Overlap,
) -> TcpClasses {
    let (s, o) = (sender.index(), sender.other().index());
    let (fwd, rev) = (&flow.sides[s], &flow.sides[o]);
    let (mine, theirs) = (&flow.notes[s], &flow.notes[o]);
    let tcp = segment.tcp;
    let mut classes = TcpClasses::NONE;
    if tcp.has(TcpHeader::ACK) && tcp.window == 0 {
        classes.insert(TcpClass::ZeroWindow);
    }
    let closed = theirs.has(Notes::SEQ) && rev.window == 0 && !tcp.has(TcpHeader::SYN);
    if segment.space() > 0 {
        if closed {
            classes.insert(TcpClass::ZeroWindowProbe);
        } else {
            if overlap.repeats {
                classes.insert(TcpClass::Retransmission);
            }
            if overlap.fills {
                classes.insert(TcpClass::OutOfOrder);
            }
        }
    }
    // BSD's rule: the same pure ACK again while there is something to acknowledge.
    let control = tcp.any(TcpHeader::SYN | TcpHeader::FIN | TcpHeader::RST);
    if segment.len == 0
        && !control
        && mine.has(Notes::ACK)
        && tcp.ack == fwd.last_ack
        && tcp.window == fwd.window
        && theirs.has(Notes::SEQ)
        && rev.next_seq != tcp.ack
    {
        classes.insert(TcpClass::DuplicateAck);
    }
    classes
}
