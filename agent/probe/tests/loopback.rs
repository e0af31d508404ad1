//! The prober against the reflector over loopback: real sockets, real stamps.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use base::{
    Counter, LossTotals, Output, Protocol, Quantity, StampPoint, StampSource, TargetKey, Why,
};
use measure::reflector::{Config, Drop};
use netsonde_probe::prober::{self, Choice, ClockTrust, TargetSpec};
use netsonde_probe::reflector;

#[derive(Default)]
struct Seen {
    counts: std::collections::BTreeMap<Counter, u64>,
    samples: std::collections::HashMap<Quantity, Vec<i64>>,
    stamped: std::collections::HashMap<(StampPoint, StampSource), u64>,
    protocol: Option<(Protocol, Why)>,
    loss: LossTotals,
}

impl Seen {
    fn count(&self, counter: Counter) -> u64 {
        self.counts.get(&counter).copied().unwrap_or(0)
    }
}

/// Probes until all are decided.
fn probe(spec: TargetSpec) -> Seen {
    let options = prober::Options {
        realtime: false,
        packets_per_second: 0,
        sockets: netsonde_probe::direct(),
        records: false,
    };
    let mut prober = prober::spawn(options).expect("a thread");
    prober.add(spec).expect("sockets on loopback");
    let mut seen = Seen::default();
    let patience = Instant::now() + Duration::from_secs(20);
    let mut finished = false;
    while !finished {
        assert!(Instant::now() < patience, "the prober never finished");
        prober.results.drain(|message| match message.output {
            Output::Count(counter, n) => *seen.counts.entry(counter).or_default() += n,
            Output::Sample(sample) => {
                seen.samples
                    .entry(sample.quantity)
                    .or_default()
                    .push(sample.value);
            }
            Output::Stamped(point, source) => {
                *seen.stamped.entry((point, source)).or_default() += 1;
            }
            Output::Protocol(protocol, why) => seen.protocol = Some((protocol, why)),
            Output::Loss(loss) => seen.loss = loss,
            Output::Finished => finished = true,
            _ => {}
        });
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(prober.results.dropped(), 0);
    prober.finish();
    prober.join().expect("the thread ends in order");
    seen
}

fn spec(address: SocketAddr, count: u64) -> TargetSpec {
    let mut spec = TargetSpec::new(TargetKey(1), address);
    spec.interval_ns = 1_000_000;
    spec.wait_ns = 500_000_000;
    spec.count = Some(count);
    spec.clock = ClockTrust::Assume { error_ns: 0 };
    spec
}

fn reflecting(ip: IpAddr, config: Config) -> (reflector::Reflector, SocketAddr) {
    let fd = reflector::bind(SocketAddr::new(ip, 0)).expect("a free port");
    let socket = std::net::UdpSocket::from(fd);
    let address = socket.local_addr().expect("bound");
    let listen = vec![(address, socket.into())];
    (
        reflector::spawn(reflector::Options { listen, config }).expect("a thread"),
        address,
    )
}

#[test]
fn both_families_both_formats_with_kernel_stamps() {
    for ip in [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::from(Ipv6Addr::LOCALHOST),
    ] {
        for format in [
            wire::stamp::TimestampFormat::Ntp,
            wire::stamp::TimestampFormat::Ptp,
        ] {
            let (reflector, address) = reflecting(ip, Config::default());
            let mut spec = spec(address, 200);
            spec.format = format;
            let seen = probe(spec);
            assert_eq!(seen.protocol, Some((Protocol::Stamp, Why::StampAnswered)));
            assert_eq!(seen.count(Counter::Sent), 200);
            assert_eq!(seen.count(Counter::Received), 200);
            assert_eq!((seen.loss.lost, seen.loss.directed), (0, true));
            assert_eq!(seen.stamped[&(StampPoint::T1, StampSource::Kernel)], 200);
            assert_eq!(seen.stamped[&(StampPoint::T4, StampSource::Kernel)], 200);
            for quantity in [Quantity::Rtt, Quantity::Dwell, Quantity::ForwardDelay] {
                let values = &seen.samples[&quantity];
                assert_eq!(values.len(), 200, "{quantity:?}");
                assert!(
                    values.iter().all(|ns| (0..500_000_000).contains(ns)),
                    "{quantity:?}"
                );
            }
            assert_eq!(seen.samples[&Quantity::ForwardIpdv].len(), 199);
            let stats = reflector.stats();
            assert_eq!(stats.requests(), stats.replies());
            assert_eq!(stats.receive_stamps(StampSource::Kernel), stats.requests());
            reflector.stop();
            reflector.join().expect("ends in order");
        }
    }
}

#[test]
fn auto_takes_icmp_where_nobody_listens_and_says_why() {
    // Bound and dropped: nobody listens there now.
    let free = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("bound");
    drop(free);
    let seen = probe(spec(address, 50));
    assert_eq!(seen.protocol, Some((Protocol::Icmp, Why::StampRefused)));
    assert_eq!(seen.count(Counter::Received), 50);
    assert_eq!(seen.count(Counter::Sent), 50);
    assert!(!seen.samples.contains_key(&Quantity::Dwell));
}

#[test]
fn a_silent_target_is_a_result() {
    // A socket that never answers.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let mut spec = spec(silent.local_addr().expect("bound"), 20);
    spec.protocol = Choice::Stamp;
    spec.wait_ns = 100_000_000;
    let seen = probe(spec);
    assert_eq!(seen.count(Counter::Sent), 20);
    assert_eq!(
        (seen.count(Counter::Received), seen.count(Counter::Lost)),
        (0, 20)
    );
    assert_eq!((seen.loss.lost, seen.loss.unattributed), (20, 20));
    assert_eq!(seen.samples[&Quantity::LossRun], [20]);
}

#[test]
fn a_reflector_with_a_full_table_counts_whom_it_refuses() {
    let config = Config {
        max_sessions: 1,
        ..Config::default()
    };
    let (reflector, address) = reflecting(Ipv4Addr::LOCALHOST.into(), config);
    let mut first = spec(address, 10);
    first.source_ports = 2;
    first.protocol = Choice::Stamp;
    first.wait_ns = 100_000_000;
    let seen = probe(first);
    assert_eq!(seen.count(Counter::Sent), 20);
    assert_eq!(
        (seen.count(Counter::Received), seen.count(Counter::Lost)),
        (10, 10)
    );
    assert_eq!(seen.loss.lost, 10);
    let stats = reflector.stats();
    assert!(stats.dropped(Drop::TableFull) >= 10);
    assert_eq!(
        stats.requests(),
        stats.replies() + stats.dropped(Drop::TableFull)
    );
    reflector.stop();
    reflector.join().expect("ends in order");
}
