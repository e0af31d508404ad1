//! Loss by place as counters that never fall.
//!
//! A session moves a lost probe from `unattributed` to a direction when the reflector's
//! next report tells (about a second later), so its totals are no counters: Prometheus
//! would take the fall for a restart. Here a loss counts as unattributed only when it
//! stayed so for [`SETTLE_TICKS`]; places that are told are counted at once.
//!
//! What was counted as unattributed stays so, even if a place is told later: no loss is
//! ever counted at two places, so the places never exceed what was lost.

use base::LossTotals;

/// Ticks for which a loss must stay unattributed before it is counted so.
pub const SETTLE_TICKS: usize = 10;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct SettledLoss {
    /// Unattributed at the last ticks, a ring.
    recent: [u64; SETTLE_TICKS],
    next: usize,
    settled: LossTotals,
    /// Of forward, reverse and local: told after it was counted as unattributed.
    too_late: [u64; 3],
}

impl SettledLoss {
    /// Takes the totals of the moment; called once per tick.
    pub(super) fn tick(&mut self, now: &LossTotals) {
        self.recent[self.next] = now.unattributed;
        self.next = (self.next + 1) % SETTLE_TICKS;
        // Without a directed reflector nothing will ever be moved.
        let unattributed = if now.directed {
            self.recent.iter().copied().min().unwrap_or(0)
        } else {
            now.unattributed
        };
        let settled = &mut self.settled;
        settled.directed = now.directed;
        // What is lost and counted nowhere yet; each place takes of it what it lacks.
        let mut uncounted = now.lost.saturating_sub(settled.lost);
        for ((place, present), too_late) in [
            (&mut settled.forward, now.forward),
            (&mut settled.reverse, now.reverse),
            (&mut settled.local, now.local),
        ]
        .into_iter()
        .zip(&mut self.too_late)
        {
            let lacks = present.saturating_sub(*place + *too_late);
            let grown = lacks.min(uncounted);
            *place += grown;
            settled.lost += grown;
            uncounted -= grown;
            // Not made up for from later losses, which have places of their own.
            *too_late += lacks - grown;
        }
        let grown = unattributed
            .saturating_sub(settled.unattributed)
            .min(uncounted);
        settled.unattributed += grown;
        settled.lost += grown;
        uncounted -= grown;
        // Nothing is open, so nothing will be told: the rest has no place.
        if now.unattributed == 0 {
            settled.unattributed += uncounted;
            settled.lost += uncounted;
        }
    }

    /// Totals that never fell.
    pub(super) fn totals(&self) -> LossTotals {
        self.settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(unattributed: u64, forward: u64) -> LossTotals {
        LossTotals {
            lost: unattributed + forward,
            unattributed,
            forward,
            directed: true,
            ..LossTotals::default()
        }
    }

    #[test]
    fn a_loss_that_is_attributed_later_counts_once() {
        let mut loss = SettledLoss::default();
        let mut seen = Vec::new();
        for now in [totals(3, 0), totals(3, 0), totals(0, 3)] {
            loss.tick(&now);
            seen.push((loss.totals().unattributed, loss.totals().forward));
        }
        for _ in 0..2 * SETTLE_TICKS {
            loss.tick(&totals(0, 3));
        }
        assert_eq!(seen, [(0, 0), (0, 0), (0, 3)]);
        assert_eq!(loss.totals().lost, 3);
    }

    #[test]
    fn what_stays_unattributed_counts_in_the_end() {
        let mut loss = SettledLoss::default();
        for _ in 0..SETTLE_TICKS {
            assert_eq!(loss.totals().unattributed, 0);
            loss.tick(&totals(2, 0));
        }
        assert_eq!(loss.totals().unattributed, 2);
    }

    #[test]
    fn undirected_loss_counts_at_once() {
        let mut loss = SettledLoss::default();
        loss.tick(&LossTotals {
            lost: 4,
            unattributed: 4,
            ..LossTotals::default()
        });
        assert_eq!((loss.totals().lost, loss.totals().unattributed), (4, 4));
    }

    #[test]
    fn an_outage_that_is_told_late_counts_once() {
        let mut loss = SettledLoss::default();
        for tick in 1..=60 {
            loss.tick(&totals(10 * tick, 0));
        }
        for _ in 0..2 * SETTLE_TICKS {
            loss.tick(&totals(0, 600));
            let now = loss.totals();
            assert_eq!(now.lost, 600);
            assert_eq!(now.forward + now.unattributed, 600);
        }
        // What had not settled yet goes to its place, and so does all that comes.
        assert_eq!(loss.totals().forward, 90);
        loss.tick(&totals(0, 605));
        assert_eq!((loss.totals().lost, loss.totals().forward), (605, 95));
        // Nor does it take what is lost elsewhere afterwards.
        let mut now = totals(0, 605);
        (now.lost, now.reverse) = (612, 7);
        loss.tick(&now);
        assert_eq!((loss.totals().forward, loss.totals().reverse), (95, 7));
    }

    #[test]
    fn every_loss_counts_once_however_it_is_told() {
        for seed in 1..=200_u64 {
            let mut state = seed;
            let mut random = |below: u64| {
                // xorshift64: any sequence does that differs by seed.
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state % below
            };
            let mut loss = SettledLoss::default();
            let mut now = LossTotals {
                directed: true,
                ..LossTotals::default()
            };
            let mut before = LossTotals::default();
            for step in 0..300 {
                if step < 280 && random(3) > 0 {
                    let lost = random(20);
                    now.lost += lost;
                    now.unattributed += lost;
                }
                // A report tells some of it; the last one tells all.
                if step == 280 || random(15) == 0 {
                    let told = match step {
                        280 => now.unattributed,
                        _ => random(now.unattributed + 1),
                    };
                    let forward = random(told + 1);
                    let reverse = random(told - forward + 1);
                    now.unattributed -= told;
                    now.forward += forward;
                    now.reverse += reverse;
                    now.local += told - forward - reverse;
                }
                loss.tick(&now);
                let counted = loss.totals();
                let places = |of: &LossTotals| [of.forward, of.reverse, of.local, of.unattributed];
                let (old, new) = (places(&before), places(&counted));
                assert!(old.iter().zip(&new).all(|(old, new)| old <= new));
                assert_eq!(new.iter().sum::<u64>(), counted.lost);
                assert!(counted.lost <= now.lost, "seed {seed} step {step}");
                if now.unattributed == 0 {
                    assert_eq!(counted.lost, now.lost, "seed {seed} step {step}");
                }
                before = counted;
            }
        }
    }

    #[test]
    fn no_place_ever_falls() {
        let mut loss = SettledLoss::default();
        let mut before = LossTotals::default();
        for step in 0..200_u64 {
            loss.tick(&totals(step * 7 % 5, step * 3 % 11));
            let now = loss.totals();
            assert!(now.forward >= before.forward && now.unattributed >= before.unattributed);
            assert!(now.lost >= before.lost);
            before = now;
        }
    }
}
