//! From a batch of frames to observations.

use base::{
    Address, FlowEnd, FlowKey, FlowSummary, Frame, GroupKey, Observation, Passage, Sender,
    TcpClass, TcpClasses, WallNanos,
};
use wire::decode::{IcmpError, Packet, PacketFlags, Quoted, TcpHeader, Transport, decode};

use super::counters::{Counters, Unmeasured};
use super::datagram::{DatagramCounters, DatagramState, Kind, Ports};
use super::fragments::{self, Fragments};
use super::recent::Recent;
use super::tcp::{self, Shared, Shown, TcpFlow};
use super::{Duplicates, Options};
use crate::flow::datagram::Datagram;
use crate::flow::key::Key;
use crate::flow::pool::Pool;
use crate::flow::record::{Body, Record};
use crate::flow::table::{Inserted, Located, Table};
use crate::flow::wheel::{Due, Wheel};

/// Frames that are worked on at once.
const BATCH: usize = 32;
/// Flows that are looked at per batch when their time has come: twice as many as can be new.
const DUE_PER_BATCH: usize = 2 * BATCH;
/// How soon a flow is looked at first.
const FIRST_LOOK_NS: u64 = 4 << 30;
/// How long a closed flow stays for what is still under way.
const LINGER_NS: u64 = 2_000_000_000;

