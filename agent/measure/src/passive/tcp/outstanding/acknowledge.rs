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

/// What the segments of one ACK came to so far.
struct Gathered {
    /// The TSval whose first segment gives a time; [`NO_ECHO`]: none, or none any more.
    echo: u64,
    /// The time that is smoothed.
    smoothed_ns: Option<u64>,
    /// Octets of the longest segment.
    longest: u32,
    /// Whether the ACK is of the end of a segment.
    exact: bool,
    /// Whether no segment was there yet.
    first: bool,
    /// Whether the clock went back between one of them and the ACK.
    clock_back: bool,
}

/// No TSval, which is a `u32`.
const NO_ECHO: u64 = u64::MAX;

/// What an ACK says about the other end's segments. Says whether it is of the end of one.
#[inline]
pub(in crate::passive::tcp) fn acknowledge(
    flow: &mut TcpFlow,
    pool: &mut Pool,
    sender: Sender,
    ack: Ack,
    find: &mut impl FnMut(Finding),
) -> bool {
    let p = sender.other().index();
    let mut list = flow.sides[p].outstanding;
    let mut gathered = Gathered {
        echo: ack.echo.map_or(NO_ECHO, u64::from),
        smoothed_ns: None,
        longest: 0,
        exact: false,
        first: true,
        clock_back: false,
    };
    pool.acknowledge(&mut list, ack.to, |cell| {
        if cell.is_plain() {
            gathered.echoed(sender, &ack, cell, find);
            gathered.plain(sender, &ack, cell, find);
        } else if cell.is(Cell::HOLE) {
            find(missed(&flow.sides[p], sender.other(), cell));
            return;
        } else {
            gathered.echoed(sender, &ack, cell, find);
            unusual(&mut gathered, flow, sender, &ack, cell, find);
        }
        gathered.first = false;
        gathered.longest = gathered.longest.max(cell.end.wrapping_sub(cell.first));
    });
    if gathered.clock_back {
        find(Finding::ClockBack);
    }
    let side = &mut flow.sides[p];
    side.outstanding = list;
    if let Some(ns) = gathered.smoothed_ns {
        side.smooth(ns);
    }
    // Headers are 40 to 100 octets.
    if gathered.longest > 0 && gathered.longest.saturating_add(100) >= u32::from(side.largest) {
        flow.notes[p].set(Notes::FULL_PASSES, true);
    }
    gathered.exact
}

impl Gathered {
    /// The first segment of the TSval that the ACK echoes.
    #[inline(always)]
    fn echoed(&mut self, sender: Sender, ack: &Ack, cell: &Cell, find: &mut impl FnMut(Finding)) {
        if cell.is(Cell::FIRST_OF_TICK) && u64::from(cell.tsval) == self.echo {
            self.echo = NO_ECHO;
            if let Some(ns) = self.sample(RttMethod::Timestamp, sender, ack, cell, find) {
                self.smoothed_ns = Some(ns);
            }
        }
    }

    /// A segment that was sent once, and nothing before it again: nearly all are. A time is
    /// looked at only where it is one.
    #[inline(always)]
    fn plain(&mut self, sender: Sender, ack: &Ack, cell: &Cell, find: &mut impl FnMut(Finding)) {
        if cell.end == ack.to {
            self.exact = true;
            self.sequence(sender, ack, cell, find);
        }
    }

    /// A segment that was sent once, and the ACK of its end; says whether that is a time.
    #[inline(always)]
    fn sequence(
        &mut self,
        sender: Sender,
        ack: &Ack,
        cell: &Cell,
        find: &mut impl FnMut(Finding),
    ) -> bool {
        let ns = self.sample(RttMethod::Sequence, sender, ack, cell, find);
        if ack.echo.is_none() {
            self.smoothed_ns = ns.or(self.smoothed_ns);
        }
        ns.is_some()
    }

    /// The time since a segment as a round trip, if the clock did not go back meanwhile.
    #[inline]
    fn sample(
        &mut self,
        method: RttMethod,
        sender: Sender,
        ack: &Ack,
        cell: &Cell,
        find: &mut impl FnMut(Finding),
    ) -> Option<u64> {
        let Ok(ns) = u64::try_from(cell.at.until(ack.at)) else {
            self.clock_back = true;
            return None;
        };
        find(Finding::Rtt(method, sender.other().leg_to_peer(), ns));
        Some(ns)
    }
}

/// A SYN, or a segment near to a loss.
#[cold]
fn unusual(
    gathered: &mut Gathered,
    flow: &mut TcpFlow,
    sender: Sender,
    ack: &Ack,
    cell: &Cell,
    find: &mut impl FnMut(Finding),
) {
    let peer = sender.other();
    let p = peer.index();
    let age = cell.at.until(ack.at);
    let of_syn = cell.is(Cell::SYN) && age <= LONGEST_HANDSHAKE_NS;
    if cell.end == ack.to {
        gathered.exact = true;
        if cell.repeats > 0 {
            find(Finding::Ambiguous);
        } else if cell.is(Cell::AFTER_LOSS) {
            find(Finding::AfterLoss);
        } else if gathered.sequence(sender, ack, cell, find) && of_syn {
            gathered.sample(RttMethod::Handshake, sender, ack, cell, find);
        }
    } else if of_syn && cell.repeats == 0 && accepts_data(flow, sender, ack.to) {
        gathered.sample(RttMethod::Handshake, sender, ack, cell, find);
    }
    if cell.repeats > 0 {
        let needless = match ack.echo {
            // Eifel (RFC 3522): the echo is older than the retransmission, so an earlier
            // copy had arrived. It is of the segment that moved the ACK: the first one.
            Some(echo) => gathered.first && before(echo, cell.tsval),
            // The answer came sooner than the path allows.
            None => age < i64::from(flow.sides[p].rtt_ns / 2),
        };
        settle(flow, peer, cell, needless, find);
    }
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
