//! Segments and their acknowledgements: round-trip times by two methods, and where losses
//! happened.
//!
//! Sequence method: an ACK of exactly a segment's last octet, of a segment sent once, with
//! nothing before it sent again meanwhile (Karn; RFC 6298 section 3). Timestamp method: the
//! first segment of a TSval and the first ACK that echoes it (RFC 7323 section 4). A
//! handshake is the sequence method on a SYN.

mod acknowledge;
mod again;

use base::{Leg, LossPlace, RttMethod, Sender, TcpClass, TcpClasses};
use wire::decode::TcpHeader;

use super::classify::Segment;
use super::state::{Notes, Side, TcpFlow};
use crate::flow::pool::{Cell, Pool, before};
pub(crate) use acknowledge::Ack;
pub(super) use acknowledge::{acknowledge, duplicate_sack};
use again::again;

/// A gap of more octets than a window can hold (RFC 7323 section 2.3) is another connection
/// or a lie.
const LARGEST_GAP: u32 = 1 << 30;
/// A segment that is sent again with SACK blocks in it has less room: up to 36 octets
/// (RFC 2018 section 3) follow in a segment of their own.
const SHORTEST_REST: u32 = 36;

/// What comes of it; the caller knows flow and group.
#[derive(Copy, Clone, Debug)]
pub(super) enum Finding {
    Rtt(RttMethod, Leg, u64),
    /// Lost (or reordered, or needlessly repeated) segments of a sender.
    Loss(Sender, LossPlace, u32),
    /// A segment came so many octets behind and so long after the newest.
    Late(u32, u64),
    /// A segment that begins here was sent again.
    Repeated(u32),
    /// Its repetition was needless, and that was counted.
    Disproved(u32),
    /// A full-size packet is stuck while smaller ones pass.
    BlackHole,
    /// An ACK of a segment that was sent more than once: no sample.
    Ambiguous,
    /// An ACK that waited for a recovery: no sample.
    AfterLoss,
    /// The capture's clock went back: no sample.
    ClockBack,
}

/// How a segment lies over what its end sent before.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Overlap {
    /// Octets that fill holes.
    pub(super) holes: u32,
    /// The first octet does.
    pub(super) fills_first: bool,
}

/// Takes a sent segment into the list; the state is as before it.
#[inline]
pub(super) fn sent(
    flow: &mut TcpFlow,
    pool: &mut Pool,
    sender: Sender,
    segment: &Segment<'_>,
    classes: TcpClasses,
    initial_rtt_ns: u32,
    find: &mut impl FnMut(Finding),
) -> Overlap {
    let (s, o) = (sender.index(), sender.other().index());
    let tcp = segment.tcp;
    if segment.space() == 0 {
        // Even an empty segment tells how far its end had sent.
        if classes.contains(TcpClass::LostSegment) {
            hole(flow, pool, sender, segment, find);
        }
        return Overlap::default();
    }
    let syn = tcp.has(TcpHeader::SYN);
    let theirs = &flow.notes[o];
    let peer_seen = theirs.has(Notes::SEQ);
    // What lies over a SYN that waits makes its answer ambiguous.
    let over_syn = before(tcp.seq, flow.sides[s].next_seq) && !flow.sides[s].outstanding.is_empty();
    // A segment into a closed window is a probe, and nobody acknowledges one as data. And
    // where the other direction is not captured there is nothing to wait for.
    if !syn && (!(peer_seen || over_syn) || (peer_seen && flow.sides[o].window == 0)) {
        return Overlap::default();
    }
    let side = &mut flow.sides[s];
    let stamped = tcp.options & TcpHeader::TIMESTAMPS != 0;
    let known = flow.notes[s].has(Notes::SEQ);
    // RFC 7323 section 5.2: newer, modulo 2^32. The first frame of a connection that was
    // under way may be any of its tick.
    let new_tick = stamped && (syn || (known && before(side.tsval, tcp.tsval)));
    let flags = if new_tick { Cell::FIRST_OF_TICK } else { 0 };
    let end = segment.end();
    let cell = Cell::new(tcp.seq, end, segment.at, tcp.tsval, flags);
    let acked = flow.acked(sender);
    let side = &mut flow.sides[s];
    if !known || tcp.seq == side.next_seq {
        if syn {
            synchronise(flow, pool, sender, cell);
        } else {
            wait(pool, side, cell, acked);
        }
    } else if before(side.next_seq, tcp.seq) {
        hole(flow, pool, sender, segment, find);
        wait(pool, &mut flow.sides[s], cell, acked);
    } else if !classes.contains(TcpClass::KeepAlive) {
        return again(flow, pool, sender, cell, segment.at, initial_rtt_ns, find);
    }
    Overlap::default()
}

