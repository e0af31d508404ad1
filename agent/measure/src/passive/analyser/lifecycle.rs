//! How flows come and go.

use base::{FlowEnd, FlowKey, FlowSummary, Frame, Memory, Observation, Passage, Sender, WallNanos};
use wire::decode::{PacketFlags, TcpHeader, Transport};

use super::batch::Opening;
use super::{Analyser, observation};
use crate::flow::datagram::Datagram;
use crate::flow::key::Key;
use crate::flow::record::{Body, Record};
use crate::flow::table::{Inserted, Located};
use crate::flow::wheel::Due;
use crate::passive::Options;
use crate::passive::datagram::{DatagramState, Kind, Ports};
use crate::passive::tcp::{Detail, Shared, TcpFlow};

/// The IP protocol.
const TCP: u8 = 6;
/// How soon a flow is looked at first.
const FIRST_LOOK_NS: u64 = 4 << 30;
/// How long a closed flow stays for what is still under way.
const LINGER_NS: u64 = 2_000_000_000;
/// A last frame that lies farther ahead is of before the clock was set back.
const STEP_BACK_NS: u64 = 2_000_000_000;

impl<M: Memory> Analyser<M> {
    /// A flow that was not in the table.
    #[expect(clippy::too_many_arguments, reason = "one packet and where it belongs")]
    #[inline(never)]
    pub(super) fn begin(
        &mut self,
        frame: &Frame<'_>,
        opening: &Opening<'_>,
        key: Key,
        located: Located,
        from_higher: bool,
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
        self.start(place, frame, opening, from_higher);
        Some(place)
    }

    /// Fills in a fresh record.
    fn start(&mut self, place: u32, frame: &Frame<'_>, opening: &Opening<'_>, from_higher: bool) {
        let near_is_higher = if source_is_near(frame, opening) {
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
        let body = match opening {
            Opening::Tcp(..) => Body::Tcp(TcpFlow::NEW),
            // A later fragment whose flow is gone: what follows is segments.
            Opening::Other(packet) if packet.protocol == TCP => Body::Tcp(TcpFlow::NEW),
            Opening::Other(packet) => {
                let ports = Ports {
                    quic: &self.options.quic_ports,
                    stamp: &self.options.stamp_ports,
                };
                let kind = Kind::of(packet, &ports);
                Body::Datagram(Datagram::new(DatagramState::new(kind)))
            }
        };
        self.counters.flows += 1;
        self.shared.begin(place);
        self.table
            .record_mut(place)
            .begin(frame.at, near_is_higher, group, body);
    }

    /// The ports of an old connection begin a new one.
    #[cold]
    pub(super) fn reuse(
        &mut self,
        place: u32,
        frame: &Frame<'_>,
        opening: &Opening<'_>,
        from_higher: bool,
        number: u64,
        emit: &mut impl FnMut(u64, Observation),
    ) {
        self.end(place, FlowEnd::Reused, number, emit);
        self.start(place, frame, opening, from_higher);
    }

    /// Says that a flow ends, and frees what it holds but its place.
    pub(super) fn end(
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
        let summary = summary(record, &self.shared, place);
        emit(number, Observation::Ended { summary, end });
    }

    pub(super) fn expire(
        &mut self,
        now: WallNanos,
        budget: usize,
        emit: &mut impl FnMut(u64, Observation),
    ) {
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
            if record.last_ns > now.0.saturating_add(STEP_BACK_NS) {
                // The clock was set back: the flow is as quiet as it is from now on.
                record.last_ns = now.0;
            }
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
            let summary = summary(record, shared, place);
            emit(number, Observation::Ended { summary, end });
            Due::Remove
        });
    }
}

/// Room for details, if anybody wants them.
pub(super) fn details(options: &Options, memory: &impl Memory) -> Option<Box<[Detail]>> {
    let count = options.detailed() as usize;
    (count > 0).then(|| base::memory::filled(memory, count, Detail::default()))
}

/// A flow for people and files, with its details if there are any.
pub(super) fn summary(record: &Record, shared: &Shared, place: u32) -> FlowSummary {
    let mut summary = record.summary(place);
    if let (Body::Tcp(_), Some(details)) = (&record.body, &shared.details)
        && let Some(detail) = details.get(place as usize)
    {
        detail.complete(&mut summary.sides);
    }
    summary
}

/// How a flow will end, and how long it may be quiet.
fn life(record: &mut Record, options: &Options) -> (FlowEnd, u64) {
    if record.is_closed() {
        return (FlowEnd::Closed, LINGER_NS);
    }
    let answered = record.has_both_ends();
    if answered {
        record.set_answered();
    }
    let life_ns = if answered {
        options.idle_ns
    } else {
        options.unanswered_ns
    };
    (FlowEnd::Idle, life_ns)
}

/// Whether the packet that begins a flow comes from the near end.
fn source_is_near(frame: &Frame<'_>, opening: &Opening<'_>) -> bool {
    let tunnelled = match opening {
        Opening::Tcp(_, tunnelled) => *tunnelled,
        Opening::Other(packet) => packet.flags.has(PacketFlags::TUNNELLED),
    };
    match frame.passage {
        // A mirror's tunnel arrives here whichever way went what is in it.
        Passage::Sent if !tunnelled => true,
        Passage::Received if !tunnelled => false,
        // The initiator is near, and an answer is not from it.
        _ => match opening {
            Opening::Tcp(tcp, _) => !tcp.has(TcpHeader::SYN | TcpHeader::ACK),
            Opening::Other(packet) => {
                !matches!(packet.transport, Transport::Echo { reply: true, .. })
            }
        },
    }
}
