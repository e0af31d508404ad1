//! Packets that are not simply of the flow that their header names: fragments, ICMP errors,
//! copies.

use base::{FlowKey, Frame, GroupKey, Memory, Observation, TcpClass, TcpClasses};
use wire::decode::{IcmpError, Packet, PacketFlags, Quoted, Transport};

use super::Analyser;
use super::batch::{self, Batch, Line};
use crate::flow::key::Key;
use crate::flow::record::Body;
use crate::flow::table::Located;
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
        let number = first + at as u64;
        if !self.find_ports(&mut packet, frame, number, emit) {
            return;
        }
        let slot = batch.len;
        // A first fragment has its TCP header.
        let tcp = match packet.transport {
            Transport::Tcp(tcp) => Some(tcp),
            _ => None,
        };
        let (key, from_higher) = batch::key(&packet);
        let is_tcp = tcp.is_some();
        let line = Line::new(&packet, at, from_higher, tcp.unwrap_or_default());
        batch.put(key, line, is_tcp);
        if let Some(place) = batch.others.get_mut(slot) {
            *place = packet;
        }
    }

    /// Says whether a packet has a flow, if need be by the ports of its first fragment.
    fn find_ports(
        &mut self,
        packet: &mut Packet,
        frame: &Frame<'_>,
        number: u64,
        emit: &mut impl FnMut(u64, Observation),
    ) -> bool {
        match packet.transport {
            Transport::IcmpError(error) => {
                self.counters.unmeasured[Unmeasured::IcmpError.index()] += 1;
                self.icmp(packet, &error, number, emit);
                return false;
            }
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
        number: u64,
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
        emit(number, observation);
    }

    fn quoted(&self, quoted: &Quoted) -> Option<u32> {
        let (key, _) = Key::of(
            (quoted.source, quoted.source_port),
            (quoted.destination, quoted.destination_port),
            quoted.protocol,
        );
        let mut located = [Located::NOWHERE];
        self.table.locate(&[key], &mut located, &self.memory);
        self.table.find(&key, located[0], self.table.changes())
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
