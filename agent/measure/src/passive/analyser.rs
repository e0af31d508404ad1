//! From a batch of frames to observations.

pub(super) mod batch;
mod lifecycle;
mod measure;
mod unusual;

use base::{
    FlowEnd, FlowKey, FlowSummary, Frame, GroupKey, Memory, Observation, PlainMemory, Sender,
    WallNanos,
};
use wire::decode::{PacketFlags, Transport, decode, stamped};

use self::batch::{BATCH, Batch, Line, Opening};
use super::Options;
use super::counters::{Counters, Unmeasured};
use super::datagram::DatagramCounters;
use super::fragments::Fragments;
use super::recent::Recent;
use super::tcp::{self, Shared, Shown};
use crate::flow::nearby::Nearby;
use crate::flow::pool::Pool;
use crate::flow::record::Body;
use crate::flow::table::Table;
use crate::flow::wheel::Wheel;

/// Flows that are looked at per batch when their time has come: twice as many as can be new.
const DUE_PER_BATCH: usize = 2 * BATCH;

/// One worker's flow table and estimators.
#[derive(Debug)]
pub struct Analyser<M = PlainMemory> {
    options: Options,
    memory: M,
    nearby: Nearby,
    table: Table,
    wheel: Wheel,
    shared: Shared,
    datagrams: DatagramCounters,
    recent: Recent,
    fragments: Fragments,
    counters: Counters,
    newest: WallNanos,
    /// Always there between two calls.
    batch: Option<Box<Batch>>,
}

impl Analyser {
    /// Allocates everything that it will need.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self::with_memory(options, PlainMemory)
    }
}

impl<M: Memory> Analyser<M> {
    /// Allocates everything that it will need, with the machine's help.
    #[must_use]
    pub fn with_memory(options: Options, memory: M) -> Self {
        Self {
            table: Table::new(options.flows, options.seed, &memory),
            nearby: Nearby::new(),
            wheel: Wheel::new(),
            shared: Shared {
                pool: Pool::new(options.segments, &memory),
                classifier: options.classifier,
                no_sample: [0; tcp::NoSample::COUNT],
                repeats: tcp::Repeats::new(),
                details: lifecycle::details(&options, &memory),
            },
            datagrams: DatagramCounters::new(),
            recent: Recent::new(),
            fragments: Fragments::new(options.seed[0]),
            counters: Counters::new(),
            newest: WallNanos(0),
            batch: Some(Box::new(Batch::new())),
            options,
            memory,
        }
    }

    /// Takes frames in the order of their capture; says what they show, each with the number
    /// of its frame (the first one ever is 1).
    pub fn batch(&mut self, frames: &[Frame<'_>], emit: &mut impl FnMut(u64, Observation)) {
        for chunk in frames.chunks(BATCH) {
            self.chunk(chunk, emit);
        }
    }

    /// What became of every frame so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut counters = self.counters.clone();
        counters.segments_forgotten = self.shared.pool.exhausted;
        counters.no_sample = self.shared.no_sample;
        (counters.datagrams, counters.not_quic) = self.datagrams.all();
        counters
    }

    /// Flows in the table.
    #[must_use]
    pub const fn active(&self) -> u32 {
        self.table.used()
    }

    /// The options it was made with.
    #[must_use]
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// Every flow in the table.
    pub fn flows(&self) -> impl Iterator<Item = FlowSummary> {
        let (table, shared) = (&self.table, &self.shared);
        table
            .places()
            .map(|place| lifecycle::summary(table.record(place), shared, place))
    }

    /// Without traffic time does not pass: lets flows go whose time is over.
    pub fn tick(&mut self, now: WallNanos, emit: &mut impl FnMut(u64, Observation)) {
        self.expire(now, usize::MAX, emit);
    }

    /// Ends every flow.
    pub fn finish(&mut self, emit: &mut impl FnMut(u64, Observation)) {
        let number = self.counters.frames;
        for place in 0..self.table.capacity() {
            if self.table.record(place).is_used() {
                self.end(place, FlowEnd::Stopped, number, emit);
            }
        }
        self.table.clear();
        self.wheel = Wheel::new();
    }

