//! The public captures through decode and one state per flow. A reader of its own, so that a
//! mistake in the product's cannot hide one here.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use base::{Frame, LinkType, Passage};
use wire::decode::{Layer, decode};

use super::*;

/// A sample and the number of the frame that gave it, from 1 as tshark counts.
pub(super) type Numbered = (usize, Sample);

pub(super) fn path(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("NETSONDE_PCAPS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/pcaps"),
        PathBuf::from,
    );
    if !folder.is_dir() {
        eprintln!("skipped: no captures in {}", folder.display());
        return None;
    }
    Some(folder.join(name))
}

/// All that a capture gives when at most `snaplen` octets of a frame were captured.
pub(super) fn run(path: &Path, snaplen: usize) -> (Vec<Numbered>, DatagramCounters) {
    let mut flows = HashMap::new();
    let mut counters = DatagramCounters::new();
    let mut samples = Vec::new();
    for (number, (at, link, bytes, original_len)) in (1..).zip(read(path)) {
        let bytes = &bytes[..bytes.len().min(snaplen)];
        let frame = Frame {
            bytes,
            original_len,
            at,
            segment_bytes: 0,
            link,
            passage: Passage::Unknown,
        };
        let Ok(packet) = decode(&frame, Layer::Innermost) else {
            continue;
        };
        let from = (packet.source, packet.source_port);
        let to = (packet.destination, packet.destination_port);
        let key = (packet.protocol, from.min(to), from.max(to));
        let (near, state) = flows.entry(key).or_insert_with(|| {
            let kind = Kind::of(&packet, &Ports::default());
            (packet.source, DatagramState::new(kind))
        });
        let sender = if *near == packet.source {
            Sender::Near
        } else {
            Sender::Remote
        };
        let payload = &bytes[packet.payload_at as usize..][..packet.payload_captured as usize];
        state.packet(
            at,
            sender,
            &packet,
            payload,
            &mut counters,
            &mut |method, leg, ns| samples.push((number, (method, leg, ns))),
        );
    }
    (samples, counters)
}

type Record = (WallNanos, LinkType, Vec<u8>, u32);

/// All records of a little-endian pcap or pcapng file, which all of them are.
fn read(path: &Path) -> Vec<Record> {
    let file = std::fs::read(path).expect("readable");
    let u32_at = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("four"));
    let mut records = Vec::new();
    if u32_at(0) == 0x0a0d_0d0a {
        let mut link = LinkType::Other;
        let mut unit = 1000;
        let mut at = 0;
        while at < file.len() {
            match u32_at(at) {
                1 => {
                    link = LinkType::from_pcap(u32_at(at + 8) as u16);
                    unit = resolution(&file[at + 16..at + u32_at(at + 4) as usize - 4]);
                }
                6 => records.push((
                    WallNanos(
                        (u64::from(u32_at(at + 12)) << 32 | u64::from(u32_at(at + 16))) * unit,
                    ),
                    link,
                    file[at + 28..][..u32_at(at + 20) as usize].to_vec(),
                    u32_at(at + 24),
                )),
                _ => {}
            }
            at += u32_at(at + 4) as usize;
        }
        return records;
    }
    let unit = match u32_at(0) {
        0xa1b2_c3d4 => 1000,
        0xa1b2_3c4d => 1,
        other => panic!("{}: magic {other:x}", path.display()),
    };
    let link = LinkType::from_pcap(u32_at(20) as u16);
    let mut at = 24;
    while at < file.len() {
        let captured = u32_at(at + 8) as usize;
        let ns = u64::from(u32_at(at)) * 1_000_000_000 + u64::from(u32_at(at + 4)) * unit;
        records.push((
            WallNanos(ns),
            link,
            file[at + 16..][..captured].to_vec(),
            u32_at(at + 12),
        ));
        at += 16 + captured;
    }
    records
}

/// Nanoseconds per unit of an interface's stamps: option 9, `if_tsresol`.
fn resolution(mut options: &[u8]) -> u64 {
    while let [kind, _, len, _, rest @ ..] = options {
        match (kind, rest.first()) {
            (9, Some(9)) => return 1,
            (9, Some(6)) | (0, _) => return 1000,
            (9, other) => panic!("resolution {other:?}"),
            _ => options = &rest[usize::from(*len).next_multiple_of(4)..],
        }
    }
    1000
}
