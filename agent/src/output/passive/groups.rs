//! The groups of a capture, a line each.

use std::fmt::Write as _;

use base::units::format_ns;
use base::{GroupKey, LossPlace};
use measure::passive::Groups;

use super::summary::octets;
use super::{Report, best_known, retransmitted};

/// Some lines, or none without groups.
pub(super) fn table(out: &mut String, report: &Report<'_>) {
    let shown: Vec<_> = report
        .shown_groups()
        .map(|(key, stats, traffic)| (name(report.groups, key), stats, traffic))
        .collect();
    let longest = shown.iter().map(|(name, ..)| name.chars().count()).max();
    let Some(longest) = longest else {
        return;
    };
    let width = longest.clamp(12, 40);
    let _ = writeln!(
        out,
        "{:<width$} {:>9} {:>9} {:>6} {:>6} {:>10}",
        "groups", "packets", "bytes", "retr", "lost", "rtt remote"
    );
    for (name, stats, traffic) in shown {
        let lost = stats.lost(LossPlace::After) + stats.lost(LossPlace::Before);
        let _ = write!(
            out,
            "{name:<width$} {:>9} {:>9} {:>6} {lost:>6}",
            traffic.packets[0] + traffic.packets[1],
            octets(traffic.bytes[0] + traffic.bytes[1]),
            retransmitted(stats),
        );
        match best_known(stats) {
            Some((method, summary)) => {
                let ns = summary.p50.or(summary.min).unwrap_or(0);
                let method = method.as_str().replace('_', " ");
                let _ = writeln!(out, " {:>10} by {method}", format_ns(ns as f64));
            }
            None => {
                let _ = writeln!(out, " {:>10}", "-");
            }
        }
    }
}

/// The names of a group; `others`: none fits.
fn name(groups: &Groups, key: GroupKey) -> String {
    let (prefix, port) = groups.names(key);
    let names: Vec<&str> = [prefix, port].into_iter().flatten().collect();
    if names.is_empty() {
        "others".to_owned()
    } else {
        names.join(" ")
    }
}
