//! ICMP and ICMPv6 echo: a request, and the first reply with its sequence number. The
//! identifier is in the flow's key.

use base::{Leg, RttMethod};

use super::Seen;
use super::outstanding::Outstanding;

/// Echo requests that wait.
#[derive(Copy, Clone, Debug)]
pub(super) struct Echo(Outstanding);

impl Echo {
    pub(super) const fn new() -> Self {
        Self(Outstanding::new())
    }

    pub(super) const fn latest_ns(&self) -> u32 {
        self.0.latest_ns()
    }

    #[inline]
    pub(super) fn packet<F: FnMut(RttMethod, Leg, u64)>(
        &mut self,
        reply: bool,
        sequence: u16,
        seen: &mut Seen<'_, F>,
    ) {
        let key = u32::from(sequence);
        if reply {
            self.0.answer(|asked| asked == key, RttMethod::Icmp, seen);
        } else {
            self.0.ask(key, seen);
        }
    }
}
