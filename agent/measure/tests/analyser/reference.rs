//! Round trips of public captures against values that others found: kernel pping (xdp-project,
//! SYN included, no limit of rate) for timestamps, tcptrace and tshark for handshakes.
//!
//! A reader of its own, so that a mistake in the product's cannot hide here.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use base::{Leg, LinkType, Passage, RttMethod};
use measure::passive::{Classifier, Duplicates, Options};

use crate::frames::{Captured, analyse, options};

/// All frames of a little-endian pcap file; `None`: there are no captures here.
pub(crate) fn read(name: &str) -> Option<Vec<Captured>> {
    let folder = std::env::var_os("NETSONDE_PCAPS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/pcaps"),
        PathBuf::from,
    );
    if !folder.is_dir() {
        eprintln!("skipped: no captures in {}", folder.display());
        return None;
    }
    let file = std::fs::read(folder.join(name)).expect("readable");
    let u32_at = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("four"));
    let unit = match u32_at(0) {
        0xa1b2_c3d4 => 1000,
        0xa1b2_3c4d => 1,
        other => panic!("{name}: magic {other:x}"),
    };
    let link = LinkType::from_pcap(u32_at(20) as u16);
    let mut frames = Vec::new();
    let mut at = 24;
    while at < file.len() {
        let captured = u32_at(at + 8) as usize;
        frames.push(Captured {
            octets: file[at + 16..][..captured].to_vec(),
            cut: u32_at(at + 12) - captured as u32,
            at_ns: u64::from(u32_at(at)) * 1_000_000_000 + u64::from(u32_at(at + 4)) * unit,
            segment_bytes: 0,
            passage: Passage::Unknown,
            link,
        });
        at += 16 + captured;
    }
    Some(frames)
}

/// Round trips in microseconds, in order of size.
fn rtts(name: &str, method: RttMethod, leg: Leg) -> Option<Vec<u64>> {
    let said = analyse(options(100), &read(name)?);
    let mut all: Vec<u64> = said
        .rtts(method)
        .iter()
        .filter(|rtt| rtt.1 == leg)
        .map(|rtt| rtt.2 / 1000)
        .collect();
    all.sort_unstable();
    Some(all)
}

/// Kernel pping's rules over Ethernet, IPv4 and TCP without surprises: the first frame with
/// payload, or SYN, of a new TSval is stamped; the first frame that echoes it is its match.
/// Frame that replies and microseconds, by who replies.
fn pping(frames: &[Captured]) -> HashMap<[u8; 4], Vec<(u64, u64)>> {
    let mut newest: HashMap<[u8; 4], u32> = HashMap::new();
    let mut waiting = HashMap::new();
    let mut found: HashMap<[u8; 4], Vec<(u64, u64)>> = HashMap::new();
    for (number, frame) in (1..).zip(frames) {
        let octets = &frame.octets;
        let four = |at: usize| <[u8; 4]>::try_from(&octets[at..at + 4]).expect("four");
        let (from, to) = (four(26), four(30));
        let ip_len = usize::from(octets[16]) << 8 | usize::from(octets[17]);
        let payload = 34 + usize::from(octets[46] >> 4) * 4;
        let mut at = 54;
        while octets[at] != 8 {
            at += if octets[at] == 1 {
                1
            } else {
                usize::from(octets[at + 1])
            };
        }
        let tsval = u32::from_be_bytes(four(at + 2));
        let tsecr = u32::from_be_bytes(four(at + 6));
        if let Some(then) = waiting.remove(&(to, tsecr)) {
            let rtt = (frame.at_ns - then) / 1000;
            found.entry(from).or_default().push((number, rtt));
        }
        let stamps = 14 + ip_len > payload || octets[47] & 2 != 0;
        let new = newest
            .get(&from)
            .is_none_or(|last| tsval.wrapping_sub(*last).cast_signed() > 0);
        if stamps && new {
            newest.insert(from, tsval);
            waiting.insert((from, tsval), frame.at_ns);
        }
    }
    found
}

#[test]
fn timestamps_are_those_of_kernel_pping_but_for_late_echoes() {
    let Some(frames) = read("zeek_tcp_timestamp.pcap") else {
        return;
    };
    // The published values: 28 replies of one end, one of the other.
    let theirs = pping(&frames);
    let many = &theirs[&[192, 168, 1, 10]];
    let mut sizes: Vec<_> = many.iter().map(|rtt| rtt.1).collect();
    sizes.sort_unstable();
    assert_eq!((sizes.len(), sizes[0], sizes[27]), (28, 140, 21_623));
    assert!(sizes[13] <= 613 && 613 <= sizes[14]);
    let one = &theirs[&[192, 168, 2, 20]];
    assert_eq!(one[..], [(2, 50_854)]);

    let with = Options {
        segments: 4096,
        ..options(100)
    };
    let said = analyse(with, &frames);
    assert_eq!(said.counters.segments_forgotten, 0);
    let ours = said.rtts(RttMethod::Timestamp);
    let of = |leg| {
        ours.iter()
            .filter(move |rtt| rtt.1 == leg)
            .map(|rtt| (rtt.0, rtt.2 / 1000))
    };
    // Where the segment's own ACK echoes the tick before, the first echo comes with a later
    // ACK, of a segment that was sent later in the same tick: up to a tick too long. Not
    // taken; in a network of microseconds a tick is ten round trips.
    const LATE_ECHOES: [u64; 3] = [129, 145, 457];
    let wanted = many.iter().filter(|rtt| !LATE_ECHOES.contains(&rtt.0));
    assert!(of(Leg::Near).eq(wanted.copied()));
    // A FIN is stamped as well: it has a sequence number to acknowledge.
    assert!(of(Leg::Remote).eq([(2, 50_854), (878, 50_724)]));
}

