//! How much came when: octets on the wire per window of time.

use base::Frame;

use super::{Merge, Values};
use crate::Distribution;

/// The length of a window of [`Windows::bursts`].
const BURST_NS: u64 = 1_000_000;
/// The length of a window of [`Windows::seconds`].
const SECOND_NS: u64 = 1_000_000_000;

/// Octets on the wire per millisecond (burstiness) and per second (throughput), of every
/// window with traffic. Windows begin with the capture; a frame that is older than its
/// window (queues come together out of order) counts in it.
#[derive(Clone, Debug)]
pub struct Windows<D = Distribution> {
    bursts: Window<D>,
    seconds: Window<D>,
}

#[derive(Clone, Debug)]
struct Window<D> {
    length_ns: u64,
    begin: u64,
    octets: u64,
    begun: bool,
    values: D,
}

impl<D: Values> Window<D> {
    fn new(length_ns: u64) -> Self {
        Self {
            length_ns,
            begin: 0,
            octets: 0,
            begun: false,
            values: D::empty(),
        }
    }

    /// Begins the window that `at` is in; an older one stays in the present window.
    fn advance(&mut self, at: u64) {
        if !self.begun {
            self.begun = true;
            self.begin = at;
        } else if at > self.begin {
            let over = (at - self.begin) / self.length_ns;
            self.begin += over * self.length_ns;
        }
    }

    const fn state(&self) -> State {
        (self.begin, self.octets, self.begun)
    }

    const fn resume(&mut self, state: State) {
        (self.begin, self.octets, self.begun) = state;
    }

    fn close(&mut self) {
        if self.octets > 0 {
            self.values.record(self.octets);
            self.octets = 0;
        }
    }
}

/// Windows that are not closed yet: see [`Windows::open`].
#[derive(Copy, Clone, Debug)]
pub struct OpenWindows {
    bursts: State,
    seconds: State,
}

/// Begin, octets so far, and whether it has begun.
type State = (u64, u64, bool);

/// Nothing yet.
#[must_use]
pub fn windows_of<D: Values>() -> Windows<D> {
    Windows {
        bursts: Window::new(BURST_NS),
        seconds: Window::new(SECOND_NS),
    }
}

impl<D: Values> Windows<D> {
    /// Takes the frames of a batch.
    #[inline]
    pub fn take(&mut self, frames: &[Frame<'_>]) {
        for frame in frames {
            if frame.at.0.wrapping_sub(self.bursts.begin) >= BURST_NS {
                self.next(frame.at.0);
            }
            self.bursts.octets += u64::from(frame.original_len);
        }
    }

    /// A second is whole milliseconds and begins with one: it takes what they had.
    #[inline(never)]
    fn next(&mut self, at: u64) {
        if !self.bursts.begun {
            self.seconds.advance(at);
        } else if at > self.bursts.begin {
            self.close_burst();
        }
        self.bursts.advance(at);
    }

    fn close_burst(&mut self) {
        let Window { begin, octets, .. } = self.bursts;
        if begin.wrapping_sub(self.seconds.begin) >= SECOND_NS {
            self.seconds.close();
            self.seconds.advance(begin);
        }
        self.seconds.octets += octets;
        self.bursts.close();
    }

    /// The last windows end, full or not.
    pub fn finish(&mut self) {
        self.close_burst();
        self.seconds.close();
    }

    /// Octets per millisecond with traffic.
    #[must_use]
    pub const fn bursts(&self) -> &D {
        &self.bursts.values
    }

    /// Octets per second with traffic.
    #[must_use]
    pub const fn seconds(&self) -> &D {
        &self.seconds.values
    }

    /// The windows that are open, to go on in another store.
    #[must_use]
    pub const fn open(&self) -> OpenWindows {
        OpenWindows {
            bursts: self.bursts.state(),
            seconds: self.seconds.state(),
        }
    }

    /// Goes on with the open windows of another store, in place of its own.
    pub const fn resume(&mut self, open: OpenWindows) {
        self.bursts.resume(open.bursts);
        self.seconds.resume(open.seconds);
    }

    /// Forgets closed windows; the open ones go on.
    pub fn clear(&mut self) {
        self.bursts.values.clear();
        self.seconds.values.clear();
    }
}

impl<D: Merge> Windows<D> {
    /// Adds another worker's closed windows: each worker's share of a window is a window.
    pub fn merge(&mut self, other: &Self) {
        self.bursts.values.merge(&other.bursts.values);
        self.seconds.values.merge(&other.seconds.values);
    }
}
