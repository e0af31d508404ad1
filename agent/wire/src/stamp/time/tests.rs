use proptest::prelude::*;

use super::*;

use TimestampFormat::{Ntp, Ptp};

/// NTP era 1 begins (RFC 5905 figure 4): 2036-02-07 06:28:16 UTC.
const ERA_1: u64 = 2_085_978_496;

#[test]
fn ntp_of_known_instants() {
    // RFC 5905 figure 4: date, era, era offset.
    for (unix, offset) in [
        (0, 2_208_988_800_u32),                       // 1970-01-01
        (63_072_000, 2_272_060_800),                  // 1972-01-01
        (946_598_400, 3_155_587_200),                 // 1999-12-31
        (ERA_1 - 86_400 + 63_104, u32::MAX - 23_295), // on the last day of era 0
        (ERA_1, 0),
        (ERA_1 + 63_104, 63_104), // 2036-02-08
    ] {
        let at = WallNanos(unix * NANOS + 500_000_000);
        let stamp = Timestamp::encode(at, Ntp, 0);
        assert_eq!(stamp.0[..4], offset.to_be_bytes(), "{unix}");
        assert_eq!(stamp.0[4..], [0x80, 0, 0, 0]);
        assert_eq!(stamp.decode(Ntp, 0, at), at);
    }
}

#[test]
fn both_sides_of_2036() {
    // Each packet is seen by a peer whose clock is in the same or in the other era.
    for sent in [
        ERA_1 * NANOS - 1,
        ERA_1 * NANOS,
        ERA_1 * NANOS + 1,
        (ERA_1 - 60) * NANOS,
        (ERA_1 + 60) * NANOS,
    ] {
        for near in [ERA_1 - 100, ERA_1 - 1, ERA_1, ERA_1 + 100] {
            let stamp = Timestamp::encode(WallNanos(sent), Ntp, 0);
            let near = WallNanos(near * NANOS);
            assert_eq!(stamp.decode(Ntp, 0, near), WallNanos(sent));
        }
    }
    // The last instant of era 0 is all ones but for the rounding of a nanosecond.
    let last = Timestamp::encode(WallNanos(ERA_1 * NANOS - 1), Ntp, 0);
    assert_eq!(last.0, 0xffff_ffff_ffff_fffc_u64.to_be_bytes());
    // All ones rounds up to the turn: the seconds carry.
    let turn = Timestamp([0xff; 8]).decode(Ntp, 0, WallNanos(ERA_1 * NANOS));
    assert_eq!(turn, WallNanos(ERA_1 * NANOS));
}

#[test]
fn ptp_is_tai_and_nanoseconds() {
    let at = WallNanos(1_800_000_000 * NANOS + 123_456_789);
    let stamp = Timestamp::encode(at, Ptp, 37);
    assert_eq!(stamp.0[..4], 1_800_000_037_u32.to_be_bytes());
    assert_eq!(stamp.0[4..], 123_456_789_u32.to_be_bytes());
    assert_eq!(stamp.decode(Ptp, 37, at), at);
    // A peer whose kernel does not know the offset sends UTC.
    assert_eq!(Timestamp::encode(at, Ptp, 0).decode(Ptp, 0, at), at);
    // 2106-02-07 06:28:15 UTC is PTP's own turn.
    let late = WallNanos((1 << 32) * NANOS + 5);
    let stamp = Timestamp::encode(late, Ptp, 37);
    assert_eq!(stamp.decode(Ptp, 37, late.offset(-1_000_000_000_000)), late);
}

#[test]
fn hostile_timestamps_saturate() {
    // 100 s before 1970, which has no `WallNanos`.
    let [a, b, c, d] = 2_208_988_700_u32.to_be_bytes();
    let early = Timestamp([a, b, c, d, 0, 0, 0, 0]);
    assert_eq!(early.decode(Ntp, 0, WallNanos(0)), WallNanos(0));
    // All zeros, from a clock that was never set, is 1900 or 2036: the nearer one.
    let unset = Timestamp([0; 8]).decode(Ntp, 0, WallNanos(1_800_000_000 * NANOS));
    assert_eq!(unset, WallNanos(ERA_1 * NANOS));
    for near in [0, u64::MAX] {
        for offset in [i32::MIN, 0, i32::MAX] {
            for octets in [[0; 8], [0xff; 8]] {
                for format in [Ntp, Ptp] {
                    let _ = Timestamp(octets).decode(format, offset, WallNanos(near));
                    let _ = Timestamp::encode(WallNanos(near), format, offset);
                }
            }
        }
    }
}

