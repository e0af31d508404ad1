//! Timestamps and the Error Estimate of STAMP, TWAMP and OWAMP.
//!
//! NTP: seconds since 1900 and a binary fraction (RFC 5905 section 6). PTP truncated:
//! seconds since 1970, TAI, and nanoseconds (RFC 8186 section 2.1). Both count seconds in
//! 32 bits and so need to be told about when they are: the era nearest to a given time is
//! taken, which is right on both sides of 2036-02-07 (NTP) and 2106-02-07 (PTP).

use base::WallNanos;

const NANOS: u64 = 1_000_000_000;
/// Seconds from 1900-01-01 to 1970-01-01 (RFC 5905, figure 4).
const NTP_UNIX: i64 = 2_208_988_800;

/// How the eight octets of a timestamp are read: the Z bit of the Error Estimate that
/// covers it (RFC 8186 section 2.3). The sides of a session may use different ones.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum TimestampFormat {
    /// NTP 64-bit, what every node must support.
    #[default]
    Ntp,
    /// IEEE 1588v2 truncated.
    Ptp,
}

/// A timestamp as it is on the wire.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Timestamp(pub [u8; 8]);

impl Timestamp {
    /// Nanoseconds to the wire. `tai_offset` is TAI - UTC in seconds and only used by PTP;
    /// pass 0 where the kernel does not know it, which sends UTC.
    ///
    /// Rounds to the nearest fraction, so [`Timestamp::decode`] gives exactly `at` back.
    #[must_use]
    pub fn encode(at: WallNanos, format: TimestampFormat, tai_offset: i32) -> Self {
        let seconds = (at.0 / NANOS).cast_signed();
        let nanos = at.0 % NANOS;
        let (seconds, low) = match format {
            // The largest, 999 999 999 ns, rounds to 2^32 - 4: no carry into the seconds.
            TimestampFormat::Ntp => (seconds + NTP_UNIX, ((nanos << 32) + NANOS / 2) / NANOS),
            TimestampFormat::Ptp => (seconds + i64::from(tai_offset), nanos),
        };
        // The upper half of the seconds is the era, which the wire does not carry.
        let [_, _, _, _, s0, s1, s2, s3] = seconds.to_be_bytes();
        let [_, _, _, _, f0, f1, f2, f3] = low.to_be_bytes();
        Self([s0, s1, s2, s3, f0, f1, f2, f3])
    }

    /// The wire to nanoseconds, in the era that is nearest to `near` (a local clock).
    ///
    /// NTP's fraction is finer than a nanosecond and is rounded to the nearest. A PTP
    /// nanoseconds field of more than a second, which only a broken peer sends, is added as
    /// it is. A time before 1970 becomes 0, one after 2554 the largest value.
    #[must_use]
    pub fn decode(self, format: TimestampFormat, tai_offset: i32, near: WallNanos) -> WallNanos {
        let [s0, s1, s2, s3, f0, f1, f2, f3] = self.0;
        let seconds = u32::from_be_bytes([s0, s1, s2, s3]);
        let low = u64::from(u32::from_be_bytes([f0, f1, f2, f3]));
        let (shift, nanos) = match format {
            TimestampFormat::Ntp => (NTP_UNIX, (low * NANOS + (1 << 31)) >> 32),
            TimestampFormat::Ptp => (i64::from(tai_offset), low),
        };
        let near = (near.0 / NANOS).cast_signed() + shift;
        // The signed 32-bit distance from `near` picks the era.
        #[expect(clippy::cast_possible_truncation, reason = "modulo 2^32 is the point")]
        let distance = seconds.wrapping_sub(near as u32).cast_signed();
        let seconds = i128::from(near + i64::from(distance) - shift);
        let at = seconds * i128::from(NANOS) + i128::from(nanos);
        WallNanos(u64::try_from(at.max(0)).unwrap_or(u64::MAX))
    }
}

/// The Error Estimate field: bit 15 S, bit 14 Z, six bits Scale, eight bits Multiplier;
/// the error is Multiplier x 2^(Scale - 32) seconds (RFC 4656 section 4.1.2).
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct ErrorEstimate(pub u16);

impl ErrorEstimate {
    const SYNCHRONISED: u16 = 0x8000;
    const PTP: u16 = 0x4000;

    /// The smallest estimate that is not below `error_ns`.
    #[must_use]
    pub fn new(synchronised: bool, format: TimestampFormat, error_ns: u64) -> Self {
        let units = u128::from(error_ns) << 32;
        let mut scale: u16 = 0;
        let mut unit_ns = u128::from(NANOS);
        // 2^64 ns are 9 x 2^31 s, so Scale 63 always suffices.
        while units > 255 * unit_ns && scale < 63 {
            scale += 1;
            unit_ns <<= 1;
        }
        // RFC 4656 §4.1.2: "Multiplier MUST NOT be set to zero".
        let multiplier = u16::try_from(units.div_ceil(unit_ns).clamp(1, 255)).unwrap_or(255);
        let s = if synchronised { Self::SYNCHRONISED } else { 0 };
        let z = match format {
            TimestampFormat::Ntp => 0,
            TimestampFormat::Ptp => Self::PTP,
        };
        Self(s | z | (scale << 8) | multiplier)
    }

    /// S: whether the clock is synchronised to UTC by an outside source.
    #[must_use]
    pub const fn synchronised(self) -> bool {
        self.0 & Self::SYNCHRONISED != 0
    }

    /// Z: the format of the timestamps that it covers.
    #[must_use]
    pub const fn format(self) -> TimestampFormat {
        if self.0 & Self::PTP == 0 {
            TimestampFormat::Ntp
        } else {
            TimestampFormat::Ptp
        }
    }

    /// Scale, 0 to 63.
    #[must_use]
    pub const fn scale(self) -> u8 {
        self.0.to_be_bytes()[0] & 0x3f
    }

    /// Multiplier; 0 is not allowed, but is seen.
    #[must_use]
    pub const fn multiplier(self) -> u8 {
        self.0.to_be_bytes()[1]
    }

    /// The error, rounded up; `None` with a Multiplier of 0, and then "the packet SHOULD be
    /// considered corrupt and discarded" (RFC 4656 section 4.1.2), which is the caller's part.
    #[must_use]
    pub fn error_ns(self) -> Option<u64> {
        if self.multiplier() == 0 {
            return None;
        }
        let units = (u128::from(self.multiplier()) << self.scale()) * u128::from(NANOS);
        Some(u64::try_from(units.div_ceil(1 << 32)).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests;
