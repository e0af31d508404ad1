//! The relay's log: one fixed-size record for every fate of a packet, totals at the end.
//!
//! The relay hands over full buffers of [`Record`]s; a thread of its own encodes and writes
//! them ([`LogWriter`]), so that the relay never waits for a file. Here are the totals, and
//! [`RelayLog`], which reads a finished log. Times are nanoseconds of `CLOCK_REALTIME`: `in_ns`
//! the kernel's receive stamp, `out_ns` read just before the send call. Integers in the file
//! are little-endian.

mod record;
mod writer;

use std::path::Path;

use anyhow::{Context, Result, bail};
use base::Direction;

pub use record::{Record, Segment, Verdict};
pub use writer::LogWriter;

const MAGIC: &[u8; 8] = b"NSRELAY1";
const TOTALS_BYTES: usize = 8 * 12;

macro_rules! totals {
    ($($(#[doc = $doc:literal])+ $field:ident,)+) => {
        /// What one direction counted. Frames in = `received`; every one of them is in
        /// exactly one of `passed`, `matched` and `dropped_by_socket`.
        #[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
        pub struct DirectionTotals { $($(#[doc = $doc])+ pub $field: u64,)+ }

        impl DirectionTotals {
            fn values(&self) -> Vec<u64> { vec![$(self.$field,)+] }
            fn from_values(values: &[u64]) -> Self {
                let mut values = values.iter().copied();
                Self { $($field: values.next().unwrap_or(0),)+ }
            }
        }
    };
}

totals! {
    /// Frames that the interface brought, those that the socket dropped included.
    received,
    /// Frames that found the socket's buffer full: the relay's own failure.
    dropped_by_socket,
    /// Frames that are not impaired, not numbered and not logged, and went on.
    passed,
    /// Packets that are.
    matched,
    /// Of these, vanished as told.
    lost,
    /// Of these, larger than the limit.
    too_big,
    /// Copies made.
    copies,
    /// Of these, with a bit flipped.
    corrupted,
    /// Of these, held so that others overtook them.
    reordered,
    /// Frames and copies that left, passed ones included.
    sent,
    /// Frames that the send call refused: the relay's own failure.
    refused,
    /// ICMP answers that this direction's packets caused, sent on the interface they came from.
    icmp_sent,
}

impl DirectionTotals {
    /// Whether every frame is accounted for.
    #[must_use]
    pub fn balance(&self) -> bool {
        self.received == self.dropped_by_socket + self.passed + self.matched
            && self.passed + self.matched + self.copies
                == self.sent + self.lost + self.too_big + self.refused
    }

    /// What the relay itself lost, which it should not.
    #[must_use]
    pub fn own_failures(&self) -> u64 {
        self.dropped_by_socket + self.refused
    }
}

/// A finished log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RelayLog {
    /// Every record, in the order in which fates were sealed.
    pub records: Vec<Record>,
    /// The totals, by [`Direction::index`].
    pub totals: [DirectionTotals; 2],
}

impl RelayLog {
    /// Reads a log that was finished.
    ///
    /// # Errors
    /// When the file is missing, cut short or no log.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        let mut rest = bytes.strip_prefix(MAGIC).context("no relay log")?;
        let mut log = Self::default();
        let mut totals = 0;
        while let Some(kind) = rest.first() {
            match kind {
                1 => {
                    let (record, after) = rest.split_first_chunk().context("cut short")?;
                    log.records.push(Record::decode(record)?);
                    rest = after;
                }
                2 => {
                    let line = rest.get(2..2 + TOTALS_BYTES).context("cut short")?;
                    let values: Vec<u64> = line
                        .chunks_exact(8)
                        .map(|value| {
                            value
                                .iter()
                                .rev()
                                .fold(0, |sum, &b| sum << 8 | u64::from(b))
                        })
                        .collect();
                    let place = log.totals.get_mut(usize::from(rest[1]));
                    *place.context("direction")? = DirectionTotals::from_values(&values);
                    totals += 1;
                    rest = &rest[2 + TOTALS_BYTES..];
                }
                other => bail!("record of unknown kind {other}"),
            }
        }
        if totals != 2 {
            bail!("the relay did not finish its log");
        }
        Ok(log)
    }

    /// The totals of one direction.
    #[must_use]
    pub fn totals(&self, direction: Direction) -> &DirectionTotals {
        &self.totals[direction.index()]
    }

    /// The records of one direction.
    pub fn of(&self, direction: Direction) -> impl Iterator<Item = &Record> {
        self.records
            .iter()
            .filter(move |record| record.direction == direction)
    }

    /// What left in one direction, in the order in which it left.
    #[must_use]
    pub fn output(&self, direction: Direction) -> Vec<&Record> {
        let mut left: Vec<_> = self.of(direction).filter(|record| record.left()).collect();
        left.sort_by_key(|record| record.out_order);
        left
    }

    /// What was lost in one direction, as told (too-big ones not among them).
    pub fn lost(&self, direction: Direction) -> impl Iterator<Item = &Record> {
        self.of(direction)
            .filter(|record| record.verdict == Verdict::Lost)
    }

    /// The copies that left in one direction.
    pub fn copies(&self, direction: Direction) -> impl Iterator<Item = &Record> {
        self.of(direction)
            .filter(|record| record.left() && record.copy > 0)
    }

    /// The log restricted to what `keep` accepts; totals stay as they are.
    #[must_use]
    pub fn filtered(&self, keep: impl Fn(&Record) -> bool) -> Self {
        Self {
            records: self
                .records
                .iter()
                .filter(|record| keep(record))
                .copied()
                .collect(),
            totals: self.totals,
        }
    }

    /// Without opening and closing probes: those whose own TLV says "not counted".
    #[must_use]
    pub fn counted(&self) -> Self {
        self.filtered(|record| record.uncounted != Some(true))
    }
}

#[cfg(test)]
mod tests;
