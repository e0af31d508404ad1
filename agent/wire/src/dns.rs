//! DNS messages over UDP, as far as matching a response to its query needs them: the header
//! (RFC 1035 section 4.1.1) and a digest of the first question (section 4.1.2).
//!
//! A snaplen may have cut the message: then there is a header and no digest. What cannot be
//! DNS is refused with a reason. No accessor panics; nothing is borrowed.

use crate::Reason;
use crate::bytes::{array_at, u8_at, u16_at};

/// Octets of the header.
pub const HEADER_LEN: usize = 12;

/// `RFC 1035 §2.3.4`: a name has at most 255 octets, a label at most 63.
const LONGEST_NAME: usize = 255;
const LONGEST_LABEL: u8 = 63;

mod field {
    pub(super) const ID: usize = 0;
    pub(super) const FLAGS: usize = 2;
    pub(super) const CODES: usize = 3;
    pub(super) const QUESTIONS: usize = 4;
}

/// What a message says of itself.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The identifier that the response copies.
    pub id: u16,
    /// QR: a response; a query otherwise.
    pub is_response: bool,
    /// OPCODE.
    pub opcode: u8,
    /// RCODE; says something only in a response.
    pub rcode: u8,
    /// QDCOUNT.
    pub questions: u16,
    /// 16 bits of the first question's name (letters as lower case), type and class, never
    /// 0; `None`: no question, or cut.
    pub question: Option<u16>,
}

impl Message {
    /// Reads the captured start of a message of `whole` octets.
    ///
    /// # Errors
    /// [`Reason::TooShort`] without a whole header; [`Reason::NotOurs`] for an opcode that no
    /// RFC has, several questions, or a compressed first one; [`Reason::BadLength`] for a
    /// question that does not fit into the message.
    pub fn parse(captured: &[u8], whole: u32) -> Result<Self, Reason> {
        if captured.len() < HEADER_LEN || (whole as usize) < HEADER_LEN {
            return Err(Reason::TooShort);
        }
        let flags = u8_at(captured, field::FLAGS);
        let opcode = flags >> 3 & 0xf;
        let questions = u16_at(captured, field::QUESTIONS);
        // QUERY, IQUERY, STATUS, NOTIFY (RFC 1996), UPDATE (RFC 2136), DSO (RFC 8490). RFC
        // 9619 makes several questions an error; NOTIFY and UPDATE have exactly one.
        if !matches!(opcode, 0 | 1 | 2 | 4 | 5 | 6) || questions > 1 {
            return Err(Reason::NotOurs);
        }
        Ok(Self {
            id: u16_at(captured, field::ID),
            is_response: flags & 0x80 != 0,
            opcode,
            rcode: u8_at(captured, field::CODES) & 0xf,
            questions,
            question: if questions == 0 {
                None
            } else {
                question(captured, whole)?
            },
        })
    }
}

/// A digest of the question behind the header; `Ok(None)`: cut.
fn question(captured: &[u8], whole: u32) -> Result<Option<u16>, Reason> {
    let mut digest = crate::bytes::Digest::new();
    let mut at = HEADER_LEN;
    loop {
        if at >= whole as usize || at - HEADER_LEN >= LONGEST_NAME {
            return Err(Reason::BadLength);
        }
        let Some(&len) = captured.get(at) else {
            return Ok(None);
        };
        // A first question has nothing before it that a pointer (RFC 1035 §4.1.4) could
        // mean.
        if len > LONGEST_LABEL {
            return Err(Reason::NotOurs);
        }
        let end = at + 1 + usize::from(len);
        if end > whole as usize {
            return Err(Reason::BadLength);
        }
        let Some(label) = captured.get(at..end) else {
            return Ok(None);
        };
        // RFC 4343 §3: names compare without case; servers answer in their own. The length
        // octet is below 'A'.
        for octet in label {
            digest.add(octet.to_ascii_lowercase());
        }
        at = end;
        if len == 0 {
            break;
        }
    }
    if at + 4 > whole as usize {
        return Err(Reason::BadLength);
    }
    if captured.len() < at + 4 {
        return Ok(None);
    }
    for octet in array_at::<4>(captured, at) {
        digest.add(octet);
    }
    Ok(Some(digest.finish()))
}

#[cfg(test)]
mod tests;
