//! `--flows FILE` and `--records FILE`: files of lines beside the report.
//!
//! A write error is told once, at the end; from then on lines are not made any more.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use base::{Frame, Observation, WallNanos};
use measure::passive::Groups;

use super::plan::Plan;
use crate::exit::Failure;
use crate::output::passive::lines::{self, FrameRecord};
use crate::output::records;

const BUFFER_BYTES: usize = 256 << 10;

/// When the frame of this number was captured, if it is one of these: those that an analyser
/// gets after so many others.
#[must_use]
pub fn captured_at(frames: &[Frame<'_>], before: u64, number: u64) -> Option<WallNanos> {
    let place = number.checked_sub(before + 1)?;
    let frame = frames.get(usize::try_from(place).ok()?)?;
    Some(frame.at)
}

/// A file of lines.
#[derive(Debug)]
struct Lines {
    path: PathBuf,
    file: File,
    text: String,
    failed: Option<std::io::Error>,
}

impl Lines {
    fn create(path: &Path, option: &str) -> Result<Self, Failure> {
        Ok(Self {
            file: records::create(path, option)?,
            path: path.to_owned(),
            text: String::with_capacity(BUFFER_BYTES + 4096),
            failed: None,
        })
    }

    fn write(&mut self) {
        if self.failed.is_none()
            && let Err(error) = self.file.write_all(self.text.as_bytes())
        {
            self.failed = Some(error);
        }
        self.text.clear();
    }

    fn write_if_full(&mut self) {
        if self.text.len() >= BUFFER_BYTES {
            self.write();
        }
    }

    fn finish(mut self) -> Result<(), Failure> {
        self.write();
        match self.failed {
            None => Ok(()),
            Some(error) => Err(Failure::incomplete(format!(
                "cannot write {}: {error}; it is not complete",
                self.path.display()
            ))),
        }
    }
}

/// Both files, as far as they are wanted.
#[derive(Debug)]
pub struct Sinks {
    flows: Option<Lines>,
    records: Option<(Lines, FrameRecord)>,
    groups: Groups,
}

impl Sinks {
    /// Makes the files, before anything is captured.
    ///
    /// # Errors
    /// With the usage code if one cannot be made.
    pub fn create(plan: &Plan) -> Result<Self, Failure> {
        let flows = plan.flows.as_deref();
        let records = plan.records.as_deref();
        Ok(Self {
            flows: flows
                .map(|path| Lines::create(path, "--flows"))
                .transpose()?,
            records: records
                .map(|path| Lines::create(path, "--records"))
                .transpose()?
                .map(|lines| (lines, FrameRecord::default())),
            groups: plan.options.groups.clone(),
        })
    }

    /// Whether observations are wanted at all.
    #[must_use]
    pub const fn wanted(&self) -> bool {
        self.flows.is_some() || self.records.is_some()
    }

    /// Takes what a frame showed, and when that was captured.
    pub fn take(&mut self, number: u64, at: Option<WallNanos>, observation: &Observation) {
        if let Observation::Ended { summary, end } = observation {
            if let Some(lines) = &mut self.flows {
                lines::flow(&mut lines.text, summary, Some(*end), &self.groups);
                lines.text.push('\n');
                lines.write_if_full();
            }
        } else if let Some((lines, record)) = &mut self.records {
            record.take(number, at, observation, &mut lines.text);
            lines.write_if_full();
        }
    }

    /// Hands what is buffered to the system.
    pub fn flush(&mut self) {
        if let Some(lines) = &mut self.flows {
            lines.write();
        }
        if let Some((lines, _)) = &mut self.records {
            lines.write();
        }
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// With the code for "incomplete" if a line could not be written.
    pub fn finish(self) -> Result<(), Failure> {
        let flows = self.flows.map_or(Ok(()), Lines::finish);
        let records = self.records.map_or(Ok(()), |(mut lines, mut record)| {
            record.flush(&mut lines.text);
            lines.finish()
        });
        flows.and(records)
    }
}