#[test]
fn error_estimate_examples() {
    // stamp.md section 4.
    for (error_ns, scale, multiplier) in [
        (1_000, 5, 135),
        (100_000, 11, 210),
        (0, 0, 1),
        // 255 units of 2^-32 s are 59.37 ns, the largest of Scale 0.
        (59, 0, 254),
        (60, 1, 129),
        // 16 s, what an unsynchronised kernel says: 128 x 2^(29 - 32) s.
        (16 * NANOS, 29, 128),
    ] {
        for (synchronised, format, bits) in [
            (false, Ntp, 0x0000),
            (true, Ntp, 0x8000),
            (false, Ptp, 0x4000),
            (true, Ptp, 0xc000),
        ] {
            let estimate = ErrorEstimate::new(synchronised, format, error_ns);
            assert_eq!(
                (estimate.scale(), estimate.multiplier()),
                (scale, multiplier),
                "{error_ns}"
            );
            assert_eq!(estimate.0 & 0xc000, bits);
            assert_eq!(estimate.synchronised(), synchronised);
            assert_eq!(estimate.format(), format);
        }
    }
    // 135 x 2^-27 s, and twampy's 0x3fff: scale 63, multiplier 255.
    assert_eq!(ErrorEstimate(0x0587).error_ns(), Some(1_006));
    assert_eq!(ErrorEstimate(0x3fff).error_ns(), Some(u64::MAX));
    assert_eq!(ErrorEstimate(0x0001).error_ns(), Some(1));
}

#[test]
fn all_error_estimates() {
    for bits in 0..=u16::MAX {
        let estimate = ErrorEstimate(bits);
        assert_eq!(estimate.synchronised(), bits >> 15 == 1);
        assert_eq!(estimate.format() == Ptp, bits >> 14 & 1 == 1);
        let [high, multiplier] = bits.to_be_bytes();
        let Some(error_ns) = estimate.error_ns() else {
            assert_eq!(multiplier, 0);
            continue;
        };
        assert_ne!(multiplier, 0);
        // Independent: floating point. Doubles hold the product but for one rounding.
        let seconds = f64::from(multiplier) * 2f64.powi(i32::from(high & 0x3f) - 32);
        let expected = (seconds * 1e9).ceil();
        #[expect(clippy::cast_precision_loss, reason = "a comparison to 1 in 10^12")]
        let got = error_ns as f64;
        let expected = expected.min(18_446_744_073_709_551_615.0);
        assert!(
            (got - expected).abs() <= expected * 1e-12,
            "{bits:#06x}: {got} {expected}"
        );
    }
}

proptest! {
    #[test]
    fn nanoseconds_survive_the_wire(at: u64, skew in -2_147_000_000_000_000_000_i64..=2_147_000_000_000_000_000, tai in -100..100) {
        // Up to 68 years apart: half of 2^32 seconds.
        let at = WallNanos(at.clamp(1 << 61, u64::MAX - (1 << 61)));
        for format in [Ntp, Ptp] {
            let stamp = Timestamp::encode(at, format, tai);
            prop_assert_eq!(stamp.decode(format, tai, at.offset(skew)), at);
        }
    }

    #[test]
    fn the_wire_survives_nanoseconds(seconds: u32, fraction: u32) {
        // `near` in the middle of an era, so that any stamp is of one era for sure.
        let near = WallNanos(2_200_000_000 * NANOS);
        let octets = ((u64::from(seconds) << 32) | u64::from(fraction)).to_be_bytes();
        let again = Timestamp::encode(Timestamp(octets).decode(Ntp, 0, near), Ntp, 0);
        // Half a nanosecond is 2.15 of NTP's units, and then one rounding more.
        let off = u64::from_be_bytes(again.0).wrapping_sub(u64::from_be_bytes(octets));
        prop_assert!(off.cast_signed().abs() <= 3, "{off}");
        // What a rounded stamp says stays as it is for good.
        let more = Timestamp::encode(again.decode(Ntp, 0, near), Ntp, 0);
        prop_assert_eq!(more, again);

        let octets = ((u64::from(seconds) << 32) | (u64::from(fraction) % NANOS)).to_be_bytes();
        let again = Timestamp::encode(Timestamp(octets).decode(Ptp, 37, near), Ptp, 37);
        prop_assert_eq!(again.0, octets);
    }

    #[test]
    fn estimates_are_never_too_good(error_ns: u64, shift in 0..64) {
        let error_ns = error_ns >> shift;
        let estimate = ErrorEstimate::new(true, Ntp, error_ns);
        let said = estimate.error_ns().expect("a multiplier");
        prop_assert!(said >= error_ns);
        // The smallest Scale leaves at least 128 steps, one nanosecond of rounding aside.
        prop_assert!(said - error_ns <= error_ns / 127 + 1, "{error_ns} -> {said}");
    }

    #[test]
    fn decode_never_panics(octets: [u8; 8], tai: i32, near: u64) {
        for format in [Ntp, Ptp] {
            let _ = Timestamp(octets).decode(format, tai, WallNanos(near));
            let _ = Timestamp::encode(WallNanos(near), format, tai);
        }
    }
}
