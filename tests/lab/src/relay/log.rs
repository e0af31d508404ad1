//! The relay's log: one fixed-size record for every fate of a packet, totals at the end.
//!
//! The relay hands over full buffers of [`Record`]s; a thread of its own encodes and writes
//! them, so that the relay never waits for a file. [`RelayLog`] reads a finished log. Times
//! are nanoseconds of `CLOCK_REALTIME`: `in_ns` the kernel's receive stamp, `out_ns` read
//! just before the send call. Integers in the file are little-endian.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};
use base::Direction;
use wire::frame::Frame;

use super::frame::echo_sequence;

const MAGIC: &[u8; 8] = b"NSRELAY1";
const RECORD_BYTES: usize = 112;
const TOTALS_BYTES: usize = 8 * 12;

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
    const ALL: [Self; 4] = [Self::Forwarded, Self::Lost, Self::TooBig, Self::Refused];
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

    fn encode(&self, to: &mut Vec<u8>) {
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

    fn decode(bytes: &[u8; RECORD_BYTES]) -> Result<Self> {
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

macro_rules! totals {
    ($($(#[doc = $doc:literal])+ $field:ident,)+) => {
        /// What one direction counted. Frames in = `received`; every one of them is in
        /// exactly one of `passed`, `matched` and `dropped_by_socket`.
        #[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
        pub struct DirectionTotals { $($(#[doc = $doc])+ pub $field: u64,)+ }

        impl DirectionTotals {
            fn values(&self) -> Vec<u64> { vec![$(self.$field,)+] }
            fn from_values(values: &[u64]) -> Self {
                let mut values = values.iter().copied();
                Self { $($field: values.next().unwrap_or(0),)+ }
            }
        }
    };
}

totals! {
    /// Frames that the interface brought, those that the socket dropped included.
    received,
    /// Frames that found the socket's buffer full: the relay's own failure.
    dropped_by_socket,
    /// Frames that are not impaired, not numbered and not logged, and went on.
    passed,
    /// Packets that are.
    matched,
    /// Of these, vanished as told.
    lost,
    /// Of these, larger than the limit.
    too_big,
    /// Copies made.
    copies,
    /// Of these, with a bit flipped.
    corrupted,
    /// Of these, held so that others overtook them.
    reordered,
    /// Frames and copies that left, passed ones included.
    sent,
    /// Frames that the send call refused: the relay's own failure.
    refused,
    /// ICMP answers that this direction's packets caused, sent on the interface they came from.
    icmp_sent,
}

impl DirectionTotals {
    /// Whether every frame is accounted for.
    #[must_use]
    pub fn balance(&self) -> bool {
        self.received == self.dropped_by_socket + self.passed + self.matched
            && self.passed + self.matched + self.copies
                == self.sent + self.lost + self.too_big + self.refused
    }

    /// What the relay itself lost, which it should not.
    #[must_use]
    pub fn own_failures(&self) -> u64 {
        self.dropped_by_socket + self.refused
    }
}

/// The writing end: buffers in memory, a thread that empties them.
#[derive(Debug)]
pub struct LogWriter {
    full: Sender<Vec<Record>>,
    filling: Vec<Record>,
    thread: JoinHandle<Result<BufWriter<File>>>,
}

impl LogWriter {
    const BUFFER: usize = 4_096;

    /// Creates the file.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(path: &Path) -> Result<Self> {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        file.write_all(MAGIC)?;
        let (full, take) = channel();
        let thread = std::thread::Builder::new()
            .name("log".into())
            .spawn(move || write_all(&take, file))?;
        Ok(Self {
            full,
            filling: Vec::with_capacity(Self::BUFFER),
            thread,
        })
    }

    /// Keeps a record. Memory only.
    pub fn push(&mut self, record: Record) {
        self.filling.push(record);
        if self.filling.len() == Self::BUFFER {
            let full = std::mem::replace(&mut self.filling, Vec::with_capacity(Self::BUFFER));
            // The thread ends early only on an I/O error, which finish() reports.
            let _ = self.full.send(full);
        }
    }

    /// Writes what is left, and the totals.
    ///
    /// # Errors
    /// When anything could not be written.
    pub fn finish(self, totals: &[DirectionTotals; 2]) -> Result<()> {
        let _ = self.full.send(self.filling);
        drop(self.full);
        let Ok(written) = self.thread.join() else {
            bail!("the log thread panicked");
        };
        let mut file = written?;
        for (direction, totals) in totals.iter().enumerate() {
            let mut line = vec![2, u8::try_from(direction)?];
            line.extend(totals.values().iter().flat_map(|value| value.to_le_bytes()));
            file.write_all(&line)?;
        }
        file.flush()?;
        Ok(())
    }
}

fn write_all(take: &Receiver<Vec<Record>>, mut file: BufWriter<File>) -> Result<BufWriter<File>> {
    let mut bytes = Vec::with_capacity(LogWriter::BUFFER * RECORD_BYTES);
    for records in take {
        bytes.clear();
        for record in &records {
            record.encode(&mut bytes);
        }
        file.write_all(&bytes)?;
    }
    Ok(file)
}

/// A finished log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RelayLog {
    /// Every record, in the order in which fates were sealed.
    pub records: Vec<Record>,
    /// The totals, by [`Direction::index`].
    pub totals: [DirectionTotals; 2],
}

impl RelayLog {
    /// Reads a log that was finished.
    ///
    /// # Errors
    /// When the file is missing, cut short or no log.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        let mut rest = bytes.strip_prefix(MAGIC).context("no relay log")?;
        let mut log = Self::default();
        let mut totals = 0;
        while let Some(kind) = rest.first() {
            match kind {
                1 => {
                    let (record, after) = rest.split_first_chunk().context("cut short")?;
                    log.records.push(Record::decode(record)?);
                    rest = after;
                }
                2 => {
                    let line = rest.get(2..2 + TOTALS_BYTES).context("cut short")?;
                    let values: Vec<u64> = line
                        .chunks_exact(8)
                        .map(|value| {
                            value
                                .iter()
                                .rev()
                                .fold(0, |sum, &b| sum << 8 | u64::from(b))
                        })
                        .collect();
                    let place = log.totals.get_mut(usize::from(rest[1]));
                    *place.context("direction")? = DirectionTotals::from_values(&values);
                    totals += 1;
                    rest = &rest[2 + TOTALS_BYTES..];
                }
                other => bail!("record of unknown kind {other}"),
            }
        }
        if totals != 2 {
            bail!("the relay did not finish its log");
        }
        Ok(log)
    }

    /// The totals of one direction.
    #[must_use]
    pub fn totals(&self, direction: Direction) -> &DirectionTotals {
        &self.totals[direction.index()]
    }

    /// The records of one direction.
    pub fn of(&self, direction: Direction) -> impl Iterator<Item = &Record> {
        self.records
            .iter()
            .filter(move |record| record.direction == direction)
    }

    /// What left in one direction, in the order in which it left.
    #[must_use]
    pub fn output(&self, direction: Direction) -> Vec<&Record> {
        let mut left: Vec<_> = self.of(direction).filter(|record| record.left()).collect();
        left.sort_by_key(|record| record.out_order);
        left
    }

    /// What was lost in one direction, as told (too-big ones not among them).
    pub fn lost(&self, direction: Direction) -> impl Iterator<Item = &Record> {
        self.of(direction)
            .filter(|record| record.verdict == Verdict::Lost)
    }

    /// The copies that left in one direction.
    pub fn copies(&self, direction: Direction) -> impl Iterator<Item = &Record> {
        self.of(direction)
            .filter(|record| record.left() && record.copy > 0)
    }

    /// The log restricted to what `keep` accepts; totals stay as they are.
    #[must_use]
    pub fn filtered(&self, keep: impl Fn(&Record) -> bool) -> Self {
        Self {
            records: self
                .records
                .iter()
                .filter(|record| keep(record))
                .copied()
                .collect(),
            totals: self.totals,
        }
    }

    /// Without opening and closing probes: those whose own TLV says "not counted".
    #[must_use]
    pub fn counted(&self) -> Self {
        self.filtered(|record| record.uncounted != Some(true))
    }
}

#[cfg(test)]
mod tests;
