//! What all outputs of `ping` are made from: who was probed how, and what it added up to.

use std::net::SocketAddr;

use base::{Counter, Protocol};
use record::TargetStats;

/// One target and its numbers.
#[derive(Copy, Clone, Debug)]
pub struct Report<'a> {
    /// As typed.
    pub name: &'a str,
    /// Where the probes go; the port is STAMP's.
    pub address: SocketAddr,
    /// `auto`, `stamp` or `icmp`.
    pub requested: &'a str,
    /// How many source ports are used, each at the full rate.
    pub source_ports: u16,
    /// TOS or traffic class octet of the probes.
    pub tos: u8,
    /// The device that was asked for.
    pub device: Option<&'a str>,
    /// Size of the IP packet in bytes, where it is known.
    pub packet_bytes: Option<u16>,
    /// The numbers.
    pub stats: &'a TargetStats,
}

impl Report<'_> {
    /// Whether anything at all came back from the target.
    #[must_use]
    pub fn answered(&self) -> bool {
        let seen = [
            Counter::Received,
            Counter::Late,
            Counter::DuplicatesForward,
            Counter::DuplicatesReverse,
        ];
        self.stats.discarded() > 0 || seen.iter().any(|counter| self.stats.counter(*counter) > 0)
    }

    /// The protocol in use, once known.
    #[must_use]
    pub fn protocol(&self) -> Option<Protocol> {
        self.stats.protocol.map(|(protocol, _)| protocol)
    }

    /// Bytes before the payload: IP and UDP, or IP and ICMP, which are of one size.
    #[must_use]
    pub fn header_bytes(&self) -> u16 {
        let ip = if self.address.is_ipv4() { 20 } else { 40 };
        ip + 8
    }

    /// Name, with the address behind it where that says more.
    #[must_use]
    pub fn title(&self) -> String {
        let ip = self.address.ip().to_string();
        let name = self.name.trim_matches(['[', ']']);
        if name.split('%').next() == Some(ip.as_str()) {
            name.to_owned()
        } else {
            format!("{} ({ip})", self.name)
        }
    }
}

/// Numbers that tests of several outputs share: every kind of value once, none by chance.
#[cfg(test)]
pub mod sample {
    use base::{
        Counter, Gauge, LossTotals, Output, Protocol, Quantity, Sample, StampPoint, StampSource,
        Why,
    };
    use record::TargetStats;

    use super::Report;

    /// 1000 probes, 993 answered, directions known.
    #[must_use]
    pub fn stamp() -> TargetStats {
        let mut stats = TargetStats::new();
        let mut apply = |output: Output| stats.apply(&output);
        apply(Output::Protocol(Protocol::Stamp, Why::StampAnswered));
        for (counter, by) in [
            (Counter::Sent, 1000),
            (Counter::Received, 992),
            (Counter::Lost, 7),
            (Counter::DiscardedTxStampLost, 1),
            (Counter::Late, 2),
            (Counter::DuplicatesForward, 3),
            (Counter::DuplicatesReverse, 1),
            (Counter::ReorderedForward, 4),
            (Counter::Uncounted, 3),
            (Counter::SentLate, 5),
            (Counter::Outages, 1),
        ] {
            apply(Output::Count(counter, by));
        }
        apply(Output::Loss(LossTotals {
            lost: 7,
            local: 0,
            forward: 5,
            reverse: 2,
            unattributed: 0,
            directed: true,
        }));
        for (gauge, value) in [
            (Gauge::Up, 1.0),
            (Gauge::HopsForward, 3.0),
            (Gauge::HopsReverse, 4.0),
            (Gauge::JitterForward, 1_500.0),
            (Gauge::JitterReverse, 2_500.0),
            (Gauge::ClockSynchronised, 0.0),
            (Gauge::LongestOutage, 40_000_000.0),
            // A multiple of 2^10, so that the float holds it exactly.
            (Gauge::LongestOutageAt, 1_700_000_000_000_000_000.0),
        ] {
            apply(Output::Gauge(gauge, value));
        }
        for index in 0..992_i64 {
            for (quantity, value) in [
                (Quantity::Rtt, 100_000 + index * 10),
                (Quantity::RoundTrip, 120_000 + index * 10),
                (Quantity::Response, 150_000 + index * 10),
                (Quantity::Dwell, 20_000),
                (Quantity::ForwardIpdv, index % 3 - 1),
                (Quantity::ScheduleError, 25_000),
            ] {
                apply(Output::Sample(Sample { quantity, value }));
            }
            for point in StampPoint::ALL {
                let source = if point == StampPoint::T3 {
                    StampSource::User
                } else {
                    StampSource::Kernel
                };
                apply(Output::Stamped(point, source));
            }
        }
        for value in [1, 1, 1, 4] {
            apply(Output::Sample(Sample {
                quantity: Quantity::LossRun,
                value,
            }));
        }
        stats
    }

    /// Eight ICMP probes after STAMP was refused, and no answer.
    #[must_use]
    pub fn silent() -> TargetStats {
        let mut stats = TargetStats::new();
        stats.apply(&Output::Protocol(Protocol::Icmp, Why::StampSilent));
        stats.apply(&Output::Count(Counter::Sent, 8));
        stats.apply(&Output::Count(Counter::Lost, 8));
        stats.apply(&Output::Loss(LossTotals {
            lost: 8,
            unattributed: 8,
            ..LossTotals::default()
        }));
        stats
    }

    /// A report on such numbers.
    #[must_use]
    pub fn report(stats: &TargetStats) -> Report<'_> {
        Report {
            name: "db",
            address: "10.0.0.2:862".parse().expect("an address"),
            requested: "auto",
            source_ports: 1,
            tos: 46 << 2,
            device: None,
            packet_bytes: Some(108),
            stats,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_title_says_an_address_once() {
        let stats = TargetStats::new();
        let mut report = sample::report(&stats);
        assert_eq!(report.title(), "db (10.0.0.2)");
        report.name = "10.0.0.2";
        assert_eq!(report.title(), "10.0.0.2");
        report.name = "[2001:db8::1]";
        report.address = "[2001:db8::1]:862".parse().expect("an address");
        assert_eq!(report.title(), "2001:db8::1");
        assert_eq!(report.header_bytes(), 48);
        report.name = "fe80::1%eth0";
        report.address = "[fe80::1]:862".parse().expect("an address");
        assert_eq!(report.title(), "fe80::1%eth0");
    }

    #[test]
    fn late_answers_are_answers() {
        let mut stats = sample::silent();
        assert!(!sample::report(&stats).answered());
        stats.apply(&base::Output::Count(Counter::Late, 1));
        assert!(sample::report(&stats).answered());
    }
}
