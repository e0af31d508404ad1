//! Segments and their acknowledgements: round-trip times by two methods, and where losses
//! happened.
//!
//! Sequence method: an ACK of exactly a segment's last octet, of a segment sent once, with
//! nothing before it sent again meanwhile (Karn; RFC 6298 section 3). Timestamp method: the
//! first segment of a TSval and the first ACK that echoes it (RFC 7323 section 4). A
//! handshake is the sequence method on a SYN.

use base::{Leg, LossPlace, RttMethod, Sender, TcpClass, TcpClasses, WallNanos};
use wire::decode::TcpHeader;

use super::classify::Segment;
use super::state::{Notes, Side, TcpFlow};
use crate::flow::pool::{Cell, Pool, before};

/// A handshake that took longer is not one.
const LONGEST_HANDSHAKE_NS: i64 = 75_000_000_000;
/// A gap of more octets than a window can hold (RFC 7323 section 2.3) is another connection
/// or a lie.
const LARGEST_GAP: u32 = 1 << 30;
/// A segment that is sent again with SACK blocks in it has less room: up to 36 octets
/// (RFC 2018 section 3) follow in a segment of their own.
const SHORTEST_REST: u32 = 36;
const REORDER_NS: i64 = 3_000_000;

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

/// An acknowledgement.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Ack {
    /// Behind the last octet that arrived.
    pub(super) to: u32,
    /// TSecr.
    pub(super) echo: Option<u32>,
    pub(super) at: WallNanos,
}

impl Ack {
    #[inline(always)]
    pub(super) const fn of(segment: &Segment<'_>) -> Self {
        let tcp = segment.tcp;
        let stamped = tcp.options & TcpHeader::TIMESTAMPS != 0;
        Self {
            to: tcp.ack,
            echo: if stamped { Some(tcp.tsecr) } else { None },
            at: segment.at,
        }
    }
}

/// What an ACK says about the other end's segments. Says whether it is of the end of one.
#[inline]
pub(super) fn acknowledge(
    flow: &mut TcpFlow,
    pool: &mut Pool,
    sender: Sender,
    ack: Ack,
    find: &mut impl FnMut(Finding),
) -> bool {
    let peer = sender.other();
    let p = peer.index();
    let mut list = flow.sides[p].outstanding;
    let leg = peer.leg_to_peer();
    let largest = u32::from(flow.sides[p].largest);
    let mut echoed = false;
    let mut smoothed = None;
    let mut first = true;
    let (mut full, mut exact) = (false, false);
    pool.acknowledge(&mut list, ack.to, |cell| {
        if cell.is(Cell::HOLE) {
            find(missed(&flow.sides[p], peer, cell));
            return;
        }
        let age = cell.at.until(ack.at);
        if age < 0 {
            find(Finding::ClockBack);
        } else {
            if let Some(echo) = ack.echo
                && cell.is(Cell::FIRST_OF_TICK)
                && cell.tsval == echo
                && !echoed
            {
                echoed = true;
                find(Finding::Rtt(RttMethod::Timestamp, leg, age as u64));
                smoothed = Some(age as u64);
            }
            if cell.end == ack.to {
                exact = true;
                if cell.repeats > 0 {
                    find(Finding::Ambiguous);
                } else if cell.is(Cell::AFTER_LOSS) {
                    find(Finding::AfterLoss);
                } else {
                    find(Finding::Rtt(RttMethod::Sequence, leg, age as u64));
                    if cell.is(Cell::SYN) && age <= LONGEST_HANDSHAKE_NS {
                        find(Finding::Rtt(RttMethod::Handshake, leg, age as u64));
                    }
                    if ack.echo.is_none() {
                        smoothed = Some(age as u64);
                    }
                }
            } else if cell.is(Cell::SYN)
                && cell.repeats == 0
                && accepts_data(flow, sender, ack.to)
                && age <= LONGEST_HANDSHAKE_NS
            {
                find(Finding::Rtt(RttMethod::Handshake, leg, age as u64));
            }
        }
        if cell.repeats > 0 {
            let needless = match ack.echo {
                // Eifel (RFC 3522): the echo is older than the retransmission, so an earlier
                // copy had arrived. It is of the segment that moved the ACK: the first one.
                Some(echo) => first && before(echo, cell.tsval),
                // The answer came sooner than the path allows.
                None => age < i64::from(flow.sides[p].rtt_ns / 2),
            };
            settle(flow, peer, cell, needless, find);
        }
        first = false;
        // Headers are 40 to 100 octets.
        full |= cell.end.wrapping_sub(cell.first).saturating_add(100) >= largest;
    });
    let side = &mut flow.sides[p];
    side.outstanding = list;
    if let Some(ns) = smoothed {
        side.smooth(ns);
    }
    if full {
        flow.notes[p].set(Notes::FULL_PASSES, true);
    }
    exact
}

/// Whether this is the SYN-ACK of a SYN that carried data, and of some of that data (RFC 7413
/// section 4.2.1: a SYN-ACK acknowledges the SYN, or the SYN and its data).
#[cold]
fn accepts_data(flow: &TcpFlow, sender: Sender, ack: u32) -> bool {
    let (mine, peer) = (&flow.notes[sender.index()], sender.other().index());
    mine.has(Notes::SYN)
        && !mine.has(Notes::ACK)
        && !flow.notes[peer].has(Notes::ACK)
        && !before(flow.sides[peer].next_seq, ack)
}

