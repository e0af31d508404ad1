//! STAMP test packets in open mode (RFC 8762 sections 4.2.1 and 4.3.1, with the SSID of
//! RFC 8972 section 3), and the shorter ones of TWAMP Light.
//!
//! Owns the layout of the 44 base octets; what follows them is [`crate::tlv`]'s.
//! After a checked `parse` no accessor panics. Timestamps are kept as the eight octets of
//! the wire, because a reply must give them back as they came; [`Timestamp::decode`] makes
//! nanoseconds of them.

use crate::Reason;
use crate::bytes::{array_at, put, u8_at, u16_at, u32_at};

mod time;

pub use time::{ErrorEstimate, Timestamp, TimestampFormat};

/// Octets of a base packet, request and reply: `RFC 8762 §4.2: "the base STAMP
/// Session-Sender packet has a minimum size of 44 octets in unauthenticated mode"`.
pub const BASE_LEN: usize = 44;
/// `RFC 8762 §4.1: "MUST use UDP port 862 (TWAMP-Test Receiver Port) as the default
/// destination UDP port number"`.
pub const PORT: u16 = 862;
/// Octets of a TWAMP Light request without padding (RFC 5357 section 4.1.2).
pub const TWAMP_LIGHT_REQUEST: usize = 14;
/// Octets of a TWAMP Light reply without padding (RFC 5357 section 4.2.1).
pub const TWAMP_LIGHT_REPLY: usize = 41;

/// Offsets in octets from the start of the UDP payload.
mod field {
    pub(super) const SEQUENCE: usize = 0;
    pub(super) const TIMESTAMP: usize = 4;
    pub(super) const ERROR_ESTIMATE: usize = 12;
    pub(super) const SSID: usize = 14;
    pub(super) const RECEIVE_TIMESTAMP: usize = 16;
    pub(super) const SENDER_SEQUENCE: usize = 24;
    pub(super) const SENDER_TIMESTAMP: usize = 28;
    pub(super) const SENDER_ERROR_ESTIMATE: usize = 36;
    pub(super) const SENDER_TTL: usize = 40;
}

/// What follows the base packet; empty when the packet is no longer than that.
fn extension(bytes: &[u8]) -> &[u8] {
    bytes.get(BASE_LEN..).unwrap_or_default()
}

/// A request of a STAMP or TWAMP Light sender, checked to hold the fields up to the Error
/// Estimate.
#[derive(Copy, Clone, Debug)]
pub struct Request<'a> {
    bytes: &'a [u8],
}

impl<'a> Request<'a> {
    /// Checks a UDP payload.
    ///
    /// # Errors
    /// [`Reason::TooShort`] with fewer than [`TWAMP_LIGHT_REQUEST`] octets. There is nothing
    /// else in an open request that could be wrong: the MBZ field "MUST be ignored on receipt"
    /// (RFC 8762 section 4.2.1).
    pub const fn parse(payload: &'a [u8]) -> Result<Self, Reason> {
        if payload.len() < TWAMP_LIGHT_REQUEST {
            return Err(Reason::TooShort);
        }
        Ok(Self { bytes: payload })
    }

    /// Whether it is shorter than a STAMP base packet, so from TWAMP Light.
    #[must_use]
    pub const fn is_short(&self) -> bool {
        self.bytes.len() < BASE_LEN
    }

    /// All octets of the UDP payload.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Sequence Number.
    #[must_use]
    pub fn sequence(&self) -> u32 {
        u32_at(self.bytes, field::SEQUENCE)
    }

    /// Timestamp, T1.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        Timestamp(array_at(self.bytes, field::TIMESTAMP))
    }

    /// Error Estimate; its Z bit is the format of T1.
    #[must_use]
    pub fn error_estimate(&self) -> ErrorEstimate {
        ErrorEstimate(u16_at(self.bytes, field::ERROR_ESTIMATE))
    }

    /// SSID; 0, "not used", in a short packet, whose octets there are padding.
    #[must_use]
    pub fn ssid(&self) -> u16 {
        if self.is_short() {
            0
        } else {
            u16_at(self.bytes, field::SSID)
        }
    }

    /// The octets after the base packet.
    #[must_use]
    pub fn extension(&self) -> &'a [u8] {
        extension(self.bytes)
    }

    /// The TLVs after the base packet.
    #[must_use]
    pub fn tlvs(&self) -> crate::tlv::Tlvs<'a> {
        crate::tlv::Tlvs::new(self.extension())
    }
}

