//! What `--flows` says of a connection beside its record, and what tcptrace's definitions
//! need to remember: apart from the flow table, by place, and only if asked for.

use base::{Sender, SideSummary, TcpClass, TcpClasses, TcpDetail};

use super::classify::Segment;
use super::outstanding::Overlap;
use super::state::{Notes, TcpFlow};
use crate::flow::pool::before;

/// One connection's.
#[derive(Copy, Clone, Default, Debug)]
pub(crate) struct Detail {
    pub(super) sides: [Side; 2],
}

const _: () = assert!(size_of::<Detail>() == 112);

/// One end's.
#[derive(Copy, Clone, Default, Debug)]
pub(super) struct Side {
    pub(super) counts: TcpDetail,
    /// The lowest octet that it was seen to send.
    lowest: Option<u32>,
    /// Its highest acknowledgement.
    highest_ack: Option<u32>,
    /// How far it had sent when it last acknowledged: data since then came with the same
    /// acknowledgement.
    sent: u32,
    /// How often the highest acknowledgement of what it sent was seen, as tcptrace counts for
    /// triple duplicates; 0: that is not the end of a segment.
    acked: u8,
}

/// How a repeated acknowledgement counts by BSD's rule.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Repeat {
    No,
    Duplicate,
    /// The third one.
    Triple,
}

impl Detail {
    /// An end that had then sent up to `sent` acknowledges more than before; `exact`: up to
    /// the end of a segment.
    pub(super) fn acknowledged(&mut self, sender: Sender, ack: u32, sent: u32, exact: bool) {
        let mine = &mut self.sides[sender.index()];
        if mine.highest_ack.is_none_or(|highest| before(highest, ack)) {
            mine.highest_ack = Some(ack);
            mine.sent = sent;
            self.sides[sender.other().index()].acked = u8::from(exact);
        }
    }

    /// The first segment of an end.
    pub(super) fn first(&mut self, sender: Sender, seq: u32) {
        self.sides[sender.index()].lowest.get_or_insert(seq);
    }

    /// BSD's rule: the same pure ACK again while there is something to acknowledge. The state
    /// is as before the segment.
    pub(super) fn repeat(
        &mut self,
        flow: &TcpFlow,
        sender: Sender,
        segment: &Segment<'_>,
    ) -> Repeat {
        let (s, o) = (sender.index(), sender.other().index());
        // Of the other end nothing but its SYN was seen.
        let only_syn = flow.notes[o].has(Notes::SYN_WINDOW);
        let [mine, theirs] = match sender {
            Sender::Near => self.sides.each_mut(),
            Sender::Remote => {
                let [near, remote] = self.sides.each_mut();
                [remote, near]
            }
        };
        let acked = &mut theirs.acked;
        if *acked == 0 || only_syn || !flow.notes[s].has(Notes::ACK) {
            return Repeat::No;
        }
        let next_seq = flow.sides[s].next_seq;
        if mine.sent != next_seq {
            *acked = 1;
        }
        mine.sent = later(next_seq, segment.end());
        let pure = segment.len == 0 && segment.tcp.window == flow.sides[s].window;
        if !pure {
            *acked = 1;
            return Repeat::No;
        }
        *acked = acked.saturating_add(1);
        match *acked {
            4 => Repeat::Triple,
            _ => Repeat::Duplicate,
        }
    }

    /// Whether an acknowledgement is the highest one again.
    pub(super) fn is_highest(&self, sender: Sender, ack: u32) -> bool {
        self.sides[sender.index()].highest_ack == Some(ack)
    }

    /// Octets of a segment that its end had sent before, and whether it begins with one that
    /// it had not although it had sent later ones. The state is as before it.
    pub(super) fn seen(
        &mut self,
        flow: &TcpFlow,
        sender: Sender,
        segment: &Segment<'_>,
        overlap: Overlap,
    ) -> (u32, bool) {
        let side = &mut self.sides[sender.index()];
        let (seq, end) = (segment.tcp.seq, segment.end());
        let known = flow.notes[sender.index()].has(Notes::SEQ);
        let (Some(lowest), true, true) = (side.lowest, known, seq != end) else {
            return (0, false);
        };
        let next_seq = flow.sides[sender.index()].next_seq;
        let early = before(seq, lowest);
        let from = if early { lowest } else { seq };
        let to = if before(next_seq, end) { next_seq } else { end };
        let known = if before(from, to) {
            to.wrapping_sub(from)
        } else {
            0
        };
        if early {
            side.lowest = Some(seq);
        }
        let fresh = early || overlap.fills_first;
        (
            known.saturating_sub(overlap.holes),
            fresh && before(end, next_seq),
        )
    }

    /// Counts what a segment was found to be.
    pub(super) fn count(
        &mut self,
        sender: Sender,
        classes: TcpClasses,
        repeated: u32,
        triple: bool,
    ) {
        let counts = &mut self.sides[sender.index()].counts;
        let add = |count: &mut u32, class| *count += u32::from(classes.contains(class));
        add(&mut counts.out_of_order, TcpClass::OutOfOrder);
        add(&mut counts.duplicate_acks, TcpClass::DuplicateAck);
        add(&mut counts.zero_windows, TcpClass::ZeroWindow);
        add(&mut counts.zero_window_probes, TcpClass::ZeroWindowProbe);
        if super::is_retransmission(classes) {
            counts.retransmitted_bytes += u64::from(repeated);
        }
        counts.triple_duplicate_acks += u32::from(triple);
    }

    /// A round trip by sequence numbers of what an end sent.
    pub(super) fn sample(&mut self, sender: Sender) {
        self.sides[sender.index()].counts.rtt_samples += 1;
    }

    /// Adds itself to the summary of its flow.
    pub(crate) fn complete(&self, sides: &mut [SideSummary; 2]) {
        for (summary, side) in sides.iter_mut().zip(&self.sides) {
            summary.detail = Some(side.counts);
        }
    }
}

/// The later one of two sequence numbers.
pub(super) const fn later(a: u32, b: u32) -> u32 {
    if before(a, b) { b } else { a }
}
