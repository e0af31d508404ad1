//! TCP connections that go on for ever: four full segments, and an ACK for them.
//!
//! Numbers never repeat, or the analyser would rightly see copies: sequence numbers,
//! timestamps and identifications are written into the octets before every batch. That is in
//! the figure of the loop.

use std::hint::black_box;

use ::capture::BATCH;
use ::measure::passive::Analyser;
use ::wire::decode::TcpHeader;
use base::{Frame, Observation, RttMethod, WallNanos};
use sys::cache::HostMemory;

use super::frames::{self, Ends, FULL, Numbers, STAMPED};
use super::{GAP_NS, START, all_measured, analyser};
use crate::loops::Loop;

const FLOWS: usize = 8;
/// Frames of a connection from one ACK to the next, the ACK included.
const TRAIN: usize = 5;
/// Frames until the connections and the batches are where they were.
const FRAMES: usize = BATCH * TRAIN;
/// The server's sequence numbers and clock are others than its client's.
const SERVER: u32 = 0x7a12_0000;

/// Where a connection stands; the client sends, the server acknowledges.
#[derive(Copy, Clone, Default)]
struct Connection {
    seq: u32,
    /// TSval of the first segment that waits for its ACK: what the ACK echoes (RFC 7323
    /// section 4.3).
    first_tsval: u32,
    /// TSval of the latest ACK.
    acked_tsval: u32,
}

impl Connection {
    /// The next segment; the last one of a train is the ACK. `tick` is in ms.
    #[inline]
    fn next(&mut self, step: usize, tick: u32, ip_id: u16) -> Numbers {
        if step == TRAIN - 1 {
            self.acked_tsval = SERVER.wrapping_add(tick);
            return Numbers {
                ip_id,
                seq: SERVER + 1,
                ack: self.seq,
                tsval: self.acked_tsval,
                tsecr: self.first_tsval,
            };
        }
        if step == 0 {
            self.first_tsval = tick;
        }
        let seq = self.seq;
        self.seq = seq.wrapping_add(FULL.into());
        Numbers {
            ip_id,
            seq,
            ack: SERVER + 1,
            tsval: tick,
            tsecr: self.acked_tsval,
        }
    }
}

/// What the analyser said.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
struct Seen {
    handshakes: u64,
    by_sequence: u64,
    by_timestamps: u64,
    others: u64,
}

impl Seen {
    #[inline]
    fn note(&mut self, observation: Observation) {
        let count = match observation {
            Observation::Rtt { method, .. } => match method {
                RttMethod::Handshake => &mut self.handshakes,
                RttMethod::Sequence => &mut self.by_sequence,
                RttMethod::Timestamp => &mut self.by_timestamps,
                _ => &mut self.others,
            },
            _ => &mut self.others,
        };
        *count += 1;
        black_box(observation);
    }
}

/// See the module.
struct Connections {
    octets: Vec<[u8; STAMPED]>,
    connections: [Connection; FLOWS],
    analyser: Analyser<HostMemory>,
    frames: u64,
    seen: Seen,
}

/// Which step of its train, of which connection, a frame is: they take turns.
const fn place(at: usize) -> (usize, usize) {
    (at / FLOWS % TRAIN, at % FLOWS)
}

fn ends(flow: usize) -> Ends {
    Ends::of(flow as u32, 443)
}

fn at_ns(frame: u64) -> u64 {
    START + frame * GAP_NS
}

impl Connections {
    fn new() -> Self {
        let octets = (0..FRAMES).map(|at| match place(at) {
            (step, flow) if step == TRAIN - 1 => frames::segment(ends(flow).back(), 0),
            (_, flow) => frames::segment(ends(flow), FULL),
        });
        let mut this = Self {
            octets: octets.collect(),
            connections: [Connection::default(); FLOWS],
            analyser: analyser(),
            frames: 0,
            seen: Seen::default(),
        };
        (0..FLOWS).for_each(|flow| this.open(flow));
        const PASSES: u64 = 100;
        for _ in 0..PASSES {
            this.pass();
        }
        let counters = this.analyser.counters();
        all_measured(&counters, this.frames, FLOWS as u32);
        // Both legs of the handshakes, which sequence numbers show as well; one round trip for
        // every ACK, one more for that with a new tick; no retransmission, no loss, no class.
        let acks = PASSES * (FRAMES / TRAIN) as u64;
        let seen = this.seen;
        let handshakes = 2 * FLOWS as u64;
        assert_eq!((seen.handshakes, seen.others), (handshakes, 0));
        assert_eq!(seen.by_sequence, acks + handshakes);
        assert!((1..=acks).contains(&seen.by_timestamps), "{seen:?}");
        this
    }

    /// SYN, SYN-ACK, ACK.
    fn open(&mut self, flow: usize) {
        let isn = 1_000_000_007_u32.wrapping_mul(flow as u32 + 1);
        let (client, server) = (isn.wrapping_add(1), SERVER + 1);
        let steps = [
            (TcpHeader::SYN, ends(flow), isn, 0),
            (
                TcpHeader::SYN | TcpHeader::ACK,
                ends(flow).back(),
                SERVER,
                client,
            ),
            (TcpHeader::ACK, ends(flow), client, server),
        ];
        for (step, (flags, ends, seq, ack)) in steps.into_iter().enumerate() {
            let mut octets = frames::segment(ends, 0);
            octets[47] = flags;
            let (tsval, tsecr) = [(0, 0), (SERVER, 0), (0, SERVER)][step];
            let numbers = Numbers {
                ip_id: self.frames as u16,
                seq,
                ack,
                tsval,
                tsecr,
            };
            numbers.write(&mut octets);
            let frame = Frame::ethernet(&octets, WallNanos(at_ns(self.frames)));
            let seen = &mut self.seen;
            self.analyser
                .batch(&[frame], &mut |_, observation| seen.note(observation));
            self.frames += 1;
        }
        self.connections[flow] = Connection {
            seq: client,
            first_tsval: 0,
            acked_tsval: SERVER,
        };
    }

    fn pass(&mut self) {
        for first in (0..FRAMES).step_by(BATCH) {
            self.write(first);
            let octets = &self.octets[first..];
            let frames: [Frame<'_>; BATCH] = std::array::from_fn(|at| {
                let (step, _) = place(first + at);
                let payload = if step == TRAIN - 1 { 0 } else { FULL };
                let now = at_ns(self.frames + at as u64);
                Frame {
                    original_len: STAMPED as u32 + u32::from(payload),
                    ..Frame::ethernet(&octets[at], WallNanos(now))
                }
            });
            self.frames += BATCH as u64;
            let seen = &mut self.seen;
            self.analyser
                .batch(&frames, &mut |_, observation| seen.note(observation));
        }
    }

    /// What is new in a batch's frames. By itself, so that a profile tells it apart.
    #[inline(never)]
    fn write(&mut self, first: usize) {
        let tick = ((at_ns(self.frames) - START) / 1_000_000) as u32;
        let batch = self.octets[first..].iter_mut().take(BATCH);
        for (at, octets) in batch.enumerate() {
            let (step, flow) = place(first + at);
            let ip_id = (self.frames + at as u64) as u16;
            let numbers = self.connections[flow].next(step, tick, ip_id);
            numbers.write(octets);
        }
    }
}

/// Eight connections in turn.
pub(super) fn tcp(name: &'static str) -> Loop {
    let mut connections = Connections::new();
    Loop::new(name, FRAMES as u64, move || connections.pass())
}