    fn chunk(&mut self, frames: &[Frame<'_>], emit: &mut impl FnMut(u64, Observation)) {
        let first = self.counters.frames + 1;
        let mut batch = self.batch.take().unwrap_or_else(|| Box::new(Batch::new()));
        batch.len = 0;
        let mut bytes = 0;
        for (at, frame) in frames.iter().enumerate() {
            bytes += u64::from(frame.original_len);
            let Some(segment) = stamped(frame) else {
                self.queue(&mut batch, at, frame, first, emit);
                continue;
            };
            match self.nearby.stamped(&segment, self.table.changes()) {
                // A flow's packets keep their order: while a batch is taken, its flow is
                // nearby for all of them or for none.
                Some((place, from_higher)) => {
                    let line = Line::stamped(&segment, at, from_higher);
                    self.tcp(frame, line, place, first, emit);
                }
                // Looked at again there, so that for all others it is in no memory.
                None => batch.put_stamped(frame, at),
            }
        }
        self.counters.frames += frames.len() as u64;
        self.counters.bytes += bytes;
        if batch.len > 0 {
            self.work_off(frames, &mut batch, first, emit);
        }
        self.batch = Some(batch);
        if let (Some(first), Some(last)) = (frames.first(), frames.last()) {
            let back = first.at < self.newest || last.at < first.at;
            self.counters.clock_back += u64::from(back);
            self.newest = last.at;
            self.expire(last.at, DUE_PER_BATCH, emit);
        }
    }

    /// A frame that is not of a TCP flow nearby: into the batch, if it has a flow at all.
    #[inline(never)]
    fn queue(
        &mut self,
        batch: &mut Batch,
        at: usize,
        frame: &Frame<'_>,
        first: u64,
        emit: &mut impl FnMut(u64, Observation),
    ) {
        match decode(frame, self.options.layer) {
            Ok(packet) => match packet.transport {
                Transport::Tcp(tcp) if !packet.flags.has(PacketFlags::FRAGMENT) => {
                    let changes = self.table.changes();
                    if let Some((place, from_higher)) = self.nearby.get(&packet, changes) {
                        let line = Line::new(&packet, at, from_higher, tcp);
                        self.queued_tcp(frame, &line, place, first, emit);
                        return;
                    }
                    let (key, from_higher) = batch::key(&packet);
                    batch.put(key, Line::new(&packet, at, from_higher, tcp), true);
                }
                _ => self.not_tcp(batch, packet, at, frame, first, emit),
            },
            Err(reason) => self.counters.undecoded[reason.index()] += 1,
        }
    }

    /// [`Analyser::tcp`] where it need not be part of the loop.
    #[inline(never)]
    fn queued_tcp(
        &mut self,
        frame: &Frame<'_>,
        line: &Line,
        place: u32,
        first: u64,
        emit: &mut impl FnMut(u64, Observation),
    ) {
        self.tcp(frame, *line, place, first, emit);
    }

    /// The packets of flows that were not nearby.
    #[inline(never)]
    fn work_off(
        &mut self,
        frames: &[Frame<'_>],
        batch: &mut Batch,
        first: u64,
        emit: &mut impl FnMut(u64, Observation),
    ) {
        let len = batch.len;
        let located = &mut batch.located[..len];
        self.table.locate(&batch.keys[..len], located, &self.memory);
        for slot in located.iter() {
            if let Some(record) = self.table.located(*slot)
                && let Body::Tcp(flow) = &record.body
            {
                for side in &flow.sides {
                    self.shared.pool.fetch(side.outstanding, &self.memory);
                }
            }
        }
        let changes = self.table.changes();
        for slot in 0..len {
            let line = &batch.lines[slot];
            let Some(frame) = frames.get(usize::from(line.at)) else {
                break;
            };
            let opening = if batch.is_tcp[slot] {
                Opening::Tcp(&line.tcp, line.tunnelled)
            } else {
                Opening::Other(&batch.others[slot])
            };
            let key = &batch.keys[slot];
            let found = self.table.find(key, batch.located[slot], changes);
            let number = first + u64::from(line.at);
            if let Opening::Other(packet) = opening
                && let Transport::IcmpError(error) = &packet.transport
            {
                self.too_big(packet, error, found, number, emit);
                continue;
            }
            let place = match found {
                Some(place) => place,
                None => {
                    let located = batch.located[slot];
                    let from_higher = line.from_higher;
                    let begun =
                        self.begin(frame, &opening, *key, located, from_higher, number, emit);
                    let Some(place) = begun else {
                        self.counters.unmeasured[Unmeasured::TableFull.index()] += 1;
                        continue;
                    };
                    place
                }
            };
            match opening {
                Opening::Tcp(..) => {
                    let changes = self.table.changes();
                    self.nearby.put(key, place, changes);
                    self.queued_tcp(frame, line, place, first, emit);
                }
                Opening::Other(packet) => self.other(frame, line, packet, place, first, emit),
            }
        }
    }
}

/// What TCP showed, with the flow's names.
#[inline]
fn observation(
    shown: Shown,
    flow: FlowKey,
    group: GroupKey,
    sender: Sender,
    packet_bytes: u32,
) -> Observation {
    match shown {
        Shown::Rtt(method, leg, ns) => Observation::Rtt {
            flow,
            group,
            method,
            leg,
            ns,
        },
        Shown::Loss(sender, place, segments) => Observation::Loss {
            flow,
            group,
            sender,
            place,
            segments,
        },
        Shown::Late(bytes, late_ns) => Observation::Reordering {
            flow,
            group,
            sender,
            bytes,
            late_ns,
        },
        Shown::BlackHole => Observation::BlackHole {
            flow,
            group,
            sender,
            packet_bytes,
        },
    }
}
