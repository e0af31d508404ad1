//! STAMP TLVs (RFC 8972 section 4): what follows the base packet.
//!
//! Each is Flags (1 octet), Type (1), Length of the Value (2), Value; no alignment. Every
//! walk is linear in the octets, since each step takes at least the four of a header.
//! [`reflect`] is the reflector's part of the flag rules, [`reflected`] the sender's.

use crate::Reason;
use crate::bytes::{put, u8_at, u16_at};

/// Octets of Flags, Type and Length.
pub const HEADER_LEN: usize = 4;
/// Extra Padding, RFC 8972 section 4.1: the way to set the packet size.
pub const EXTRA_PADDING: u8 = 1;

/// The flags octet (RFC 8972, figure 6).
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct TlvFlags(pub u8);

impl TlvFlags {
    /// U: the reflector did not understand the TLV, or has not seen it yet.
    pub const U: u8 = 0x80;
    /// M: the reflector found the TLV malformed.
    pub const M: u8 = 0x40;
    /// I: the TLVs failed the integrity check.
    pub const I: u8 = 0x20;
    /// `RFC 8972 §4: "A Session-Sender MUST set the U flag to 1 before transmitting"`, M and
    /// I to 0.
    pub const SENT: Self = Self(Self::U);

    /// Whether U is set.
    #[must_use]
    pub const fn unrecognised(self) -> bool {
        self.0 & Self::U != 0
    }

    /// Whether M is set.
    #[must_use]
    pub const fn malformed(self) -> bool {
        self.0 & Self::M != 0
    }

    /// Whether I is set.
    #[must_use]
    pub const fn integrity_failed(self) -> bool {
        self.0 & Self::I != 0
    }
}

/// One TLV.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Tlv<'a> {
    /// Flags as they came, reserved ones too ("ignored on receipt").
    pub flags: TlvFlags,
    /// Type.
    pub kind: u8,
    /// Value.
    pub value: &'a [u8],
}

/// Octets of the TLV at the start of `area`, header included.
fn length_of_first(area: &[u8]) -> Result<usize, Reason> {
    if area.len() < HEADER_LEN {
        return Err(Reason::MalformedTlv);
    }
    let total = HEADER_LEN + usize::from(u16_at(area, 2));
    // RFC 8972 §4: malformed if "the remaining length of the extended STAMP packet is less
    // than the size of the TLV".
    if total > area.len() {
        return Err(Reason::MalformedTlv);
    }
    Ok(total)
}

/// Walks the TLVs of a packet as they came. One [`Reason::MalformedTlv`] ends it.
#[derive(Clone, Debug)]
pub struct Tlvs<'a> {
    rest: &'a [u8],
}

impl<'a> Tlvs<'a> {
    /// Over the octets after the base packet.
    #[must_use]
    pub const fn new(area: &'a [u8]) -> Self {
        Self { rest: area }
    }
}

impl<'a> Iterator for Tlvs<'a> {
    type Item = Result<Tlv<'a>, Reason>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let area = core::mem::take(&mut self.rest);
        let total = match length_of_first(area) {
            Ok(total) => total,
            Err(reason) => return Some(Err(reason)),
        };
        let (tlv, rest) = area.split_at_checked(total)?;
        self.rest = rest;
        Some(Ok(Tlv {
            flags: TlvFlags(u8_at(tlv, 0)),
            kind: u8_at(tlv, 1),
            value: tlv.get(HEADER_LEN..).unwrap_or_default(),
        }))
    }
}

impl core::iter::FusedIterator for Tlvs<'_> {}

/// Writes one TLV at the start of `buf`. Returns its octets, or 0, with nothing written,
/// when it does not fit `buf` or the Length field.
#[must_use = "0 means that it did not fit"]
pub fn emit(buf: &mut [u8], flags: TlvFlags, kind: u8, value: &[u8]) -> usize {
    let total = HEADER_LEN + value.len();
    let Ok(length) = u16::try_from(value.len()) else {
        return 0;
    };
    if total > buf.len() {
        return 0;
    }
    put(buf, 0, &[flags.0, kind]);
    put(buf, 2, &length.to_be_bytes());
    put(buf, HEADER_LEN, value);
    total
}