/// What a sender puts into a request.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct RequestFields {
    /// Sequence Number.
    pub sequence: u32,
    /// T1.
    pub timestamp: Timestamp,
    /// Error Estimate of T1.
    pub error_estimate: ErrorEstimate,
    /// STAMP Session Identifier, 0 for none.
    pub ssid: u16,
}

impl RequestFields {
    /// Writes all [`BASE_LEN`] octets at the start of `buf`; what follows is left alone.
    ///
    /// # Errors
    /// [`Reason::TooShort`], and nothing is written, if `buf` is shorter.
    pub fn emit(&self, buf: &mut [u8]) -> Result<(), Reason> {
        let base = buf.get_mut(..BASE_LEN).ok_or(Reason::TooShort)?;
        // RFC 8762 §4.2.1: the MBZ field "MUST be all zeroed on the transmission".
        base.fill(0);
        put(base, field::SEQUENCE, &self.sequence.to_be_bytes());
        put(base, field::TIMESTAMP, &self.timestamp.0);
        put(
            base,
            field::ERROR_ESTIMATE,
            &self.error_estimate.0.to_be_bytes(),
        );
        put(base, field::SSID, &self.ssid.to_be_bytes());
        Ok(())
    }
}

/// A reply, checked to hold the fields up to the sender's TTL.
#[derive(Copy, Clone, Debug)]
pub struct Reply<'a> {
    bytes: &'a [u8],
}

impl<'a> Reply<'a> {
    /// Checks a UDP payload.
    ///
    /// # Errors
    /// [`Reason::TooShort`] with fewer than [`TWAMP_LIGHT_REPLY`] octets: some TWAMP Light
    /// reflectors send no padding after the TTL.
    pub const fn parse(payload: &'a [u8]) -> Result<Self, Reason> {
        if payload.len() < TWAMP_LIGHT_REPLY {
            return Err(Reason::TooShort);
        }
        Ok(Self { bytes: payload })
    }

    /// Whether it is shorter than a STAMP base packet, so from TWAMP Light.
    #[must_use]
    pub const fn is_short(&self) -> bool {
        self.bytes.len() < BASE_LEN
    }

    /// All octets of the UDP payload.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Sequence Number of the reflector: its own count, or a copy of the sender's.
    #[must_use]
    pub fn sequence(&self) -> u32 {
        u32_at(self.bytes, field::SEQUENCE)
    }

    /// Timestamp, T3.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        Timestamp(array_at(self.bytes, field::TIMESTAMP))
    }

    /// Error Estimate "applicable to both Timestamp and Receive Timestamp" (RFC 8762
    /// section 4.3.1); its Z bit is their format.
    #[must_use]
    pub fn error_estimate(&self) -> ErrorEstimate {
        ErrorEstimate(u16_at(self.bytes, field::ERROR_ESTIMATE))
    }

    /// SSID as the reflector copied it; 0 from one without RFC 8972.
    #[must_use]
    pub fn ssid(&self) -> u16 {
        u16_at(self.bytes, field::SSID)
    }

    /// Receive Timestamp, T2.
    #[must_use]
    pub fn receive_timestamp(&self) -> Timestamp {
        Timestamp(array_at(self.bytes, field::RECEIVE_TIMESTAMP))
    }

    /// The request's Sequence Number.
    #[must_use]
    pub fn sender_sequence(&self) -> u32 {
        u32_at(self.bytes, field::SENDER_SEQUENCE)
    }

    /// The request's Timestamp, T1 as it was sent.
    #[must_use]
    pub fn sender_timestamp(&self) -> Timestamp {
        Timestamp(array_at(self.bytes, field::SENDER_TIMESTAMP))
    }

    /// The request's Error Estimate; its Z bit is the format of the sender's Timestamp.
    #[must_use]
    pub fn sender_error_estimate(&self) -> ErrorEstimate {
        ErrorEstimate(u16_at(self.bytes, field::SENDER_ERROR_ESTIMATE))
    }

    /// TTL or hop limit with which the request reached the reflector; 255 also when the
    /// reflector does not know.
    #[must_use]
    pub fn sender_ttl(&self) -> u8 {
        u8_at(self.bytes, field::SENDER_TTL)
    }

    /// The octets after the base packet.
    #[must_use]
    pub fn extension(&self) -> &'a [u8] {
        extension(self.bytes)
    }

    /// The TLVs after the base packet. A sender wants [`crate::tlv::reflected`], which
    /// obeys the flags.
    #[must_use]
    pub fn tlvs(&self) -> crate::tlv::Tlvs<'a> {
        crate::tlv::Tlvs::new(self.extension())
    }
}

