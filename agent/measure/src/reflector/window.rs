//! Which of a sender's recent numbers have been seen: a bitmap that slides with the highest.

/// Numbers that are remembered behind the highest one.
pub(super) const WINDOW: u32 = 4096;
const WORDS: usize = WINDOW as usize / 64;

/// What a number is to the window.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// Higher than all before.
    Ahead,
    /// Lower than the highest, not seen before: out of order (RFC 4737).
    Behind,
    /// Seen before.
    Duplicate,
    /// Too far behind to be told.
    Forgotten,
}

/// The sliding bitmap. Numbers are modulo 2^32 (RFC 1982 arithmetic).
#[derive(Clone, Debug)]
pub(super) struct Window {
    highest: u32,
    seen: [u64; WORDS],
    empty: bool,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            highest: 0,
            seen: [0; WORDS],
            empty: true,
        }
    }
}

impl Window {
    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn bit(&mut self, number: u32) -> (&mut u64, u64) {
        let place = number % WINDOW;
        (&mut self.seen[place as usize / 64], 1 << (place % 64))
    }

    /// Takes a number.
    pub(super) fn insert(&mut self, number: u32) -> Place {
        if self.empty {
            self.empty = false;
            self.highest = number;
            let (word, bit) = self.bit(number);
            *word |= bit;
            return Place::Ahead;
        }
        let ahead = number.wrapping_sub(self.highest);
        if ahead != 0 && ahead < 1 << 31 {
            if ahead >= WINDOW {
                self.seen = [0; WORDS];
            } else {
                for between in 1..=ahead {
                    let (word, bit) = self.bit(self.highest.wrapping_add(between));
                    *word &= !bit;
                }
            }
            self.highest = number;
            let (word, bit) = self.bit(number);
            *word |= bit;
            return Place::Ahead;
        }
        if self.highest.wrapping_sub(number) >= WINDOW {
            return Place::Forgotten;
        }
        let (word, bit) = self.bit(number);
        if *word & bit != 0 {
            return Place::Duplicate;
        }
        *word |= bit;
        Place::Behind
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::random::Random;

    #[test]
    fn agrees_with_a_set_also_across_the_wrap() {
        for start in [0u32, 1_000, u32::MAX - 2_000] {
            let mut random = Random::new(u64::from(start));
            let (mut window, mut set) = (Window::default(), HashSet::new());
            let mut highest = 0u64;
            for _ in 0..20_000 {
                let number = (highest + 30).saturating_sub(random.below(60));
                let expected = if !set.insert(number) {
                    Place::Duplicate
                } else if set.len() == 1 || number > highest {
                    Place::Ahead
                } else {
                    Place::Behind
                };
                highest = highest.max(number);
                #[expect(clippy::cast_possible_truncation, reason = "wraps on purpose")]
                let on_wire = start.wrapping_add(number as u32);
                assert_eq!(window.insert(on_wire), expected, "{number} of {highest}");
            }
        }
    }

    #[test]
    fn far_behind_is_forgotten_and_a_jump_clears() {
        let mut window = Window::default();
        window.insert(10_000);
        assert_eq!(window.insert(10_000 - WINDOW), Place::Forgotten);
        assert_eq!(window.insert(10_000 - WINDOW + 1), Place::Behind);
        assert_eq!(window.insert(50_000), Place::Ahead);
        assert_eq!(window.insert(49_999), Place::Behind);
    }
}
