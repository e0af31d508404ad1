//! The `records` thread: one JSON line per probe to the file of `--records`.
//!
//! Owns the file. What comes faster than the disk takes it is dropped by the ring and
//! counted; the prober never waits.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use base::{MonoNanos, TargetKey};

use super::probe::Records;
use crate::exit::Failure;
use crate::output::records::line;

/// How long it rests when the ring is empty.
const REST: Duration = Duration::from_millis(10);

/// How long a name outlives its session: its last results may be on their way.
const LINGER_NS: u64 = 10_000_000_000;

/// Quoted names of targets by their numbers; numbers are never reused.
#[derive(Debug, Default)]
struct Names {
    of: HashMap<TargetKey, String>,
    /// Sessions that are over, and since when, oldest first.
    over: VecDeque<(MonoNanos, TargetKey)>,
}

impl Names {
    /// Nothing comes from this number any more; what ended long ago is forgotten.
    fn end(&mut self, key: TargetKey, now: MonoNanos) {
        self.over.push_back((now, key));
        while let Some((ended, key)) = self.over.front().copied()
            && now.since(ended) >= LINGER_NS
        {
            self.of.remove(&key);
            self.over.pop_front();
        }
    }
}

/// See the module.
pub struct Writer {
    names: Arc<Mutex<Names>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<std::io::Result<u64>>,
}

impl Writer {
    /// Starts to write.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(file: File, ring: Records) -> std::io::Result<Self> {
        let names = Arc::<Mutex<Names>>::default();
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
        names.of.insert(key, quoted);
    }

    /// The session of this number is over, or never began.
    pub fn end(&self, key: TargetKey) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.end(key, sys::clock::mono_now());
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
    names: &Mutex<Names>,
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
                    let name = names.of.get(&key).map_or("null", String::as_str);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_sessions_that_are_over_do_not_pile_up() {
        let mut names = Names::default();
        // A target that cannot be opened, tried again every five seconds for an hour.
        for round in 0..720_u32 {
            let now = MonoNanos(u64::from(round) * 5_000_000_000);
            names.of.insert(TargetKey(round), "\"a\"".to_owned());
            names.end(TargetKey(round), now);
            assert!(names.of.contains_key(&TargetKey(round)), "results may come");
            assert!(names.of.len() <= 3 && names.over.len() <= 3, "{round}");
        }
    }
}
