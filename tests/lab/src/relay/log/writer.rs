//! The writing end of the log: buffers in memory, a thread that empties them.
//!
//! [`LogWriter::push`] never waits for a file; what could not be written is said at the end, by
//! [`LogWriter::finish`].

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use anyhow::{Result, bail};

use super::record::{RECORD_BYTES, Record};
use super::{DirectionTotals, MAGIC};

/// Keeps records and writes them to a file.
#[derive(Debug)]
pub struct LogWriter {
    full: Sender<Vec<Record>>,
    filling: Vec<Record>,
    thread: JoinHandle<Result<BufWriter<File>>>,
}

impl LogWriter {
    const BUFFER: usize = 4_096;

    /// Creates the file.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(path: &Path) -> Result<Self> {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        file.write_all(MAGIC)?;
        let (full, take) = channel();
        let thread = std::thread::Builder::new()
            .name("log".into())
            .spawn(move || write_all(&take, file))?;
        Ok(Self {
            full,
            filling: Vec::with_capacity(Self::BUFFER),
            thread,
        })
    }

    /// Keeps a record. Memory only.
    pub fn push(&mut self, record: Record) {
        self.filling.push(record);
        if self.filling.len() == Self::BUFFER {
            let full = std::mem::replace(&mut self.filling, Vec::with_capacity(Self::BUFFER));
            // The thread ends early only on an I/O error, which finish() reports.
            let _ = self.full.send(full);
        }
    }

    /// Writes what is left, and the totals.
    ///
    /// # Errors
    /// When anything could not be written.
    pub fn finish(self, totals: &[DirectionTotals; 2]) -> Result<()> {
        let _ = self.full.send(self.filling);
        drop(self.full);
        let Ok(written) = self.thread.join() else {
            bail!("the log thread panicked");
        };
        let mut file = written?;
        for (direction, totals) in totals.iter().enumerate() {
            let mut line = vec![2, u8::try_from(direction)?];
            line.extend(totals.values().iter().flat_map(|value| value.to_le_bytes()));
            file.write_all(&line)?;
        }
        file.flush()?;
        Ok(())
    }
}

fn write_all(take: &Receiver<Vec<Record>>, mut file: BufWriter<File>) -> Result<BufWriter<File>> {
    let mut bytes = Vec::with_capacity(LogWriter::BUFFER * RECORD_BYTES);
    for records in take {
        bytes.clear();
        for record in &records {
            record.encode(&mut bytes);
        }
        file.write_all(&bytes)?;
    }
    Ok(file)
}