#[test]
fn handshakes_are_those_of_tcptrace_and_tshark() {
    // tshark's `initial_rtt` is both legs together: 0.070034 s.
    let name = "zeek_http-vlan-0.pcap";
    let Some(remote) = rtts(name, RttMethod::Handshake, Leg::Remote) else {
        return;
    };
    let near = rtts(name, RttMethod::Handshake, Leg::Near).expect("the same file");
    assert_eq!((remote, near), (vec![69_740], vec![294]));
    // tcptrace: 3WHS in tenths of a millisecond.
    for (name, remote, near) in [
        ("zeek_tcp_retransmit-fast009.pcap", 1, 1854),
        ("zeek_tcp_reassembly.pcap", 95, 305),
        ("zeek_tcp_ssh-dups.pcap", 0, 2),
        ("zeek_tcp_timestamp.pcap", 509, 4),
    ] {
        for (leg, wanted) in [(Leg::Remote, remote), (Leg::Near, near)] {
            let found = rtts(name, RttMethod::Handshake, leg).expect("the same folder");
            let found: Vec<_> = found.iter().map(|us| (us + 50) / 100).collect();
            assert_eq!(found, [wanted], "{name} {leg:?}");
        }
    }
}

#[test]
fn an_impossible_order_gives_no_handshake() {
    // tshark says 34 µs where 69 ms were.
    let name = "zeek_tcp_handshake-reorder.pcap";
    let Some(remote) = rtts(name, RttMethod::Handshake, Leg::Remote) else {
        return;
    };
    let near = rtts(name, RttMethod::Handshake, Leg::Near).expect("the same file");
    assert_eq!((remote.len(), near.len()), (0, 0));
}

#[test]
fn counts_are_those_of_tcptrace() {
    // tcptrace 6.6.7, `-n -l -r`: what each end sent, the one that opened first; packets and
    // octets sent again, out of order, duplicate ACKs, triples, windows of 0, probes, samples.
    // (It prints duplicate ACKs beside the end that they are about.)
    type Counts = [u64; 8];
    let all: [(&str, [Counts; 2]); 5] = [
        (
            "zeek_tcp_retransmit-fast009.pcap",
            [[0, 0, 0, 0, 0, 0, 0, 2], [3, 4290, 0, 0, 0, 0, 0, 1]],
        ),
        (
            "zeek_tcp_ssh-dups.pcap",
            [
                [74, 11_117, 0, 96, 32, 0, 0, 1],
                [92, 12_821, 0, 24, 7, 0, 0, 1],
            ],
        ),
        (
            "zeek_tcp_timestamp.pcap",
            [[0, 0, 0, 1, 0, 0, 0, 2], [0, 0, 0, 0, 0, 0, 0, 183]],
        ),
        (
            "zeek_tcp_handshake-reorder.pcap",
            // The end that answers was captured first.
            [[0, 0, 0, 0, 0, 0, 0, 2], [0, 0, 0, 0, 0, 0, 0, 4]],
        ),
        (
            "sv_syn_retransmit_with_ts.pcap",
            [[1, 1, 0, 54, 2, 0, 0, 2], [18, 26_064, 0, 0, 0, 0, 0, 10]],
        ),
    ];
    for (name, wanted) in all {
        let Some(frames) = read(name) else { return };
        let with = Options {
            classifier: Classifier::Tcptrace,
            duplicates: Duplicates::Classify,
            segments: 4096,
            ..options(100)
        };
        let said = analyse(with, &frames);
        let [(_, flow)] = said.ended()[..] else {
            panic!("{name}: {:?}", said.ended());
        };
        let counts = flow.sides.map(|side| {
            let detail = side.detail.expect("tcptrace needs it");
            [
                u64::from(side.retransmissions),
                detail.retransmitted_bytes,
                u64::from(detail.out_of_order),
                u64::from(detail.duplicate_acks),
                u64::from(detail.triple_duplicate_acks),
                u64::from(detail.zero_windows),
                u64::from(detail.zero_window_probes),
                u64::from(detail.rtt_samples),
            ]
        });
        assert_eq!(counts, wanted, "{name}");
    }
}
