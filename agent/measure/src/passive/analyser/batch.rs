//! Packets between decoding and their flows.

use base::{Address, Frame};
use wire::decode::{Packet, PacketFlags, Stamped, TcpHeader, Transport, stamped};

use crate::flow::key::Key;
use crate::flow::table::Located;

/// The protocol's number.
const TCP: u8 = wire::checksum::protocol::TCP;

/// Frames that are worked on at once.
pub(super) const BATCH: usize = 32;

/// The key of a packet, and whether its source is the key's higher end.
#[inline]
pub(super) fn key(packet: &Packet) -> (Key, bool) {
    Key::of(
        (packet.source, packet.source_port),
        (packet.destination, packet.destination_port),
        packet.protocol,
    )
}

/// A batch on its way; kept, so that nobody has to blank it.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) keys: [Key; BATCH],
    pub(super) located: [Located; BATCH],
    pub(super) lines: [Line; BATCH],
    /// Whether a line is a TCP segment; else the packet is in `others`.
    pub(super) is_tcp: [bool; BATCH],
    /// What is not TCP, in the places of its lines.
    pub(super) others: [Packet; BATCH],
    pub(super) len: usize,
}

/// What is kept of a packet until its flow is found.
#[derive(Copy, Clone, Debug)]
pub(super) struct Line {
    pub(super) tcp: TcpHeader,
    pub(super) ip_len: u32,
    pub(super) payload_len: u32,
    pub(super) ip_id: u16,
    pub(super) ttl: u8,
    /// Which frame.
    pub(super) at: u8,
    /// Whether its source is the key's higher end.
    pub(super) from_higher: bool,
    /// Whether it came out of a tunnel.
    pub(super) tunnelled: bool,
    /// Whether it has DF, of what is not [`stamped`]: there it is looked for where it
    /// matters, so that it takes up no register in the loop.
    df: bool,
}

/// The packet that may begin a flow.
pub(super) enum Opening<'a> {
    /// Its header, and whether it came out of a tunnel.
    Tcp(&'a TcpHeader, bool),
    Other(&'a Packet),
}

/// What tells copies of a packet from repetitions, beside its transport header.
#[derive(Copy, Clone, Debug)]
pub(in crate::passive) struct Ids {
    pub(in crate::passive) ip_id: u16,
    pub(in crate::passive) ttl: u8,
    pub(in crate::passive) payload_len: u32,
    pub(in crate::passive) from_higher: bool,
}

impl Line {
    #[inline(always)]
    pub(super) fn new(packet: &Packet, at: usize, from_higher: bool, tcp: TcpHeader) -> Self {
        Self {
            tcp,
            ip_len: packet.ip_len,
            payload_len: packet.payload_len,
            ip_id: packet.ip_id,
            ttl: packet.ttl,
            // A batch has fewer than 256 frames.
            at: at as u8,
            from_higher,
            tunnelled: packet.flags.has(PacketFlags::TUNNELLED),
            df: packet.flags.has(PacketFlags::DONT_FRAGMENT),
        }
    }

    #[inline(always)]
    pub(super) fn stamped(segment: &Stamped, at: usize, from_higher: bool) -> Self {
        Self {
            tcp: segment.tcp,
            ip_len: segment.ip_len,
            payload_len: segment.payload_len,
            ip_id: segment.ip_id,
            ttl: segment.ttl,
            at: at as u8,
            from_higher,
            tunnelled: false,
            df: false,
        }
    }

    /// Whether its packet, which is the frame's, has DF.
    pub(super) fn has_df(&self, frame: &Frame<'_>) -> bool {
        self.df || stamped(frame).is_some_and(|segment| segment.df)
    }

    #[inline]
    pub(super) const fn ids(&self) -> Ids {
        Ids {
            ip_id: self.ip_id,
            ttl: self.ttl,
            payload_len: self.payload_len,
            from_higher: self.from_higher,
        }
    }
}

impl Batch {
    pub(super) const fn new() -> Self {
        Self {
            keys: [Key::EMPTY; BATCH],
            located: [Located::NOWHERE; BATCH],
            lines: [Line::EMPTY; BATCH],
            is_tcp: [false; BATCH],
            others: [NOTHING; BATCH],
            len: 0,
        }
    }

    /// Takes a packet; a batch has room for every frame that it is made of.
    #[inline]
    pub(super) fn put(&mut self, key: Key, line: Line, is_tcp: bool) {
        let slot = self.len;
        if slot < BATCH {
            self.keys[slot] = key;
            self.lines[slot] = line;
            self.is_tcp[slot] = is_tcp;
            self.len = slot + 1;
        }
    }

    /// Takes a TCP segment of IPv4.
    #[inline(never)]
    pub(super) fn put_stamped(&mut self, frame: &Frame<'_>, at: usize) {
        let Some(segment) = stamped(frame) else {
            return;
        };
        let [source, destination] =
            [segment.addresses >> 32, segment.addresses].map(|end| Address::v4(end as u32));
        let [from, to] = [segment.ports >> 16, segment.ports].map(|port| port as u16);
        let (key, from_higher) = Key::of((source, from), (destination, to), TCP);
        self.put(key, Line::stamped(&segment, at, from_higher), true);
    }

    /// Takes a packet that is not TCP.
    pub(super) fn put_other(&mut self, key: Key, line: Line, packet: Packet) {
        if let Some(other) = self.others.get_mut(self.len) {
            *other = packet;
        }
        self.put(key, line, false);
    }
}

impl Line {
    const EMPTY: Self = Self {
        tcp: NO_TCP,
        ip_len: 0,
        payload_len: 0,
        ip_id: 0,
        ttl: 0,
        at: 0,
        from_higher: false,
        tunnelled: false,
        df: false,
    };
}

const NO_TCP: TcpHeader = TcpHeader {
    seq: 0,
    ack: 0,
    tsval: 0,
    tsecr: 0,
    sack: (0, 0),
    window: 0,
    flags: 0,
    options: 0,
    mss: 0,
    scale: 0,
};

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
