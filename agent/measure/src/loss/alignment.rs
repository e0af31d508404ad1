//! Loss by direction from the sequence numbers of a plain stateful reflector (RFC 8762).
//!
//! The reflector numbers its replies, so a number that never came is a reply lost on the
//! way back: of a probe that we count as lost (reverse loss), or of a second copy of a
//! probe that was doubled on the way out and whose other reply did come (a hidden
//! duplicate). Packets do not say which. Each gap is therefore laid beside the lost probes
//! that it could belong to by order; a gap that fits none, by more than the reordering seen
//! on this path, must be a hidden duplicate. As many losses as there are such gaps, and as
//! are more likely than not to hide among the others, stay unattributed, and the rest is
//! most likely exact to within that number.

use std::collections::VecDeque;

/// Distances above this all count as one.
const MAX_DISTANCE: usize = 64;
/// Runs of lost probes that may wait for a gap; the oldest are given up as forward loss.
const MAX_RUNS: usize = 1024;

/// Consecutive lost probes that no gap explains yet.
#[derive(Copy, Clone, Debug)]
struct LostRun {
    first: u64,
    end: u64,
    counted: bool,
}

/// Estimates of loss per direction; the three add up to the lost probes taken in.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Split {
    /// Lost before the reflector.
    pub forward: u64,
    /// Lost after the reflector.
    pub reverse: u64,
    /// One or the other.
    pub unattributed: u64,
}

/// Lays the reflector's gaps beside lost probes.
#[derive(Clone, Debug)]
pub struct Alignment {
    /// Highest probe answered so far, in the reflector's order.
    highest: u64,
    /// Gaps since the highest probe last rose.
    gaps: u64,
    /// Lost probes that no gap explains, oldest first.
    unexplained: VecDeque<LostRun>,
    /// How far a probe was overtaken at most, in probes.
    extent: u64,
    /// Answered probes that were overtaken, by how far.
    overtaken: [u64; MAX_DISTANCE + 1],
    answered: u64,
    duplicates: u64,
    lost: u64,
    /// Gaps between the probes that were lost there.
    explained: u64,
    /// Gaps that an uncounted probe explains as well as a counted one.
    ambiguous: u64,
    /// Gaps out of place that a probe still to come may explain, by the place they stood at:
    /// a probe whose reply was lost may have overtaken the one that came next.
    pending: VecDeque<u64>,
    /// Gaps out of place, by the distance to the lost probe that could explain them.
    misplaced: [u64; MAX_DISTANCE + 1],
}

/// Gaps that may wait for a probe to come.
const MAX_PENDING: usize = 64;

impl Alignment {
    /// Begins after the answered probe `base`.
    #[must_use]
    pub fn new(base: u64) -> Self {
        Self {
            highest: base,
            gaps: 0,
            unexplained: VecDeque::with_capacity(16),
            extent: 0,
            overtaken: [0; MAX_DISTANCE + 1],
            answered: 0,
            duplicates: 0,
            lost: 0,
            explained: 0,
            ambiguous: 0,
            pending: VecDeque::new(),
            misplaced: [0; MAX_DISTANCE + 1],
        }
    }

    /// Replies to probes that were doubled on the way out, both of which came.
    #[must_use]
    pub const fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// The next lost probe, in order of sending. Probes that never left this host do not
    /// belong here.
    pub fn lost(&mut self, probe: u64, counted: bool) {
        self.lost += u64::from(counted);
        if probe <= self.highest {
            return;
        }
        match self.unexplained.back_mut() {
            Some(run) if run.end == probe && run.counted == counted => run.end += 1,
            _ => {
                if self.unexplained.len() == MAX_RUNS {
                    self.unexplained.pop_front();
                }
                self.unexplained.push_back(LostRun {
                    first: probe,
                    end: probe + 1,
                    counted,
                });
            }
        }
    }

