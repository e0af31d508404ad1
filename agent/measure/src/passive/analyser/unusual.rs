//! Packets that are not simply of the flow that their header names: fragments, ICMP errors,
//! copies.

use base::{FlowKey, Frame, GroupKey, Memory, Observation, TcpClass, TcpClasses};
use wire::decode::{IcmpError, Packet, PacketFlags, Quoted, TcpHeader, Transport};

use super::Analyser;
use super::batch::{self, Batch, Line};
use crate::flow::key::Key;
use crate::flow::record::Body;
use crate::passive::counters::Unmeasured;
use crate::passive::fragments;

impl<M: Memory> Analyser<M> {
    /// A packet that is not a whole TCP segment.
    #[inline(never)]
    pub(super) fn not_tcp(
        &mut self,
        batch: &mut Batch,
        packet: Packet,
        at: usize,
        frame: &Frame<'_>,
        first: u64,
        emit: &mut impl FnMut(u64, Observation),
    ) {
        let mut packet = packet;
        if let Transport::IcmpError(error) = packet.transport {
            self.counters.unmeasured[Unmeasured::IcmpError.index()] += 1;
            match (error.next_hop_mtu, error.quoted) {
                // Its turn comes after that of the flow that it is about.
                (Some(_), Some(quoted)) => {
                    let line = Line::new(&packet, at, false, TcpHeader::default());
                    batch.put_other(quoted_key(&quoted), line, packet);
                }
                (Some(_), None) => self.too_big(&packet, &error, None, first + at as u64, emit),
                (None, _) => {}
            }
            return;
        }
        if !self.find_ports(&mut packet, frame) {
            return;
        }
        let (key, mut from_higher) = batch::key(&packet);
        // A host that pings itself: only the kind of message tells the ends apart.
        if let Transport::Echo { reply: true, .. } = packet.transport {
            from_higher |= packet.source == packet.destination;
        }
        // A first fragment has its TCP header.
        if let Transport::Tcp(tcp) = packet.transport {
            batch.put(key, Line::new(&packet, at, from_higher, tcp), true);
        } else {
            let line = Line::new(&packet, at, from_higher, TcpHeader::default());
            batch.put_other(key, line, packet);
        }
    }

    /// Says whether a packet has a flow, if need be by the ports of its first fragment.
    fn find_ports(&mut self, packet: &mut Packet, frame: &Frame<'_>) -> bool {
        match packet.transport {
            Transport::Fragment(_) => {
                let Some(ports) = self.fragments.later(&datagram(packet), frame.at) else {
                    self.counters.unmeasured[Unmeasured::OrphanFragment.index()] += 1;
                    return false;
                };
                self.counters.fragments += 1;
                (packet.source_port, packet.destination_port) = ports;
            }
            _ if packet.flags.has(PacketFlags::FRAGMENT) => {
                let ports = (packet.source_port, packet.destination_port);
                self.fragments.first(&datagram(packet), ports, frame.at);
            }
            _ => {}
        }
        true
    }

    #[cold]
    pub(super) fn duplicate(
        &mut self,
        frame: &Frame<'_>,
        place: u32,
        from_higher: bool,
        number: u64,
        emit: &mut impl FnMut(u64, Observation),
    ) {
        self.counters.capture_duplicates += 1;
        self.counters.capture_duplicate_bytes += u64::from(frame.original_len);
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

    /// A router says that a packet was too big, of that flow if it is in the table.
    #[cold]
    pub(super) fn too_big(
        &self,
        packet: &Packet,
        error: &IcmpError,
        flow: Option<u32>,
        number: u64,
        emit: &mut impl FnMut(u64, Observation),
    ) {
        let group = flow.map_or(GroupKey::default(), |place| self.table.record(place).group);
        let observation = Observation::TooBig {
            flow: flow.map(FlowKey),
            group,
            next_hop_mtu: error.next_hop_mtu.unwrap_or(0),
            from: packet.source,
        };
        emit(number, observation);
    }
}

fn quoted_key(quoted: &Quoted) -> Key {
    let (key, _) = Key::of(
        (quoted.source, quoted.source_port),
        (quoted.destination, quoted.destination_port),
        quoted.protocol,
    );
    key
}

fn datagram(packet: &Packet) -> fragments::Datagram {
    fragments::Datagram {
        source: packet.source,
        destination: packet.destination,
        id: packet.fragment_id,
        protocol: packet.protocol,
    }
}
