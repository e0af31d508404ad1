//! Any frames: none is lost, no flow is lost, nothing panics; and the fuzz target's corpus.

use proptest::prelude::*;

use crate::frames::{ACK, FIN, SYN, Talk, segment};

#[path = "../../../../tests/fuzz/checks/analyser.rs"]
mod check;

/// The fuzz target's form of a capture.
fn record(talk: &Talk) -> Vec<u8> {
    let mut data = Vec::new();
    let mut before = crate::frames::START;
    for frame in &talk.frames {
        let step_us = (frame.at_ns - before) / 1000;
        before = frame.at_ns;
        data.push(if frame.segment_bytes > 0 { 4 } else { 0 });
        data.extend((step_us as u32).to_le_bytes());
        data.extend((frame.octets.len() as u16).to_le_bytes());
        data.extend(&frame.octets);
    }
    data
}

fn ordinary(mut talk: Talk) -> Talk {
    talk.handshake();
    for n in 0..4 {
        talk.tcp(1, segment(ACK, 5001 + n * 20, 1001, 20).stamps(n, n));
        talk.wait_us(3_000);
        talk.tcp(0, segment(ACK, 1001, 5021 + n * 20, 0).stamps(n, n));
    }
    talk.tcp(1, segment(ACK, 5001, 1001, 20));
    talk.tcp(0, segment(FIN | ACK, 1001, 5081, 0));
    talk.wait_us(90);
    talk.tcp(1, segment(FIN | ACK, 5081, 1002, 0));
    talk.wait_us(9_000_000);
    talk.tcp(0, segment(SYN, 99, 0, 0));
    talk
}

fn seeds() -> Vec<Vec<u8>> {
    let mut dns = Talk::new("10.0.0.1:4000", "10.0.0.2:53");
    dns.udp(0, &[0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    dns.wait_us(700);
    dns.udp(1, &[0, 7, 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0]);
    vec![
        record(&ordinary(Talk::v4())),
        record(&ordinary(Talk::v6())),
        record(&dns),
    ]
}

#[test]
fn every_seed() {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fuzz/corpus/analyser"
    );
    let entries: Vec<_> = std::fs::read_dir(folder).expect("the corpus").collect();
    assert!(entries.len() >= 3);
    for entry in entries {
        let path = entry.expect("an entry").path();
        check::check(&std::fs::read(path).expect("readable"));
    }
}

proptest! {
    #[test]
    fn any_octets(data in proptest::collection::vec(any::<u8>(), 0..2000)) {
        check::check(&data);
    }

    #[test]
    fn captures_with_octets_changed(
        seed in 0..3usize,
        changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 0..40),
        twice in any::<bool>(),
    ) {
        let mut data = seeds().swap_remove(seed);
        if twice {
            data.extend(data.clone());
        }
        for (at, octet) in changes {
            let at = usize::from(at) % data.len();
            data[at] = octet;
        }
        check::check(&data);
    }
}

/// The fuzzer begins where this begins; `NETSONDE_WRITE_VECTORS=1` writes them anew.
#[test]
fn the_corpus_has_these_seeds() {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fuzz/corpus/analyser"
    );
    for (name, seed) in ["v4", "v6", "dns"].iter().zip(seeds()) {
        let path = format!("{folder}/{name}");
        if std::env::var_os("NETSONDE_WRITE_VECTORS").is_some() {
            std::fs::create_dir_all(folder).expect("a folder");
            std::fs::write(&path, &seed).expect("written");
        }
        assert!(std::fs::read(&path).expect(&path) == seed, "{path}");
    }
}
