//! Frames octet by octet, from RFC 791, 8200, 9293, 768, 792 and 4443; a builder of its own.

use std::net::{IpAddr, SocketAddr};

use base::{Frame, LinkType, Observation, Passage, WallNanos};
use measure::passive::{Analyser, Counters, Options};

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

pub(crate) const SEED: [u64; 8] = [
    0x9e37_79b9_7f4a_7c15,
    0xbf58_476d_1ce4_e5b9,
    0x94d0_49bb_1331_11eb,
    0xd6e8_feb8_6659_fd93,
    0xa076_1d64_78bd_642f,
    0xe703_7ed1_a0b4_28db,
    0x8ebc_6af0_9c88_c6e3,
    0x5899_65cc_7537_4cc3,
];

/// When all captures begin.
pub(crate) const START: u64 = 1_700_000_000_000_000_000;

pub(crate) fn options(flows: u32) -> Options {
    Options {
        flows,
        segments: flows.max(16) * 2,
        ..Options::new(SEED)
    }
}

/// One TCP segment of a conversation.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) flags: u8,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) len: u32,
    pub(crate) window: u16,
    pub(crate) mss: u16,
    pub(crate) stamps: Option<(u32, u32)>,
}

pub(crate) fn segment(flags: u8, seq: u32, ack: u32, len: u32) -> Segment {
    Segment {
        flags,
        seq,
        ack,
        len,
        window: 500,
        mss: 0,
        stamps: None,
    }
}

impl Segment {
    pub(crate) fn stamps(self, tsval: u32, tsecr: u32) -> Self {
        let stamps = Some((tsval, tsecr));
        Self { stamps, ..self }
    }

    pub(crate) fn mss(self, mss: u16) -> Self {
        Self { mss, ..self }
    }

    fn octets(&self, ports: (u16, u16)) -> Vec<u8> {
        let mut options = Vec::new();
        if self.mss > 0 {
            options.extend([2, 4]);
            options.extend(self.mss.to_be_bytes());
        }
        if let Some((tsval, tsecr)) = self.stamps {
            options.extend([1, 1, 8, 10]);
            options.extend(tsval.to_be_bytes());
            options.extend(tsecr.to_be_bytes());
        }
        let mut octets = Vec::new();
        octets.extend(ports.0.to_be_bytes());
        octets.extend(ports.1.to_be_bytes());
        octets.extend(self.seq.to_be_bytes());
        octets.extend(self.ack.to_be_bytes());
        octets.extend([(20 + options.len() as u8) << 2, self.flags]);
        octets.extend(self.window.to_be_bytes());
        octets.extend([0; 4]);
        octets.extend(options);
        octets.resize(octets.len() + self.len as usize, 0x5a);
        octets
    }
}

/// What stands in the IP header beside addresses.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Ip {
    pub(crate) id: u16,
    pub(crate) ttl: u8,
    pub(crate) protocol: u8,
    /// Octets from the datagram's beginning, and whether more follow.
    pub(crate) fragment: (u16, bool),
    pub(crate) vlan: Option<u16>,
}

impl Ip {
    pub(crate) const fn new(protocol: u8, id: u16) -> Self {
        Self {
            id,
            ttl: 64,
            protocol,
            fragment: (0, false),
            vlan: None,
        }
    }
}

/// An IPv4 or IPv6 packet.
pub(crate) fn packet(from: IpAddr, to: IpAddr, ip: Ip, payload: &[u8]) -> Vec<u8> {
    let mut octets = Vec::new();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            octets.extend([0x45, 0]);
            octets.extend((20 + payload.len() as u16).to_be_bytes());
            octets.extend(ip.id.to_be_bytes());
            let more = u16::from(ip.fragment.1) << 13;
            octets.extend(((ip.fragment.0 / 8) | more).to_be_bytes());
            octets.extend([ip.ttl, ip.protocol, 0, 0]);
            octets.extend(from.octets());
            octets.extend(to.octets());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let whole = ip.fragment == (0, false);
            octets.extend([0x60, 0, 0, 0]);
            let more = if whole { 0 } else { 8 };
            octets.extend((payload.len() as u16 + more).to_be_bytes());
            octets.extend([if whole { ip.protocol } else { 44 }, ip.ttl]);
            octets.extend(from.octets());
            octets.extend(to.octets());
            if !whole {
                octets.extend([ip.protocol, 0]);
                octets.extend((ip.fragment.0 | u16::from(ip.fragment.1)).to_be_bytes());
                octets.extend(u32::from(ip.id).to_be_bytes());
            }
        }
        _ => panic!("two families"),
    }
    octets.extend(payload);
    octets
}

fn ethernet(vlan: Option<u16>, packet: &[u8]) -> Vec<u8> {
    let mut octets = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    if let Some(vlan) = vlan {
        octets.extend([0x81, 0]);
        octets.extend(vlan.to_be_bytes());
    }
    octets.extend(match packet.first().map(|octet| octet >> 4) {
        Some(4) => [0x08, 0x00],
        _ => [0x86, 0xdd],
    });
    octets.extend(packet);
    octets
}