/// One worker's flow table and estimators.
#[derive(Debug)]
pub struct Analyser {
    options: Options,
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

/// A batch on its way; kept, so that nobody has to blank it.
#[derive(Debug)]
struct Batch {
    packets: [Packet; BATCH],
    keys: [Key; BATCH],
    located: [Located; BATCH],
    /// Which frame, and whether its source is the key's higher end.
    from: [(u8, bool); BATCH],
    len: usize,
}

impl Batch {
    const fn new() -> Self {
        Self {
            packets: [NOTHING; BATCH],
            keys: [Key::EMPTY; BATCH],
            located: [Located::NOWHERE; BATCH],
            from: [(0, false); BATCH],
            len: 0,
        }
    }
}

/// What stands in a batch's free places.
const NOTHING: Packet = Packet {
    source: Address { high: 0, low: 0 },
    destination: Address { high: 0, low: 0 },
    source_port: 0,
    destination_port: 0,
    protocol: 0,
    ttl: 0,
    ip_id: 0,
    flags: PacketFlags::none(),
    fragment_id: 0,
    tunnel_id: 0,
    ip_len: 0,
    payload_len: 0,
    payload_at: 0,
    payload_captured: 0,
    transport: Transport::Other,
};

impl Analyser {
    /// Allocates everything that it will need.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            table: Table::new(options.flows, options.seed),
            wheel: Wheel::new(),
            shared: Shared {
                pool: Pool::new(options.segments),
                classifier: options.classifier,
                no_sample: [0; tcp::NoSample::COUNT],
                repeats: tcp::Repeats::new(),
            },
            datagrams: DatagramCounters::new(),
            recent: Recent::new(),
            fragments: Fragments::new(options.seed[0]),
            counters: Counters::new(),
            newest: WallNanos(0),
            batch: Some(Box::new(Batch::new())),
            options,
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
        let table = &self.table;
        table
            .places()
            .map(|place| table.record(place).summary(place))
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
                // The wheel still knows the place, but nothing turns it any more.
                self.table.remove(place);
            }
        }
        self.wheel = Wheel::new();
    }

    fn chunk(&mut self, frames: &[Frame<'_>], emit: &mut impl FnMut(u64, Observation)) {
        let first = self.counters.frames + 1;
        let mut batch = self.batch.take().unwrap_or_else(|| Box::new(Batch::new()));
        batch.len = 0;
        for (at, frame) in frames.iter().enumerate() {
            self.counters.frames += 1;
            self.counters.bytes += u64::from(frame.original_len);
            match decode(frame, self.options.layer) {
                Ok(packet) => self.take(&mut batch, at, frame, packet, emit),
                Err(reason) => self.counters.undecoded[reason.index()] += 1,
            }
        }
        let len = batch.len;
        self.table
            .locate(&batch.keys[..len], &mut batch.located[..len]);
        self.warm(&batch.located[..len]);
        for slot in 0..len {
            let (at, from_higher) = batch.from[slot];
            let Some(frame) = frames.get(usize::from(at)) else {
                break;
            };
            let number = first + u64::from(at);
            let key = batch.keys[slot];
            let packet = &batch.packets[slot];
            self.measure(
                frame,
                packet,
                key,
                from_higher,
                batch.located[slot],
                number,
                emit,
            );
        }
        self.batch = Some(batch);
        if let Some(last) = frames.last() {
            if last.at < self.newest {
                self.counters.clock_back += 1;
            }
            self.newest = last.at;
            self.expire(last.at, DUE_PER_BATCH, emit);
        }
    }

    /// A decoded packet: into the batch, unless no flow can be named.
    #[inline]
    fn take(
        &mut self,
        batch: &mut Batch,
        at: usize,
        frame: &Frame<'_>,
        packet: Packet,
        emit: &mut impl FnMut(u64, Observation),
    ) {
        let mut packet = packet;
        match packet.transport {
            Transport::IcmpError(error) => {
                self.counters.unmeasured[Unmeasured::IcmpError.index()] += 1;
                self.icmp(&packet, &error, emit);
                return;
            }
            Transport::Fragment(_) => {
                let Some(ports) = self.fragments.later(&datagram(&packet), frame.at) else {
                    self.counters.unmeasured[Unmeasured::OrphanFragment.index()] += 1;
                    return;
                };
                self.counters.fragments += 1;
                (packet.source_port, packet.destination_port) = ports;
            }
            _ if packet.flags.has(PacketFlags::FRAGMENT) => {
                let ports = (packet.source_port, packet.destination_port);
                self.fragments.first(&datagram(&packet), ports, frame.at);
            }
            _ => {}
        }
        let (key, from_higher) = Key::of(
            (packet.source, packet.source_port),
            (packet.destination, packet.destination_port),
            packet.protocol,
        );
        let slot = batch.len;
        if slot < BATCH {
            batch.keys[slot] = key;
            batch.from[slot] = (at as u8, from_higher);
            batch.packets[slot] = packet;
            batch.len = slot + 1;
        }
    }

    /// Reads what the packets of a batch will need, all before any of it is needed, so that
    /// the cache misses of different flows overlap.
    #[inline]
    fn warm(&self, located: &[Located]) {
        let mut touched = 0u32;
        let mut lists = [crate::flow::pool::List::EMPTY; 2 * BATCH];
        for (slot, lists) in located.iter().zip(lists.chunks_exact_mut(2)) {
            if let Some(record) = self.table.located(*slot)
                && let Body::Tcp(flow) = &record.body
            {
                lists[0] = flow.sides[0].outstanding;
                lists[1] = flow.sides[1].outstanding;
                touched ^= u32::from(flow.notes[1].dup_acks);
            }
        }
        for list in lists.iter().take(2 * located.len()) {
            touched ^= self.shared.pool.touch(*list);
        }
        std::hint::black_box(touched);
    }

    #[expect(clippy::too_many_arguments, reason = "one packet and where it belongs")]
    #[inline]
    fn measure(
        &mut self,
        frame: &Frame<'_>,
        packet: &Packet,
        key: Key,
        from_higher: bool,
        located: Located,
        number: u64,
        emit: &mut impl FnMut(u64, Observation),
    ) {
        let at = frame.at;
        let place = match self.table.find(&key, located) {
            Some(place) => place,
            None => {
                let begun = self.begin(frame, packet, key, from_higher, located, number, emit);
                let Some(place) = begun else {
                    self.counters.unmeasured[Unmeasured::TableFull.index()] += 1;
                    return;
                };
                place
            }
        };
        self.counters.measured += 1;
        let apart = self.options.duplicates == Duplicates::Apart;
        if apart && self.recent.saw(place, packet, at) {
            self.duplicate(place, from_higher, number, emit);
            return;
        }
        let segments = match u32::from(frame.segment_bytes) {
            0 => 1,
            each => packet.payload_len.div_ceil(each).max(1),
        };
        let headers = packet.ip_len.saturating_sub(packet.payload_len);
        let bytes = u64::from(packet.ip_len) + u64::from(segments - 1) * u64::from(headers);
        let packet_bytes = match segments {
            1 => packet.ip_len,
            _ => headers + u32::from(frame.segment_bytes),
        };
        self.counters.packets += u64::from(segments);
        if let Transport::Tcp(header) = &packet.transport {
            let anew = match &self.table.record(place).body {
                Body::Tcp(flow) if header.has(TcpHeader::SYN) => {
                    let sender = self.table.record(place).sender(from_higher);
                    tcp::begins_anew(flow, sender, header)
                }
                _ => false,
            };
            if anew {
                self.reuse(place, frame, packet, from_higher, number, emit);
            }
            let record = self.table.record_mut(place);
            record.last_ns = at.0;
            let sender = record.sender(from_higher);
            let (flow_key, group) = (FlowKey(place), record.group);
            if let Body::Tcp(flow) = &mut record.body {
                let larger = flow.sides[sender.index()].count(bytes, segments, packet_bytes);
                if larger {
                    flow.notes[sender.index()].flags &= !tcp::state::Notes::FULL_PASSES;
                }
                let mut classes = flow.segment(
                    &mut self.shared,
                    &mut record.initial_rtt_ns,
                    place,
                    sender,
                    at,
                    packet,
                    header,
                    &mut |shown| {
                        emit(
                            number,
                            observation(shown, flow_key, group, sender, packet_bytes),
                        );
                    },
                );
                if anew {
                    classes.insert(TcpClass::PortReuse);
                }
                if !classes.is_empty() {
                    if tcp::is_retransmission(classes) {
                        let side = &mut flow.sides[sender.index()];
                        side.retransmissions = side.retransmissions.saturating_add(1);
                    }
                    emit(
                        number,
                        Observation::Tcp {
                            flow: flow_key,
                            group,
                            sender,
                            classes,
                            segments,
                        },
                    );
                }
                if header.any(TcpHeader::FIN | TcpHeader::RST) && flow.is_closed(header) {
                    record.close();
                }
            }
            return;
        }
        let record = self.table.record_mut(place);
        record.last_ns = at.0;
        let sender = record.sender(from_higher);
        let (flow_key, group) = (FlowKey(place), record.group);
        if let Body::Datagram(flow) = &mut record.body {
            flow.count(sender, bytes, segments, packet_bytes);
            let from = packet.payload_at as usize;
            let to = from + packet.payload_captured as usize;
            let payload = frame.bytes.get(from..to).unwrap_or_default();
            let state = &mut flow.state;
            let mut learnt = None;
            state.packet(
                at,
                sender,
                packet,
                payload,
                &mut self.datagrams,
                &mut |method, leg, ns| {
                    learnt = Some((leg, ns));
                    emit(
                        number,
                        Observation::Rtt {
                            flow: flow_key,
                            group,
                            method,
                            leg,
                            ns,
                        },
                    );
                },
            );
            if let Some((leg, ns)) = learnt {
                flow.smooth(leg, ns);
            }
        }
    }

    /// A flow that was not in the table.
    #[expect(clippy::too_many_arguments, reason = "one packet and where it belongs")]
    #[inline(never)]
    fn begin(
        &mut self,
        frame: &Frame<'_>,
        packet: &Packet,
        key: Key,
        from_higher: bool,
        located: Located,
        number: u64,
        emit: &mut impl FnMut(u64, Observation),
    ) -> Option<u32> {
        let place = match self.table.insert(key, located) {
            Inserted::At(place) => {
                self.wheel
                    .add(&mut self.table, place, frame.at, FIRST_LOOK_NS);
                place
            }
            Inserted::Full { victim } => {
                let victim = victim?;
                self.end(victim, FlowEnd::Evicted, number, emit);
                if !self.table.replace(victim, key, located) {
                    return None;
                }
                victim
            }
        };
        self.start(place, frame, packet, from_higher);
        Some(place)
    }

    /// Fills in a fresh record.
    fn start(&mut self, place: u32, frame: &Frame<'_>, packet: &Packet, from_higher: bool) {
        let near_is_higher = if source_is_near(frame, packet) {
            from_higher
        } else {
            !from_higher
        };
        let [lower, higher] = self.table.record(place).key.ends();
        let (near, remote) = if near_is_higher {
            (higher, lower)
        } else {
            (lower, higher)
        };
        let group = self.options.groups.of(near, remote);
        let body = match packet.transport {
            Transport::Tcp(_) => Body::Tcp(TcpFlow::NEW),
            _ => {
                let ports = Ports {
                    quic: &self.options.quic_ports,
                    stamp: &self.options.stamp_ports,
                };
                let kind = Kind::of(packet, &ports);
                Body::Datagram(Datagram::new(DatagramState::new(kind)))
            }
        };
        self.counters.flows += 1;
        self.table
            .record_mut(place)
            .begin(frame.at, near_is_higher, group, body);
    }

    /// The ports of an old connection begin a new one.
    #[cold]
    fn reuse(
        &mut self,
        place: u32,
        frame: &Frame<'_>,
        packet: &Packet,
        from_higher: bool,
        number: u64,
        emit: &mut impl FnMut(u64, Observation),
    ) {
        self.end(place, FlowEnd::Reused, number, emit);
        self.start(place, frame, packet, from_higher);
    }

    #[cold]
    fn duplicate(
        &mut self,
        place: u32,
        from_higher: bool,
        number: u64,
        emit: &mut impl FnMut(u64, Observation),
    ) {
        self.counters.capture_duplicates += 1;
        let record = self.table.record(place);
        let mut classes = TcpClasses::NONE;
        classes.insert(TcpClass::CaptureDuplicate);
        if matches!(record.body, Body::Tcp(_)) {
            let observation = Observation::Tcp {
                flow: FlowKey(place),
                group: record.group,
                sender: record.sender(from_higher),
                classes,
                segments: 1,
            };
            emit(number, observation);
        }
    }

    /// An ICMP error about a flow.
    #[cold]
    fn icmp(
        &mut self,
        packet: &Packet,
        error: &IcmpError,
        emit: &mut impl FnMut(u64, Observation),
    ) {
        let Some(next_hop_mtu) = error.next_hop_mtu else {
            return;
        };
        let flow = error.quoted.as_ref().and_then(|quoted| self.quoted(quoted));
        let group = flow.map_or(GroupKey::default(), |place| self.table.record(place).group);
        let observation = Observation::TooBig {
            flow: flow.map(FlowKey),
            group,
            next_hop_mtu,
            from: packet.source,
        };
        emit(self.counters.frames, observation);
    }

    fn quoted(&self, quoted: &Quoted) -> Option<u32> {
        let (key, _) = Key::of(
            (quoted.source, quoted.source_port),
            (quoted.destination, quoted.destination_port),
            quoted.protocol,
        );
        let mut located = [Located::NOWHERE];
        self.table.locate(&[key], &mut located);
        self.table.find(&key, located[0])
    }

    /// Says that a flow ends, and frees what it holds but its place.
    fn end(
        &mut self,
        place: u32,
        end: FlowEnd,
        number: u64,
        emit: &mut impl FnMut(u64, Observation),
    ) {
        let record = self.table.record_mut(place);
        let (flow_key, group) = (FlowKey(place), record.group);
        if let Body::Tcp(flow) = &mut record.body {
            flow.end(&mut self.shared, &mut |shown| {
                emit(number, observation(shown, flow_key, group, Sender::Near, 0));
            });
        }
        self.counters.ended[end.index()] += 1;
        let summary = record.summary(place);
        emit(number, Observation::Ended { summary, end });
    }

    fn expire(&mut self, now: WallNanos, budget: usize, emit: &mut impl FnMut(u64, Observation)) {
        let Self {
            table,
            wheel,
            shared,
            counters,
            options,
            ..
        } = self;
        let number = counters.frames;
        wheel.turn(table, now, budget, |table, place| {
            let record = table.record_mut(place);
            let (end, life_ns) = life(record, options);
            let quiet_ns = now.0.saturating_sub(record.last_ns);
            if quiet_ns < life_ns {
                return Due::Keep {
                    after_ns: life_ns - quiet_ns,
                };
            }
            let (flow_key, group) = (FlowKey(place), record.group);
            if let Body::Tcp(flow) = &mut record.body {
                flow.end(shared, &mut |shown| {
                    emit(number, observation(shown, flow_key, group, Sender::Near, 0));
                });
            }
            counters.ended[end.index()] += 1;
            let summary = record.summary(place);
            emit(number, Observation::Ended { summary, end });
            Due::Remove
        });
    }
}

