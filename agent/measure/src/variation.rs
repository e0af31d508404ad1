//! Delay variation per direction; none of it needs synchronised clocks.

/// Interarrival jitter, RFC 3550 section 6.4.1: `J = J + (|D(i-1,i)| - J)/16`.
#[derive(Copy, Clone, Debug, Default)]
pub struct Jitter {
    previous_ns: Option<i64>,
    jitter_ns: Option<f64>,
}

impl Jitter {
    /// Takes the one-way delay of the next packet in order of arrival.
    #[expect(clippy::cast_precision_loss, reason = "differences below 2^53 ns")]
    pub fn add(&mut self, delay_ns: i64) {
        if let Some(previous) = self.previous_ns.replace(delay_ns) {
            let difference = (delay_ns.wrapping_sub(previous)).unsigned_abs() as f64;
            let jitter = self.jitter_ns.unwrap_or(0.0);
            self.jitter_ns = Some(jitter + (difference - jitter) / 16.0);
        }
    }

    /// The present estimate, `None` before two packets.
    #[must_use]
    pub const fn ns(&self) -> Option<f64> {
        self.jitter_ns
    }

    /// Forgets the last delay, after a clock step; the estimate stays.
    pub const fn break_chain(&mut self) {
        self.previous_ns = None;
    }
}

/// Packet delay variation, RFC 5481 section 4.2: `PDV(i) = D(i) - D(min)`, over evaluation
/// intervals of [`EVALUATION_PACKETS`] answered probes. Short intervals keep the drift
/// between free-running clocks out of it.
#[derive(Clone, Debug)]
pub struct Pdv {
    delays_ns: [i64; EVALUATION_PACKETS],
    len: usize,
}

/// Answered probes per evaluation interval.
pub const EVALUATION_PACKETS: usize = 100;

impl Default for Pdv {
    fn default() -> Self {
        Self {
            delays_ns: [0; EVALUATION_PACKETS],
            len: 0,
        }
    }
}

impl Pdv {
    /// Takes a delay; when the interval is full its variations go to `out`.
    pub fn add(&mut self, delay_ns: i64, out: impl FnMut(i64)) {
        self.delays_ns[self.len] = delay_ns;
        self.len += 1;
        if self.len == EVALUATION_PACKETS {
            self.evaluate(out);
        }
    }

    /// Ends the interval early, at the end of a run or at a clock step. One packet alone
    /// has no variation and is dropped.
    pub fn evaluate(&mut self, mut out: impl FnMut(i64)) {
        let delays = &self.delays_ns[..self.len];
        if let (Some(min), true) = (delays.iter().min(), delays.len() > 1) {
            for delay in delays {
                out(delay.saturating_sub(*min));
            }
        }
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_follows_the_formula() {
        let mut jitter = Jitter::default();
        assert_eq!(jitter.ns(), None);
        jitter.add(1_000);
        assert_eq!(jitter.ns(), None, "one packet has no jitter");
        jitter.break_chain();
        for delay in [1_000, 1_160, 1_000] {
            jitter.add(delay);
        }
        // By hand: 160/16 = 10, then 10 + (160 - 10)/16.
        assert!((jitter.ns().expect("three packets") - 19.375).abs() < 1e-9);
        jitter.break_chain();
        assert!(jitter.ns().is_some(), "the estimate stays");
        jitter.add(9_000_000);
        assert!((jitter.ns().expect("three packets") - 19.375).abs() < 1e-9);
    }

    #[test]
    fn pdv_is_the_distance_from_the_smallest_of_its_interval() {
        let mut pdv = Pdv::default();
        let mut seen = Vec::new();
        for n in 0..EVALUATION_PACKETS as i64 {
            pdv.add(-500 + (n * 7) % 50, |v| seen.push(v));
        }
        assert_eq!(seen.len(), EVALUATION_PACKETS);
        assert_eq!(seen.iter().min(), Some(&0));
        assert_eq!(seen[3], 21);
        // The next interval has its own minimum, and a lone packet none.
        pdv.add(9_000, |v| seen.push(v));
        pdv.evaluate(|_| panic!("a lone packet has no variation"));
    }
}
