//! Whatever belongs to a flow reaches one worker, in both directions: mirrored frames whose
//! outer ports say nothing, fragments, ICMP errors. Captured on a router, where one
//! direction arrives and the other leaves (the program sees these two at different places).

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use base::Passage;
use capture::{AfPacketOptions, AfPacketSource};
use lab::traffic::send_frames;
use lab::{Lab, Routed};

use super::{DEVICE, Tally, on_device, read_until};

const FLOWS: u16 = 100;
const WORKERS: u32 = 4;
/// Of a frame that the sending socket does not put into one piece: only its Ethernet header is
/// where a program can read it directly.
const LARGE: usize = 5_000;
/// The last octets of every frame: this and the flow's number.
const TAG: &[u8; 4] = b"FLOW";

/// a and b, with hardware addresses of each and of the router's side to it.
const ENDS: [[u8; 4]; 2] = [[10, 0, 1, 1], [10, 0, 2, 1]];
const HARDWARE: [([u8; 6], [u8; 6]); 2] = [
    ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 0xfe]),
    ([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 0xfd]),
];

fn ipv4(from: [u8; 4], to: [u8; 4], protocol: u8, id: u16, place: u16, payload: &[u8]) -> Vec<u8> {
    let length = 20 + payload.len() as u16;
    let mut header = vec![0x45, 0];
    header.extend(length.to_be_bytes());
    header.extend(id.to_be_bytes());
    header.extend(place.to_be_bytes());
    header.extend([64, protocol, 0, 0]);
    header.extend(from);
    header.extend(to);
    // RFC 1071.
    let sum: u32 = header
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let sum = !((folded & 0xffff) + (folded >> 16)) as u16;
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [header, payload.to_vec()].concat()
}

/// Ports, the rest of the header, and a tag.
fn segment(ports: [u16; 2], header: usize, flow: u32) -> Vec<u8> {
    filled(ports, header, flow, 16)
}

/// As [`segment`], with so much in between.
fn filled(ports: [u16; 2], header: usize, flow: u32, fill: usize) -> Vec<u8> {
    let mut bytes = [ports[0].to_be_bytes(), ports[1].to_be_bytes()].concat();
    bytes.resize(header, 0);
    if header == 20 {
        bytes[12] = 0x50;
    }
    bytes.resize(bytes.len() + fill, 0xa5);
    bytes.extend(TAG);
    bytes.extend(flow.to_be_bytes());
    if header == 8 {
        let length = bytes.len() as u16;
        bytes[4..6].copy_from_slice(&length.to_be_bytes());
    }
    bytes
}

