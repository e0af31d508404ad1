//! Durations, sizes and rates as people write them.
//!
//! A bare number is seconds for a duration (as in `ping` and `iperf3`) and the plain
//! unit otherwise. Fractions are taken. Errors are one line and name the way out.

/// Why a text is no quantity.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnitError(String);

impl std::fmt::Display for UnitError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UnitError {}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let mut value = u128::from(whole) * u128::from(scale);
    if !fraction.is_empty() {
        // Digits past the 18th cannot change a nanosecond.
        let digits = &fraction[..fraction.len().min(18)];
        let part: u64 = digits.parse().ok()?;
        value +=
            u128::from(part) * u128::from(scale) / 10u128.pow(u32::try_from(digits.len()).ok()?);
    }
    u64::try_from(value).ok()
}

/// A duration in nanoseconds: `10ms`, `1.5s`, `500us`, `2` (seconds), `1h`.
///
/// # Errors
/// When the number or the unit is not one, or it does not fit 64 bits.
pub fn parse_duration(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split(text);
    let scale = match unit {
        "ns" => 1,
        "us" | "µs" => 1_000,
        "ms" => 1_000_000,
        "" | "s" => 1_000_000_000,
        "m" | "min" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        _ => 0,
    };
    if scale == 0 {
        return Err(UnitError(format!(
            "'{text}' is no duration: write 500us, 10ms, 1.5s, 2m or 1h"
        )));
    }
    scaled(number, scale).ok_or_else(|| {
        UnitError(format!(
            "'{text}' is no duration: write 500us, 10ms, 1.5s, 2m or 1h"
        ))
    })
}

/// A size in bytes: `256M` and `256MiB` are 256 x 2^20, `9001` is itself.
///
/// # Errors
/// When the number or the unit is not one, or it does not fit 64 bits.
pub fn parse_bytes(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split(text);
    let shift = match unit {
        "" | "B" => Some(0),
        "k" | "K" | "KiB" => Some(10),
        "M" | "MiB" => Some(20),
        "G" | "GiB" => Some(30),
        _ => None,
    };
    shift
        .and_then(|shift| scaled(number, 1 << shift))
        .ok_or_else(|| UnitError(format!("'{text}' is no size: write 512, 64K, 256M or 1G")))
}

/// Nanoseconds for people: three or four digits and a unit that fits, `12.3us`, `-1.20ms`.
#[must_use]
pub fn format_ns(ns: f64) -> String {
    let size = ns.abs();
    let (value, unit) = if size < 1_000.0 {
        return format!("{ns:.0}ns");
    } else if size < 1_000_000.0 {
        (ns / 1e3, "us")
    } else if size < 1_000_000_000.0 {
        (ns / 1e6, "ms")
    } else {
        (ns / 1e9, "s")
    };
    if value.abs() < 10.0 {
        format!("{value:.2}{unit}")
    } else if value.abs() < 100.0 {
        format!("{value:.1}{unit}")
    } else {
        format!("{value:.0}{unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, ns) in [
            ("10ms", 10_000_000),
            ("2", 2_000_000_000),
            ("0.2", 200_000_000),
            (".5s", 500_000_000),
            ("1.5us", 1_500),
            ("100us", 100_000),
            ("1h", 3_600_000_000_000),
            ("7ns", 7),
        ] {
            assert_eq!(parse_duration(text), Ok(ns), "{text}");
        }
        for bad in ["", "ms", "1x", "1.2.3s", "-1s", "99999999999h", "."] {
            let error = parse_duration(bad).expect_err(bad).to_string();
            assert!(error.contains("is no duration"), "{error}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_bytes("256M"), Ok(256 << 20));
        assert_eq!(parse_bytes("9001"), Ok(9001));
        assert!(parse_bytes("12parsecs").is_err());
    }

    #[test]
    fn nanoseconds_for_people() {
        for (ns, text) in [
            (0.0, "0ns"),
            (999.0, "999ns"),
            (1_234.0, "1.23us"),
            (-12_340.0, "-12.3us"),
            (1_500_000.0, "1.50ms"),
            (2.5e9, "2.50s"),
        ] {
            assert_eq!(format_ns(ns), text);
        }
    }
}
