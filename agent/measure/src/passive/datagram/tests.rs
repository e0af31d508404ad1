//! Kinds and the estimators packet by packet; captures against tshark; a simulated spin.

mod capture;
mod handshake;
mod oracle;
mod requests;
mod spinning;

use super::*;
use base::Address;
use wire::decode::PacketFlags;

/// A sample, as given.
pub(super) type Sample = (RttMethod, Leg, u64);

/// A packet between 10.0.0.1 and 10.0.0.2 by their ports.
pub(super) fn packet(transport: Transport, ports: [u16; 2], payload_len: usize) -> Packet {
    Packet {
        source: Address::v4(0x0a00_0001),
        destination: Address::v4(0x0a00_0002),
        source_port: ports[0],
        destination_port: ports[1],
        protocol: 17,
        ttl: 64,
        ip_id: 0,
        fragment_id: 0,
        tunnel_id: 0,
        flags: PacketFlags::none(),
        ip_len: 28 + payload_len as u32,
        payload_len: payload_len as u32,
        payload_at: 42,
        payload_captured: payload_len as u32,
        transport,
    }
}

/// One flow whose near end has the first port, and what it gave.
pub(super) struct Rig {
    pub(super) state: DatagramState,
    pub(super) counters: DatagramCounters,
    pub(super) samples: Vec<Sample>,
    ports: [u16; 2],
}

impl Rig {
    pub(super) fn new(near: u16, remote: u16) -> Self {
        let first = packet(Transport::Udp, [near, remote], 0);
        Self::with(Kind::of(&first, &Ports::default()), [near, remote])
    }

    pub(super) fn with(kind: Kind, ports: [u16; 2]) -> Self {
        Self {
            state: DatagramState::new(kind),
            counters: DatagramCounters::new(),
            samples: Vec::new(),
            ports,
        }
    }

    /// A UDP payload of which only `captured` is there.
    pub(super) fn cut(&mut self, us: u64, sender: Sender, captured: &[u8], whole: usize) {
        let mut ports = self.ports;
        if sender == Sender::Remote {
            ports.reverse();
        }
        let packet = packet(Transport::Udp, ports, whole);
        self.take(us * 1000, sender, &packet, captured);
    }

    pub(super) fn udp(&mut self, us: u64, sender: Sender, payload: &[u8]) {
        self.cut(us, sender, payload, payload.len());
    }

    pub(super) fn echo(&mut self, us: u64, sender: Sender, reply: bool, sequence: u16) {
        let packet = packet(Transport::Echo { reply, sequence }, self.ports, 56);
        self.take(us * 1000, sender, &packet, &[]);
    }

    pub(super) fn take(&mut self, ns: u64, sender: Sender, packet: &Packet, payload: &[u8]) {
        let samples = &mut self.samples;
        self.state.packet(
            WallNanos(ns),
            sender,
            packet,
            payload,
            &mut self.counters,
            &mut |method, leg, ns| samples.push((method, leg, ns)),
        );
    }

    pub(super) fn taken(&mut self) -> Vec<Sample> {
        std::mem::take(&mut self.samples)
    }

    /// Every event that was counted.
    pub(super) fn events(&self) -> Vec<(DatagramEvent, u64)> {
        DatagramEvent::ALL
            .iter()
            .map(|event| (*event, self.counters.get(*event)))
            .filter(|(_, count)| *count != 0)
            .collect()
    }
}

#[test]
fn a_flow_is_what_its_ports_say() {
    let more = Ports {
        quic: &[8443],
        stamp: &[4862],
    };
    for (ports, kind) in [
        ([40_000, 443], Kind::Quic(443)),
        ([443, 40_000], Kind::Quic(443)),
        ([443, 8443], Kind::Quic(0)),
        ([40_000, 8443], Kind::Quic(8443)),
        ([40_000, 53], Kind::Dns),
        ([53, 53], Kind::Dns),
        ([53, 443], Kind::Dns),
        ([862, 40_000], Kind::Stamp(862)),
        ([862, 862], Kind::Stamp(0)),
        ([40_000, 4862], Kind::Stamp(4862)),
        ([40_000, 80], Kind::Plain),
    ] {
        let udp = packet(Transport::Udp, ports, 10);
        assert_eq!(Kind::of(&udp, &more), kind, "{ports:?}");
        let tcp = packet(
            Transport::Tcp(wire::decode::TcpHeader::default()),
            ports,
            10,
        );
        assert_eq!(Kind::of(&tcp, &more), Kind::Plain, "{ports:?}");
    }
    let echo = Transport::Echo {
        reply: false,
        sequence: 1,
    };
    assert_eq!(Kind::of(&packet(echo, [7, 7], 56), &more), Kind::Echo);
}

#[test]
fn it_fits_into_its_place() {
    assert_eq!(STATE_BYTES, 84);
    assert!(size_of::<DatagramState>() <= 84 && align_of::<DatagramState>() <= 4);
}
