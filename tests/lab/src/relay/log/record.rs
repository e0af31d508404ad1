//! One record of the log: what a packet was, what became of it and when; and how that is
//! written into [`RECORD_BYTES`] octets and read again.
//!
//! Nothing here reads a clock or a file. Times are nanoseconds of `CLOCK_REALTIME`.

use std::net::{IpAddr, Ipv6Addr};

use anyhow::{Context, Result};
use base::Direction;
use wire::frame::Frame;

use crate::relay::frame::echo_sequence;

/// Of a record in the file.
pub(super) const RECORD_BYTES: usize = 112;

/// What became of a packet.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Verdict {
    /// It left.
    Forwarded,
    /// It vanished, as told.
    Lost,
    /// It was larger than the limit and vanished, as told.
    TooBig,
    /// The send call refused it: a failure of the relay, counted, never hidden.
    Refused,
}

impl Verdict {
    pub(super) const ALL: [Self; 4] = [Self::Forwarded, Self::Lost, Self::TooBig, Self::Refused];
}

/// One packet, or one copy of one, at its end.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Which way it went.
    pub direction: Direction,
    /// Its number among the matching packets of its direction, from 0.
    pub index: u64,
    /// What became of it.
    pub verdict: Verdict,
    /// 0 for the packet itself, 1 and up for its copies.
    pub copy: u8,
    /// It was held so that later ones overtook it.
    pub reordered: bool,
    /// A payload bit was flipped.
    pub corrupted: bool,
    /// When the kernel received it.
    pub in_ns: u64,
    /// When it was due to leave; `in_ns` if it was not held by a time.
    pub due_ns: u64,
    /// Just before the send call; 0 if it never left.
    pub out_ns: u64,
    /// Its place in the order in which this direction's packets and copies left, from 0;
    /// meaningless if it never left.
    pub out_order: u64,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Source and destination port, 0 without.
    pub ports: (u16, u16),
    /// The protocol above IP.
    pub protocol: u8,
    /// TTL or hop limit as it came in.
    pub ttl: u8,
    /// Bytes of the IP packet.
    pub ip_len: u16,
    /// The payload's first word, if it has 44 octets: the sequence of a STAMP packet.
    pub sequence: Option<u32>,
    /// The payload's word at 24, if it has 44 octets: in a STAMP reply the sequence of the
    /// request; 0 in a request.
    pub sender_sequence: u32,
    /// The session of a STAMP packet (octets 14 and 15).
    pub ssid: u16,
    /// Sequence of an ICMP echo message.
    pub echo_sequence: Option<u16>,
    /// Whether it carries our report TLV, and if so, whether that says "not counted".
    pub uncounted: Option<bool>,
    /// What a TCP segment is.
    pub tcp: Option<Segment>,
}

/// A TCP segment in a log.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Its sequence number.
    pub sequence: u32,
    /// Octets of payload.
    pub payload: u16,
    /// FIN, SYN, RST, PSH, ACK, ... from bit 0.
    pub flags: u8,
}

impl Segment {
    fn read(bytes: &[u8], frame: &Frame) -> Option<Self> {
        if frame.protocol != wire::checksum::protocol::TCP {
            return None;
        }
        // RFC 9293 section 3.1: the sequence number is the second word, the flags octet 13.
        let header = bytes.get(frame.l4..frame.l4 + 14)?;
        Some(Self {
            sequence: u32::from_be_bytes(*header.get(4..)?.first_chunk()?),
            payload: u16::try_from(frame.payload.len()).unwrap_or(u16::MAX),
            flags: header[13],
        })
    }
}

impl Record {
    /// Reads what the log wants to know from a frame as it came in.
    #[must_use]
    pub fn new(direction: Direction, index: u64, in_ns: u64, bytes: &[u8], frame: &Frame) -> Self {
        let udp = frame.protocol == wire::checksum::protocol::UDP;
        let payload = bytes.get(frame.payload.clone()).unwrap_or_default();
        let stamp = udp && payload.len() >= wire::stamp::BASE_LEN;
        let word = |at: usize| match payload.get(at..at + 4) {
            Some(word) if stamp => u32::from_be_bytes([word[0], word[1], word[2], word[3]]),
            _ => 0,
        };
        let uncounted = stamp
            .then(|| payload.get(wire::stamp::BASE_LEN..))
            .flatten()
            .and_then(report_flag);
        Self {
            direction,
            index,
            verdict: Verdict::Forwarded,
            copy: 0,
            reordered: false,
            corrupted: false,
            in_ns,
            due_ns: in_ns,
            out_ns: 0,
            out_order: 0,
            source: frame.source,
            destination: frame.destination,
            ports: frame.ports.unwrap_or((0, 0)),
            protocol: frame.protocol,
            ttl: frame.ttl,
            ip_len: u16::try_from(frame.ip_len).unwrap_or(u16::MAX),
            sequence: stamp.then(|| word(0)),
            sender_sequence: word(24),
            ssid: (word(12) & 0xffff) as u16,
            echo_sequence: echo_sequence(bytes, frame),
            uncounted,
            tcp: Segment::read(bytes, frame),
        }
    }

