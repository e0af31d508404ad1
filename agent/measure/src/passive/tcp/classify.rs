//! What a segment is, by tshark's published definitions, in the order in which they are
//! tested; and the state that they need.
//!
//! Deviations are listed with their reasons in the oracle tests.

use base::{Sender, TcpClass, TcpClasses, WallNanos};
use wire::decode::TcpHeader;

use super::state::{Notes, TcpFlow};
use crate::flow::pool::before;

/// A fast retransmission comes at most so long after the last duplicate ACK.
const FAST_NS: i64 = 20_000_000;
/// How late a segment may be and still count as reordered while the handshake's round trip
/// is not known.
const REORDER_NS: i64 = 3_000_000;

/// How far ahead of `next_seq` a mark is put: no ACK reaches it.
const SAID: u32 = 1 << 30;

/// One segment as the definitions see it.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Segment<'a> {
    pub(crate) tcp: &'a TcpHeader,
    /// Octets of payload.
    pub(crate) len: u32,
    pub(crate) at: WallNanos,
}

impl Segment<'_> {
    /// Octets of sequence space (RFC 9293 section 3.4: SYN and FIN take one each).
    #[inline]
    pub(super) const fn space(&self) -> u32 {
        let tcp = self.tcp;
        self.len + (tcp.flags >> 1 & 1) as u32 + (tcp.flags & 1) as u32
    }

    /// Behind its last octet.
    #[inline]
    pub(super) const fn end(&self) -> u32 {
        self.tcp.seq.wrapping_add(self.space())
    }

    #[inline]
    const fn control(&self) -> bool {
        self.tcp
            .any(TcpHeader::SYN | TcpHeader::FIN | TcpHeader::RST)
    }
}

/// The classes of a segment; the state is as before it.
#[inline]
pub(super) fn classify(
    flow: &TcpFlow,
    sender: Sender,
    segment: &Segment<'_>,
    initial_rtt_ns: u32,
) -> TcpClasses {
    let (s, o) = (sender.index(), sender.other().index());
    let (fwd, rev) = (&flow.sides[s], &flow.sides[o]);
    let (mine, theirs) = (&flow.notes[s], &flow.notes[o]);
    let tcp = segment.tcp;
    let (seq, len) = (tcp.seq, segment.len);
    let known = mine.has(Notes::SEQ);
    let control = segment.control();
    let at_next = known && seq == fwd.next_seq;
    let mut classes = TcpClasses::NONE;

    let rev_closed = rev.window == 0 && theirs.has(Notes::SEQ);
    let probe = len == 1 && at_next && rev_closed;
    let mut keep_alive = false;
    if tcp.window == 0 && !control {
        classes.insert(TcpClass::ZeroWindow);
    }
    if probe {
        classes.insert(TcpClass::ZeroWindowProbe);
    } else {
        if known && before(fwd.next_seq, seq) && !tcp.any(TcpHeader::RST) {
            classes.insert(TcpClass::LostSegment);
        }
        keep_alive = len <= 1 && known && seq == fwd.next_seq.wrapping_sub(1) && !control;
        if keep_alive {
            classes.insert(TcpClass::KeepAlive);
        }
        if len > 0
            && !control
            && let Some(window) = scaled_window(flow, sender.other())
            && theirs.has(Notes::ACK)
            && segment.end() == rev.last_ack.wrapping_add(window)
        {
            classes.insert(TcpClass::WindowFull);
        }
    }

    // An ACK without news but, perhaps, for its window.
    if len == 0 && at_next && !control && mine.has(Notes::ACK) && tcp.ack == fwd.last_ack {
        repeated_ack(&mut classes, tcp, fwd.window, theirs);
    }
    if tcp.has(TcpHeader::ACK) && theirs.has(Notes::SEQ) && before(rev.contiguous, tcp.ack) {
        classes.insert(TcpClass::AckedUnseen);
    }
    if !probe && !keep_alive && known {
        // What was acknowledged was sent, seen here or not.
        let acked = theirs.has(Notes::ACK) && !before(rev.last_ack, seq.wrapping_add(len));
        if len > 0 && acked {
            classes.insert(TcpClass::SpuriousRetransmission);
        } else if segment.space() > 0 && before(seq, fwd.next_seq) {
            classes.insert(late(flow, sender, segment, initial_rtt_ns));
        }
    }
    classes
}

