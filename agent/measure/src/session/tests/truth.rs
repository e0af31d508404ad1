//! What the path really did, and what must hold of every run.

use std::collections::{HashMap, HashSet};

use base::{Counter, Quantity, Verdict};

use super::world::{Script, World};

impl World {
    /// Counted probes that never reached the reflector, and those that did and whose reply
    /// never came.
    pub(super) fn truly_lost(&self) -> (u64, u64) {
        let senders = |list: &[(u64, u32)]| -> HashSet<u32> {
            list.iter().map(|(_, sender)| *sender).collect()
        };
        let answered = senders(&self.truth.reply_order);
        let arrived = senders(&self.truth.arrivals);
        let forward = self.counted.len() - arrived.len() - self.dropped_here.len();
        (forward as u64, arrived.difference(&answered).count() as u64)
    }

    /// Replies of doubled probes whose other copy was delivered, or both lost but one.
    pub(super) fn hidden_duplicates(&self) -> u64 {
        let mut by_probe: HashMap<u32, (u64, u64)> = HashMap::new();
        for (number, sender) in &self.truth.arrivals {
            let entry = by_probe.entry(*sender).or_default();
            entry.0 += 1;
            entry.1 += u64::from(self.truth.delivered.contains(number));
        }
        by_probe
            .values()
            .map(|(arrived, delivered)| (arrived - 1).min(arrived - delivered))
            .sum()
    }

    /// What holds at the end of every run.
    pub(super) fn check_sums(&self) {
        assert_eq!(self.count(Counter::Sent), self.decided());
        assert_eq!(self.count(Counter::Sent), self.counted.len() as u64);
        let loss = self.loss;
        assert_eq!(
            loss.lost,
            loss.local + loss.forward + loss.reverse + loss.unattributed
        );
        assert_eq!(loss.lost, self.count(Counter::Lost));
        for totals in &self.losses {
            assert!(totals.lost <= loss.lost, "never a negative, never billions");
            assert!(totals.forward <= totals.lost && totals.reverse <= totals.lost);
        }
        let mut verdicts: HashMap<u32, u64> = HashMap::new();
        for result in &self.results {
            if !matches!(result.verdict, Verdict::Late | Verdict::Duplicate) {
                *verdicts.entry(result.sequence).or_default() += 1;
            }
        }
        assert!(verdicts.values().all(|n| *n == 1), "one verdict per probe");
        let decided: HashSet<u32> = verdicts.into_keys().collect();
        assert_eq!(decided, self.counted);
        assert_eq!(
            self.sampled(Quantity::Rtt).len() as u64,
            self.count(Counter::Received)
        );
        let runs: i64 = self.sampled(Quantity::LossRun).iter().sum();
        assert_eq!(
            runs.cast_unsigned(),
            self.count(Counter::Lost),
            "runs of loss"
        );
    }
}

/// RFC 4737 section 3.3: items below the highest before them; repeated ones are no items.
pub(super) fn reordered(items: impl Iterator<Item = u64>) -> u64 {
    let (mut next, mut seen, mut count) = (0u64, HashSet::new(), 0);
    for item in items {
        if !seen.insert(item) {
            continue;
        }
        if item < next {
            count += 1;
        } else {
            next = item + 1;
        }
    }
    count
}

/// Loses what the list of (first, past the last) probes says, by nth counted packet.
pub(super) fn lose(ranges: &'static [(u32, u32)]) -> Script {
    Box::new(move |packet| {
        let hit = |(from, to): &(u32, u32)| (*from..*to).contains(&packet.sequence);
        (packet.counted && ranges.iter().any(hit)).then(Vec::new)
    })
}