/// What a reflector puts into a reply.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct ReplyFields {
    /// Sequence Number: the session's count, or a copy of the sender's if stateless.
    pub sequence: u32,
    /// T3.
    pub timestamp: Timestamp,
    /// Error Estimate of T2 and T3.
    pub error_estimate: ErrorEstimate,
    /// The request's SSID.
    pub ssid: u16,
    /// T2.
    pub receive_timestamp: Timestamp,
    /// The request's Sequence Number.
    pub sender_sequence: u32,
    /// The request's Timestamp, octet for octet.
    pub sender_timestamp: Timestamp,
    /// The request's Error Estimate.
    pub sender_error_estimate: ErrorEstimate,
    /// TTL or hop limit of the request as received, 255 if not known.
    pub sender_ttl: u8,
}

impl ReplyFields {
    /// Writes all [`BASE_LEN`] octets at the start of `buf`; what follows is left alone.
    ///
    /// # Errors
    /// [`Reason::TooShort`], and nothing is written, if `buf` is shorter.
    pub fn emit(&self, buf: &mut [u8]) -> Result<(), Reason> {
        let base = buf.get_mut(..BASE_LEN).ok_or(Reason::TooShort)?;
        // RFC 8762 §4.3.1: "The value of each MBZ field MUST be zeroed on transmission".
        base.fill(0);
        put(base, field::SEQUENCE, &self.sequence.to_be_bytes());
        put(base, field::TIMESTAMP, &self.timestamp.0);
        put(
            base,
            field::ERROR_ESTIMATE,
            &self.error_estimate.0.to_be_bytes(),
        );
        put(base, field::SSID, &self.ssid.to_be_bytes());
        put(base, field::RECEIVE_TIMESTAMP, &self.receive_timestamp.0);
        put(
            base,
            field::SENDER_SEQUENCE,
            &self.sender_sequence.to_be_bytes(),
        );
        put(base, field::SENDER_TIMESTAMP, &self.sender_timestamp.0);
        put(
            base,
            field::SENDER_ERROR_ESTIMATE,
            &self.sender_error_estimate.0.to_be_bytes(),
        );
        put(base, field::SENDER_TTL, &[self.sender_ttl]);
        Ok(())
    }
}

/// Puts a later send time and its Error Estimate into a request (T1) or reply (T3) that is
/// ready but for that: both have the two fields in the same place.
///
/// # Errors
/// [`Reason::TooShort`], and nothing is written, if `buf` does not hold the fields.
pub fn patch_send_timestamp(
    buf: &mut [u8],
    timestamp: Timestamp,
    error_estimate: ErrorEstimate,
) -> Result<(), Reason> {
    if buf.len() < TWAMP_LIGHT_REQUEST {
        return Err(Reason::TooShort);
    }
    put(buf, field::TIMESTAMP, &timestamp.0);
    put(buf, field::ERROR_ESTIMATE, &error_estimate.0.to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests;
