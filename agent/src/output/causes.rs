//! Why a target gave no answer: the likely causes in order, and the command that tells them
//! apart. What was seen (ICMP errors, refused sends, replies that fit nothing) comes before
//! what can only be guessed.

use base::{Counter, Protocol, Why};

use super::report::Report;
use super::words::{self, plural};

/// One line per cause, the likeliest first. Meant for a target that never answered.
#[must_use]
pub fn of(report: &Report<'_>) -> Vec<String> {
    let mut causes = Vec::new();
    seen_locally(report, &mut causes);
    seen_from_others(report, &mut causes);
    // An error from the path or from our own host explains the silence; else guess.
    if causes.is_empty() {
        guesses(report, &mut causes);
    }
    causes
}

fn seen_locally(report: &Report<'_>, causes: &mut Vec<String>) {
    let stats = report.stats;
    let ip = report.address.ip();
    // An errno without a failed send is of a socket that could not be opened: said elsewhere.
    let failed = stats.counter(Counter::SendErrors) > 0;
    for (errno, count) in stats.errnos.iter().filter(|_| failed) {
        // Those of opening probes are among them; what is said is of counted ones.
        let count = match stats.errnos.len() {
            1 => stats.counter(Counter::SendErrors),
            _ => *count,
        };
        let way_out = match words::errno_name(*errno).as_str() {
            "ENETUNREACH" | "EHOSTUNREACH" => {
                format!("no route, or nobody has this address on the link: ip route get {ip}; ip neigh show {ip}")
            }
            "EPERM" | "EACCES" => {
                "a firewall rule of this host refuses it: nft list ruleset (or iptables -S OUTPUT)"
                    .to_owned()
            }
            "EMSGSIZE" => "larger than the device or the path takes: a smaller -s".to_owned(),
            "ENOBUFS" => {
                "a full queue of this host, or a device that takes no such size: tc -s qdisc; ip -s link"
                    .to_owned()
            }
            "ENETDOWN" | "ENODEV" | "ENXIO" => "the device is down or gone: ip link".to_owned(),
            "EADDRNOTAVAIL" => "no local address of that family: ip address".to_owned(),
            _ => format!("ip route get {ip}"),
        };
        causes.push(format!(
            "this host could not send {}: {}: {way_out}",
            plural(count, "probe"),
            words::errno(*errno)
        ));
    }
    if stats.loss.local > 0 {
        causes.push(format!(
            "{} never left this host (no transmit stamp): {} for it, or a local queue dropped them: ip neigh show {ip}; tc -s qdisc",
            plural(stats.loss.local, "probe"),
            if ip.is_ipv4() { "nobody answers ARP" } else { "nobody answers neighbour discovery" },
        ));
    }
    let overflows = stats.counter(Counter::ReceiveOverflows);
    if overflows > 0 {
        causes.push(format!(
            "{} dropped at our own socket, for want of receive buffer: a longer -i",
            plural(overflows, "reply").replace("replys", "replies")
        ));
    }
}

fn seen_from_others(report: &Report<'_>, causes: &mut Vec<String>) {
    let stats = report.stats;
    let ip = report.address.ip();
    let port = report.address.port();
    for error in &stats.icmp {
        let v6 = error.from.is_ipv6();
        let text = words::icmp(v6, error.kind, error.code);
        let way_out = match (v6, error.kind, error.code) {
            (false, 3, 3) | (true, 1, 4) if error.from != ip => {
                format!(
                    "a router or firewall at {} answers in its place",
                    error.from
                )
            }
            (false, 3, 3) | (true, 1, 4) if report.protocol() == Some(Protocol::Icmp) => continue,
            (false, 3, 3) | (true, 1, 4) => format!(
                "no reflector listens on UDP port {port}: run `netsonde reflect` on {}",
                report.name
            ),
            (false, 3, 9 | 10 | 13) | (true, 1, 1 | 5 | 6) => {
                format!("a firewall at {} forbids it", error.from)
            }
            (false, 3, 4) | (true, 2, _) => "larger than the path takes: a smaller -s".to_owned(),
            (false, 11, 0) | (true, 3, 0) => {
                format!("the TTL ran out there: a larger -t, or a routing loop: tracepath {ip}")
            }
            // Also from this host itself, when nobody answers ARP or neighbour discovery.
            (false, 3, 1) | (true, 1, 3) => format!(
                "the host is down, or the address is wrong: on the link of {} nobody has it: ip neigh show {ip}",
                error.from
            ),
            (false, 3, 0 | 6 | 7) | (true, 1, 0) => format!(
                "the address is wrong, or a route is missing: {} knows no way to it",
                error.from
            ),
            _ => format!("tracepath {ip}"),
        };
        causes.push(format!(
            "ICMP from {} ({}): {text}: {way_out}",
            error.from,
            plural(error.count, "time")
        ));
    }
    let malformed = stats.counter(Counter::MalformedReplies) + stats.counter(Counter::StrayReplies);
    if malformed > 0 {
        causes.push(format!(
            "{} came back that answer none of our probes: something else answers on UDP port {port}: ss -ulnp on {}",
            plural(malformed, "packet"),
            report.name
        ));
    }
}

