//! The counters and distributions of one group of flows.

use base::{FlowEnd, FlowSummary, Leg, LossPlace, RttMethod, Sender, TcpClass, TcpClasses};

use crate::Distribution;
use crate::series::{Interval, MOST_EXACT};

/// A store of values: [`Distribution`] where a run ends, [`Interval`] where each tick's go to
/// a series.
pub trait Values: Clone {
    /// An empty one.
    fn empty() -> Self;
    /// Takes one value that is not negative.
    fn record(&mut self, value: u64);
    /// Forgets all values; keeps the memory.
    fn clear(&mut self);
}

/// Values that add up.
pub trait Merge: Values {
    /// Adds all values of another one.
    fn merge(&mut self, other: &Self);
}

impl Values for Distribution {
    fn empty() -> Self {
        Self::new()
    }

    #[inline]
    fn record(&mut self, value: u64) {
        Self::record(self, i64::try_from(value).unwrap_or(i64::MAX));
    }

    fn clear(&mut self) {
        Self::clear(self);
    }
}

impl Merge for Distribution {
    fn merge(&mut self, other: &Self) {
        Self::merge(self, other);
    }
}

impl Values for Interval {
    fn empty() -> Self {
        Self::new(MOST_EXACT as f64, false)
    }

    #[inline]
    fn record(&mut self, value: u64) {
        Self::record(self, i64::try_from(value).unwrap_or(i64::MAX));
    }

    fn clear(&mut self) {
        Self::clear(self);
    }
}

const CELLS: usize = RttMethod::COUNT * Leg::COUNT;

/// See the module. Counters of frames are tshark's: one frame, one count, however many wire
/// segments were merged in it.
#[derive(Clone, Debug)]
pub struct GroupStats<D = Distribution> {
    rtt: [Option<Box<D>>; CELLS],
    late_bytes: [Option<Box<D>>; 2],
    late_ns: [Option<Box<D>>; 2],
    /// What was counted by what it is.
    pub counts: GroupCounts,
    /// Flows that ended, by [`FlowEnd::index`].
    pub ended: [u64; FlowEnd::COUNT],
    /// What flows that ended had sent.
    pub traffic: Traffic,
}

/// What is counted of a group by what it is.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct GroupCounts {
    /// Frames by [`Sender::index`] and [`TcpClass::index`].
    pub classes: [[u64; TcpClass::COUNT]; 2],
    /// Segments by [`Sender::index`] and [`LossPlace::index`].
    pub losses: [[u64; LossPlace::COUNT]; 2],
    /// ICMP errors that say "too big".
    pub too_big: u64,
    /// Suspicions of black holes.
    pub black_holes: u64,
}

impl GroupCounts {
    /// Adds another one's.
    pub fn merge(&mut self, other: &Self) {
        // Without `..`: a new counter must not be forgotten here.
        let Self {
            classes,
            losses,
            too_big,
            black_holes,
        } = other;
        for (ours, theirs) in self.classes.iter_mut().zip(classes) {
            add(ours, theirs);
        }
        for (ours, theirs) in self.losses.iter_mut().zip(losses) {
            add(ours, theirs);
        }
        self.too_big += too_big;
        self.black_holes += black_holes;
    }
}

/// What the ends of flows sent, by [`Sender::index`]. That of flows that ended and that of
/// all in the table are together what was sent so far.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct Traffic {
    /// Wire packets.
    pub packets: [u64; 2],
    /// Octets of their IP packets.
    pub bytes: [u64; 2],
    /// Wire segments of TCP.
    pub segments: [u64; 2],
}

impl Traffic {
    /// Adds a flow's.
    pub fn add_flow(&mut self, flow: &FlowSummary) {
        for sender in Sender::ALL {
            let (at, side) = (sender.index(), &flow.sides[sender.index()]);
            self.packets[at] += side.packets;
            self.bytes[at] += side.bytes;
            if flow.protocol == TCP {
                self.segments[at] += side.packets;
            }
        }
    }

    /// Adds another one's.
    pub fn merge(&mut self, other: &Self) {
        add(&mut self.packets, &other.packets);
        add(&mut self.bytes, &other.bytes);
        add(&mut self.segments, &other.segments);
    }

    /// What was sent since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let less = |now: [u64; 2], before: [u64; 2]| {
            [
                now[0].saturating_sub(before[0]),
                now[1].saturating_sub(before[1]),
            ]
        };
        Self {
            packets: less(self.packets, before.packets),
            bytes: less(self.bytes, before.bytes),
            segments: less(self.segments, before.segments),
        }
    }
}

