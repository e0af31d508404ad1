//! A source of a worker, and what the sources of its device before did not lend.

use capture::{Drops, Source, SourceError};

use super::load::add_drops;
use super::source::{LiveSource, errno};

/// See the module.
pub struct Slot {
    /// The device's number.
    pub device: usize,
    /// `None`: gone.
    pub source: Option<LiveSource>,
    /// What sources of this device that are gone did not lend.
    before: Drops,
    now: Drops,
}

impl Slot {
    /// One of a device that was not read before.
    #[must_use]
    pub fn new(device: usize, source: LiveSource) -> Self {
        Self {
            device,
            source: Some(source),
            before: Drops::default(),
            now: Drops::default(),
        }
    }

    /// What was not lent; the kernel's last answer if it gives none any more.
    pub fn drops(&mut self) -> Drops {
        if let Some(Ok(now)) = self.source.as_mut().map(Source::drops) {
            self.now = now;
        }
        let mut all = self.before;
        add_drops(&mut all, self.now);
        all
    }

    /// Reads this source from now on, instead of one that is gone.
    pub fn replace(&mut self, source: LiveSource) {
        self.before = self.drops();
        self.now = Drops::default();
        self.source = Some(source);
    }

    /// Reads nothing any more; gives why.
    pub fn lose(&mut self, error: Option<&SourceError>) -> String {
        self.drops();
        self.source = None;
        match error.map(|error| (errno(error), error)) {
            None => "it ended".to_owned(),
            // ENODEV, ENETDOWN
            Some((Some(19 | 100), _)) => "it is gone".to_owned(),
            Some((_, error)) => error.to_string(),
        }
    }
}