fn udp(ports: [u16; 2], payload: &[u8]) -> Vec<u8> {
    let mut bytes = [ports[0].to_be_bytes(), ports[1].to_be_bytes()].concat();
    bytes.extend((8 + payload.len() as u16).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(payload);
    bytes
}

/// The IP packets of flow `number` that the end `from` sends, and the kinds of flows.
fn packets(number: u16, from: usize) -> Vec<(u32, Vec<u8>)> {
    let (own, other) = (ENDS[from], ENDS[1 - from]);
    let outer = |protocol, payload: &[u8]| ipv4(own, other, protocol, number, 0x4000, payload);
    let turned = |ports: [u16; 2]| {
        if from == 0 {
            ports
        } else {
            [ports[1], ports[0]]
        }
    };
    let inner_end = |end: usize| {
        if end == 0 {
            [172, 16, 1, number as u8]
        } else {
            [172, 16, 2, 9]
        }
    };
    let inner_filled = |flow, fill| {
        let segment = filled(turned([7_000 + number, 443]), 20, flow, fill);
        ipv4(
            inner_end(from),
            inner_end(1 - from),
            6,
            number,
            0x4000,
            &segment,
        )
    };
    let inner = |flow| inner_filled(flow, 16);
    let ethernet = |packet: &[u8]| [&[2; 12], &[8, 0][..], packet].concat();
    let quote = |kind, quoted: &[u8], flow: u32| {
        let tag = [&[0; 12], &TAG[..], &flow.to_be_bytes()].concat();
        outer(
            1,
            &[&[kind, 4, 0, 0, 0, 0, 5, 0], &quoted[..28], &tag].concat(),
        )
    };
    // What the other end sent, as it is quoted to it.
    let sent_by_other = |protocol, ports: [u16; 2], header| {
        let ports = turned(ports);
        ipv4(
            other,
            own,
            protocol,
            number,
            0x4000,
            &segment([ports[1], ports[0]], header, 0),
        )
    };
    let flow = |kind: u32| kind << 16 | u32::from(number);
    let ports = [20_000 + number, 443];
    let tcp = |kind| segment(turned(ports), 20, flow(kind));
    let datagram = |kind| segment(turned(ports), 8, flow(kind));
    // Outer ports that differ by direction, as Traffic Mirroring has them.
    let outer_port = [50_000 + number * 7, 61_000 - number * 3][from];
    let vxlan = |fill| {
        [
            &[8, 0, 0, 0, 0, 0, 7, 0][..],
            &ethernet(&inner_filled(flow(4), fill)),
        ]
        .concat()
    };
    let geneve = [&[0, 0, 8, 0, 0, 0, 7, 0][..], &inner(flow(5))].concat();
    vec![
        // In one piece of memory or, from a page on, in several.
        (1, outer(6, &filled(turned(ports), 20, flow(1), LARGE))),
        (4, outer(17, &udp([outer_port, 4_789], &vxlan(LARGE)))),
        // TCP and the errors that quote it.
        (1, outer(6, &tcp(1))),
        (1, quote(3, &sent_by_other(6, ports, 20), flow(1))),
        (1, quote(11, &sent_by_other(6, ports, 20), flow(1))),
        // UDP, whole, in fragments of either order, and quoted.
        (2, outer(17, &datagram(2))),
        (
            2,
            ipv4(own, other, 17, 1_000 + number, 0x2000, &datagram(2)),
        ),
        (
            2,
            ipv4(own, other, 17, 1_000 + number, 0x0005, &datagram(2)),
        ),
        (
            2,
            ipv4(own, other, 17, 2_000 + number, 0x0005, &datagram(2)),
        ),
        (
            2,
            ipv4(own, other, 17, 2_000 + number, 0x2000, &datagram(2)),
        ),
        (2, quote(3, &sent_by_other(17, ports, 8), flow(2))),
        // TCP in fragments, the first one first.
        (
            3,
            outer(6, &segment(turned([30_000 + number, 80]), 20, flow(3))),
        ),
        (
            3,
            ipv4(
                own,
                other,
                6,
                3_000 + number,
                0x2000,
                &segment(turned([30_000 + number, 80]), 20, flow(3)),
            ),
        ),
        (
            3,
            ipv4(
                own,
                other,
                6,
                3_000 + number,
                0x0006,
                &segment([1, 2], 20, flow(3)),
            ),
        ),
        // Tunnels.
        (4, outer(17, &udp([outer_port, 4_789], &vxlan(16)))),
        (5, outer(17, &udp([outer_port, 6_081], &geneve))),
        (6, outer(47, &[&[0, 0, 8, 0][..], &inner(flow(6))].concat())),
        (7, outer(4, &inner(flow(7)))),
    ]
}

pub(super) fn one_worker() -> Result<()> {
    let lab = Lab::new()?;
    let net = Routed::new(&lab, 9_001)?;
    for host in [&net.a, &net.b, &net.router] {
        host.silence()?;
        host.sysctl("net/ipv4/conf/all/rp_filter", "0")?;
    }
    let options = AfPacketOptions {
        snaplen: 9_100,
        ..on_device()
    };
    let opened = net
        .router
        .namespace()
        .run(|| AfPacketSource::open_group(&options, WORKERS))??;
    ensure!(opened.notes.is_empty(), "{:?}", opened.notes);
    let mut expected = BTreeMap::new();
    for (from, host) in [(0, &net.a), (1, &net.b)] {
        let mut frames = Vec::new();
        for number in 0..FLOWS {
            for (kind, packet) in packets(number, from) {
                let (own, router) = HARDWARE[from];
                frames.push([&router[..], &own, &[8, 0], &packet].concat());
                *expected.entry((kind, number)).or_insert(0) += 1;
                // Tagged once and twice; the router takes these in and forwards none.
                if (kind, from) == (1, 0) {
                    for tags in [
                        &[0x81, 0, 0, 5][..],
                        &[0x88, 0xa8, 0, 9, 0x81, 0, 0, 5],
                        // The tag looks like the start of an IPv4 header.
                        &[0x88, 0xa8, 0, 9, 0x81, 0, 0x45, 0],
                    ] {
                        frames.push([&router[..], &own, tags, &[8, 0], &packet].concat());
                        *expected.entry((kind, number)).or_insert(0) += 1;
                    }
                }
            }
        }
        send_frames(host, DEVICE, &frames)?;
    }
    // By flow: its workers, and how many frames of it arrived and left.
    let mut flows: BTreeMap<(u32, u16), (BTreeSet<usize>, [u32; 2])> = BTreeMap::new();
    let mut by_worker = [0; WORKERS as usize];
    let mut sources = opened.sources;
    let sent: u32 = expected.values().sum();
    let mut tagged = 0;
    let tagged_now = std::cell::Cell::new(0);
    let each = |worker: usize, frame: &base::Frame<'_>| {
        let Some([tag @ .., a, b, c, d]) = frame.bytes.last_chunk::<8>() else {
            return;
        };
        // What the hosts answer quotes a small packet whole: of the flow too.
        if tag == TAG {
            let flow = u32::from_be_bytes([*a, *b, *c, *d]);
            let entry = flows.entry((flow >> 16, flow as u16)).or_default();
            entry.0.insert(worker);
            entry.1[usize::from(frame.passage == Passage::Sent)] += 1;
            by_worker[worker] += 1;
            tagged += 1;
            tagged_now.set(tagged);
        }
    };
    let tally = &mut Tally::default();
    read_until(&mut sources, tally, each, |_| Ok(tagged_now.get() >= sent))?;
    ensure!(tally.drops == [0; 3], "{tally:?}");
    ensure!(
        flows.len() == expected.len(),
        "{} of {} flows",
        flows.len(),
        expected.len()
    );
    let mut split: BTreeMap<u32, u32> = BTreeMap::new();
    for ((kind, _), _) in flows.iter().filter(|(_, seen)| seen.0.len() > 1) {
        *split.entry(*kind).or_default() += 1;
    }
    ensure!(split.is_empty(), "flows split, by kind: {split:?}");
    for (flow, (_, [arrived, left])) in &flows {
        ensure!(
            arrived + left >= expected[flow],
            "{flow:?}: {arrived} + {left} of {}",
            expected[flow]
        );
        ensure!(
            *arrived > 0 && *left > 0,
            "{flow:?} was seen in one direction only"
        );
    }
    ensure!(
        by_worker.iter().all(|frames| *frames > 100),
        "not shared out: {by_worker:?}"
    );
    let counted = opened.fanout.context("a program")?.counters()?;
    ensure!(
        counted.orphan_fragments == 0 && counted.flow > 0,
        "{counted:?}"
    );
    Ok(())
}
