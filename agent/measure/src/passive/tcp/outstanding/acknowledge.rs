//! What an ACK says: round trips, and which retransmissions repaired a loss.

use base::{LossPlace, RttMethod, Sender, WallNanos};
use wire::decode::TcpHeader;

use super::{Finding, SHORTEST_REST, missed};
use crate::flow::pool::{Cell, Pool, before};
use crate::passive::tcp::classify::Segment;
use crate::passive::tcp::state::{Notes, TcpFlow};

/// A handshake that took longer is not one.
const LONGEST_HANDSHAKE_NS: i64 = 75_000_000_000;

/// An acknowledgement.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Ack {
    /// Behind the last octet that arrived.
    pub(in crate::passive::tcp) to: u32,
    /// TSecr.
    pub(in crate::passive::tcp) echo: Option<u32>,
    pub(in crate::passive::tcp) at: WallNanos,
}

impl Ack {
    #[inline(always)]
    pub(in crate::passive::tcp) const fn of(segment: &Segment<'_>) -> Self {
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
pub(in crate::passive::tcp) fn acknowledge(
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
pub(in crate::passive::tcp) fn duplicate_sack(
    flow: &mut TcpFlow,
    sender: Sender,
    find: &mut impl FnMut(Finding),
) {
    let peer = sender.other();
    flow.notes[peer.index()].disprove();
    find(Finding::Loss(peer, LossPlace::Spurious, 1));
}
