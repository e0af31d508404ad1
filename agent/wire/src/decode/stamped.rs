//! What nearly every frame of a busy host is, by itself: Ethernet, IPv4 without options, not
//! fragmented, and a TCP segment whose only option is the timestamps in the order in which
//! Linux writes them (RFC 7323 appendix A).
//!
//! At fixed places, so a few words are compared and nothing is walked. Whatever differs in
//! any way is `None`; what is `Some` is the same by [`super::decode`] (a property test).

use base::{Frame, LinkType};

use super::TcpHeader;

/// Octets of its headers.
const HEADERS: usize = 66;
/// Of them, IPv4's and TCP's.
const IP_HEADERS: u32 = 52;
const ETHERNET: usize = 14;

/// See the module.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Stamped {
    /// Source address, then destination address.
    pub addresses: u64,
    /// Source port, then destination port.
    pub ports: u32,
    /// Whether DF is set.
    pub df: bool,
    /// Time to live.
    pub ttl: u8,
    /// Identification.
    pub ip_id: u16,
    /// Octets of the IP packet.
    pub ip_len: u32,
    /// Octets behind the TCP header, by the IP header.
    pub payload_len: u32,
    /// The TCP header.
    pub tcp: TcpHeader,
}

/// The word at a place, in network order.
#[inline(always)]
fn word<const AT: usize>(h: &[u8; HEADERS]) -> u32 {
    u32::from_be_bytes([h[AT], h[AT + 1], h[AT + 2], h[AT + 3]])
}

#[inline(always)]
fn words<const AT: usize>(h: &[u8; HEADERS]) -> u64 {
    u64::from(word::<AT>(h)) << 32
        | u64::from(u32::from_be_bytes([
            h[AT + 4],
            h[AT + 5],
            h[AT + 6],
            h[AT + 7],
        ]))
}

/// The segment, if the frame is one of those.
#[inline(always)]
#[must_use]
pub fn stamped(frame: &Frame<'_>) -> Option<Stamped> {
    let h = frame.bytes.first_chunk::<HEADERS>()?;
    // EtherType, version and header length, and the type of service, which does not matter.
    let kind = word::<12>(h) & 0xffff_ff00;
    // More fragments and the fragment's offset; TTL; protocol.
    let (whole, control) = (word::<20>(h), word::<46>(h));
    let options = word::<54>(h);
    let lengths = word::<16>(h);
    let ip_len = lengths >> 16;
    let on_wire = frame.bytes.len().max(frame.original_len as usize) - ETHERNET;
    if frame.link != LinkType::Ethernet
        || kind != 0x0800_4500
        || whole & 0x3fff_00ff != 6
        // Eight words of header; NOP, NOP, kind 8, length 10.
        || control & 0xf000_0000 != 0x8000_0000
        || options != 0x0101_080a
        || ip_len as usize > on_wire
    {
        return None;
    }
    let times = words::<58>(h);
    let numbers = words::<38>(h);
    Some(Stamped {
        addresses: words::<26>(h),
        ports: word::<34>(h),
        df: whole & 0x4000_0000 != 0,
        ttl: (whole >> 8) as u8,
        ip_id: lengths as u16,
        ip_len,
        payload_len: ip_len.checked_sub(IP_HEADERS)?,
        tcp: TcpHeader {
            seq: (numbers >> 32) as u32,
            ack: numbers as u32,
            tsval: (times >> 32) as u32,
            tsecr: times as u32,
            sack: (0, 0),
            window: control as u16,
            flags: (control >> 16) as u8,
            options: TcpHeader::TIMESTAMPS,
            mss: 0,
            scale: 0,
        },
    })
}