/// A segment that was sent more than once is acknowledged: was it lost?
#[cold]
fn settle(
    flow: &mut TcpFlow,
    peer: Sender,
    cell: &Cell,
    needless: bool,
    find: &mut impl FnMut(Finding),
) {
    if cell.is(Cell::REST) && cell.end.wrapping_sub(cell.first) <= SHORTEST_REST {
        // Counted with the segment that it was cut off.
        return;
    }
    let mut lost = u32::from(cell.repeats);
    if needless {
        find(Finding::Disproved(cell.first));
        find(Finding::Loss(peer, LossPlace::Spurious, 1));
        lost -= 1;
    }
    while lost > 0 && flow.notes[peer.index()].take_disproved() {
        lost -= 1;
    }
    if lost > 0 {
        find(Finding::Loss(peer, LossPlace::After, lost));
    }
}

/// A duplicate SACK (RFC 2883) of a segment that was sent again: needlessly.
#[cold]
pub(super) fn duplicate_sack(flow: &mut TcpFlow, sender: Sender, find: &mut impl FnMut(Finding)) {
    let peer = sender.other();
    flow.notes[peer.index()].disprove();
    find(Finding::Loss(peer, LossPlace::Spurious, 1));
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

/// A segment that starts before the highest octet sent: it fills a hole, or repeats, or both.
#[cold]
fn again(
    flow: &mut TcpFlow,
    pool: &mut Pool,
    sender: Sender,
    new: Cell,
    now: WallNanos,
    initial_rtt_ns: u32,
    find: &mut impl FnMut(Finding),
) -> Overlap {
    let s = sender.index();
    let next_seq = flow.sides[s].next_seq;
    let mut list = flow.sides[s].outstanding;
    // Its ends become ends of cells.
    pool.split(&mut list, new.first);
    pool.split(&mut list, new.end);
    let dup_acks = flow.notes[sender.other().index()].dup_acks;
    let mut overlap = Overlap::default();
    let mut repeated = false;
    let mut filled = None;
    let mut stuck = false;
    let mut newer_tsval = None;
    pool.walk(list, |cell| {
        if !before(cell.first, new.end) {
            // Sent before this one, of higher octets: its ACK will wait for this one's.
            newer_tsval.get_or_insert(cell.tsval);
            cell.flags |= Cell::AFTER_LOSS;
        } else if before(new.first, cell.end) {
            if cell.is(Cell::HOLE) {
                // The rest of a segment that was cut is counted with the first part.
                let rest = cell.is(Cell::REST) && new.end.wrapping_sub(new.first) <= SHORTEST_REST;
                filled.get_or_insert((cell.at.until(now), rest));
                overlap.holes += cell.end.wrapping_sub(cell.first);
                overlap.fills_first |= !before(new.first, cell.first);
                cell.flags = cell.flags & !Cell::HOLE | Cell::FILLED;
            } else {
                repeated = true;
                cell.repeats = cell.repeats.saturating_add(1);
                stuck = cell.repeats == 2 && cell.end == new.end;
            }
            // Nothing before it was sent later than this.
            cell.flags = cell.flags & !(Cell::FIRST_OF_TICK | Cell::AFTER_LOSS) | new.flags;
            cell.at = new.at;
            cell.tsval = new.tsval;
        }
    });
    flow.sides[s].outstanding = list;
    if let Some((age, false)) = filled {
        let round_trip = round_trip(flow, initial_rtt_ns);
        let reordered = came_late(age, new.tsval, newer_tsval, round_trip);
        let place = if reordered {
            LossPlace::Reordered
        } else {
            LossPlace::Before
        };
        find(Finding::Loss(sender, place, 1));
        if reordered {
            let late = flow.sides[s].since_newest(now).max(0) as u64;
            find(Finding::Late(next_seq.wrapping_sub(new.first), late));
        }
    }
    let acked = flow.sides[sender.other().index()].last_ack;
    if repeated {
        find(Finding::Repeated(new.first));
    } else if filled.is_none() && !before(acked, new.end) {
        // All of it was acknowledged: sent for nothing. Its DSACK will be no news.
        find(Finding::Loss(sender, LossPlace::Spurious, 1));
    }
    let size = new.end.wrapping_sub(new.first).saturating_add(100);
    if stuck
        && dup_acks > 0
        && size >= u32::from(flow.sides[s].largest)
        && !flow.notes[s].has(Notes::FULL_PASSES)
    {
        find(Finding::BlackHole);
    }
    if before(next_seq, new.end) {
        let rest = new.part(next_seq, new.end, new.flags);
        let acked = flow.acked(sender);
        wait(pool, &mut flow.sides[s], rest, acked);
    }
    overlap
}

/// The whole round trip as far as it is known, in ns: the handshake's, or the two legs' if
/// that is less.
fn round_trip(flow: &TcpFlow, initial_rtt_ns: u32) -> Option<u32> {
    let legs = flow.sides.each_ref().map(|side| side.rtt_ns);
    let now = legs[0].saturating_add(legs[1]);
    match (initial_rtt_ns, now) {
        (0, 0) => None,
        (0, known) | (known, 0) => Some(known),
        (a, b) => Some(a.min(b)),
    }
}

/// Whether what filled a hole was late (reordered before the probe) and not sent again.
fn came_late(
    age_ns: i64,
    tsval: u32,
    newer_tsval: Option<u32>,
    round_trip_ns: Option<u32>,
) -> bool {
    // TSval says when it was sent, next to what overtook it.
    if let Some(newer) = newer_tsval
        && newer != tsval
    {
        return before(tsval, newer);
    }
    // The sender cannot know of a loss before a round trip has passed. Half of one, since
    // round trips vary and what is known of them is a mean.
    age_ns < round_trip_ns.map_or(REORDER_NS, |known| i64::from(known) / 2)
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
