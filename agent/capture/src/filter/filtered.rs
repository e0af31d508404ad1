//! A source and a filter in front of its reader.

use std::time::Duration;

use base::{Frame, WallNanos};

use super::Filter;
use crate::{BATCH, DropReason, Drops, Polled, Source, SourceError};

/// A source behind a filter that runs here: for files, and for backends whose kernel side
/// runs none. What is refused is counted as [`DropReason::Filtered`].
pub struct Filtered<S> {
    source: S,
    filter: Option<Filter>,
    /// Frames of a device, not of a file: see [`Filter::matches_live`].
    live: bool,
    refused: u64,
    newest: Option<WallNanos>,
}

impl<S: Source> Filtered<S> {
    /// Puts a filter, or none, in front of whoever reads `source`.
    pub const fn new(source: S, filter: Option<Filter>) -> Self {
        Self {
            source,
            filter,
            live: false,
            refused: 0,
            newest: None,
        }
    }

    /// As [`Filtered::new`] for frames of a device that have their VLAN tags in place: they
    /// match as tcpdump has it on a device, which is not as in a file.
    pub fn live(source: S, filter: Option<Filter>) -> Self {
        let mut made = Self::new(source, filter);
        made.live = true;
        made
    }

    /// The source behind it.
    pub const fn source(&self) -> &S {
        &self.source
    }

    /// The source behind it.
    pub const fn source_mut(&mut self) -> &mut S {
        &mut self.source
    }
}

impl<S: Source> Source for Filtered<S> {
    /// As the source's; [`Polled::Frames`] may say 0 when all were refused.
    fn poll(
        &mut self,
        wait: Duration,
        mut lend: impl FnMut(&[Frame<'_>]),
    ) -> Result<Polled, SourceError> {
        let Some(filter) = &self.filter else {
            return self.source.poll(wait, lend);
        };
        let mut passed = 0;
        let mut refused = 0;
        let (newest, live) = (&mut self.newest, self.live);
        let polled = self.source.poll(wait, |frames| {
            let mut kept = [Frame::ethernet(&[], WallNanos(0)); BATCH];
            for batch in frames.chunks(BATCH) {
                let mut places = kept.iter_mut();
                for frame in batch {
                    let matches = if live {
                        filter.matches_live(frame)
                    } else {
                        filter.matches(frame)
                    };
                    if matches && let Some(place) = places.next() {
                        *place = *frame;
                    }
                }
                let count = BATCH - places.len();
                let kept = kept.get(..count).unwrap_or_default();
                if !kept.is_empty() {
                    *newest = (*newest).max(kept.iter().map(|frame| frame.at).max());
                    lend(kept);
                }
                passed += count;
                refused += (batch.len() - count) as u64;
            }
        });
        self.refused += refused;
        match polled? {
            Polled::Frames(_) => Ok(Polled::Frames(passed)),
            other => Ok(other),
        }
    }

    fn drops(&mut self) -> Result<Drops, SourceError> {
        let mut drops = self.source.drops()?;
        drops.add(DropReason::Filtered, self.refused);
        Ok(drops)
    }

    fn newest(&self) -> Option<WallNanos> {
        if self.filter.is_some() {
            self.newest
        } else {
            self.source.newest()
        }
    }
}
