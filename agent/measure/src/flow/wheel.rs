//! When flows are looked at again: a timer wheel of lists through the records themselves.
//!
//! A record is in exactly one list as long as its place is taken. Deadlines are lazy: a flow
//! that is due but was active is put forward again, so no packet touches the wheel. Work
//! per call is bounded; what is left over is done by the next call. When the clock is set
//! back, the wheel goes back with it.

use base::WallNanos;

use super::table::Table;

/// One slot, in nanoseconds: 2^30, a little more than a second.
const SLOT_BITS: u32 = 30;
const SLOTS: u64 = 16;
/// The farthest that a record is put forward, in slots: how late a closed flow goes at most.
const FARTHEST: u64 = 8;
const END: u32 = u32::MAX;
/// How far the clock may be behind the wheel, in slots, before the wheel goes back with it:
/// frames of several queues need not come in order.
const SLACK: u64 = 1;

/// What to do with a flow that is due.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Due {
    /// It stays; look again after so many nanoseconds.
    Keep {
        /// From now.
        after_ns: u64,
    },
    /// It goes; its place is free.
    Remove,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Wheel {
    heads: [u32; SLOTS as usize],
    /// The list that is being worked off.
    pending: u32,
    /// The slot up to which all lists were taken; `None` before the first flow.
    turned: Option<u64>,
}

impl Wheel {
    pub(crate) const fn new() -> Self {
        Self {
            heads: [END; SLOTS as usize],
            pending: END,
            turned: None,
        }
    }

    /// Puts a place that is in no list into one.
    pub(crate) fn add(&mut self, table: &mut Table, place: u32, now: WallNanos, after_ns: u64) {
        let slot = now.0 >> SLOT_BITS;
        let turned = *self.turned.get_or_insert(slot);
        let ahead = (after_ns >> SLOT_BITS).clamp(1, FARTHEST);
        // Where the clock stands, or where the wheel does if the clock went back.
        let at = (slot.max(turned) + ahead).min(turned + SLOTS - 1);
        let head = &mut self.heads[(at % SLOTS) as usize];
        table.record_mut(place).link = *head;
        *head = place;
    }

    /// The clock was set back: what was due in so many slots still is.
    #[cold]
    fn set_back(&mut self, slot: u64) {
        let turned = self.turned.replace(slot).unwrap_or(slot);
        self.heads
            .rotate_left((turned.wrapping_sub(slot) % SLOTS) as usize);
    }

    /// Looks at flows that are due, `budget` of them at most; says whether some are left.
    pub(crate) fn turn(
        &mut self,
        table: &mut Table,
        now: WallNanos,
        budget: usize,
        mut decide: impl FnMut(&mut Table, u32) -> Due,
    ) -> bool {
        let slot = now.0 >> SLOT_BITS;
        if self.turned.is_some_and(|turned| slot + SLACK < turned) {
            self.set_back(slot);
        }
        let Some(mut turned) = self.turned else {
            return false;
        };
        if slot <= turned && self.pending == END {
            return false;
        }
        // After a long silence every list is due once; more turns would find them empty.
        if slot > turned + SLOTS {
            turned = slot - SLOTS;
        }
        let mut left = budget;
        loop {
            while self.pending != END {
                if left == 0 {
                    self.turned = Some(turned);
                    return true;
                }
                left -= 1;
                let place = self.pending;
                self.pending = table.record(place).link;
                self.turned = Some(turned);
                match decide(table, place) {
                    Due::Keep { after_ns } => self.add(table, place, now, after_ns),
                    Due::Remove => table.remove(place),
                }
            }
            if turned >= slot {
                break;
            }
            turned += 1;
            let head = &mut self.heads[(turned % SLOTS) as usize];
            self.pending = std::mem::replace(head, END);
        }
        self.turned = Some(turned);
        false
    }
}

#[cfg(test)]
mod tests;
