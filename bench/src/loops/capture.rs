//! The stages of a captured frame apart: out of the file, decoded, looked up, measured,
//! recorded.
//!
//! `look-up` has `decode` in it and goes through the flow table with every frame. `analyse`
//! has the shortest decoding and a look-up among the flows nearby, as nearly every TCP segment
//! does, and never gets to the table. The ring of AF_PACKET is not here: it cannot be walked
//! without a socket whose kernel fills it. Whatever a loop's state should have come to is
//! asserted when it is made.

mod analyse;
mod frames;

use std::hint::black_box;
use std::time::Duration;

use ::capture::file::FileSource;
use ::capture::{BATCH, Polled, Source};
use ::measure::passive::{Analyser, Counters, Options};
use ::record::Distribution;
use ::record::passive::CaptureStats;
use ::wire::decode::{Layer, Packet, PacketFlags, TcpHeader, Transport, decode, stamped};
use base::{FlowKey, Frame, GroupKey, Leg, Observation, RttMethod, WallNanos};
use sys::cache::HostMemory;

use self::frames::{DATAGRAM, Ends, FILE_FRAMES, FULL, STAMPED};
use super::{Loop, Numbers};

const START: u64 = 1_700_000_000_000_000_000;
/// Between two frames: a million a second.
const GAP_NS: u64 = 1_000;
/// Any that is neither QUIC, DNS nor STAMP.
const PLAIN_PORT: u16 = 5_001;

/// With the memory's help and the options of the command.
fn analyser() -> Analyser<HostMemory> {
    Analyser::with_memory(Options::new([0x9e37_79b9_7f4a_7c15; 8]), HostMemory)
}

/// That every frame is in one of so many flows, and nothing is odd about any.
fn all_measured(counters: &Counters, frames: u64, flows: u32) {
    assert_eq!(counters.balance(), 0);
    assert_eq!((counters.frames, counters.measured), (frames, frames));
    assert_eq!(counters.flows, u64::from(flows));
    let odd = counters.capture_duplicates + counters.segments_forgotten + counters.clock_back;
    assert_eq!((odd, counters.ended.iter().sum::<u64>()), (0, 0));
}

/// A frame of which only the headers were captured.
#[inline]
fn cut(octets: &[u8]) -> Frame<'_> {
    Frame {
        original_len: octets.len() as u32 + u32::from(FULL),
        ..Frame::ethernet(octets, WallNanos(START))
    }
}

/// The file source: records out of the window, and the window's refilling from memory.
fn walk() -> Loop {
    let reader = frames::Endless::new(frames::file());
    let mut source = FileSource::from_reader("the bench's", reader).expect("a capture file");
    let mut pass = move || {
        let (mut frames, mut captured) = (0, 0);
        while frames < FILE_FRAMES {
            let polled = source.poll(Duration::ZERO, |batch| {
                captured += batch[0].bytes.len();
                black_box(batch);
            });
            match polled {
                Ok(Polled::Frames(lent)) => frames += lent,
                other => unreachable!("a file without end: {other:?}"),
            }
        }
        (frames, captured / frames.div_ceil(BATCH))
    };
    for _ in 0..3 {
        let (frames, captured) = pass();
        assert_eq!(frames, FILE_FRAMES);
        assert!((STAMPED..=94).contains(&captured));
    }
    Loop::new("walk/pcap", FILE_FRAMES as u64, move || {
        black_box(pass());
    })
}

/// `decode` of a batch of flows' segments, each of which is full and cut after its headers.
fn decoding(
    name: &'static str,
    segment: impl Fn(Ends, u16) -> Vec<u8>,
    right: impl Fn(&Packet) -> bool,
) -> Loop {
    let octets: Vec<Vec<u8>> = (0..BATCH as u32)
        .map(|flow| segment(Ends::of(flow, 443), FULL))
        .collect();
    for octets in &octets {
        let packet = decode(&cut(octets), Layer::Innermost).expect("a good frame");
        let Transport::Tcp(tcp) = packet.transport else {
            unreachable!("{packet:?}");
        };
        assert_eq!(tcp.options, TcpHeader::TIMESTAMPS);
        assert_eq!((packet.payload_len, packet.payload_captured), (1448, 0));
        assert!(right(&packet), "{packet:?}");
    }
    Loop::new(name, BATCH as u64, move || {
        for octets in &octets {
            let _ = black_box(decode(black_box(&cut(octets)), Layer::Innermost));
        }
    })
}

