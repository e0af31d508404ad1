//! Two clocks that must never meet in one difference, so each is a type.

/// A point of `CLOCK_MONOTONIC`, in nanoseconds. Schedules and time-outs use it.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct MonoNanos(pub u64);

impl MonoNanos {
    /// The point `ns` later; stays at the end of time instead of wrapping.
    #[must_use]
    pub const fn plus(self, ns: u64) -> Self {
        Self(self.0.saturating_add(ns))
    }

    /// The point `ns` earlier; stays at 0.
    #[must_use]
    pub const fn minus(self, ns: u64) -> Self {
        Self(self.0.saturating_sub(ns))
    }

    /// Nanoseconds since `earlier`, 0 if that lies ahead.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A point of `CLOCK_REALTIME`: nanoseconds since 1970-01-01 UTC. Kernel software
/// stamps are of this clock.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct WallNanos(pub u64);

impl WallNanos {
    /// Signed nanoseconds from `earlier` to `self`.
    #[must_use]
    pub const fn delta(self, earlier: Self) -> i64 {
        self.0.wrapping_sub(earlier.0).cast_signed()
    }

    /// The point `ns` later or, if negative, earlier.
    #[must_use]
    pub const fn offset(self, ns: i64) -> Self {
        Self(self.0.wrapping_add_signed(ns))
    }

    /// RFC 3339 in UTC with microseconds, `2026-01-02T03:04:05.678901Z`.
    #[must_use]
    pub fn rfc3339(self) -> String {
        let secs = self.0 / 1_000_000_000;
        let micros = self.0 % 1_000_000_000 / 1000;
        let (year, month, day) = civil_from_days((secs / 86_400).cast_signed());
        let (hour, minute, second) = (secs / 3600 % 24, secs / 60 % 60, secs % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }
}

/// What the kernel says of its wall clock (`adjtimex`), and what goes into Error Estimates.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct ClockState {
    /// Synchronised to an outside source.
    pub synchronised: bool,
    /// Greatest error.
    pub error_ns: u64,
    /// TAI - UTC in seconds; 0 when the kernel was not told.
    pub tai_offset_s: i32,
}

impl ClockState {
    /// Before the kernel was asked.
    pub const UNKNOWN: Self = Self {
        synchronised: false,
        error_ns: u64::MAX,
        tai_offset_s: 0,
    };
}

/// Days since 1970-01-01 to a Gregorian date, by counting from 1 March of year 0 so that
/// the leap day is the last of its year.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_of_known_instants() {
        // Oracle: `date -u -d @N --iso-8601=seconds`.
        for (secs, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000000Z"),
            (4_102_444_800, "2100-01-01T00:00:00.000000Z"),
        ] {
            assert_eq!(WallNanos(secs * 1_000_000_000).rfc3339(), text);
        }
        assert_eq!(WallNanos(1_500).rfc3339(), "1970-01-01T00:00:00.000001Z");
    }

    #[test]
    fn differences_keep_their_sign() {
        assert_eq!(WallNanos(5).delta(WallNanos(9)), -4);
        assert_eq!(WallNanos(5).offset(-3), WallNanos(2));
        assert_eq!(MonoNanos(5).since(MonoNanos(9)), 0);
    }
}
