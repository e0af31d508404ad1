//! One packet of one flow.

use base::{FlowKey, Frame, Memory, Observation, TcpClass};
use wire::decode::{Packet, PacketFlags, TcpHeader, Transport};

use super::batch::{Line, Opening};
use super::{Analyser, observation};
use crate::flow::record::Body;
use crate::passive::Duplicates;
use crate::passive::tcp;

/// What a frame is on the wire.
#[derive(Copy, Clone)]
struct Size {
    /// Wire packets: more than one if the stack had merged or not yet cut them.
    segments: u32,
    /// Octets of their IP packets.
    bytes: u32,
    /// Octets of the largest of them.
    packet_bytes: u32,
}

impl Size {
    #[inline(always)]
    fn of(frame: &Frame<'_>, line: &Line) -> Self {
        let each = u32::from(frame.segment_bytes);
        if each == 0 || line.payload_len <= each {
            return Self {
                segments: 1,
                bytes: line.ip_len,
                packet_bytes: line.ip_len,
            };
        }
        let segments = line.payload_len.div_ceil(each);
        let headers = line.ip_len.saturating_sub(line.payload_len);
        Self {
            segments,
            // At most 2^16 segments of a frame that is no larger than a jumbogram.
            bytes: line
                .ip_len
                .saturating_add((segments - 1).saturating_mul(headers)),
            packet_bytes: headers + each,
        }
    }
}

impl<M: Memory> Analyser<M> {
    /// A TCP segment. Part of the loop over frames: what was decoded stays in registers, and
    /// what nearly all segments are is all that is done here.
    #[inline(always)]
    pub(super) fn tcp(
        &mut self,
        frame: &Frame<'_>,
        line: Line,
        place: u32,
        first: u64,
        emit: &mut impl FnMut(u64, Observation),
    ) {
        let tcp = &line.tcp;
        self.counters.measured += 1;
        let apart = self.options.duplicates == Duplicates::Apart;
        if apart
            && self.recent.saw_segment(place, line.ids(), tcp, frame.at)
            && !self.table.record(place).is_fresh()
        {
            let number = first + u64::from(line.at);
            self.duplicate(frame, place, line.from_higher, number, emit);
            return;
        }
        let size = Size::of(frame, &line);
        self.counters.packets += u64::from(size.segments);
        let record = self.table.record_mut(place);
        let sender = record.sender(line.from_higher);
        let Body::Tcp(flow) = &mut record.body else {
            return;
        };
        let segment = tcp::Segment {
            tcp,
            len: line.payload_len,
            at: frame.at,
        };
        match flow.plain(&mut self.shared, place, sender, &segment) {
            Some(None) => {
                record.last_ns = frame.at.0;
                flow.count(sender, size.bytes, size.segments, size.packet_bytes);
            }
            Some(Some(ack)) => {
                record.last_ns = frame.at.0;
                flow.count(sender, size.bytes, size.segments, size.packet_bytes);
                let (key, group) = (FlowKey(place), record.group);
                let number = first + u64::from(line.at);
                flow.plain_ack(&mut self.shared, place, sender, ack, &mut |shown| {
                    emit(number, observation(shown, key, group, sender, 0));
                });
            }
            None => {
                // A copy for the call, so that for all others no line is in memory.
                let kept = line;
                self.any_tcp(frame, &kept, size, place, first, emit);
            }
        }
    }

    /// A segment that may be anything.
    #[inline(never)]
    fn any_tcp(
        &mut self,
        frame: &Frame<'_>,
        line: &Line,
        size: Size,
        place: u32,
        first: u64,
        emit: &mut impl FnMut(u64, Observation),
    ) {
        let tcp = &line.tcp;
        let number = first + u64::from(line.at);
        let anew = tcp.any(TcpHeader::SYN) && self.begins_anew(place, line.from_higher, tcp);
        if anew {
            let opening = Opening::Tcp(tcp, line.tunnelled);
            self.reuse(place, frame, &opening, line.from_higher, number, emit);
        }
        let record = self.table.record_mut(place);
        record.last_ns = frame.at.0;
        let sender = record.sender(line.from_higher);
        record.note_df(sender, line.has_df(frame));
        let (key, group) = (FlowKey(place), record.group);
        let Body::Tcp(flow) = &mut record.body else {
            return;
        };
        flow.count(sender, size.bytes, size.segments, size.packet_bytes);
        let segment = tcp::Segment {
            tcp,
            len: line.payload_len,
            at: frame.at,
        };
        let mut classes = flow.segment(
            &mut self.shared,
            &mut record.initial_rtt_ns,
            place,
            sender,
            &segment,
            &mut |shown| {
                emit(
                    number,
                    observation(shown, key, group, sender, size.packet_bytes),
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
                    flow: key,
                    group,
                    sender,
                    classes,
                    segments: size.segments,
                },
            );
        }
        if tcp.any(TcpHeader::FIN | TcpHeader::RST) && flow.is_closed(tcp) {
            record.close();
        }
    }

    /// A datagram, an echo, a later fragment, or another protocol's packet.
    #[inline(never)]
    pub(super) fn other(
        &mut self,
        frame: &Frame<'_>,
        line: &Line,
        packet: &Packet,
        place: u32,
        first: u64,
        emit: &mut impl FnMut(u64, Observation),
    ) {
        let number = first + u64::from(line.at);
        self.counters.measured += 1;
        let apart = self.options.duplicates == Duplicates::Apart;
        let whole = !packet.flags.has(PacketFlags::FRAGMENT);
        let from = packet.payload_at as usize;
        let payload = frame
            .bytes
            .get(from..from + packet.payload_captured as usize);
        let payload = payload.unwrap_or_default();
        // Of a protocol that is not known all is header.
        let said = match packet.transport {
            Transport::Other => frame.bytes.get(from..).unwrap_or_default(),
            _ => payload,
        };
        if apart
            && whole
            && self
                .recent
                .saw_datagram(place, line.ids(), packet, said, frame.at)
            && !self.table.record(place).is_fresh()
        {
            self.duplicate(frame, place, line.from_higher, number, emit);
            return;
        }
        let size = Size::of(frame, line);
        self.counters.packets += u64::from(size.segments);
        let record = self.table.record_mut(place);
        record.last_ns = frame.at.0;
        let sender = record.sender(line.from_higher);
        record.note_df(sender, line.has_df(frame));
        let (key, group) = (FlowKey(place), record.group);
        let flow = match &mut record.body {
            // A later fragment of a segment: octets and no more.
            Body::Tcp(flow) => {
                flow.count(sender, size.bytes, size.segments, size.packet_bytes);
                return;
            }
            Body::Datagram(flow) => flow,
        };
        flow.count(sender, size.bytes, size.segments, size.packet_bytes);
        flow.state.packet(
            frame.at,
            sender,
            packet,
            payload,
            &mut self.datagrams,
            &mut |method, leg, ns| {
                let rtt = Observation::Rtt {
                    flow: key,
                    group,
                    method,
                    leg,
                    ns,
                };
                emit(number, rtt);
            },
        );
    }

    #[cold]
    fn begins_anew(&self, place: u32, from_higher: bool, header: &TcpHeader) -> bool {
        let record = self.table.record(place);
        match &record.body {
            Body::Tcp(flow) => tcp::begins_anew(flow, record.sender(from_higher), header),
            Body::Datagram(_) => false,
        }
    }
}
