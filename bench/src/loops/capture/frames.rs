//! The octets that the loops of capture are fed with.
//!
//! Headers and no more, as a capture with a short snaplen keeps them. Checksums are left out:
//! offloads leave them undone, and nothing reads them.

use std::io::{self, Read};

use ::wire::checksum::protocol;
use ::wire::decode::TcpHeader;

use crate::traces::pcap::{HEADER_BYTES, Writer};

/// Octets of the headers of a TCP segment with timestamps, and what it carries when it is full.
pub(super) const STAMPED: usize = 66;
pub(super) const FULL: u16 = 1448;
/// Octets of a short UDP frame.
pub(super) const DATAGRAM: usize = 60;
/// What the tunnel is called.
pub(super) const VNI: u32 = 0x00_1234;
/// Frames of [`file`].
pub(super) const FILE_FRAMES: usize = 2_048;

const ETHERNET: usize = 14;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const VXLAN_PORT: u16 = 4789;

/// Two ends, address and port: who sends, and to whom.
#[derive(Copy, Clone)]
pub(super) struct Ends(pub(super) (u32, u16), pub(super) (u32, u16));

impl Ends {
    /// A client of which there are so many, and one server's port.
    pub(super) const fn of(flow: u32, port: u16) -> Self {
        let client = (0x0a00_0001 + flow / 20, 20_000 + (flow % 20) as u16);
        Self(client, (0xc633_6407, port))
    }

    /// The other way.
    pub(super) const fn back(self) -> Self {
        Self(self.1, self.0)
    }
}

/// Puts octets somewhere.
fn put(to: &mut [u8], at: usize, octets: &[u8]) {
    to[at..at + octets.len()].copy_from_slice(octets);
}

/// An Ethernet header, and one of IPv4 without options in front of `above` octets.
fn ipv4(frame: &mut [u8], ends: Ends, protocol: u8, above: u16) {
    put(frame, 0, &[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
    put(frame, 12, &IPV4.to_be_bytes());
    put(frame, 14, &[0x45, 0]);
    put(frame, 16, &(20 + above).to_be_bytes());
    // DF; the identification of a packet that is not fragmented may be 0 (RFC 6864).
    put(frame, 20, &[0x40, 0, 64, protocol]);
    put(frame, 26, &ends.0.0.to_be_bytes());
    put(frame, 30, &ends.1.0.to_be_bytes());
}

/// A TCP header with timestamps, an ACK with a window that nothing fills.
fn tcp(frame: &mut [u8], at: usize, ends: Ends) {
    put(frame, at, &ends.0.1.to_be_bytes());
    put(frame, at + 2, &ends.1.1.to_be_bytes());
    put(frame, at + 12, &[0x80, TcpHeader::ACK, 0xff, 0xff]);
    put(frame, at + 20, &[1, 1, 8, 10]);
}

/// A TCP segment with timestamps over IPv4, of so many octets that are not captured.
pub(super) fn segment(ends: Ends, payload: u16) -> [u8; STAMPED] {
    let mut frame = [0; STAMPED];
    ipv4(&mut frame, ends, protocol::TCP, 32 + payload);
    tcp(&mut frame, 34, ends);
    frame
}

/// What differs from segment to segment.
#[derive(Copy, Clone)]
pub(super) struct Numbers {
    pub(super) ip_id: u16,
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) tsval: u32,
    pub(super) tsecr: u32,
}

impl Numbers {
    /// Writes them into a [`segment`].
    #[inline]
    pub(super) fn write(self, frame: &mut [u8; STAMPED]) {
        frame[18..20].copy_from_slice(&self.ip_id.to_be_bytes());
        frame[38..42].copy_from_slice(&self.seq.to_be_bytes());
        frame[42..46].copy_from_slice(&self.ack.to_be_bytes());
        frame[58..62].copy_from_slice(&self.tsval.to_be_bytes());
        frame[62..66].copy_from_slice(&self.tsecr.to_be_bytes());
    }
}

/// The same over IPv6.
pub(super) fn segment_v6(ends: Ends, payload: u16) -> Vec<u8> {
    let mut frame = vec![0; STAMPED + 20];
    put(&mut frame, 12, &IPV6.to_be_bytes());
    frame[14] = 0x60;
    put(&mut frame, 18, &(32 + payload).to_be_bytes());
    put(&mut frame, 20, &[protocol::TCP, 64]);
    for (at, (address, _)) in [(22, ends.0), (38, ends.1)] {
        put(&mut frame, at, &[0x20, 0x01, 0x0d, 0xb8]);
        put(&mut frame, at + 12, &address.to_be_bytes());
    }
    tcp(&mut frame, 54, ends);
    frame
}

/// A segment as a mirror sends it: Ethernet in VXLAN (RFC 7348).
pub(super) fn segment_in_vxlan(ends: Ends, payload: u16) -> Vec<u8> {
    let inside = segment(ends, payload);
    let above = 16 + STAMPED as u16 + payload;
    let mut frame = vec![0; ETHERNET + 20 + 16];
    let mirror = Ends((0xc000_0201, 50_000), (0xc000_0202, VXLAN_PORT));
    ipv4(&mut frame, mirror, protocol::UDP, above);
    udp(&mut frame, mirror, above);
    // The flag that there is a VNI; the VNI.
    frame[42] = 0x08;
    put(&mut frame, 46, &(VNI << 8).to_be_bytes());
    frame.extend(inside);
    frame
}

fn udp(frame: &mut [u8], ends: Ends, length: u16) {
    put(frame, 34, &ends.0.1.to_be_bytes());
    put(frame, 36, &ends.1.1.to_be_bytes());
    put(frame, 38, &length.to_be_bytes());
}

/// A short datagram.
pub(super) fn datagram(ends: Ends) -> [u8; DATAGRAM] {
    let mut frame = [0; DATAGRAM];
    let above = (DATAGRAM - ETHERNET - 20) as u16;
    ipv4(&mut frame, ends, protocol::UDP, above);
    udp(&mut frame, ends, above);
    frame
}

/// A pcap file of [`FILE_FRAMES`] frames of 66 to 1514 octets, of which 66 to 94 are there.
pub(super) fn file() -> Vec<u8> {
    let mut file = Vec::new();
    let mut writer = Writer::to(&mut file, 94).expect("memory");
    for number in 0..FILE_FRAMES {
        let payload = (number * 7 % 1449) as u16;
        let mut frame = segment(Ends::of(number as u32 % 8, 443), payload).to_vec();
        frame.resize(STAMPED + usize::from(payload), 0x5a);
        let at_ns = 1_700_000_000_000_000_000 + number as u64 * 1_000;
        let wire_len = frame.len() as u32;
        frame.truncate(STAMPED + number * 11 % 29);
        writer.write(at_ns, &frame, wire_len).expect("memory");
    }
    writer.finish().expect("memory");
    file
}

/// A capture file whose frames come again and again: the header once, then no end.
pub(super) struct Endless {
    file: Vec<u8>,
    at: usize,
}

impl Endless {
    pub(super) const fn new(file: Vec<u8>) -> Self {
        Self { file, at: 0 }
    }
}

impl Read for Endless {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let rest = &self.file[self.at..];
        let bytes = rest.len().min(room.len());
        // In pieces: of a long copy valgrind counts every octet as an instruction.
        let places = room[..bytes].chunks_mut(1_024);
        for (place, octets) in places.zip(rest.chunks(1_024)) {
            place.copy_from_slice(&octets[..place.len()]);
        }
        self.at += bytes;
        if self.at == self.file.len() {
            self.at = HEADER_BYTES;
        }
        Ok(bytes)
    }
}
