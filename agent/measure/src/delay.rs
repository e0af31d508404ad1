//! From four stamps to delays, or to the reason why there is none.

use base::{Counter, Stamp};

/// What four (or two) stamps of one probe say.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Delays {
    /// T4 - T1.
    pub round_trip_ns: i64,
    /// T3 - T2, `None` where the protocol has none.
    pub dwell_ns: Option<i64>,
    /// T2 - T1; contains the offset between the clocks.
    pub forward_ns: Option<i64>,
    /// T4 - T3; contains the offset between the clocks, with the other sign.
    pub reverse_ns: Option<i64>,
}

impl Delays {
    /// The network's time: (T4 - T1) - (T3 - T2), free of both clocks' offsets.
    #[must_use]
    pub fn rtt_ns(&self) -> i64 {
        self.round_trip_ns - self.dwell_ns.unwrap_or(0)
    }
}

/// Delays of one probe, or the counter of the reason why it gives none.
///
/// # Errors
/// T1 and T4 of different clocks or in the wrong order; T3 before T2; a dwell longer than
/// the whole round trip (a clock step at the reflector, which shows nowhere else).
pub fn delays(t1: Stamp, t4: Stamp, reflector: Option<(Stamp, Stamp)>) -> Result<Delays, Counter> {
    if !t1.source.same_clock(t4.source) {
        return Err(Counter::DiscardedMixedClocks);
    }
    let round_trip_ns = t4.at.delta(t1.at);
    if round_trip_ns < 0 {
        return Err(Counter::DiscardedMixedClocks);
    }
    let Some((t2, t3)) = reflector else {
        return Ok(Delays {
            round_trip_ns,
            dwell_ns: None,
            forward_ns: None,
            reverse_ns: None,
        });
    };
    let dwell_ns = t3.at.delta(t2.at);
    if dwell_ns < 0 {
        return Err(Counter::DiscardedNegativeDwell);
    }
    if dwell_ns > round_trip_ns {
        return Err(Counter::DiscardedExcessiveDwell);
    }
    Ok(Delays {
        round_trip_ns,
        dwell_ns: Some(dwell_ns),
        forward_ns: Some(t2.at.delta(t1.at)),
        reverse_ns: Some(t4.at.delta(t3.at)),
    })
}

#[cfg(test)]
mod tests {
    use base::{StampSource, WallNanos};

    use super::*;

    fn at(ns: u64) -> Stamp {
        Stamp {
            at: WallNanos(1_700_000_000_000_000_000 + ns),
            source: StampSource::Kernel,
        }
    }

    #[test]
    fn rtt_is_free_of_the_offset_between_the_clocks() {
        for offset in [0, 5_000_000, 900_000_000_000] {
            let (t2, t3) = (at(100 + offset), at(130 + offset));
            let delays = delays(at(0), at(200), Some((t2, t3))).expect("valid");
            assert_eq!(delays.rtt_ns(), 170);
            assert_eq!(delays.round_trip_ns, 200);
            let both = delays.forward_ns.expect("four stamps") + delays.reverse_ns.expect("four");
            assert_eq!(both, delays.rtt_ns());
        }
    }

    #[test]
    fn impossible_stamps_are_refused_with_their_reason() {
        let hardware = Stamp {
            source: StampSource::Hardware,
            ..at(200)
        };
        assert_eq!(
            delays(at(0), hardware, None),
            Err(Counter::DiscardedMixedClocks)
        );
        assert_eq!(
            delays(at(9), at(8), None),
            Err(Counter::DiscardedMixedClocks)
        );
        let reflector = |t2, t3| delays(at(0), at(200), Some((at(t2), at(t3))));
        assert_eq!(reflector(50, 49), Err(Counter::DiscardedNegativeDwell));
        assert_eq!(reflector(50, 251), Err(Counter::DiscardedExcessiveDwell));
        assert!(reflector(50, 250).is_ok());
    }
}
