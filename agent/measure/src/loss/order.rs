//! The order in which a stateful reflector answered: its sequence numbers, each with the
//! probe that it answered, over a window.
//!
//! Indices are 64 bits and unwrapped, so that a sequence that wraps needs no care.

/// What an answer with this reflector index is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    /// The first with this index.
    New,
    /// A copy made on the way back: the index was answered before.
    Copy,
    /// Behind the window: cannot be told.
    Forgotten,
}

/// A window over the reflector's indices.
#[derive(Clone, Debug)]
pub struct Order {
    /// Probe index + 1 by reflector index modulo length; 0 where no answer came.
    answers: Box<[u64]>,
    /// The next index to hand out in order.
    next: u64,
    /// One past the highest index seen.
    end: u64,
}

impl Order {
    /// A window of `capacity` indices (a power of two) that begins at `first`.
    #[must_use]
    pub fn new(capacity: usize, first: u64) -> Self {
        let capacity = capacity.next_power_of_two();
        Self {
            answers: vec![0; capacity].into_boxed_slice(),
            next: first,
            end: first,
        }
    }

    /// One past the highest index seen.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// The first index that the window must keep if `index` is to enter it.
    #[must_use]
    pub const fn start_for(&self, index: u64) -> u64 {
        (index + 1).saturating_sub(self.answers.len() as u64)
    }

    fn slot(&mut self, index: u64) -> &mut u64 {
        let mask = self.answers.len() as u64 - 1;
        &mut self.answers[usize::try_from(index & mask).unwrap_or(0)]
    }

    /// Takes an answer. What still waits before [`Self::start_for`] must have been drained
    /// by [`Self::drain`] before.
    pub fn insert(&mut self, index: u64, probe: u64) -> Seen {
        if index < self.start_for(self.end.saturating_sub(1)) {
            return Seen::Forgotten;
        }
        if index >= self.end {
            let from = self.end.max(self.start_for(index));
            for fresh in from..=index {
                *self.slot(fresh) = 0;
            }
            self.end = index + 1;
            self.next = self.next.max(self.start_for(index));
        }
        let slot = self.slot(index);
        if *slot == 0 {
            *slot = probe + 1;
            Seen::New
        } else {
            Seen::Copy
        }
    }

    /// Hands out, in the reflector's order, every answered index with the number of
    /// unanswered ones right before it: as far as probes below `decided` answer them, and in
    /// any case everything before `keep_from`.
    pub fn drain(&mut self, decided: u64, keep_from: u64, mut item: impl FnMut(u64, u64)) {
        let mut gaps = 0;
        let mut index = self.next;
        while index < self.end {
            let answer = *self.slot(index);
            index += 1;
            if answer == 0 {
                gaps += 1;
                continue;
            }
            let probe = answer - 1;
            if probe >= decided && index > keep_from {
                break;
            }
            item(gaps, probe);
            gaps = 0;
            self.next = index;
        }
    }
}

/// The 64-bit index nearest to `near` whose low 32 bits are `sequence`.
#[must_use]
pub fn unwrap_sequence(sequence: u32, near: u64) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
    let distance = sequence.wrapping_sub(near as u32).cast_signed();
    near.saturating_add_signed(i64::from(distance))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(order: &mut Order, decided: u64) -> Vec<(u64, u64)> {
        let mut items = Vec::new();
        order.drain(decided, 0, |gaps, probe| items.push((gaps, probe)));
        items
    }

    #[test]
    fn unwrapping_goes_to_the_nearest() {
        let base = 5u64 << 32;
        assert_eq!(unwrap_sequence(3, base), base + 3);
        assert_eq!(unwrap_sequence(u32::MAX, base), base - 1);
        assert_eq!(unwrap_sequence(0, base + 0xffff_fff0), base + (1 << 32));
    }

    #[test]
    fn hands_out_in_the_reflectors_order_with_gaps() {
        let mut order = Order::new(8, 100);
        for (index, probe) in [(100, 0), (103, 2), (102, 3), (105, 5)] {
            assert_eq!(order.insert(index, probe), Seen::New);
        }
        assert_eq!(order.insert(103, 2), Seen::Copy);
        // Probe 3 is undecided: index 102 and all behind it wait.
        assert_eq!(drained(&mut order, 3), [(0, 0)]);
        assert_eq!(drained(&mut order, 4), [(1, 3), (0, 2)]);
        assert_eq!(drained(&mut order, 9), [(1, 5)]);
        assert_eq!(order.insert(103, 2), Seen::Copy, "still in the window");
        assert_eq!(drained(&mut order, 9), []);
    }

    #[test]
    fn the_window_moves_on_and_forgets() {
        let mut order = Order::new(4, 0);
        order.insert(0, 0);
        let far = 1_000;
        let mut items = Vec::new();
        order.drain(0, order.start_for(far), |gaps, probe| {
            items.push((gaps, probe));
        });
        assert_eq!(items, [(0, 0)]);
        assert_eq!(order.insert(far, 1), Seen::New);
        assert_eq!(order.insert(1, 7), Seen::Forgotten);
        assert_eq!(order.insert(far - 3, 8), Seen::New);
        assert_eq!(order.insert(far - 3, 8), Seen::Copy);
    }
}