impl<D> Default for GroupStats<D> {
    fn default() -> Self {
        Self {
            rtt: [const { None }; CELLS],
            late_bytes: [const { None }; 2],
            late_ns: [const { None }; 2],
            counts: GroupCounts::default(),
            ended: [0; FlowEnd::COUNT],
            traffic: Traffic::default(),
        }
    }
}

/// IP's number of TCP.
const TCP: u8 = 6;

impl<D: Values> GroupStats<D> {
    #[inline]
    pub(super) fn rtt(&mut self, method: RttMethod, leg: Leg, ns: u64) {
        let cell = &mut self.rtt[method.index() * Leg::COUNT + leg.index()];
        match cell {
            Some(values) => values.record(ns),
            None => first(cell, ns),
        }
    }

    #[inline]
    pub(super) fn classes(&mut self, sender: Sender, classes: TcpClasses) {
        let counts = &mut self.counts.classes[sender.index()];
        for class in classes.iter() {
            counts[class.index()] += 1;
        }
    }

    pub(super) fn reordering(&mut self, sender: Sender, bytes: u32, late_ns: u64) {
        for (cell, value) in [
            (&mut self.late_bytes[sender.index()], u64::from(bytes)),
            (&mut self.late_ns[sender.index()], late_ns),
        ] {
            match cell {
                Some(values) => values.record(value),
                None => first(cell, value),
            }
        }
    }

    /// Round-trip times of a method on a leg; `None`: there was none.
    #[must_use]
    pub fn rtts(&self, method: RttMethod, leg: Leg) -> Option<&D> {
        self.rtt[method.index() * Leg::COUNT + leg.index()].as_deref()
    }

    /// How many octets behind the newest late segments were.
    #[must_use]
    pub fn late_bytes(&self, sender: Sender) -> Option<&D> {
        self.late_bytes[sender.index()].as_deref()
    }

    /// How long after the newest late segments came.
    #[must_use]
    pub fn late_ns(&self, sender: Sender) -> Option<&D> {
        self.late_ns[sender.index()].as_deref()
    }

    /// Frames of a class, of both senders.
    #[must_use]
    pub const fn frames(&self, class: TcpClass) -> u64 {
        self.counts.classes[0][class.index()] + self.counts.classes[1][class.index()]
    }

    /// Segments at a place, of both senders.
    #[must_use]
    pub const fn lost(&self, place: LossPlace) -> u64 {
        self.counts.losses[0][place.index()] + self.counts.losses[1][place.index()]
    }

    /// Whether nothing was ever added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rtt.iter().all(Option::is_none)
            && self.ended.iter().all(|count| *count == 0)
            && self.counts == GroupCounts::default()
            && self.traffic == Traffic::default()
    }

    /// Forgets everything; keeps the memory.
    pub fn clear(&mut self) {
        let distributions = [&mut self.rtt[..], &mut self.late_bytes, &mut self.late_ns];
        for values in distributions.into_iter().flatten().flatten() {
            values.clear();
        }
        let Self {
            rtt,
            late_bytes,
            late_ns,
            ..
        } = std::mem::take(self);
        self.rtt = rtt;
        self.late_bytes = late_bytes;
        self.late_ns = late_ns;
    }
}

impl<D: Merge> GroupStats<D> {
    /// Adds another one's.
    pub fn merge(&mut self, other: &Self) {
        let Self {
            rtt,
            late_bytes,
            late_ns,
            counts,
            ended,
            traffic,
        } = other;
        cells(&mut self.rtt, rtt);
        cells(&mut self.late_bytes, late_bytes);
        cells(&mut self.late_ns, late_ns);
        self.counts.merge(counts);
        add(&mut self.ended, ended);
        self.traffic.merge(traffic);
    }
}

/// The first value of a cell.
#[cold]
fn first<D: Values>(cell: &mut Option<Box<D>>, value: u64) {
    cell.get_or_insert_with(|| Box::new(D::empty()))
        .record(value);
}

fn cells<D: Merge>(ours: &mut [Option<Box<D>>], theirs: &[Option<Box<D>>]) {
    for (ours, theirs) in ours.iter_mut().zip(theirs) {
        match (ours, theirs) {
            (_, None) => {}
            (Some(ours), Some(theirs)) => ours.merge(theirs),
            (ours, Some(theirs)) => *ours = Some(theirs.clone()),
        }
    }
}

fn add<const N: usize>(ours: &mut [u64; N], theirs: &[u64; N]) {
    for (ours, theirs) in ours.iter_mut().zip(theirs) {
        *ours += theirs;
    }
}