/// A segment waits for its ACK, unless that was captured before it: then nothing is to be
/// learnt.
#[inline]
fn wait(pool: &mut Pool, side: &mut Side, cell: Cell, acked: Option<u32>) {
    let mut cell = cell;
    if let Some(acked) = acked
        && before(cell.first, acked)
    {
        if !before(acked, cell.end) {
            return;
        }
        cell.first = acked;
    }
    pool.push(&mut side.outstanding, cell);
}

/// What lies between the highest octet sent and a segment that starts after it.
#[cold]
fn hole(
    flow: &mut TcpFlow,
    pool: &mut Pool,
    sender: Sender,
    segment: &Segment<'_>,
    find: &mut impl FnMut(Finding),
) {
    let tcp = segment.tcp;
    let acked = flow.acked(sender);
    let side = &mut flow.sides[sender.index()];
    if tcp.seq.wrapping_sub(side.next_seq) >= LARGEST_GAP {
        return;
    }
    let hole = Cell::new(side.next_seq, tcp.seq, segment.at, tcp.tsval, Cell::HOLE);
    if let Some(acked) = acked
        && before(hole.first, acked)
    {
        // The other end has it already.
        let end = if before(acked, hole.end) {
            acked
        } else {
            hole.end
        };
        find(missed(
            side,
            sender,
            &hole.part(hole.first, end, hole.flags),
        ));
    }
    wait(pool, side, hole, acked);
}

/// What was acknowledged and never seen: the capture missed it.
fn missed(side: &Side, sender: Sender, hole: &Cell) -> Finding {
    let octets = hole.end.wrapping_sub(hole.first);
    let each = u32::from(side.mss).max(536);
    Finding::Loss(sender, LossPlace::Capture, octets.div_ceil(each))
}

/// A SYN: a cell of its own, apart from data that it may carry (RFC 7413).
fn synchronise(flow: &mut TcpFlow, pool: &mut Pool, sender: Sender, cell: Cell) {
    let (s, o) = (sender.index(), sender.other().index());
    let behind = cell.first.wrapping_add(1);
    // Its answer was captured before it: the times of this handshake say nothing.
    let answered = flow.notes[o].has(Notes::ACK) && flow.sides[o].last_ack == behind;
    if answered {
        pool.walk(flow.sides[o].outstanding, |other| {
            other.flags &= !Cell::SYN;
        });
    }
    let acked = flow.acked(sender);
    let side = &mut flow.sides[s];
    let syn = cell.part(cell.first, behind, cell.flags | Cell::SYN);
    wait(pool, side, syn, acked);
    if cell.end != behind {
        wait(pool, side, cell.part(behind, cell.end, 0), acked);
    }
}

/// What a flow that ends leaves: losses whose repair was never acknowledged.
pub(super) fn give_up(
    flow: &mut TcpFlow,
    pool: &mut Pool,
    sender: Sender,
    find: &mut impl FnMut(Finding),
) {
    let s = sender.index();
    let mut lost = 0;
    while let Some(cell) = pool.pop(&mut flow.sides[s].outstanding) {
        lost += u32::from(cell.repeats);
    }
    if lost > 0 {
        find(Finding::Loss(sender, LossPlace::After, lost));
    }
}
