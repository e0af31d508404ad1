//! Limits of the reflector that bite: an event when one begins to, and again once a minute
//! while it does. (The prober tells of its own.)

use base::MonoNanos;
use record::snapshot::ReflectorSnapshot;

/// Between two events of one limit.
const QUIET_NS: u64 = 60_000_000_000;

/// Reasons of drops that are limits, and the key that sets each.
const LIMITS: [(&str, &str); 2] = [
    ("table_full", "reflector.max_sessions"),
    ("rate_limited", "reflector.packets_per_second"),
];

/// What was seen of each limit.
#[derive(Debug, Default)]
pub struct Limits {
    seen: [(u64, Option<MonoNanos>); LIMITS.len()],
}

impl Limits {
    /// One line for each limit that bites and was not told of lately.
    pub fn bites(&mut self, reflector: &ReflectorSnapshot, now: MonoNanos) -> Vec<String> {
        let mut told = Vec::new();
        for ((reason, key), (before, last)) in LIMITS.iter().zip(&mut self.seen) {
            let count = reflector.dropped.iter().find(|(name, _)| name == reason);
            let count = count.map_or(0, |(_, count)| *count);
            // A reload starts another reflector, which counts from 0.
            let new = count.checked_sub(*before).unwrap_or(count);
            let quiet = last.is_some_and(|last| now.since(last) < QUIET_NS);
            if new > 0 && !quiet {
                told.push(format!("{key}: {new} requests were not answered"));
                *last = Some(now);
            }
            if new == 0 || !quiet {
                *before = count;
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dropped(table_full: u64, rate_limited: u64) -> ReflectorSnapshot {
        ReflectorSnapshot {
            dropped: vec![
                ("too_short", 99),
                ("table_full", table_full),
                ("rate_limited", rate_limited),
            ],
            ..ReflectorSnapshot::default()
        }
    }

    #[test]
    fn told_at_once_and_then_once_a_minute() {
        let mut limits = Limits::default();
        let at = |seconds: u64| MonoNanos(seconds * 1_000_000_000);
        assert!(limits.bites(&dropped(0, 0), at(0)).is_empty());
        assert_eq!(
            limits.bites(&dropped(3, 0), at(1)),
            ["reflector.max_sessions: 3 requests were not answered"]
        );
        assert!(limits.bites(&dropped(5, 0), at(2)).is_empty());
        assert_eq!(
            limits.bites(&dropped(5, 7), at(3)),
            ["reflector.packets_per_second: 7 requests were not answered"]
        );
        // What came in the quiet minute is in the next line.
        assert_eq!(
            limits.bites(&dropped(9, 7), at(62)),
            ["reflector.max_sessions: 6 requests were not answered"]
        );
        // Another reflector begins at 0.
        assert!(limits.bites(&dropped(0, 0), at(200)).is_empty());
        assert_eq!(limits.bites(&dropped(2, 0), at(201)).len(), 1);
    }
}