    /// The next answered probe, in the reflector's order, with the number of gaps before it.
    /// Every lost probe below it must have been named. Returns whether the reflector saw
    /// it after a later one (RFC 4737).
    pub fn answered(&mut self, gaps: u64, probe: u64, duplicate: bool) -> bool {
        self.gaps += gaps;
        if duplicate {
            self.duplicates += 1;
            return false;
        }
        self.answered += 1;
        if probe <= self.highest {
            let by = self.highest - probe;
            self.extent = self.extent.max(by);
            self.overtaken[usize::try_from(by)
                .unwrap_or(MAX_DISTANCE)
                .min(MAX_DISTANCE)] += 1;
            return true;
        }
        // A probe that was overtaken does not end the stretch: the gaps before it may
        // belong to those that overtook it.
        let gaps = std::mem::take(&mut self.gaps);
        if gaps > 0 {
            self.explain(gaps, probe);
        }
        if !self.pending.is_empty() {
            self.explain_pending(probe);
        }
        self.highest = probe;
        self.forget_far();
        false
    }

    /// How far out of order is plausible here: as far as was seen.
    fn reach(&self) -> u64 {
        self.extent.clamp(1, MAX_DISTANCE as u64 - 1)
    }

    /// Lost probes between the highest and `probe` that overtook the one before.
    fn explain_pending(&mut self, probe: u64) {
        while let Some(place) = self.pending.front().copied() {
            let ahead = |run: &LostRun| run.counted && run.end > place && run.first < probe;
            let candidate = self.unexplained.iter().position(ahead);
            if let Some(position) = candidate {
                let run = &mut self.unexplained[position];
                let nearest = run.first.max(place + 1);
                if nearest < run.end && nearest < probe && nearest - place <= self.extent.max(1) {
                    let distance = usize::try_from(nearest - place).unwrap_or(MAX_DISTANCE);
                    let rest = LostRun {
                        first: nearest + 1,
                        ..*run
                    };
                    run.end = nearest;
                    let empty = run.first == run.end;
                    if rest.first < rest.end {
                        self.unexplained.insert(position + 1, rest);
                    }
                    if empty {
                        self.unexplained.remove(position);
                    }
                    self.misplaced[distance.min(MAX_DISTANCE)] += 1;
                    self.pending.pop_front();
                    continue;
                }
            }
            // No probe this far ahead can have overtaken it.
            if probe.saturating_sub(place) > self.reach() + 1 || self.pending.len() > MAX_PENDING {
                self.misplaced[MAX_DISTANCE] += 1;
                self.pending.pop_front();
                continue;
            }
            break;
        }
    }

    fn explain(&mut self, gaps: u64, probe: u64) {
        let lost_here = |run: &&LostRun| run.first > self.highest && run.first < probe;
        let count = |counted| -> u64 {
            self.unexplained
                .iter()
                .filter(lost_here)
                .filter(|run| run.counted == counted)
                .map(|run| run.end.min(probe) - run.first)
                .sum()
        };
        let (counted, uncounted) = (count(true), count(false));
        let certain = gaps.saturating_sub(uncounted).min(counted);
        let ambiguous = gaps.min(counted) - certain;
        self.explained += certain;
        self.ambiguous += ambiguous;
        self.take_newest(certain + ambiguous, probe);
        let others = gaps.saturating_sub(counted + uncounted);
        // A reflector may jump as far as it likes; only so many gaps are looked at one by one.
        let near = others.min(MAX_PENDING as u64);
        self.misplaced[MAX_DISTANCE] += others - near;
        for _ in 0..near {
            match self.take_older() {
                Some(distance) => self.misplaced[distance] += 1,
                None => self.pending.push_back(probe),
            }
        }
    }

    /// Marks this many of the counted lost probes right before `probe` as explained.
    fn take_newest(&mut self, mut count: u64, probe: u64) {
        let mut position = self.unexplained.len();
        while count > 0 && position > 0 {
            position -= 1;
            let run = &mut self.unexplained[position];
            if !run.counted || run.first > probe {
                continue;
            }
            let taken = count.min(run.end - run.first);
            run.end -= taken;
            count -= taken;
            if run.first == run.end {
                self.unexplained.remove(position);
            }
        }
    }

    /// Takes the nearest unexplained probe that may have been overtaken, and says how far;
    /// `None` when none is within reach.
    fn take_older(&mut self) -> Option<usize> {
        let highest = self.highest;
        let older = |run: &LostRun| run.counted && run.first < highest;
        let position = self.unexplained.iter().rposition(older)?;
        let reach = self.reach();
        let run = &mut self.unexplained[position];
        let nearest = run.end.min(highest) - 1;
        if highest - nearest > reach {
            return None;
        }
        run.end = nearest;
        if run.first == run.end {
            self.unexplained.remove(position);
        }
        usize::try_from(highest - nearest).ok()
    }

