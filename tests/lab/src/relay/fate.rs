//! What becomes of a packet, from the seed, its direction and its index alone.
//!
//! Never: a clock, a packet's content. Each decision draws from a stream of its own, so
//! that switching one impairment on leaves the choices of the others as they were.

use base::Direction;

use super::config::{Delay, Impairment, Loss, Pick};

/// A decision; names a stream of random numbers.
#[derive(Copy, Clone, Debug)]
enum Question {
    Loss(u64),
    Duplicate,
    Reorder,
    Corrupt,
    CorruptBit,
    Delay,
}

impl Question {
    fn stream(self) -> u64 {
        match self {
            Self::Duplicate => 1,
            Self::Reorder => 2,
            Self::Corrupt => 3,
            Self::CorruptBit => 4,
            Self::Delay => 5,
            Self::Loss(which) => 16 + which,
        }
    }
}

/// What to do with one packet.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Fate {
    /// It vanishes; nothing else matters then.
    pub lost: bool,
    /// How long it is held.
    pub delay_ns: u64,
    /// Copies besides itself.
    pub copies: u8,
    /// A random number that says which bit to flip.
    pub corrupt: Option<u64>,
    /// Later packets overtake it.
    pub reordered: bool,
}

/// Decides for one direction, packet after packet.
#[derive(Debug)]
pub struct Decider {
    seed: u64,
    impairment: Impairment,
    next: u64,
    /// The state of each Gilbert loss, by position in the list.
    bad: Vec<bool>,
}

impl Decider {
    /// Starts at index 0.
    #[must_use]
    pub fn new(seed: u64, direction: Direction, impairment: Impairment) -> Self {
        let bad = vec![false; impairment.loss.len()];
        Self {
            seed: mix(seed ^ mix(1 + direction.index() as u64)),
            impairment,
            next: 0,
            bad,
        }
    }

    /// What it was told.
    #[must_use]
    pub fn impairment(&self) -> &Impairment {
        &self.impairment
    }

    /// The fate of the next packet.
    pub fn decide(&mut self) -> Fate {
        let index = self.next;
        self.next += 1;
        let mut fate = Fate {
            lost: self.loses(index),
            ..Fate::default()
        };
        if fate.lost {
            return fate;
        }
        let plan = &self.impairment;
        fate.delay_ns = match &plan.delay {
            None => 0,
            Some(Delay::Fixed(ns)) => *ns,
            Some(Delay::Uniform(least, most)) => {
                let span = u128::from(most.saturating_sub(*least)) + 1;
                let drawn = (u128::from(self.draw(index, Question::Delay)) * span) >> 64;
                least.saturating_add(u64::try_from(drawn).unwrap_or(0))
            }
            Some(Delay::List(list)) => at(list, index),
        };
        if let Some(duplicate) = &plan.duplicate
            && self.picks(&duplicate.pick, index, Question::Duplicate)
        {
            fate.copies = duplicate.copies;
        }
        if let Some(corrupt) = &plan.corrupt
            && self.picks(&corrupt.pick, index, Question::Corrupt)
        {
            fate.corrupt = Some(self.draw(index, Question::CorruptBit));
        }
        fate.reordered = plan
            .reorder
            .as_ref()
            .is_some_and(|reorder| self.picks(&reorder.pick, index, Question::Reorder));
        fate
    }

    fn loses(&mut self, index: u64) -> bool {
        let mut lost = false;
        for which in 0..self.impairment.loss.len() {
            let question = Question::Loss(which as u64);
            lost |= match &self.impairment.loss[which] {
                Loss::Pick(pick) => self.picks(pick, index, question),
                &Loss::Gilbert { enter, leave } => {
                    let edge = if self.bad[which] { leave } else { enter };
                    if unit(self.draw(index, question)) < edge {
                        self.bad[which] = !self.bad[which];
                    }
                    self.bad[which]
                }
                &Loss::Burst { every, length } => {
                    every > 0 && index % every >= every.saturating_sub(length)
                }
            };
        }
        lost
    }

    fn picks(&self, pick: &Pick, index: u64, question: Question) -> bool {
        match pick {
            Pick::Ratio(ratio) => unit(self.draw(index, question)) < *ratio,
            Pick::Every(n) => *n > 0 && index % n == n - 1,
            Pick::List(list) => list.contains(&index),
            Pick::Range(from, to) => (*from..*to).contains(&index),
        }
    }

    fn draw(&self, index: u64, question: Question) -> u64 {
        mix(self.seed ^ mix(index ^ question.stream() << 48))
    }
}

fn at(list: &[u64], index: u64) -> u64 {
    if list.is_empty() {
        return 0;
    }
    list[usize::try_from(index % list.len() as u64).unwrap_or(0)]
}

/// The output function of SplitMix64 (Steele, Lea, Flood 2014): every bit of the result
/// depends on every bit of the argument.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