/// How a flow will end, and how long it may be quiet.
fn life(record: &Record, options: &Options) -> (FlowEnd, u64) {
    if record.is_closed() {
        return (FlowEnd::Closed, LINGER_NS);
    }
    let answered = match &record.body {
        Body::Tcp(flow) => flow.sides.iter().all(|side| side.packets.get() > 0),
        Body::Datagram(flow) => flow.is_answered(),
    };
    let life_ns = if answered {
        options.idle_ns
    } else {
        options.unanswered_ns
    };
    (FlowEnd::Idle, life_ns)
}

/// Whether the packet that begins a flow comes from the near end.
fn source_is_near(frame: &Frame<'_>, packet: &Packet) -> bool {
    match frame.passage {
        Passage::Sent => true,
        Passage::Received => false,
        Passage::Unknown => match &packet.transport {
            // The initiator is near, and a SYN-ACK is not from it.
            Transport::Tcp(tcp) => !tcp.has(TcpHeader::SYN | TcpHeader::ACK),
            Transport::Echo { reply, .. } => !reply,
            _ => true,
        },
    }
}

fn datagram(packet: &Packet) -> fragments::Datagram {
    fragments::Datagram {
        source: packet.source,
        destination: packet.destination,
        id: packet.fragment_id,
        protocol: packet.protocol,
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
            group,
            sender,
            place,
            segments,
        },
        Shown::Late(bytes, late_ns) => Observation::Reordering {
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