    fn forget_far(&mut self) {
        let horizon = self.highest.saturating_sub(MAX_DISTANCE as u64);
        while self
            .unexplained
            .front()
            .is_some_and(|run| run.end <= horizon)
        {
            self.unexplained.pop_front();
        }
    }

    /// The split of the lost probes named so far.
    #[must_use]
    pub fn split(&self) -> Split {
        let reach = usize::try_from(self.reach()).unwrap_or(MAX_DISTANCE - 1);
        let out_of_order: u64 = self.misplaced[..=reach].iter().sum();
        let misplaced = self.misplaced.iter().sum::<u64>() + self.pending.len() as u64;
        // Without a duplicate to be seen, a gap out of place is a lost reply out of order.
        let hidden = if self.duplicates > 0 {
            misplaced - out_of_order
        } else {
            0
        };
        let gaps = self.explained + misplaced;
        let (admitted, guess) = admit(hidden, self.disguised(reach, gaps - hidden));
        let unattributed = (admitted + self.ambiguous).min(self.lost);
        let reverse = gaps
            .saturating_sub(admitted + guess)
            .min(self.lost - unattributed);
        Split {
            forward: self.lost - unattributed - reverse,
            reverse,
            unattributed,
        }
    }

    /// How many hidden duplicates are to be expected among the gaps that a lost probe seems
    /// to explain: the odds of a duplicate beside a forward loss against those of a lost
    /// reply at that place, by what was seen of each.
    #[expect(clippy::cast_precision_loss, reason = "counts of probes")]
    fn disguised(&self, reach: usize, reverse: u64) -> f64 {
        let probes = (self.answered + self.lost).max(1) as f64;
        let forward_ratio = self.lost.saturating_sub(reverse) as f64 / probes;
        // Either reply of a doubled probe may be the one that was lost.
        let beside_a_loss = 2.0 * self.duplicates as f64 * forward_ratio;
        let out_of_order: f64 = (1..=reach)
            .map(|by| {
                let odds = beside_a_loss / (beside_a_loss + self.overtaken[by] as f64).max(1e-9);
                self.misplaced[by] as f64 * odds
            })
            .sum();
        let in_place = self.explained as f64 * beside_a_loss / probes;
        out_of_order + in_place
    }
}

/// What to leave unattributed, and how many hidden duplicates to assume, when `seen` of them
/// showed themselves and `expected` more are likely to look like lost replies (a Poisson
/// variable X). With u unattributed and a guess of g, forward loss is off by seen + X - g:
/// u must be no less than that, and yet no more than the hidden duplicates there are.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a few duplicates, not negative"
)]
fn admit(seen: u64, expected: f64) -> (u64, u64) {
    // Both hold for X in k..=2 seen + 3 k, if k more than seen are left unattributed.
    let odds = |k: u64| at_most(2 * seen + 3 * k, expected) - at_most_below(k, expected);
    let more = (0..=4).fold(0, |best, k| if odds(k) > odds(best) { k } else { best });
    let admitted = seen + more;
    // As near to what is expected as can be without leaving out what is likely.
    let likely = (0..32).find(|n| at_most(*n, expected) > 0.99).unwrap_or(32);
    let guess = (seen + expected.round() as u64).max(likely.saturating_sub(more));
    (admitted, guess.min(2 * admitted))
}

/// P(X <= n) of a Poisson variable.
#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn at_most(n: u64, mean: f64) -> f64 {
    let (mut term, mut sum) = ((-mean).exp(), 0.0);
    for k in 0..=n.min(1_000) {
        sum += term;
        term *= mean / (k + 1) as f64;
    }
    sum
}

