//! Nearly all segments: data in order, or an ACK with news, of a connection in which nothing
//! is amiss. They have no class whatever the definitions; they only move the state on.
//!
//! What [`is_plain`] lets through must come to the same as the general way (a property test).

use base::Sender;
use wire::decode::TcpHeader;

use super::classify::{Segment, scaled_window};
use super::outstanding::Ack;
use super::state::{Notes, TcpFlow};
use crate::flow::pool::{Cell, Pool, before};
use crate::flow::time::Short;

/// More octets than this are not under way (RFC 7323 section 2.3: a window is at most 2^30);
/// well within half the sequence space, where "before" has its sense.
const LARGEST_FLIGHT: u32 = 1 << 30;

/// Whether a segment is one of those.
#[inline(always)]
pub(super) fn is_plain(flow: &TcpFlow, sender: Sender, segment: &Segment<'_>) -> bool {
    const FLAGS: u8 = TcpHeader::SYN | TcpHeader::FIN | TcpHeader::RST | TcpHeader::ACK;
    const ODD: u8 = Notes::KEEP_ALIVE | Notes::PROBE | Notes::SYN_WINDOW;
    const KNOWN: u8 = Notes::SEQ | Notes::ACK;
    let (s, o) = (sender.index(), sender.other().index());
    let (fwd, rev) = (&flow.sides[s], &flow.sides[o]);
    let (mine, theirs) = (flow.notes[s].flags, flow.notes[o].flags);
    let tcp = segment.tcp;
    // An ACK and nothing else, both ends heard of, no probe and no handshake just before.
    let usual = tcp.flags & FLAGS == TcpHeader::ACK
        && mine & (KNOWN | ODD) == KNOWN
        && theirs & (KNOWN | ODD) == KNOWN
        && tcp.options & (TcpHeader::DSACK | TcpHeader::CUT) == 0;
    // Windows are open; it begins where the last one ended, without a gap before.
    let in_order = tcp.window != 0
        && rev.window != 0
        && tcp.seq == fwd.next_seq
        && fwd.contiguous == fwd.next_seq
        // The ACK is of what was seen, and the other end's is not of what is to come.
        && !before(rev.contiguous, tcp.ack)
        && fwd.next_seq.wrapping_sub(rev.last_ack) <= LARGEST_FLIGHT;
    if !(usual && in_order) {
        return false;
    }
    if segment.len == 0 {
        // Without news it is a duplicate or an update.
        return tcp.ack != fwd.last_ack;
    }
    let end = tcp.seq.wrapping_add(segment.len);
    scaled_window(flow, sender.other())
        .is_none_or(|window| end != rev.last_ack.wrapping_add(window))
}

/// Takes it into the state; gives its ACK if that has news.
#[inline(always)]
pub(super) fn take(
    flow: &mut TcpFlow,
    pool: &mut Pool,
    sender: Sender,
    segment: &Segment<'_>,
) -> Option<Ack> {
    let s = sender.index();
    let tcp = segment.tcp;
    let stamped = tcp.options & TcpHeader::TIMESTAMPS != 0;
    let side = &mut flow.sides[s];
    let now = Short::of(segment.at);
    if segment.len > 0 {
        let end = tcp.seq.wrapping_add(segment.len);
        // RFC 7323 section 5.2: newer, modulo 2^32.
        let new_tick = stamped && before(side.tsval, tcp.tsval);
        let flags = if new_tick { Cell::FIRST_OF_TICK } else { 0 };
        let cell = Cell::new(tcp.seq, end, segment.at, tcp.tsval, flags);
        pool.push(&mut side.outstanding, cell);
        side.next_seq = end;
        side.contiguous = end;
        side.newest_at = now;
    }
    if stamped {
        side.tsval = tcp.tsval;
    }
    side.window = tcp.window;
    side.seen_at = now;
    if side.last_ack == tcp.ack {
        return None;
    }
    side.last_ack = tcp.ack;
    flow.notes[s].dup_acks = 0;
    Some(Ack::of(segment))
}
