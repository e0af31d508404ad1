//! What crosses crate borders: units, clocks as types, identifiers, and the plain
//! values that a measurement hands on.
//!
//! Nothing here reads a clock, allocates on a hot path or knows a socket. Times are
//! nanoseconds; a name that ends in `_ns` says so, the two clocks have a type each and
//! cannot be subtracted from one another.
#![forbid(unsafe_code)]

pub mod address;
pub mod event;
pub mod flow;
pub mod frame;
mod list;
pub mod memory;
pub mod output;
pub mod stamp;
pub mod time;
pub mod units;

pub use address::Address;
pub use event::{Event, EventKind, Severity};
pub use flow::{
    DontFragment, FlowEnd, FlowKey, FlowSummary, GroupKey, Leg, LossPlace, Observation, RttMethod,
    Sender, SideSummary, TcpClass, TcpClasses, TcpDetail,
};
pub use frame::{Frame, LinkType, Passage};
pub use memory::{Memory, PlainMemory};
pub use output::{
    Counter, Gauge, LossTotals, Output, ProbeResult, Protocol, Quantity, Sample, SessionEvent,
    Verdict, Why,
};
pub use stamp::{Stamp, StampPoint, StampSource};
pub use time::{ClockState, MonoNanos, WallNanos};

/// Which way along a path. The way back is called `reverse` everywhere.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Direction {
    /// From the sender to the reflector.
    Forward,
    /// From the reflector to the sender.
    Reverse,
}

impl Direction {
    /// Both, in the order of [`Direction::index`].
    pub const ALL: [Self; 2] = [Self::Forward, Self::Reverse];

    /// 0 for forward, 1 for reverse.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The word in JSON keys and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Reverse => "reverse",
        }
    }
}

/// A target of one process, numbered as it was added; never reused while it runs.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TargetKey(pub u32);
