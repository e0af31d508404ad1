//! Segments that were sent again lately: what a DSACK is about.
//!
//! A receiver also sends a DSACK when the network doubled a packet; that disproves no loss. A
//! fixed number of slots, the latest repetition in each.

const SLOTS: usize = 4096;

/// See the module.
#[derive(Debug)]
pub(crate) struct Repeats {
    /// The flow's place + 1, and the first sequence number; 0: empty.
    slots: Box<[(u32, u32); SLOTS]>,
}

impl Repeats {
    pub(crate) fn new() -> Self {
        Self {
            slots: Box::new([(0, 0); SLOTS]),
        }
    }

    fn slot(flow: u32, seq: u32) -> usize {
        let mixed = (flow ^ seq.rotate_left(16)).wrapping_mul(0x9e37_79b1);
        (mixed >> 20) as usize % SLOTS
    }

    pub(crate) fn put(&mut self, flow: u32, seq: u32) {
        self.slots[Self::slot(flow, seq)] = (flow + 1, seq);
    }

    /// Whether the segment that begins there was sent again; asked once.
    pub(crate) fn take(&mut self, flow: u32, seq: u32) -> bool {
        let slot = &mut self.slots[Self::slot(flow, seq)];
        let found = *slot == (flow + 1, seq);
        if found {
            *slot = (0, 0);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repetition_is_found_once_and_only_in_its_flow() {
        let mut repeats = Repeats::new();
        repeats.put(0, 0);
        repeats.put(7, 1000);
        assert!(!repeats.take(8, 1000));
        assert!(repeats.take(7, 1000));
        assert!(!repeats.take(7, 1000));
        assert!(repeats.take(0, 0));
    }
}