fn at_most_below(n: u64, mean: f64) -> f64 {
    n.checked_sub(1).map_or(0.0, |n| at_most(n, mean))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays probes in the reflector's order: `Some(n)` answered, `None` a gap.
    fn play(lost: &[u64], order: &[Option<u64>]) -> Alignment {
        let mut alignment = Alignment::new(0);
        let mut lost = lost.iter().copied().peekable();
        let (mut gaps, mut seen) = (0, std::collections::HashSet::new());
        for item in order {
            let Some(probe) = item else {
                gaps += 1;
                continue;
            };
            while let Some(n) = lost.next_if(|n| n < probe) {
                alignment.lost(n, true);
            }
            alignment.answered(std::mem::take(&mut gaps), *probe, !seen.insert(*probe));
        }
        alignment
    }

    fn split(forward: u64, reverse: u64, unattributed: u64) -> Split {
        Split {
            forward,
            reverse,
            unattributed,
        }
    }

    #[test]
    fn without_duplicates_every_gap_is_a_reverse_loss() {
        // 2 lost forward, 4 lost in reverse.
        let alignment = play(&[2, 4], &[Some(1), Some(3), None, Some(5)]);
        assert_eq!(alignment.split(), split(1, 1, 0));
    }

    #[test]
    fn a_reordered_probe_whose_reply_was_lost_is_no_duplicate() {
        // 3 overtaken by 4 (seen), later 7 by 8, whose reply is lost.
        let order = [1, 2, 4, 3, 5, 6, 8].map(Some);
        let mut order = order.to_vec();
        order.extend([None, Some(9)]);
        let alignment = play(&[7], &order);
        assert_eq!(alignment.split(), split(0, 1, 0));
        // The same when the gap stands right before the overtaken probe: 8 was lost.
        let alignment = play(&[8], &[Some(6), None, Some(7), Some(9)]);
        assert_eq!(alignment.split(), split(0, 1, 0));
    }

    #[test]
    fn a_hidden_duplicate_leaves_one_loss_unattributed() {
        // 1 doubled and seen so; 5 doubled, its second reply lost; 3 lost forward.
        let order = [Some(1), Some(1), Some(2), Some(4), Some(5), None, Some(6)];
        let alignment = play(&[3], &order);
        assert_eq!(alignment.duplicates(), 1);
        assert_eq!(alignment.split(), split(0, 0, 1));
    }

    #[test]
    fn an_unanswered_closing_probe_makes_the_tail_ambiguous() {
        let mut alignment = Alignment::new(0);
        alignment.lost(2, true);
        alignment.lost(3, false);
        alignment.answered(0, 1, false);
        alignment.answered(1, 4, false);
        assert_eq!(alignment.split(), split(0, 0, 1));
    }

    #[test]
    fn what_is_admitted_is_the_best_bet() {
        // By trying every pair, with the probabilities of 0, 1, 2, ... added up one by one.
        for seen in 0..8u64 {
            for tenths in 0..40 {
                let mean = f64::from(tenths) / 10.0;
                let holds = |admitted: u64, guess: u64| -> f64 {
                    let (mut term, mut sum) = ((-mean).exp(), 0.0);
                    for extra in 0..60u64 {
                        let hidden = seen + extra;
                        if hidden.abs_diff(guess) <= admitted && admitted <= hidden {
                            sum += term;
                        }
                        term *= mean / (extra as f64 + 1.0);
                    }
                    sum
                };
                let (admitted, guess) = admit(seen, mean);
                let best = (0..20)
                    .flat_map(|admitted| (0..40).map(move |guess| (admitted, guess)))
                    .map(|(admitted, guess)| holds(admitted, guess))
                    .fold(0.0, f64::max);
                assert!(
                    holds(admitted, guess) > best - 0.011,
                    "{seen} {mean}: {admitted} {guess}"
                );
            }
        }
        assert_eq!(
            admit(0, 0.0),
            (0, 0),
            "without duplicates nothing is in doubt"
        );
    }

    #[test]
    fn the_parts_always_add_up() {
        let mut random = crate::random::Random::new(5);
        for _ in 0..2_000 {
            let mut alignment = Alignment::new(0);
            let mut lost = 0;
            let mut probe = 1;
            for _ in 0..60 {
                match random.below(4) {
                    0 => {
                        alignment.lost(probe, true);
                        lost += 1;
                        probe += 1;
                    }
                    1 => {
                        alignment.answered(
                            random.below(3),
                            probe.saturating_sub(random.below(4)),
                            true,
                        );
                    }
                    _ => {
                        alignment.answered(random.below(3), probe, false);
                        probe += 1;
                    }
                }
            }
            let split = alignment.split();
            assert_eq!(split.forward + split.reverse + split.unattributed, lost);
        }
    }
}
