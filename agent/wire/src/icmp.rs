//! ICMP and ICMPv6: echo (RFC 792, RFC 4443 section 4), what our echoes carry, and the
//! "too big" errors that a lab router sends (RFC 1191, RFC 4443 section 3.2).
//!
//! Messages start at the ICMP header. Over IPv4 the checksum is ours to make and to verify;
//! over IPv6 the kernel does both, because it covers the IP addresses.

use core::net::IpAddr;

use base::WallNanos;

use crate::Reason;
use crate::bytes::{array_at, put, u8_at, u16_at, u32_at};
use crate::checksum::{self, protocol};
use crate::frame::Frame;

/// Octets of an echo message before its data.
pub const ECHO_LEN: usize = 8;

const ECHO_REPLY_V4: u8 = 0;
const UNREACHABLE_V4: u8 = 3;
const ECHO_REQUEST_V4: u8 = 8;
const TOO_BIG_V6: u8 = 2;
const ECHO_REQUEST_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;

mod field {
    pub(super) const CHECKSUM: usize = 2;
    pub(super) const IDENT: usize = 4;
    pub(super) const SEQUENCE: usize = 6;
}

/// An echo request or reply.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Echo<'a> {
    /// Whether it is a reply; a request otherwise.
    pub is_reply: bool,
    /// Identifier.
    pub ident: u16,
    /// Sequence Number.
    pub sequence: u16,
    /// Data.
    pub payload: &'a [u8],
}

impl<'a> Echo<'a> {
    /// Reads an ICMP message. `Ok(None)` is another type or code.
    ///
    /// # Errors
    /// [`Reason::TooShort`], and over IPv4 [`Reason::BadChecksum`].
    pub fn parse(v6: bool, message: &'a [u8]) -> Result<Option<Self>, Reason> {
        let Some((header, payload)) = message.split_at_checked(ECHO_LEN) else {
            return Err(Reason::TooShort);
        };
        let is_reply = match (v6, u8_at(header, 0), u8_at(header, 1)) {
            (false, ECHO_REPLY_V4, 0) | (true, ECHO_REPLY_V6, 0) => true,
            (false, ECHO_REQUEST_V4, 0) | (true, ECHO_REQUEST_V6, 0) => false,
            _ => return Ok(None),
        };
        if !v6 && !checksum::verify(message) {
            return Err(Reason::BadChecksum);
        }
        Ok(Some(Self {
            is_reply,
            ident: u16_at(header, field::IDENT),
            sequence: u16_at(header, field::SEQUENCE),
            payload,
        }))
    }
}

/// Writes the header of an echo request over the first [`ECHO_LEN`] octets of `buf`, whose
/// rest is the data and must be in place already: over IPv4 the checksum covers it.
///
/// # Errors
/// [`Reason::TooShort`], and nothing is written, if there is no room for the header.
pub fn emit_request(v6: bool, buf: &mut [u8], ident: u16, sequence: u16) -> Result<(), Reason> {
    if buf.len() < ECHO_LEN {
        return Err(Reason::TooShort);
    }
    let kind = if v6 { ECHO_REQUEST_V6 } else { ECHO_REQUEST_V4 };
    put(buf, 0, &[kind, 0, 0, 0]);
    put(buf, field::IDENT, &ident.to_be_bytes());
    put(buf, field::SEQUENCE, &sequence.to_be_bytes());
    if !v6 {
        let check = checksum::internet(buf);
        put(buf, field::CHECKSUM, &check.to_be_bytes());
    }
    Ok(())
}

/// What our echo requests carry at the start of their data: proof that the reply is to one
/// of ours, the full sequence number (ICMP's has 16 bits), and T1.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct EchoPayload {
    /// Random per run.
    pub nonce: u32,
    /// Number of the probe.
    pub sequence: u32,
    /// The user clock just before the send, for when the kernel's stamp is missing.
    pub sent: WallNanos,
}

impl EchoPayload {
    /// Octets: magic, nonce, sequence, T1 in nanoseconds since 1970.
    pub const LEN: usize = 20;
    const MAGIC: [u8; 4] = *b"NSec";

    /// Writes it at the start of an echo's data.
    ///
    /// # Errors
    /// [`Reason::TooShort`], and nothing is written, if it does not fit.
    pub fn emit(&self, data: &mut [u8]) -> Result<(), Reason> {
        if data.len() < Self::LEN {
            return Err(Reason::TooShort);
        }
        put(data, 0, &Self::MAGIC);
        put(data, 4, &self.nonce.to_be_bytes());
        put(data, 8, &self.sequence.to_be_bytes());
        put(data, 12, &self.sent.0.to_be_bytes());
        Ok(())
    }

