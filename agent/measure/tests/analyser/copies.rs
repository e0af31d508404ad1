//! Every packet captured twice, as a mirror of both ends does: what the originals are does
//! not change, and every copy is counted.

use base::{Observation, TcpClass};
use proptest::prelude::*;

use crate::frames::{ACK, Captured, Ip, Talk, analyse, options, segment};
use crate::reference;

/// A connection with loss on both sides of the probe, from an arbitrary row of numbers.
fn lossy(mut talk: Talk, row: &[u8]) -> Talk {
    talk.handshake();
    let mut next = 5001;
    let mut missing = Vec::new();
    for (n, &octet) in row.iter().enumerate() {
        let stamp = n as u32;
        talk.wait_us(200 + u64::from(octet) * 40);
        match octet % 8 {
            0 => {
                // Lost before the probe.
                missing.push(next);
                next += 1000;
            }
            1 | 2 if !missing.is_empty() => {
                let seq = missing.remove(0);
                let again = segment(ACK, seq, 1001, 1000).stamps(stamp, 1);
                talk.tcp(1, again);
                if octet > 100 {
                    talk.wait_us(50_000);
                    talk.tcp(1, again.stamps(stamp + 100, 1));
                }
            }
            _ => {
                talk.tcp(1, segment(ACK, next, 1001, 1000).stamps(stamp, 1));
                next += 1000;
            }
        }
        let ack = missing.first().copied().unwrap_or(next);
        talk.wait_us(300);
        talk.tcp(0, segment(ACK, 1001, ack, 0).stamps(stamp, stamp));
    }
    talk
}

/// Each frame and, right behind it, its copy from behind a router.
fn doubled(frames: &[Captured], later_ns: u64) -> Vec<Captured> {
    let twice = |frame: &Captured| {
        let mut copy = frame.clone();
        let ttl = if copy.octets[14] >> 4 == 6 { 21 } else { 22 };
        copy.octets[ttl] = copy.octets[ttl].wrapping_sub(1);
        copy.at_ns += later_ns;
        [frame.clone(), copy]
    };
    frames.iter().flat_map(twice).collect()
}

/// What is said of which original frame, and how many copies there are.
fn said(frames: &[Captured], doubled: bool) -> (Vec<String>, u64) {
    let all = analyse(options(100), frames);
    let mut copies = 0;
    let mut lines = Vec::new();
    for (number, one) in all.seen {
        if let Observation::Tcp { classes, .. } = one
            && classes.contains(TcpClass::CaptureDuplicate)
        {
            copies += 1;
            continue;
        }
        let number = if doubled { number.div_ceil(2) } else { number };
        // Of the time of the last frame a copy says the same as its original, and more.
        if !matches!(one, Observation::Ended { .. }) {
            lines.push(format!("{number} {one:?}"));
        }
    }
    assert_eq!(all.counters.capture_duplicates, copies);
    (lines, copies)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn copies_change_nothing(
        row in proptest::collection::vec(any::<u8>(), 1..200),
        v6 in any::<bool>(),
        later_ns in 0..900_000u64,
    ) {
        let talk = lossy(if v6 { Talk::v6() } else { Talk::v4() }, &row);
        let (once, none) = said(&talk.frames, false);
        prop_assert_eq!(none, 0);
        let (twice, copies) = said(&doubled(&talk.frames, later_ns.min(190_000)), true);
        prop_assert_eq!(copies, talk.frames.len() as u64);
        prop_assert_eq!(once, twice);
    }
}

#[test]
fn copies_in_public_captures_are_counted_to_the_last() {
    for name in [
        "zeek_tcp_retransmit-fast009.pcap",
        "zeek_tcp_reassembly.pcap",
        "zeek_tcp_ssh-dups.pcap",
        "zeek_tcp_timestamp.pcap",
    ] {
        let Some(frames) = reference::read(name) else {
            return;
        };
        let (once, before) = said(&frames, false);
        let (twice, copies) = said(&doubled(&frames, 1000), true);
        assert_eq!(copies, before + frames.len() as u64, "{name}");
        assert_eq!(once, twice, "{name}");
    }
}

/// An answer may come with the identification and the length of its question, and an end may
/// give all its packets one identification.
#[test]
fn what_only_looks_alike_is_no_copy() {
    let mut talk = Talk::v4();
    for n in 0..10u8 {
        for end in [0, 1] {
            let datagram = talk.datagram(end, &[n, 0, 7, 7]);
            talk.ip(end, Ip::new(17, 7), &datagram);
            // Echo, ESP with a number (RFC 4303 section 2), the same way.
            let echo = [8 * (1 - end as u8), 0, 0, 0, 0, 1, 0, n];
            talk.ip(end, Ip::new(1, 7), &echo);
            talk.ip(end, Ip::new(50, 7), &[0, 0, 0, 9, 0, 0, 0, n]);
        }
        talk.wait_us(100);
    }
    let once = analyse(options(10), &talk.frames).counters;
    assert_eq!((once.capture_duplicates, once.packets), (0, 60));
    let doubled = doubled(&talk.frames, 1_000);
    let twice = analyse(options(10), &doubled).counters;
    assert_eq!((twice.capture_duplicates, twice.packets), (60, 60));
    assert_eq!(twice.capture_duplicate_bytes * 2, twice.bytes);
}