fn repeated_ack(classes: &mut TcpClasses, tcp: &TcpHeader, last_window: u16, theirs: &Notes) {
    let class = match (tcp.window == last_window, tcp.window == 0) {
        (false, false) => TcpClass::WindowUpdate,
        (false, true) => return,
        (true, true) if theirs.has(Notes::PROBE) => TcpClass::ZeroWindowProbeAck,
        (true, true) => return,
        (true, false) if theirs.has(Notes::KEEP_ALIVE) => TcpClass::KeepAliveAck,
        (true, false) => TcpClass::DuplicateAck,
    };
    classes.insert(class);
}

/// Which of the four a segment is that starts before the highest octet sent.
#[cold]
fn late(flow: &TcpFlow, sender: Sender, segment: &Segment<'_>, initial_rtt_ns: u32) -> TcpClass {
    let (fwd, rev) = (
        &flow.sides[sender.index()],
        &flow.sides[sender.other().index()],
    );
    let theirs = &flow.notes[sender.other().index()];
    if theirs.dup_acks >= 2
        && segment.tcp.seq == rev.last_ack
        && (0..FAST_NS).contains(&rev.seen_at.until(segment.at))
    {
        return TcpClass::FastRetransmission;
    }
    let threshold = match initial_rtt_ns {
        0 => REORDER_NS,
        known => i64::from(known),
    };
    if (0..threshold).contains(&fwd.since_newest(segment.at)) && segment.end() != fwd.next_seq {
        return TcpClass::OutOfOrder;
    }
    TcpClass::Retransmission
}

/// The window that an end advertised last, in octets; `None` without both SYNs.
#[inline]
pub(super) fn scaled_window(flow: &TcpFlow, sender: Sender) -> Option<u32> {
    let s = sender.index();
    let notes = &flow.notes[s];
    let shift = notes.scale.shift()?;
    let shift = if notes.has(Notes::SYN_WINDOW) {
        0
    } else {
        shift
    };
    Some(u32::from(flow.sides[s].window) << shift)
}

/// Takes a segment into the state.
#[inline]
pub(super) fn remember(
    flow: &mut TcpFlow,
    sender: Sender,
    segment: &Segment<'_>,
    classes: TcpClasses,
) {
    let (s, o) = (sender.index(), sender.other().index());
    let tcp = segment.tcp;
    if classes.contains(TcpClass::AckedUnseen) {
        // Once is enough, until that end is heard of again: a mark ahead of its sequence.
        flow.sides[o].contiguous = flow.sides[o].next_seq.wrapping_add(SAID);
    }
    let probe = classes.contains(TcpClass::ZeroWindowProbe);
    let (fwd, mine) = (&mut flow.sides[s], &mut flow.notes[s]);
    let end = segment.end();
    if !mine.has(Notes::SEQ) {
        mine.set(Notes::SEQ, true);
        fwd.next_seq = end;
        fwd.contiguous = end;
        fwd.newest_at = crate::flow::time::Short::of(segment.at);
    } else if !probe {
        if before(fwd.next_seq, fwd.contiguous) {
            fwd.contiguous = fwd.next_seq;
        }
        if before(fwd.next_seq, end) {
            fwd.next_seq = end;
            fwd.newest_at = crate::flow::time::Short::of(segment.at);
        }
        // What fills the first gap is taken to fill the last one as well.
        if tcp.seq == fwd.contiguous {
            fwd.contiguous = fwd.next_seq;
        }
    }
    if tcp.ack == fwd.last_ack && mine.has(Notes::ACK) {
        if classes.contains(TcpClass::DuplicateAck) {
            mine.dup_acks = mine.dup_acks.saturating_add(1);
        }
    } else {
        mine.dup_acks = 0;
    }
    if tcp.has(TcpHeader::ACK) {
        fwd.last_ack = tcp.ack;
    }
    fwd.window = tcp.window;
    fwd.seen_at = crate::flow::time::Short::of(segment.at);
    let keep = Notes::SEQ | Notes::ACK | Notes::SYN | Notes::FIN | Notes::FULL_PASSES;
    mine.flags = mine.flags & keep
        | if tcp.has(TcpHeader::ACK) {
            Notes::ACK
        } else {
            0
        }
        | if tcp.has(TcpHeader::FIN) {
            Notes::FIN
        } else {
            0
        }
        | if tcp.has(TcpHeader::SYN) {
            Notes::SYN_WINDOW
        } else {
            0
        }
        | if probe { Notes::PROBE } else { 0 }
        | if classes.contains(TcpClass::KeepAlive) {
            Notes::KEEP_ALIVE
        } else {
            0
        };
}