    /// Reads it from an echo's data.
    ///
    /// # Errors
    /// [`Reason::NotOurs`] when another program's data is there, or too little of it.
    pub fn parse(data: &[u8]) -> Result<Self, Reason> {
        if data.len() < Self::LEN || array_at::<4>(data, 0) != Self::MAGIC {
            return Err(Reason::NotOurs);
        }
        Ok(Self {
            nonce: u32_at(data, 4),
            sequence: u32_at(data, 8),
            sent: WallNanos(u64::from_be_bytes(array_at(data, 12))),
        })
    }
}

/// Writes the IP packet with which a router at `from` says that `original` (which starts at
/// its IP header) exceeds `mtu`: type 3 code 4, or ICMPv6 type 2. Returns its octets.
///
/// `None` where no router would answer (RFC 1122 section 3.2.2, RFC 4443 section 2.4 (e)): an
/// ICMP error, a later fragment, a source or destination that is no single host, IPv4
/// without DF; and for what is no IP packet, another family than `from`, or a `buf` too
/// small (576 octets suffice for IPv4, 1280 for IPv6).
#[must_use]
pub fn emit_too_big(buf: &mut [u8], original: &[u8], mtu: u32, from: IpAddr) -> Option<usize> {
    let frame = Frame::parse_ip(original, 0).ok()?;
    let original = original.get(frame.ip())?;
    if frame.fragment_offset != 0 || !frame.dont_fragment || is_icmp_error(&frame, original) {
        return None;
    }
    match (from, frame.source, frame.destination) {
        (IpAddr::V4(from), IpAddr::V4(source), IpAddr::V4(destination)) => {
            if !is_host(frame.source) || destination.is_multicast() || destination.is_broadcast() {
                return None;
            }
            // RFC 1812 §4.3.2.3: "SHOULD contain as much of the original datagram as
            // possible without the length of the ICMP datagram exceeding 576 bytes".
            let quoted = original.get(..original.len().min(576 - 28))?;
            let total = 28 + quoted.len();
            let packet = buf.get_mut(..total)?;
            let length = u16::try_from(total).ok()?;
            packet.fill(0);
            // Precedence 6, "internetwork control": RFC 1812 §4.3.2.5.
            put(packet, 0, &[0x45, 0xc0]);
            put(packet, 2, &length.to_be_bytes());
            put(packet, 8, &[64, protocol::ICMP]);
            put(packet, 12, &from.octets());
            put(packet, 16, &source.octets());
            let (header, message) = packet.split_at_mut_checked(20)?;
            put(header, 10, &checksum::internet(header).to_be_bytes());
            put(message, 0, &[UNREACHABLE_V4, 4]);
            // RFC 1191 §4: the next-hop MTU "in the low-order 16 bits" of the unused field.
            let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
            put(message, 6, &mtu.to_be_bytes());
            put(message, 8, quoted);
            put(
                message,
                field::CHECKSUM,
                &checksum::internet(message).to_be_bytes(),
            );
            Some(total)
        }
        (IpAddr::V6(from), IpAddr::V6(source), IpAddr::V6(_)) => {
            // RFC 4443 §2.4 (e.3): multicast destinations are answered all the same, "to allow
            // Path MTU discovery to work for IPv6 multicast".
            if !is_host(frame.source) {
                return None;
            }
            // RFC 4443 §3.2: "without the ICMPv6 packet exceeding the minimum IPv6 MTU".
            let quoted = original.get(..original.len().min(1280 - 48))?;
            let total = 48 + quoted.len();
            let packet = buf.get_mut(..total)?;
            let length = u16::try_from(total - 40).ok()?;
            packet.fill(0);
            put(packet, 0, &[0x60]);
            put(packet, 4, &length.to_be_bytes());
            put(packet, 6, &[protocol::ICMPV6, 64]);
            put(packet, 8, &from.octets());
            put(packet, 24, &source.octets());
            let message = packet.get_mut(40..)?;
            put(message, 0, &[TOO_BIG_V6, 0]);
            put(message, 4, &mtu.to_be_bytes());
            put(message, 8, quoted);
            let check = checksum::transport(from.into(), source.into(), protocol::ICMPV6, message);
            put(message, field::CHECKSUM, &check.to_be_bytes());
            Some(total)
        }
        _ => None,
    }
}

fn is_host(source: IpAddr) -> bool {
    !source.is_unspecified()
        && !source.is_multicast()
        && !source.is_loopback()
        && source != IpAddr::V4(core::net::Ipv4Addr::BROADCAST)
}

fn is_icmp_error(frame: &Frame, packet: &[u8]) -> bool {
    let kind = u8_at(packet, frame.l4);
    match frame.protocol {
        // Unreachable, quench, redirect, time exceeded, parameter problem.
        protocol::ICMP => matches!(kind, 3 | 4 | 5 | 11 | 12),
        // RFC 4443 §2.1: "Error messages [...] 0 to 127"; 137 is a redirect.
        protocol::ICMPV6 => kind < 128 || kind == 137,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
