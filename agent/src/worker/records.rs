//! The `records` thread: one JSON line per probe to the file of `--records`.
//!
//! Owns the file. What comes faster than the disk takes it is dropped by the ring and
//! counted; the prober never waits.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use base::TargetKey;

use super::probe::Records;
use crate::exit::Failure;
use crate::output::records::line;

/// How long it rests when the ring is empty.
const REST: Duration = Duration::from_millis(10);

/// Quoted names of targets by their numbers; numbers are never reused.
pub type Names = Arc<Mutex<HashMap<TargetKey, String>>>;

/// See the module.
pub struct Writer {
    names: Names,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<std::io::Result<u64>>,
}

impl Writer {
    /// Starts to write.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(file: File, ring: Records) -> std::io::Result<Self> {
        let names = Names::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (known, stopped) = (Arc::clone(&names), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("records".into())
            .spawn(move || write_all(file, ring, &known, &stopped))?;
        Ok(Self {
            names,
            stop,
            thread,
        })
    }

    /// What the lines of a target call it.
    pub fn name(&self, key: TargetKey, target: &str) {
        let quoted = serde_json::Value::from(target).to_string();
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.insert(key, quoted);
    }

    /// Writes what is left, after the prober's end.
    ///
    /// # Errors
    /// When lines are missing.
    pub fn finish(self) -> Result<(), Failure> {
        // Release: pairs with the Acquire in `write_all`; the last results are on the ring.
        self.stop.store(true, Ordering::Release);
        match self.thread.join() {
            Ok(Ok(0)) => Ok(()),
            Ok(Ok(dropped)) => Err(Failure::incomplete(format!(
                "--records lacks {dropped} probes that came faster than the disk took them"
            ))),
            Ok(Err(error)) => Err(Failure::incomplete(format!(
                "--records cannot be written: {error}"
            ))),
            Err(_) => Err(Failure::incomplete("the thread that writes --records died")),
        }
    }
}

fn write_all(
    file: File,
    mut ring: Records,
    names: &Names,
    stop: &AtomicBool,
) -> std::io::Result<u64> {
    let mut out = BufWriter::with_capacity(256 << 10, file);
    let mut text = String::new();
    loop {
        // Read before draining: what was pushed before the flag is then on the ring.
        let stopping = stop.load(Ordering::Acquire);
        let mut result = Ok(());
        let taken = {
            // Held while lines are made: only a new target waits for it.
            let names = names.lock().unwrap_or_else(PoisonError::into_inner);
            ring.drain(|(key, probe)| {
                if result.is_ok() {
                    let name = names.get(&key).map_or("null", String::as_str);
                    line(&mut text, name, &probe);
                    text.push('\n');
                    result = out.write_all(text.as_bytes());
                }
            })
        };
        result?;
        if taken == 0 {
            out.flush()?;
            if stopping {
                return Ok(ring.dropped());
            }
            std::thread::sleep(REST);
        }
    }
}
