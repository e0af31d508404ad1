//! The private TLV with which our reflector tells our sender what it counted, so that loss,
//! duplicates and reordering have exact directions (kernel-and-lab R1).
//!
//! Type 241 of the experimental range 240-251 (RFC 8972 section 5.1). The Value has 32
//! octets in both directions, so that the reply keeps the request's size:
//!
//! | offset | octets | field |
//! |---|---|---|
//! | 0 | 2 | magic `NS` |
//! | 2 | 1 | version, 1 |
//! | 3 | 1 | flags, the sender's: bit 0 = this probe is not counted |
//! | 4 | 4 | epoch: random per session of the reflector |
//! | 8 | 4 | distinct requests received |
//! | 12 | 4 | duplicates |
//! | 16 | 4 | out of order |
//! | 20 | 4 | dropped by the reflector's rate limit |
//! | 24 | 4 | lost in the reflector's socket, all sessions |
//! | 28 | 4 | requests marked as not counted |
//!
//! Counters wrap at 2^32. The U flag of the TLV tells a filled report from a reflector that
//! only copies.

use crate::Reason;
use crate::bytes::{array_at, put, u8_at, u32_at};

/// Type of the TLV.
pub const KIND: u8 = 241;
/// Octets of the Value.
pub const VALUE_LEN: usize = 32;

const MAGIC: [u8; 2] = *b"NS";
const VERSION: u8 = 1;
const UNCOUNTED: u8 = 0x01;

/// Three ways: ours, another's, or ours and wrong.
fn check(value: &[u8]) -> Result<(), Reason> {
    if value.len() < 4 || array_at::<2>(value, 0) != MAGIC {
        return Err(Reason::NotOurs);
    }
    if u8_at(value, 2) != VERSION {
        return Err(Reason::BadVersion);
    }
    if value.len() != VALUE_LEN {
        return Err(Reason::BadLength);
    }
    Ok(())
}

/// What the sender says with a request.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct ReportRequest {
    /// An opening or closing probe, outside the statistics of both sides.
    pub uncounted: bool,
}

impl ReportRequest {
    /// Writes the Value; the counters are zero.
    pub fn emit(&self, value: &mut [u8; VALUE_LEN]) {
        value.fill(0);
        let flags = if self.uncounted { UNCOUNTED } else { 0 };
        put(value, 0, &MAGIC);
        put(value, 2, &[VERSION, flags]);
    }

    /// Reads the Value of a request. Unknown flags are ignored.
    ///
    /// # Errors
    /// [`Reason::NotOurs`] for another's TLV of the same experimental type,
    /// [`Reason::BadVersion`], [`Reason::BadLength`].
    pub fn parse(value: &[u8]) -> Result<Self, Reason> {
        check(value)?;
        Ok(Self {
            uncounted: u8_at(value, 3) & UNCOUNTED != 0,
        })
    }
}

/// What the reflector answers: the counts of this session up to and with this request.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Random per session: another one means that the counts began anew.
    pub epoch: u32,
    /// Distinct counted requests received.
    pub distinct: u32,
    /// Further copies of counted requests.
    pub duplicates: u32,
    /// Counted requests that were out of order (RFC 4737).
    pub out_of_order: u32,
    /// Requests that the reflector's rate limit dropped.
    pub rate_limited: u32,
    /// Datagrams lost in the reflector's socket, of all sessions.
    pub overflow: u32,
    /// Requests received that were marked as not counted.
    pub uncounted_received: u32,
}

impl Report {
    /// Writes the Value over the request's, whose flags octet stays.
    pub fn emit(&self, value: &mut [u8; VALUE_LEN]) {
        put(value, 0, &MAGIC);
        put(value, 2, &[VERSION]);
        let fields = [
            self.epoch,
            self.distinct,
            self.duplicates,
            self.out_of_order,
            self.rate_limited,
            self.overflow,
            self.uncounted_received,
        ];
        for (field, place) in fields.iter().zip(value[4..].chunks_exact_mut(4)) {
            place.copy_from_slice(&field.to_be_bytes());
        }
    }

    /// Reads the Value of a reply.
    ///
    /// # Errors
    /// As [`ReportRequest::parse`].
    pub fn parse(value: &[u8]) -> Result<Self, Reason> {
        check(value)?;
        Ok(Self {
            epoch: u32_at(value, 4),
            distinct: u32_at(value, 8),
            duplicates: u32_at(value, 12),
            out_of_order: u32_at(value, 16),
            rate_limited: u32_at(value, 20),
            overflow: u32_at(value, 24),
            uncounted_received: u32_at(value, 28),
        })
    }
}

#[cfg(test)]
mod tests;
