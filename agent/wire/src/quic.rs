//! QUIC as an observer sees it: the invariants (RFC 8999), the long headers of versions 1
//! and 2 (RFC 9000 section 17.2, RFC 9369 section 3.2), and the spin bit of the short header
//! (RFC 9000 section 17.3.1).
//!
//! Reads the first QUIC packet of a UDP payload, of which a snaplen may have left only the
//! first octets: what was cut is `None`. The length of the whole payload is an argument, since
//! it says more than what was captured. Payload that is not QUIC is refused with a reason,
//! as far as a header in clear can tell. Packet numbers, and the rest of the first octet, are
//! protected and are not looked at.

use crate::bytes::{array_at, u8_at, u32_at};

/// Octets of the least UDP payload that carries a client's Initial: `RFC 9000 §14.1: "A client
/// MUST expand the payload of all UDP datagrams carrying Initial packets to at least the
/// smallest allowed maximum datagram size of 1200 bytes"`.
pub const INITIAL_DATAGRAM: u32 = 1200;

/// `RFC 9000 §17.2: "In QUIC version 1, this value MUST NOT exceed 20 bytes."`
const LONGEST_ID: usize = 20;
/// The least short-header packet: first octet, no connection ID, and the 20 octets of packet
/// number and ciphertext without which header protection has no sample (RFC 9001 section
/// 5.4.2: 4 octets after the start of the packet number, 16 octets long).
const SHORTEST: u32 = 21;
/// Octets of the long header before the connection ID itself.
const FIXED: usize = 6;

const FORM: u8 = 0x80;
const FIXED_BIT: u8 = 0x40;
const SPIN: u8 = 0x20;

base::closed_list! {
    /// Why a payload is not QUIC; the index of a counter.
    NotQuic {
        /// Fewer octets than the shortest packet of its form.
        TooShort = "too_short",
        /// The Fixed Bit is 0: another protocol (or an endpoint that greases it, RFC 9287).
        FixedBit = "fixed_bit",
        /// A long header of a version that is not known here; Google QUIC is such.
        Version = "version",
        /// A connection ID of more than 20 octets, or one that reaches past the payload.
        ConnectionId = "connection_id",
        /// A length field that reaches past the payload.
        Length = "length",
    }
}

/// What kind of long-header packet it is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum LongType {
    /// Initial.
    Initial,
    /// 0-RTT.
    ZeroRtt,
    /// Handshake.
    Handshake,
    /// Retry.
    Retry,
    /// Version Negotiation.
    VersionNegotiation,
    /// Of a version that exists to be refused (RFC 9000 section 15: `0x?a?a?a?a`), so that
    /// the type bits say nothing.
    Reserved,
}

/// A connection ID, or as much as is needed to tell two apart.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct ConnectionId<'a>(&'a [u8]);

impl<'a> ConnectionId<'a> {
    /// Its octets.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// 16 bits of it, never 0: enough to tell apart the few IDs of one flow.
    #[must_use]
    pub fn digest(self) -> u16 {
        crate::bytes::digest(self.0)
    }
}

/// A long header.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Long<'a> {
    /// Which packet it is.
    pub kind: LongType,
    /// Destination Connection ID; `None`: cut.
    pub destination: Option<ConnectionId<'a>>,
    /// Source Connection ID; `None`: cut.
    pub source: Option<ConnectionId<'a>>,
    /// Whether this is an Initial with a Handshake packet behind it in the same datagram
    /// (RFC 9000 section 12.2); `None`: what would tell was cut.
    pub handshake_follows: Option<bool>,
}

/// The first QUIC packet of a datagram.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Header<'a> {
    /// A long header.
    Long(Long<'a>),
    /// A short header: 1-RTT.
    Short {
        /// The latency spin bit, or a random value where it is not in use.
        spin: bool,
    },
}

impl<'a> Header<'a> {
    /// Reads the captured start of a UDP payload of `whole` octets.
    ///
    /// # Errors
    /// Why it is not QUIC. A packet that is cut before what decides is given the benefit of
    /// the doubt, but its first octet must be there.
    #[inline]
    pub fn parse(captured: &'a [u8], whole: u32) -> Result<Self, NotQuic> {
        let Some(&first) = captured.first() else {
            return Err(NotQuic::TooShort);
        };
        if first & FORM != 0 {
            return Long::parse(first, captured, whole).map(Self::Long);
        }
        // RFC 9000 §17.3.1: "Packets containing a zero value for this bit are not valid
        // packets in this version and MUST be discarded."
        if first & FIXED_BIT == 0 {
            return Err(NotQuic::FixedBit);
        }
        if whole < SHORTEST {
            return Err(NotQuic::TooShort);
        }
        Ok(Self::Short {
            spin: first & SPIN != 0,
        })
    }
}

