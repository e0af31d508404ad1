//! DNS over UDP: a query, and the first response with its identifier and question.
//!
//! A query that is sent again makes the answer ambiguous (Karn) and gives no sample; tshark's
//! `dns.time` counts from the first copy.

use base::{Leg, RttMethod};
use wire::decode::Packet;
use wire::dns::Message;

use super::outstanding::Outstanding;
use super::{DatagramEvent, Seen};

/// RFC 1035 section 4.2.1.
pub(super) const PORT: u16 = 53;

/// Queries that wait.
#[derive(Copy, Clone, Debug)]
pub(super) struct Dns(Outstanding);

impl Dns {
    pub(super) const fn new() -> Self {
        Self(Outstanding::new())
    }

    pub(super) const fn latest_ns(&self) -> u32 {
        self.0.latest_ns()
    }

    #[inline]
    pub(super) fn packet<F: FnMut(RttMethod, Leg, u64)>(
        &mut self,
        packet: &Packet,
        payload: &[u8],
        seen: &mut Seen<'_, F>,
    ) {
        let Ok(message) = Message::parse(payload, packet.payload_len) else {
            return seen.count(DatagramEvent::Unreadable);
        };
        let key = key(&message);
        if message.is_response {
            self.0
                .answer(|asked| fits(asked, key), RttMethod::Dns, seen);
        } else {
            self.0.ask(key, seen);
        }
    }
}

/// The identifier, and the question's digest or 0.
fn key(message: &Message) -> u32 {
    u32::from(message.id) << 16 | u32::from(message.question.unwrap_or(0))
}

/// The same identifier, and no contradiction: RFC 1035 section 7.3 lets a resolver match by
/// the ID and "verify that the question section corresponds"; errors may leave it out.
fn fits(asked: u32, answered: u32) -> bool {
    let question = |key: u32| key as u16;
    asked >> 16 == answered >> 16
        && (question(asked) == question(answered)
            || question(asked) == 0
            || question(answered) == 0)
}
