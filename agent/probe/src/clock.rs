//! What the kernel says of its wall clock, asked once a second: it goes into every Error
//! Estimate, and must not cost a system call a packet.

use base::{ClockState, MonoNanos};

const REFRESH_NS: u64 = 1_000_000_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct KernelClock {
    pub(crate) state: ClockState,
    asked: Option<MonoNanos>,
}

impl KernelClock {
    pub(crate) const fn new() -> Self {
        Self {
            state: ClockState::UNKNOWN,
            asked: None,
        }
    }

    /// Asks again if the answer is old; keeps the old one if the kernel does not answer.
    pub(crate) fn refresh(&mut self, now: MonoNanos) {
        if self
            .asked
            .is_some_and(|asked| now.since(asked) < REFRESH_NS)
        {
            return;
        }
        self.asked = Some(now);
        if let Ok(state) = sys::clock::clock_state() {
            self.state = state;
        }
    }
}