impl<'a> Long<'a> {
    fn parse(first: u8, captured: &'a [u8], whole: u32) -> Result<Self, NotQuic> {
        // RFC 8999 §5.1: first octet, version, and two connection IDs with their lengths.
        if captured.len() < FIXED || whole < FIXED as u32 + 1 {
            return Err(NotQuic::TooShort);
        }
        let kind = kind(first, u32_at(captured, 1))?;
        // RFC 9000 §17.2.1: the rest of a Version Negotiation packet's first octet is
        // arbitrary, and "Version Negotiation packets do not have" the Fixed Bit.
        let negotiation = kind == LongType::VersionNegotiation;
        if !negotiation && first & FIXED_BIT == 0 {
            return Err(NotQuic::FixedBit);
        }
        let mut at = FIXED - 1;
        let destination = connection_id(captured, whole, &mut at)?;
        let source = match destination {
            Some(_) => connection_id(captured, whole, &mut at)?,
            None => None,
        };
        let end = match (kind, source) {
            (LongType::Retry | LongType::VersionNegotiation | LongType::Reserved, _) => None,
            (_, None) => None,
            _ => packet_end(kind, captured, whole, at)?,
        };
        let handshake_follows = match (kind, end) {
            (LongType::Initial, None) => None,
            (LongType::Initial, Some(end)) => is_handshake(captured, whole, end),
            _ => Some(false),
        };
        Ok(Self {
            kind,
            destination,
            source,
            handshake_follows,
        })
    }
}

fn kind(first: u8, version: u32) -> Result<LongType, NotQuic> {
    let bits = first >> 4 & 3;
    let v1 = match version {
        // RFC 9000 §17.2.1: "identified as a Version Negotiation packet based on the
        // Version field having a value of 0".
        0 => return Ok(LongType::VersionNegotiation),
        // Version 1, and the drafts 29 to 34 that differ in nothing that is seen here.
        1 | 0xff00_001d..=0xff00_0022 => bits,
        // RFC 9369 §3.2: Initial 0b01, 0-RTT 0b10, Handshake 0b11, Retry 0b00.
        0x6b33_43cf => bits.wrapping_sub(1) & 3,
        _ if version & 0x0f0f_0f0f == 0x0a0a_0a0a => return Ok(LongType::Reserved),
        _ => return Err(NotQuic::Version),
    };
    // RFC 9000 §17.2, table 5.
    Ok(match v1 {
        0 => LongType::Initial,
        1 => LongType::ZeroRtt,
        2 => LongType::Handshake,
        _ => LongType::Retry,
    })
}

/// A length octet and so many octets at `at`, which goes behind them. `Ok(None)`: cut.
fn connection_id<'a>(
    captured: &'a [u8],
    whole: u32,
    at: &mut usize,
) -> Result<Option<ConnectionId<'a>>, NotQuic> {
    let Some(&len) = captured.get(*at) else {
        return Ok(None);
    };
    let start = *at + 1;
    let end = start + usize::from(len);
    if usize::from(len) > LONGEST_ID || end > whole as usize {
        return Err(NotQuic::ConnectionId);
    }
    *at = end;
    Ok(captured.get(start..end).map(ConnectionId))
}

/// Where the packet ends, by its Token Length and Length; `Ok(None)`: cut.
fn packet_end(
    kind: LongType,
    captured: &[u8],
    whole: u32,
    mut at: usize,
) -> Result<Option<usize>, NotQuic> {
    if kind == LongType::Initial {
        let Some(token) = varint(captured, &mut at) else {
            return Ok(None);
        };
        if token > u64::from(whole) {
            return Err(NotQuic::Length);
        }
        at += token as usize;
    }
    let Some(length) = varint(captured, &mut at) else {
        return Ok(None);
    };
    let end = length.saturating_add(at as u64);
    if end > u64::from(whole) {
        return Err(NotQuic::Length);
    }
    Ok(Some(end as usize))
}

/// Whether a Handshake packet begins at `at`; some senders fill a datagram with octets that
/// are no packet. `None`: cut.
fn is_handshake(captured: &[u8], whole: u32, at: usize) -> Option<bool> {
    let rest = whole as usize - at.min(whole as usize);
    if rest < FIXED {
        return Some(false);
    }
    let next = captured.get(at..)?;
    let first = *next.first()?;
    if first & (FORM | FIXED_BIT) != FORM | FIXED_BIT {
        return Some(false);
    }
    (next.len() >= FIXED).then(|| kind(first, u32_at(next, 1)) == Ok(LongType::Handshake))
}

/// A variable-length integer (RFC 9000 section 16) at `at`, which goes behind it.
fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let len = 1 << (bytes.get(*at)? >> 6);
    let octets = bytes.get(*at..*at + len)?;
    *at += len;
    let mut value = u64::from(u8_at(octets, 0) & 0x3f);
    for octet in octets.iter().skip(1) {
        value = value << 8 | u64::from(*octet);
    }
    Some(value)
}

/// The version field of a long header, for saying which one was refused.
#[must_use]
pub fn version(captured: &[u8]) -> Option<u32> {
    (u8_at(captured, 0) & FORM != 0 && captured.len() >= FIXED)
        .then(|| u32::from_be_bytes(array_at(captured, 1)))
}

#[cfg(test)]
mod tests;
