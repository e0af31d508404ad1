//! Many concurrent flows, synthesised: every flow opens before any sends, and so on.
//!
//! Frames are whole and right: lengths, checksums, timestamps that are echoed. The order of
//! the flows differs from round to round (an affine walk), as arrivals do: no table may
//! profit from flows that come in the order of their slots.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::Result;
use wire::checksum::{internet, protocol, transport};

use super::pcap::{Writer, Written};

/// SYN, SYN-ACK, data, ACK.
pub const STEPS: u32 = 4;
const SNAPLEN: u16 = 128;
const START_NS: u64 = 1_700_000_000_000_000_000;
const HTTPS: u16 = 443;
const DATA_OCTETS: usize = 60;
/// RFC 9293 section 3.1.
const SYN: u8 = 0x02;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// How many, how fast.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Flows, all open at the same time.
    pub flows: u32,
    /// Between two frames.
    pub gap_ns: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            flows: 1_000_000,
            gap_ns: 250,
        }
    }
}

/// Writes them all: [`STEPS`] frames per flow.
///
/// # Errors
/// When the disk is full.
pub fn write(to: &Path, plan: &Plan, seed: u64) -> Result<Written> {
    let mut writer = Writer::create(to, SNAPLEN)?;
    let mut at_ns = START_NS;
    for step in 0..STEPS {
        for flow in walk(plan.flows, seed + u64::from(step)) {
            let bytes = segment(plan, flow, step, client(flow));
            writer.write(at_ns, &bytes, u32::try_from(bytes.len())?)?;
            at_ns += plan.gap_ns;
        }
    }
    writer.finish()
}

/// Every number below `count` once, scattered.
fn walk(count: u32, seed: u64) -> impl Iterator<Item = u32> {
    let count = u64::from(count.max(1));
    let start = mix(seed) % count;
    let mut stride = mix(seed ^ u64::MAX) % count;
    while common_divisor(stride, count) != 1 {
        stride += 1;
    }
    (0..count).map(move |step| ((start + step * stride) % count) as u32)
}

const fn common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// splitmix64's finaliser.
const fn mix(value: u64) -> u64 {
    let mut value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// 20 flows per client, as a busy server sees them.
fn client(flow: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0001 + flow / 20)
}

/// One frame of one flow, with `client` for the address of its opener.
#[must_use]
pub fn segment(plan: &Plan, flow: u32, step: u32, client: Ipv4Addr) -> Vec<u8> {
    let server = Ipv4Addr::from(0xc633_6400 + flow % 200);
    let port = 20_000 + (flow % 20_000) as u16;
    let [client_isn, server_isn] = [0, 1].map(|side| mix(u64::from(flow) << 1 | side) as u32);
    // Milliseconds, as Linux counts them, from an origin of its own per flow.
    let tick = |step: u32| {
        let since_ns = u64::from(step) * u64::from(plan.flows) * plan.gap_ns;
        (mix(flow.into()) as u32).wrapping_add((since_ns / 1_000_000) as u32)
    };
    let from_client = step != 1 && step != 3;
    let (sequence, acknowledged, flags, payload) = match step {
        0 => (client_isn, 0, SYN, 0),
        1 => (server_isn, client_isn.wrapping_add(1), SYN | ACK, 0),
        2 => {
            let (own, peer) = (client_isn.wrapping_add(1), server_isn.wrapping_add(1));
            (own, peer, PSH | ACK, DATA_OCTETS)
        }
        _ => {
            let own = server_isn.wrapping_add(1);
            let all = client_isn.wrapping_add(1 + DATA_OCTETS as u32);
            (own, all, ACK, 0)
        }
    };
    let mut options = Vec::with_capacity(20);
    if flags & SYN != 0 {
        // MSS 1460, SACK permitted, window scale 7 (RFC 9293, 2018, 7323).
        options.extend([2, 4, 0x05, 0xb4, 4, 2, 3, 3, 7, 1]);
    } else {
        options.extend([1, 1]);
    }
    options.extend([8, 10]);
    options.extend(tick(step).to_be_bytes());
    options.extend(if step == 0 { 0 } else { tick(step - 1) }.to_be_bytes());
    options.resize(options.len().next_multiple_of(4), 1);

    let header = 20 + options.len();
    let ends = if from_client {
        (client, server, port, HTTPS)
    } else {
        (server, client, HTTPS, port)
    };
    let mut bytes = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    let total = (20 + header + payload) as u16;
    let mut ip = [0; 20];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&total.to_be_bytes());
    ip[4..6].copy_from_slice(&((step * 7 + flow) as u16).to_be_bytes());
    ip[6..10].copy_from_slice(&[0x40, 0, 64, protocol::TCP]);
    ip[12..16].copy_from_slice(&ends.0.octets());
    ip[16..].copy_from_slice(&ends.1.octets());
    let sum = internet(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes.extend(ip);
    let at = bytes.len();
    bytes.extend(ends.2.to_be_bytes());
    bytes.extend(ends.3.to_be_bytes());
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(acknowledged.to_be_bytes());
    bytes.extend([((header / 4) << 4) as u8, flags]);
    bytes.extend(501u16.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(options);
    bytes.resize(at + header + payload, 0x5a);
    let sum = transport(ends.0.into(), ends.1.into(), protocol::TCP, &bytes[at..]);
    bytes[at + 16..at + 18].copy_from_slice(&sum.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use wire::checksum::{verify, verify_transport};
    use wire::frame::Frame;

    #[test]
    fn flows_differ_and_every_frame_is_right() {
        let plan = Plan {
            flows: 3_000,
            gap_ns: 250,
        };
        let mut flows = BTreeSet::new();
        for flow in 0..plan.flows {
            for step in 0..STEPS {
                let bytes = segment(&plan, flow, step, client(flow));
                assert!(bytes.len() <= SNAPLEN.into());
                let frame = Frame::parse(&bytes).expect("well formed");
                assert!(verify(&bytes[frame.l3..frame.l4]));
                let whole = &bytes[frame.segment()];
                assert!(verify_transport(frame.source, frame.destination, 6, whole));
                let (from, to) = frame.ports.expect("ports");
                let mut ends = [(frame.source, from), (frame.destination, to)];
                ends.sort_unstable();
                flows.insert(ends);
            }
        }
        assert_eq!(flows.len(), 3_000, "both directions have one key");
    }

    #[test]
    fn a_million_flows_have_a_million_keys() {
        let keys: BTreeSet<_> = (0..1_000_000u32)
            .map(|flow| (client(flow), flow % 200, flow % 20_000))
            .collect();
        assert_eq!(keys.len(), 1_000_000);
    }

    #[test]
    fn a_walk_visits_all_in_an_order_of_its_own() {
        for count in [1, 2, 1_000, 4_099] {
            let walked: Vec<u32> = walk(count, 7).collect();
            let all: BTreeSet<u32> = walked.iter().copied().collect();
            assert_eq!((walked.len(), all.len()), (count as usize, count as usize));
        }
        let first: Vec<u32> = walk(1_000, 1).collect();
        assert_ne!(first, walk(1_000, 2).collect::<Vec<_>>());
        assert!(!first.is_sorted());
    }
}