    /// Whether it left.
    #[must_use]
    pub fn left(&self) -> bool {
        self.verdict == Verdict::Forwarded
    }

    /// How long the relay really held it, if it left. Zero if the clocks disagree by less
    /// than that.
    #[must_use]
    pub fn held_ns(&self) -> Option<u64> {
        self.left().then(|| self.out_ns.saturating_sub(self.in_ns))
    }

    /// The sequence number that the sender gave to the probe of which this is the request
    /// (forward) or the reply (reverse); ICMP echo likewise.
    #[must_use]
    pub fn probe(&self) -> Option<u32> {
        match (self.echo_sequence, self.direction) {
            (Some(sequence), _) => Some(sequence.into()),
            (None, Direction::Forward) => self.sequence,
            (None, Direction::Reverse) => self.sequence.map(|_| self.sender_sequence),
        }
    }

    pub(super) fn encode(&self, to: &mut Vec<u8>) {
        let flags = u8::from(self.reordered)
            | u8::from(self.corrupted) << 1
            | u8::from(self.sequence.is_some()) << 2
            | u8::from(self.echo_sequence.is_some()) << 3
            | u8::from(self.uncounted.is_some()) << 4
            | u8::from(self.uncounted == Some(true)) << 5
            | u8::from(self.source.is_ipv6()) << 6
            | u8::from(self.tcp.is_some()) << 7;
        let start = to.len();
        to.extend([
            1,
            self.direction.index() as u8,
            self.verdict as u8,
            self.copy,
        ]);
        to.extend([flags, self.protocol, self.ttl, 0]);
        for number in [
            self.index,
            self.in_ns,
            self.due_ns,
            self.out_ns,
            self.out_order,
        ] {
            to.extend(number.to_le_bytes());
        }
        for address in [self.source, self.destination] {
            let v6 = match address {
                IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                IpAddr::V6(v6) => v6,
            };
            to.extend(v6.octets());
        }
        to.extend(self.ports.0.to_le_bytes());
        to.extend(self.ports.1.to_le_bytes());
        to.extend(self.ip_len.to_le_bytes());
        to.extend(self.ssid.to_le_bytes());
        to.extend(self.sequence.unwrap_or(0).to_le_bytes());
        to.extend(self.sender_sequence.to_le_bytes());
        to.extend(self.echo_sequence.unwrap_or(0).to_le_bytes());
        if let Some(tcp) = self.tcp {
            to.extend(tcp.sequence.to_le_bytes());
            to.extend(tcp.payload.to_le_bytes());
            to.push(tcp.flags);
        }
        to.resize(start + RECORD_BYTES, 0);
    }

    pub(super) fn decode(bytes: &[u8; RECORD_BYTES]) -> Result<Self> {
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let direction = *Direction::ALL
            .get(usize::from(bytes[1]))
            .context("direction")?;
        let verdict = *Verdict::ALL.get(usize::from(bytes[2])).context("verdict")?;
        let flag = |bit: u8| bytes[4] & 1 << bit != 0;
        let address = |at: usize| {
            let mut octets = [0; 16];
            octets.copy_from_slice(&bytes[at..at + 16]);
            match (flag(6), Ipv6Addr::from(octets)) {
                (true, v6) => IpAddr::V6(v6),
                (false, mapped) => mapped.to_canonical(),
            }
        };
        Ok(Self {
            direction,
            verdict,
            copy: bytes[3],
            reordered: flag(0),
            corrupted: flag(1),
            protocol: bytes[5],
            ttl: bytes[6],
            index: u64_at(8),
            in_ns: u64_at(16),
            due_ns: u64_at(24),
            out_ns: u64_at(32),
            out_order: u64_at(40),
            source: address(48),
            destination: address(64),
            ports: (u16_at(80), u16_at(82)),
            ip_len: u16_at(84),
            ssid: u16_at(86),
            sequence: flag(2).then(|| u32_at(88)),
            sender_sequence: u32_at(92),
            echo_sequence: flag(3).then(|| u16_at(96)),
            uncounted: flag(4).then(|| flag(5)),
            tcp: flag(7).then(|| Segment {
                sequence: u32_at(98),
                payload: u16_at(102),
                flags: bytes[104],
            }),
        })
    }
}

/// "Not counted" in our own TLV, if there is one.
fn report_flag(area: &[u8]) -> Option<bool> {
    wire::tlv::Tlvs::new(area)
        .map_while(Result::ok)
        .filter(|tlv| tlv.kind == wire::report::KIND)
        .find_map(|tlv| wire::report::ReportRequest::parse(tlv.value).ok())
        .map(|report| report.uncounted)
}
