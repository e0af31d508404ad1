//! Loss by place as counters that never fall.
//!
//! A session moves a lost probe from `unattributed` to a direction when the reflector's
//! next report tells (about a second later), so its totals are no counters: Prometheus
//! would take the fall for a restart. Here a loss counts as unattributed only when it
//! stayed so for [`SETTLE_TICKS`]; places that are told are counted at once.

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
        settled.local = settled.local.max(now.local);
        settled.forward = settled.forward.max(now.forward);
        settled.reverse = settled.reverse.max(now.reverse);
        settled.unattributed = settled.unattributed.max(unattributed);
        settled.lost = settled.local + settled.forward + settled.reverse + settled.unattributed;
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