/// What the analyser asks first of every frame.
fn stamped_segments() -> Loop {
    let octets: Vec<_> = (0..BATCH as u32)
        .map(|flow| frames::segment(Ends::of(flow, 443), FULL))
        .collect();
    for octets in &octets {
        let segment = stamped(&cut(octets)).expect("one of those");
        assert_eq!(segment.payload_len, u32::from(FULL));
    }
    Loop::new("decode/tcp-stamped", BATCH as u64, move || {
        for octets in &octets {
            black_box(stamped(black_box(&cut(octets))));
        }
    })
}

/// Datagrams of many flows in turn, both ways; in memory in the order in which they come, as
/// in a ring, so that only the table is missed in the cache.
struct Datagrams {
    octets: Vec<[u8; DATAGRAM]>,
    analyser: Analyser<HostMemory>,
    next: usize,
    frames: u64,
    shown: u64,
}

impl Datagrams {
    fn new(flows: u32) -> Self {
        // A stride without a common divisor: no table profits from its own order.
        let number = |n: u32| (u64::from(n) * 38_197 % u64::from(flows)) as u32;
        let both_ways = (2 * flows).max(BATCH as u32);
        let octets = (0..both_ways).map(|n| {
            let ends = Ends::of(number(n), PLAIN_PORT);
            frames::datagram(if (n / flows).is_multiple_of(2) {
                ends
            } else {
                ends.back()
            })
        });
        let mut this = Self {
            octets: octets.collect(),
            analyser: analyser(),
            next: 0,
            frames: 0,
            shown: 0,
        };
        for _ in 0..this.octets.len() / BATCH {
            this.batch();
        }
        all_measured(&this.analyser.counters(), both_ways.into(), flows);
        assert_eq!((this.analyser.active(), this.shown), (flows, 0));
        this
    }

    fn batch(&mut self) {
        let octets = &self.octets[self.next..];
        let frames: [Frame<'_>; BATCH] = std::array::from_fn(|at| {
            let now = START + (self.frames + at as u64) * GAP_NS;
            Frame::ethernet(&octets[at], WallNanos(now))
        });
        self.frames += BATCH as u64;
        self.next = (self.next + BATCH) % self.octets.len();
        let shown = &mut self.shown;
        self.analyser.batch(&frames, &mut |_, observation| {
            *shown += 1;
            black_box(observation);
        });
    }
}

fn look_up(name: &'static str, flows: u32) -> Loop {
    let mut datagrams = Datagrams::new(flows);
    Loop::new(name, BATCH as u64, move || datagrams.batch())
}

/// Round trips on their way into distributions: by sequence numbers on both legs, and every
/// fourth by timestamps.
fn round_trips() -> Loop {
    const ROUND_TRIPS: u64 = 1_000;
    let mut numbers = Numbers::new();
    let observations: Vec<Observation> = (0..ROUND_TRIPS as u32)
        .map(|number| Observation::Rtt {
            flow: FlowKey(number % 8),
            group: GroupKey(0),
            method: if number.is_multiple_of(4) {
                RttMethod::Timestamp
            } else {
                RttMethod::Sequence
            },
            leg: if (number / 4).is_multiple_of(2) {
                Leg::Near
            } else {
                Leg::Remote
            },
            ns: 20_000 + numbers.delay(2_000_000),
        })
        .collect();
    let mut stats: CaptureStats = CaptureStats::new(1, 10);
    observations.iter().for_each(|seen| stats.observe(seen));
    let count = |method, leg| stats.groups()[0].rtts(method, leg).map(Distribution::count);
    for leg in [Leg::Near, Leg::Remote] {
        assert_eq!(count(RttMethod::Timestamp, leg), Some(125));
        assert_eq!(count(RttMethod::Sequence, leg), Some(375));
    }
    Loop::new("record/capture-rtt", ROUND_TRIPS, move || {
        for observation in &observations {
            stats.observe(black_box(observation));
        }
    })
}

/// Every stage of a frame in userspace.
#[must_use]
pub fn capture() -> Vec<Loop> {
    vec![
        walk(),
        stamped_segments(),
        decoding(
            "decode/tcp-timestamps",
            |ends, payload| frames::segment(ends, payload).to_vec(),
            |packet| packet.tunnel_id == 0 && packet.ip_len == 1_500,
        ),
        decoding("decode/tcp-ipv6", frames::segment_v6, |packet| {
            !packet.source.is_v4() && packet.ip_len == 1_520
        }),
        decoding("decode/tcp-in-vxlan", frames::segment_in_vxlan, |packet| {
            packet.flags.has(PacketFlags::TUNNELLED) && packet.tunnel_id == frames::VNI
        }),
        look_up("look-up/udp-8-flows", 8),
        look_up("look-up/udp-100000-flows", 100_000),
        analyse::tcp("analyse/tcp-8-flows"),
        round_trips(),
    ]
}