/// A captured frame.
#[derive(Clone, Debug)]
pub(crate) struct Captured {
    pub(crate) octets: Vec<u8>,
    /// Octets of the frame that were not captured.
    pub(crate) cut: u32,
    pub(crate) at_ns: u64,
    pub(crate) segment_bytes: u16,
    pub(crate) passage: Passage,
    pub(crate) link: LinkType,
}

impl Captured {
    pub(crate) fn frame(&self) -> Frame<'_> {
        Frame {
            bytes: &self.octets,
            original_len: self.octets.len() as u32 + self.cut,
            at: WallNanos(self.at_ns),
            segment_bytes: self.segment_bytes,
            link: self.link,
            passage: self.passage,
        }
    }
}

/// Two ends and what was captured of them; a capture of several is made of several.
#[derive(Clone, Debug)]
pub(crate) struct Talk {
    /// Who opens and who answers.
    pub(crate) ends: [SocketAddr; 2],
    ids: [u16; 2],
    pub(crate) now_ns: u64,
    pub(crate) frames: Vec<Captured>,
}

impl Talk {
    pub(crate) fn new(opens: &str, answers: &str) -> Self {
        Self {
            ends: [opens, answers].map(|end| end.parse().expect("an end")),
            ids: [100, 200],
            now_ns: START,
            frames: Vec::new(),
        }
    }

    pub(crate) fn v4() -> Self {
        Self::new("10.0.0.1:40000", "192.0.2.7:80")
    }

    pub(crate) fn v6() -> Self {
        Self::new("[2001:db8::1]:40000", "[2001:db8::7]:80")
    }

    pub(crate) fn wait_us(&mut self, us: u64) -> &mut Self {
        self.now_ns += us * 1000;
        self
    }

    fn next_id(&mut self, s: usize) -> u16 {
        self.ids[s] = self.ids[s].wrapping_add(1).max(1);
        self.ids[s]
    }

    /// A segment of an end (0 opens, 1 answers).
    pub(crate) fn tcp(&mut self, s: usize, segment: Segment) -> &mut Captured {
        let ports = (self.ends[s].port(), self.ends[1 - s].port());
        let id = self.next_id(s);
        self.ip(s, Ip::new(6, id), &segment.octets(ports))
    }

    /// An IP packet of an end.
    pub(crate) fn ip(&mut self, s: usize, ip: Ip, payload: &[u8]) -> &mut Captured {
        let packet = packet(self.ends[s].ip(), self.ends[1 - s].ip(), ip, payload);
        self.raw(ip.vlan, &packet)
    }

    pub(crate) fn raw(&mut self, vlan: Option<u16>, packet: &[u8]) -> &mut Captured {
        let at = self.frames.len();
        self.frames.push(Captured {
            octets: ethernet(vlan, packet),
            cut: 0,
            at_ns: self.now_ns,
            segment_bytes: 0,
            passage: Passage::Unknown,
            link: LinkType::Ethernet,
        });
        &mut self.frames[at]
    }

    /// A UDP datagram, in one piece.
    pub(crate) fn udp(&mut self, s: usize, payload: &[u8]) -> &mut Captured {
        let datagram = self.datagram(s, payload);
        let id = self.next_id(s);
        self.ip(s, Ip::new(17, id), &datagram)
    }

    /// A UDP header and payload.
    pub(crate) fn datagram(&self, s: usize, payload: &[u8]) -> Vec<u8> {
        let mut octets = Vec::new();
        octets.extend(self.ends[s].port().to_be_bytes());
        octets.extend(self.ends[1 - s].port().to_be_bytes());
        octets.extend((8 + payload.len() as u16).to_be_bytes());
        octets.extend([0, 0]);
        octets.extend(payload);
        octets
    }

    /// SYN, SYN-ACK, ACK from sequence numbers 1000 and 5000, 10 ms to the one that answers
    /// and 1 ms to the one that opens.
    pub(crate) fn handshake(&mut self) -> &mut Self {
        self.tcp(0, segment(SYN, 1000, 0, 0).mss(1460));
        self.wait_us(10_000);
        self.tcp(1, segment(SYN | ACK, 5000, 1001, 0).mss(1460));
        self.wait_us(1_000);
        self.tcp(0, segment(ACK, 1001, 5001, 0));
        self
    }
}

/// What an analyser said, with the number of the frame.
pub(crate) struct Said {
    pub(crate) seen: Vec<(u64, Observation)>,
    pub(crate) counters: Counters,
}

/// Everything that a capture shows, in batches of an odd size.
pub(crate) fn analyse(options: Options, frames: &[Captured]) -> Said {
    let mut analyser = Analyser::new(options);
    let mut seen = Vec::new();
    let lent: Vec<Frame<'_>> = frames.iter().map(Captured::frame).collect();
    for batch in lent.chunks(13) {
        analyser.batch(batch, &mut |number, one| seen.push((number, one)));
    }
    analyser.finish(&mut |number, one| seen.push((number, one)));
    let counters = analyser.counters();
    assert_eq!(counters.balance(), 0);
    assert_eq!(counters.frames, frames.len() as u64);
    assert_eq!(counters.flows, counters.ended.iter().sum::<u64>());
    Said { seen, counters }
}
