//! What tshark 4.0.17 says of the public captures, in `tshark.txt`: file, frame, method, leg,
//! nanoseconds. `dns` is `dns.time` over UDP, `icmp` is `icmp.resptime`. `quic_handshake` is
//! the difference of `frame.time_epoch` between frames chosen by `quic.long.packet_type` per
//! `udp.stream`: first with 0 from the client to first of any type from the server, and first
//! with 2 from the server to first with 2 from the client, coalesced ones included.

use super::capture::{path, run};
use super::*;

/// Where we differ on purpose: file, frame, and what we say instead.
const DIFFERENCES: [(&str, usize, Option<u64>); 2] = [
    // The query was sent twice (frames 3 and 5), so the response is of either (Karn);
    // tshark counts from the second copy to the response's last fragment.
    ("zeek_ipv6-fragmented-dns.pcap", 8, None),
    // The request is in two fragments: tshark counts from the one that completes it, we from
    // the one with the header, frame 1.
    ("sv_ipv4frags.pcap", 3, Some(509_000)),
];

struct Expected {
    file: &'static str,
    frame: usize,
    method: &'static str,
    leg: &'static str,
    ns: u64,
}

fn expected() -> Vec<Expected> {
    let list = include_str!("tshark.txt");
    list.lines()
        .map(|line| {
            let words: Vec<_> = line.split(' ').collect();
            Expected {
                file: words[0],
                frame: words[1].parse().expect("a frame"),
                method: words[2],
                leg: words[3],
                ns: words[4].parse().expect("a time"),
            }
        })
        .collect()
}

fn files() -> Vec<&'static str> {
    let mut files: Vec<_> = expected().iter().map(|e| e.file).collect();
    files.dedup();
    files
}

#[test]
fn every_round_trip_is_tsharks() {
    let all = expected();
    let mut compared = 0;
    for file in files() {
        let Some(path) = path(file) else { return };
        let mut ours: Vec<_> = run(&path, usize::MAX)
            .0
            .into_iter()
            .map(|(frame, (method, leg, ns))| (frame, method.as_str(), leg.as_str(), ns))
            .collect();
        let mut theirs: Vec<_> = all
            .iter()
            .filter(|e| e.file == file)
            .filter_map(|e| {
                // In all these captures the asking side sent the flow's first packet.
                let leg = if e.leg == "-" { "remote" } else { e.leg };
                let other = DIFFERENCES.iter().find(|d| (d.0, d.1) == (e.file, e.frame));
                let ns = other.map_or(Some(e.ns), |d| d.2)?;
                Some((e.frame, e.method, leg, ns))
            })
            .collect();
        ours.sort_unstable();
        theirs.sort_unstable();
        assert_eq!(ours, theirs, "{file}");
        compared += ours.len();
    }
    assert_eq!(compared, all.len() - 1);
}

#[test]
fn a_snaplen_takes_nothing_from_the_remote_leg() {
    for file in files().iter().filter(|file| file.contains("quic")) {
        let Some(path) = path(file) else { return };
        let whole = run(&path, usize::MAX).0;
        for snaplen in [96, 128] {
            let (cut, _) = run(&path, snaplen);
            assert!(cut.iter().all(|sample| whole.contains(sample)), "{file}");
            let remote = |samples: &[(usize, Sample)]| {
                samples.iter().filter(|s| s.1.1 == Leg::Remote).count()
            };
            assert_eq!(remote(&cut), remote(&whole), "{file} at {snaplen}");
        }
    }
}

#[test]
fn random_and_constant_spin_values_give_nothing() {
    for file in files().iter().filter(|file| file.contains("quic")) {
        let Some(path) = path(file) else { return };
        let (samples, counters) = run(&path, usize::MAX);
        let spins = samples.iter().filter(|s| s.1.0 == RttMethod::QuicSpin);
        assert_eq!(spins.count(), 0, "{file}");
        if file.contains("firefox-102") {
            // The client's values are random, the server's constant.
            assert!(counters.get(DatagramEvent::SpinUnsteady) > 10);
            assert!(counters.get(DatagramEvent::SpinUnanswering) > 5);
        }
    }
}

#[test]
fn google_quic_is_not_quic() {
    let Some(path) = path("tcpdump_gquic.pcap") else {
        return;
    };
    let (samples, counters) = run(&path, usize::MAX);
    assert_eq!(samples, []);
    let refused: u64 = NotQuic::ALL.iter().map(|r| counters.not_quic(*r)).sum();
    assert!(refused > 0);
}
