//! STAMP (RFC 8762) and TWAMP Light in open mode: a request, and the first reply that quotes its
//! sequence number.
//!
//! The round trip is from request to reply as captured, the reflector's own time included:
//! what was seen from outside and not T1 to T4. Authenticated packets are told by the zeros where
//! open ones have their timestamp; nothing is verified, as there is no key here.

use base::{Leg, RttMethod, Sender};
use wire::decode::Packet;
use wire::stamp::{Request, TWAMP_LIGHT_REPLY};

use super::outstanding::Outstanding;
use super::{DatagramEvent, Seen};

/// Requests that wait, and which end reflects.
#[derive(Copy, Clone, Debug)]
pub(super) struct Stamp {
    requests: Outstanding,
    /// 0: both ports are a reflector's.
    reflector_port: u16,
    /// Who asks, where ports do not say.
    asker: Option<Sender>,
}

impl Stamp {
    pub(super) const fn new(reflector_port: u16) -> Self {
        Self {
            requests: Outstanding::new(),
            reflector_port,
            asker: None,
        }
    }

    pub(super) const fn latest_ns(&self) -> u32 {
        self.requests.latest_ns()
    }

    #[inline]
    pub(super) fn packet<F: FnMut(RttMethod, Leg, u64)>(
        &mut self,
        packet: &Packet,
        payload: &[u8],
        seen: &mut Seen<'_, F>,
    ) {
        let asks = if self.reflector_port == 0 {
            *self.asker.get_or_insert(seen.sender) == seen.sender
        } else {
            packet.destination_port == self.reflector_port
        };
        if asks {
            let Ok(request) = Request::parse(payload) else {
                return seen.count(DatagramEvent::Unreadable);
            };
            return self.requests.ask(request.sequence(), seen);
        }
        match sender_sequence(payload, packet.payload_len) {
            Some(key) => self
                .requests
                .answer(|asked| asked == key, RttMethod::Stamp, seen),
            None => seen.count(DatagramEvent::Unreadable),
        }
    }
}

/// The Session-Sender Sequence Number of a reply: at octet 24 (RFC 8762 section 4.3.1), in an
/// authenticated one at 48 (section 4.3.2); `None`: cut, or too short for a reply.
fn sender_sequence(payload: &[u8], whole: u32) -> Option<u32> {
    if (whole as usize) < TWAMP_LIGHT_REPLY {
        return None;
    }
    let authenticated = payload.get(4..16)? == [0; 12];
    let at = if authenticated { 48 } else { 24 };
    let octets = payload.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes(*octets))
}