fn guesses(report: &Report<'_>, causes: &mut Vec<String>) {
    let name = report.name;
    let ip = report.address.ip();
    let port = report.address.port();
    if matches!(report.stats.protocol, Some((_, Why::StampAnswered))) {
        causes.push(if report.stats.counter(Counter::Sent) == 0 {
            "the run ended before a counted probe was sent: a longer -w".to_owned()
        } else {
            format!("it answered before the first counted probe and then no more: {name} or the path went down meanwhile")
        });
        return;
    }
    if report.protocol().is_none() {
        causes.push("the run ended before it was known what answers: a longer -w".to_owned());
    }
    let silent_stamp = report.protocol() != Some(Protocol::Icmp);
    if silent_stamp {
        causes.push(format!(
            "a security group, network ACL or firewall drops UDP port {port}: does ICMP pass? netsonde ping --protocol icmp {name}"
        ));
        causes.push(format!(
            "no reflector runs there, or it does not --allow this host: run `netsonde reflect` on {name} (ss -ulnp 'sport = :{port}' there shows who listens)"
        ));
    } else {
        let both = if report.requested == "auto" {
            format!("neither UDP port {port} nor ICMP echo")
        } else {
            "no ICMP echo".to_owned()
        };
        causes.push(format!(
            "a security group, network ACL or firewall lets {both} through: do the probes arrive? tcpdump -ni any host {ip} here, and the same for this host's address on {name}"
        ));
        if report.requested != "auto" {
            causes.push(format!(
                "only ICMP is dropped: netsonde ping --protocol stamp {name}, with `netsonde reflect` running there"
            ));
        }
    }
    // A name may have more than one address, or an old one.
    let lookup = if report.title() == ip.to_string() {
        String::new()
    } else {
        format!("; getent ahosts {name}")
    };
    causes.push(format!(
        "the host is down, or {ip} is the wrong address: ip neigh show {ip} (FAILED: nobody on this link has it){lookup}"
    ));
    causes.push(match report.device {
        Some(device) => format!(
            "-I {device} does not lead there, or there is no route back: ip route get {ip} oif {device} here, and towards this host on {name}"
        ),
        None => format!(
            "there is no route, or none back: ip route get {ip} here, and towards this host on {name}"
        ),
    });
}

#[cfg(test)]
mod tests {
    use base::{LossTotals, Output};
    use record::TargetStats;

    use super::super::report::sample;
    use super::*;

    fn causes(outputs: &[Output], requested: &'static str) -> Vec<String> {
        let mut stats = TargetStats::new();
        for output in outputs {
            stats.apply(output);
        }
        let mut report = sample::report(&stats);
        report.requested = requested;
        of(&report)
    }

    #[test]
    fn silence_is_guessed_at_by_protocol() {
        let stamp = causes(
            &[Output::Protocol(Protocol::Stamp, Why::Requested)],
            "stamp",
        );
        assert!(stamp[0].contains("drops UDP port 862"), "{stamp:?}");
        assert!(stamp[0].ends_with("netsonde ping --protocol icmp db"));
        assert!(stamp[1].contains("run `netsonde reflect` on db"));
        assert_eq!(stamp.len(), 4);
        let auto = causes(
            &[Output::Protocol(Protocol::Icmp, Why::StampSilent)],
            "auto",
        );
        assert!(auto[0].contains("neither UDP port 862 nor ICMP echo"));
        assert_eq!(auto.len(), 3);
        let icmp = causes(&[Output::Protocol(Protocol::Icmp, Why::Requested)], "icmp");
        assert!(icmp[1].contains("--protocol stamp db"));
    }

    #[test]
    fn what_was_seen_replaces_guesses() {
        let from = "10.0.0.2".parse().expect("an address");
        let refused = Output::Icmp {
            kind: 3,
            code: 3,
            from,
        };
        let seen = causes(
            &[
                Output::Protocol(Protocol::Stamp, Why::Requested),
                refused,
                refused,
            ],
            "stamp",
        );
        assert_eq!(
            seen,
            [
                "ICMP from 10.0.0.2 (2 times): port unreachable: no reflector listens on UDP port 862: run `netsonde reflect` on db"
            ]
        );
        // The refusal that made `auto` take ICMP does not explain ICMP's silence.
        let auto = causes(
            &[refused, Output::Protocol(Protocol::Icmp, Why::StampRefused)],
            "auto",
        );
        assert_eq!(auto.len(), 3);
        let other = Output::Icmp {
            kind: 3,
            code: 3,
            from: "10.9.9.9".parse().expect("an address"),
        };
        let answered_for = causes(
            &[other, Output::Protocol(Protocol::Icmp, Why::StampRefused)],
            "auto",
        );
        assert_eq!(
            answered_for,
            [
                "ICMP from 10.9.9.9 (1 time): port unreachable: a router or firewall at 10.9.9.9 answers in its place"
            ]
        );
        let answered = Output::Protocol(Protocol::Stamp, Why::StampAnswered);
        assert_eq!(
            causes(&[answered], "auto"),
            ["the run ended before a counted probe was sent: a longer -w"]
        );
        let gone = causes(&[answered, Output::Count(Counter::Sent, 5)], "auto");
        assert!(gone[0].starts_with("it answered before the first counted probe"));
        let unknown = causes(&[], "auto");
        assert!(unknown[0].starts_with("the run ended before it was known what answers"));
        let socket = causes(&[Output::Errno(13)], "stamp");
        assert!(!socket[0].contains("could not send"));
        let errno = causes(
            &[Output::Errno(101), Output::Count(Counter::SendErrors, 1)],
            "stamp",
        );
        assert!(
            errno[0].starts_with(
                "this host could not send 1 probe: Network is unreachable (ENETUNREACH)"
            )
        );
        let local = causes(
            &[Output::Loss(LossTotals {
                lost: 3,
                local: 3,
                ..LossTotals::default()
            })],
            "stamp",
        );
        assert!(local[0].starts_with("3 probes never left this host"));
    }
}
