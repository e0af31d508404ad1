//! The estimators of datagram protocols, through the analyser: any packets at any times give
//! no round trip longer than the time that passed, and every frame is accounted for.
//!
//! Input: one octet that chooses ports, then packets: an octet (0x01 from the other end, 0x02
//! time steps back, 0x0c its scale, 0xf0 hundreds of octets that were not captured), two of time, one of
//! length, so much payload.

use base::{Frame, Observation, WallNanos};
use measure::passive::{Analyser, Options};

const START: u64 = 1_700_000_000_000_000_000;
const SCALES: [u64; 4] = [1, 1_000, 100_000, 50_000_000];
const HEADERS: usize = 42;

pub(crate) fn check(data: &[u8]) {
    let Some((&kind, mut rest)) = data.split_first() else {
        return;
    };
    let ports: [u16; 2] = match kind % 7 {
        0 => [40_000, 443],
        1 => [443, 443],
        2 => [40_000, 53],
        3 => [40_000, 862],
        4 => [862, 862],
        5 => [0, 0],
        _ => [40_000, 80],
    };
    let mut options = Options::new([7; 8]);
    options.flows = 8;
    options.segments = 8;
    let mut analyser = Analyser::new(options);
    let (mut now, mut oldest, mut newest) = (START, START, START);
    let mut frames = 0;
    let mut bytes = Vec::new();
    while let [op, high, low, len, after @ ..] = rest {
        let (payload, after) = after.split_at(after.len().min(usize::from(*len)));
        rest = after;
        let step = u64::from(u16::from_be_bytes([*high, *low])) * SCALES[usize::from(op >> 2 & 3)];
        now = if op & 2 == 0 { now + step } else { now - step };
        (oldest, newest) = (oldest.min(now), newest.max(now));
        let missing = usize::from(op >> 4) * 100;
        packet(&mut bytes, ports, op & 1 != 0, payload, missing);
        let frame = Frame {
            original_len: (bytes.len() + missing) as u32,
            ..Frame::ethernet(&bytes, WallNanos(now))
        };
        frames += 1;
        let mut samples = 0;
        analyser.batch(&[frame], &mut |number, observation| {
            assert_eq!(number, frames);
            if let Observation::Rtt { ns, .. } = observation {
                assert!(ns <= newest - oldest);
                samples += 1;
            }
        });
        // A spin edge that is confirmed may confirm what answered it.
        assert!(samples <= 2);
        assert_eq!(analyser.counters().balance(), 0);
    }
    assert_eq!(analyser.counters().frames, frames);
}

/// Ethernet, IPv4, and UDP, or an ICMP header where the ports are 0.
fn packet(bytes: &mut Vec<u8>, ports: [u16; 2], back: bool, payload: &[u8], missing: usize) {
    let len = payload.len() + missing;
    let (mut ends, mut ports) = ([[192, 0, 2, 1], [192, 0, 2, 2]], ports);
    if back {
        ends.reverse();
        ports.reverse();
    }
    let icmp = ports == [0, 0];
    bytes.clear();
    bytes.extend([2; 12]);
    bytes.extend([8, 0, 0x45, 0]);
    bytes.extend((len as u16 + 28).to_be_bytes());
    bytes.extend([0, 0, 0, 0, 64, if icmp { 1 } else { 17 }, 0, 0]);
    bytes.extend(ends.concat());
    if icmp {
        // Echo or its reply by the first octet of the payload, the sequence number by the next.
        let reply = payload.first().is_some_and(|octet| octet & 1 != 0);
        let sequence = payload.get(1).copied().unwrap_or(0);
        bytes.extend([if reply { 0 } else { 8 }, 0, 0, 0, 0, 7, 0, sequence]);
    } else {
        bytes.extend(ports.map(u16::to_be_bytes).concat());
        bytes.extend((len as u16 + 8).to_be_bytes());
        bytes.extend([0, 0]);
    }
    debug_assert_eq!(bytes.len(), HEADERS);
    bytes.extend(payload);
}
