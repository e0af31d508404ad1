//! A segment that starts before the highest octet sent: it fills a hole, or repeats, or both.

use base::{LossPlace, Sender, WallNanos};

use super::{Finding, Overlap, SHORTEST_REST, wait};
use crate::flow::pool::{Cell, Pool, before};
use crate::passive::tcp::state::{Notes, TcpFlow};

/// How late a segment may be and still count as reordered while no round trip is known.
const REORDER_NS: i64 = 3_000_000;

/// A segment that starts before the highest octet sent: it fills a hole, or repeats, or both.
#[cold]
pub(super) fn again(
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