/// Makes all of `buf` one Extra Padding TLV as a sender sends it, and returns its octets.
/// 0, with nothing written, when `buf` has no room for a header or is longer than a TLV
/// can be (65 539 octets, more than a UDP payload).
#[must_use = "0 means that nothing was written"]
pub fn emit_padding(buf: &mut [u8]) -> usize {
    let Some(Ok(length)) = buf.len().checked_sub(HEADER_LEN).map(u16::try_from) else {
        return 0;
    };
    put(buf, 0, &[TlvFlags::SENT.0, EXTRA_PADDING]);
    put(buf, 2, &length.to_be_bytes());
    // RFC 8972 §4.1: "SHOULD be filled by a sequence of pseudorandom numbers". Xorshift64
    // (Marsaglia 2003): cheap, not compressible on the way, the same in every run.
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15 ^ u64::from(length);
    for chunk in buf.get_mut(HEADER_LEN..).unwrap_or_default().chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        for (octet, random) in chunk.iter_mut().zip(state.to_be_bytes()) {
            *octet = random;
        }
    }
    HEADER_LEN + usize::from(length)
}

/// What a reflector made of one TLV.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Handled {
    /// Processed; its value may have been rewritten in place.
    Understood,
    /// A type, or a private value, that it does not know.
    Unknown,
    /// A known type with a length that it cannot have.
    Malformed,
}

/// Turns the TLVs of a request into those of its reply, in place: same order, same
/// lengths, flags by RFC 8972 section 4. `handle` sees each but Extra Padding, which is
/// always understood. Returns how many TLVs were walked.
///
/// # Errors
/// [`Reason::MalformedTlv`] when the walk ended at a malformed one. The reply is complete
/// all the same (M set, the rest as it came) and is to be sent; the reason is for a counter.
pub fn reflect(
    area: &mut [u8],
    mut handle: impl FnMut(u8, &mut [u8]) -> Handled,
) -> Result<usize, Reason> {
    let mut rest = area;
    let mut walked = 0;
    while !rest.is_empty() {
        let Ok(total) = length_of_first(rest) else {
            // The flags octet is there even when the header is cut short.
            put(rest, 0, &[TlvFlags::U | TlvFlags::M]);
            return Err(Reason::MalformedTlv);
        };
        let Some((tlv, after)) = rest.split_at_mut_checked(total) else {
            return Err(Reason::MalformedTlv);
        };
        rest = after;
        let kind = u8_at(tlv, 1);
        let handled = match (kind, tlv.get_mut(HEADER_LEN..)) {
            (EXTRA_PADDING, _) => Handled::Understood,
            (_, Some(value)) => handle(kind, value),
            (_, None) => Handled::Malformed,
        };
        // "MUST set the U flag to 1 if the Session-Reflector has not understood the TLV.
        // Otherwise [...] 0"; likewise M; I is 0 since nothing is verified in open mode;
        // reserved flags "MUST be zeroed on transmit". A malformed TLV was not processed,
        // so it keeps U beside M.
        let flags = match handled {
            Handled::Understood => 0,
            Handled::Unknown => TlvFlags::U,
            Handled::Malformed => TlvFlags::U | TlvFlags::M,
        };
        put(tlv, 0, &[flags]);
        walked += 1;
        if handled == Handled::Malformed {
            // "the processing of extension TLVs MUST be stopped. The Session-Reflector MUST
            // copy the remainder of the received extended STAMP packet".
            return Err(Reason::MalformedTlv);
        }
    }
    Ok(walked)
}

/// Finds the first TLV of type `kind` that the reflector understood, in the TLVs of a
/// reply; `None` when there is none, or it came back with U.
///
/// # Errors
/// [`Reason::FlaggedIntegrity`] when any TLV has I: "MUST discard all TLVs".
/// [`Reason::FlaggedMalformed`] when M stopped the walk before one was found, and
/// [`Reason::MalformedTlv`] when the octets themselves did.
pub fn reflected(area: &[u8], kind: u8) -> Result<Option<&[u8]>, Reason> {
    let mut found = None;
    let mut stopped = None;
    for tlv in Tlvs::new(area) {
        let tlv = match tlv {
            Ok(tlv) => tlv,
            Err(reason) => {
                stopped = Some(reason);
                break;
            }
        };
        // RFC 8972 §4: "If the I flag is set, the STAMP system MUST discard all TLVs".
        if tlv.flags.integrity_failed() {
            return Err(Reason::FlaggedIntegrity);
        }
        // "If the M flag is set, the STAMP system MUST stop processing the remainder".
        if tlv.flags.malformed() {
            stopped = Some(Reason::FlaggedMalformed);
            break;
        }
        // "If the U flag is set, the STAMP system MUST skip the processing of the TLV."
        if found.is_none() && !tlv.flags.unrecognised() && tlv.kind == kind {
            found = Some(tlv.value);
        }
    }
    match (found, stopped) {
        (None, Some(reason)) => Err(reason),
        (found, _) => Ok(found),
    }
}

#[cfg(test)]
mod tests;
