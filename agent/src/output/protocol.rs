//! The first line of a target: what is used, and why.

use base::{Protocol, Why};

use super::report::Report;
use super::words;

/// `10.0.0.2: ICMP echo, since no STAMP reflector answers on UDP port 862 (port unreachable)`.
/// `None` until the protocol is known.
#[must_use]
pub fn first_line(report: &Report<'_>) -> Option<String> {
    let (protocol, why) = report.stats.protocol?;
    let port = report.address.port();
    let what = match protocol {
        Protocol::Stamp => format!("STAMP on UDP port {port}"),
        Protocol::Icmp => "ICMP echo".to_owned(),
    };
    if protocol == Protocol::Stamp && matches!(why, Why::StampRefused | Why::StampSilent) {
        return Some(format!(
            "{}: {what} although no reflector answers there, since no ICMP socket can be opened: run as root, or setcap cap_net_raw+ep on the binary, or sysctl -w net.ipv4.ping_group_range='0 2147483647'",
            report.title()
        ));
    }
    let icmp = report.stats.icmp.last().map(|error| {
        let text = words::icmp(error.from.is_ipv6(), error.kind, error.code);
        if error.from == report.address.ip() {
            text
        } else {
            format!("{text}, says {}", error.from)
        }
    });
    let unanswered = "3 probes unanswered";
    let because = match why {
        Why::Requested => "as asked for".to_owned(),
        Why::StampAnswered => "since a reflector answers there".to_owned(),
        Why::StampRefused => {
            let said = icmp.unwrap_or_else(|| "port unreachable".to_owned());
            format!("since no STAMP reflector answers on UDP port {port} ({said})")
        }
        Why::StampSilent => {
            let refused = report.stats.errnos.last();
            let why = match (refused, icmp) {
                (Some((errno, _)), _) => {
                    format!("this host could not send: {}", words::errno(*errno))
                }
                (None, Some(said)) => format!("{unanswered}: {said}"),
                (None, None) => unanswered.to_owned(),
            };
            format!("since no STAMP reflector answers on UDP port {port} ({why})")
        }
    };
    Some(format!("{}: {what}, {because}", report.title()))
}

#[cfg(test)]
mod tests {
    use base::Output;
    use record::TargetStats;

    use super::super::report::sample;
    use super::*;

    #[test]
    fn the_line_says_what_and_why() {
        for (protocol, why, wanted) in [
            (
                Protocol::Stamp,
                Why::Requested,
                "db (10.0.0.2): STAMP on UDP port 862, as asked for",
            ),
            (
                Protocol::Stamp,
                Why::StampAnswered,
                "db (10.0.0.2): STAMP on UDP port 862, since a reflector answers there",
            ),
            (
                Protocol::Icmp,
                Why::StampRefused,
                "db (10.0.0.2): ICMP echo, since no STAMP reflector answers on UDP port 862 (port unreachable)",
            ),
            (
                Protocol::Icmp,
                Why::StampSilent,
                "db (10.0.0.2): ICMP echo, since no STAMP reflector answers on UDP port 862 (3 probes unanswered)",
            ),
        ] {
            let mut stats = TargetStats::new();
            assert_eq!(first_line(&sample::report(&stats)), None);
            stats.apply(&Output::Protocol(protocol, why));
            assert_eq!(first_line(&sample::report(&stats)).as_deref(), Some(wanted));
        }
    }

    #[test]
    fn silence_has_the_reason_that_was_seen() {
        let said = |output| {
            let mut stats = TargetStats::new();
            stats.apply(&output);
            stats.apply(&Output::Protocol(Protocol::Icmp, Why::StampSilent));
            first_line(&sample::report(&stats)).expect("known")
        };
        assert!(
            said(Output::Errno(1))
                .ends_with("port 862 (this host could not send: Operation not permitted (EPERM))")
        );
        let prohibited = Output::Icmp {
            kind: 3,
            code: 13,
            from: "10.0.0.2".parse().expect("an address"),
        };
        assert!(
            said(prohibited)
                .ends_with("(3 probes unanswered: communication administratively prohibited)")
        );
    }

    #[test]
    fn without_an_icmp_socket_the_way_out_is_said() {
        let mut stats = TargetStats::new();
        stats.apply(&Output::Protocol(Protocol::Stamp, Why::StampSilent));
        let line = first_line(&sample::report(&stats)).expect("known");
        assert!(line.contains("although no reflector answers there"));
        assert!(line.contains("cap_net_raw"));
    }

    #[test]
    fn a_router_that_refuses_is_named() {
        let mut stats = TargetStats::new();
        stats.apply(&Output::Icmp {
            kind: 3,
            code: 13,
            from: "10.9.9.9".parse().expect("an address"),
        });
        stats.apply(&Output::Protocol(Protocol::Icmp, Why::StampRefused));
        let line = first_line(&sample::report(&stats)).expect("known");
        assert!(line.ends_with("(communication administratively prohibited, says 10.9.9.9)"));
    }
}