/// In [0, 1), all 53 bits that a double holds.
fn unit(value: u64) -> f64 {
    (value >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::config::{Corrupt, Duplicate, Reorder};

    const MANY: usize = 100_000;

    fn fates(seed: u64, direction: Direction, impairment: &Impairment) -> Vec<Fate> {
        let mut decider = Decider::new(seed, direction, impairment.clone());
        (0..MANY).map(|_| decider.decide()).collect()
    }

    fn everything() -> Impairment {
        Impairment {
            delay: Some(Delay::Uniform(10, 20)),
            corrupt: Some(Corrupt {
                pick: Pick::Ratio(0.02),
                fix_checksum: false,
                byte: None,
            }),
            ..Impairment::default()
        }
        .with_loss(0.05)
        .with_duplicates(0.01)
        .with_reordering(0.01, 3)
    }

    #[test]
    fn same_seed_same_fates_and_other_seed_or_direction_other_fates() {
        let plan = everything();
        let first = fates(7, Direction::Forward, &plan);
        assert_eq!(first, fates(7, Direction::Forward, &plan));
        assert_ne!(first, fates(7, Direction::Reverse, &plan));
        assert_ne!(first, fates(8, Direction::Forward, &plan));
    }

    #[test]
    fn ratios_are_met_and_choices_are_independent() {
        let all = fates(3, Direction::Reverse, &everything());
        let share = |test: fn(&Fate) -> bool| {
            all.iter().filter(|fate| test(fate)).count() as f64 / MANY as f64
        };
        // Six standard deviations of a binomial share.
        let near = |got: f64, p: f64| (got - p).abs() < 6.0 * (p * (1.0 - p) / MANY as f64).sqrt();
        assert!(near(share(|f| f.lost), 0.05));
        assert!(near(share(|f| f.copies == 1), 0.95 * 0.01));
        assert!(near(share(|f| f.reordered), 0.95 * 0.01));
        assert!(near(share(|f| f.corrupt.is_some()), 0.95 * 0.02));
        assert!(near(
            share(|f| f.reordered && f.corrupt.is_some()),
            0.95 * 0.0002
        ));
        for ns in 10..=20 {
            let got = all.iter().filter(|f| !f.lost && f.delay_ns == ns).count() as f64;
            assert!(near(got / MANY as f64, 0.95 / 11.0), "{ns}");
        }
        let pairs = all.windows(2).filter(|pair| pair[0].lost && pair[1].lost);
        assert!(near(pairs.count() as f64 / MANY as f64, 0.05 * 0.05));
    }

    #[test]
    fn one_impairment_leaves_the_choices_of_another() {
        let plain = Impairment::default().with_reordering(0.1, 1);
        let more = plain.clone().with_duplicates(0.5);
        let reordered = |plan| -> Vec<bool> {
            let all = fates(1, Direction::Forward, plan);
            all.iter().map(|fate| fate.reordered).collect()
        };
        assert_eq!(reordered(&plain), reordered(&more));
    }

    #[test]
    fn counted_picks() {
        let lost = |loss: Loss, n: usize| -> Vec<usize> {
            let plan = Impairment {
                loss: vec![loss],
                ..Impairment::default()
            };
            let all = fates(1, Direction::Forward, &plan);
            (0..n).filter(|&i| all[i].lost).collect()
        };
        assert_eq!(lost(Loss::Pick(Pick::Every(4)), 12), [3, 7, 11]);
        assert_eq!(lost(Loss::Pick(Pick::Every(0)), 12), [0usize; 0]);
        assert_eq!(lost(Loss::Pick(Pick::List(vec![5, 2])), 12), [2, 5]);
        assert_eq!(lost(Loss::Pick(Pick::Range(3, 5)), 12), [3, 4]);
        let bursts = Loss::Burst {
            every: 5,
            length: 2,
        };
        assert_eq!(lost(bursts, 12), [3, 4, 8, 9]);
    }

    #[test]
    fn gilbert_bursts_have_their_mean_length() {
        let plan = Impairment {
            loss: vec![Loss::Gilbert {
                enter: 0.01,
                leave: 0.25,
            }],
            ..Impairment::default()
        };
        let all = fates(5, Direction::Forward, &plan);
        let lost = all.iter().filter(|fate| fate.lost).count() as f64;
        let bursts = all.windows(2).filter(|p| !p[0].lost && p[1].lost).count() as f64;
        assert!((lost / bursts - 4.0).abs() < 0.5, "{}", lost / bursts);
        assert!((lost / MANY as f64 - 0.01 / 0.26).abs() < 0.005);
    }

    #[test]
    fn a_list_of_delays_goes_round() {
        let plan = Impairment::default().with_delay(Delay::List(vec![5, 9]));
        let all = fates(1, Direction::Forward, &plan);
        let first: Vec<u64> = all[..4].iter().map(|fate| fate.delay_ns).collect();
        assert_eq!(first, [5, 9, 5, 9]);
    }

    #[test]
    fn a_configuration_survives_json_and_refuses_what_it_does_not_know() {
        let config = crate::relay::RelayConfig {
            forward: Impairment {
                duplicate: Some(Duplicate {
                    pick: Pick::Every(3),
                    copies: 2,
                    delay_ns: 5,
                }),
                reorder: Some(Reorder {
                    pick: Pick::List(vec![1]),
                    packets: 2,
                    flush_ns: 3,
                    extra_delay_ns: 4,
                }),
                ..everything()
            },
            ..crate::relay::RelayConfig::new(9)
        };
        let text = serde_json::to_string(&config).expect("serialises");
        let back: crate::relay::RelayConfig = serde_json::from_str(&text).expect("parses");
        assert_eq!(back, config);
        assert!(serde_json::from_str::<crate::relay::RelayConfig>(r#"{"sed":1}"#).is_err());
    }
}
