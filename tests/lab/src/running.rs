//! A program that a test started: its output as it comes, its end, never an orphan.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long an ended program may keep its pipes.
const PIPES_CLOSE: Duration = Duration::from_secs(5);

/// Lines of one stream, filled by a thread.
#[derive(Default)]
struct Lines {
    state: Mutex<(Vec<String>, bool)>,
    more: Condvar,
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, (Vec<String>, bool)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(stream: impl Read + Send + 'static) -> (Arc<Self>, JoinHandle<()>) {
        let lines = Arc::new(Self::default());
        let filled = Arc::clone(&lines);
        let thread = std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut bytes = Vec::new();
            while matches!(reader.read_until(b'\n', &mut bytes), Ok(1..)) {
                let line = String::from_utf8_lossy(&bytes);
                let line = line.strip_suffix('\n').unwrap_or(&line).to_owned();
                filled.lock().0.push(line);
                filled.more.notify_all();
                bytes.clear();
            }
            filled.lock().1 = true;
            filled.more.notify_all();
        });
        (lines, thread)
    }

    /// The first line from number `from` on that contains `text`, with its number.
    fn find(&self, from: usize, text: &str, limit: Instant) -> Option<(usize, String)> {
        let mut state = self.lock();
        let mut next = from;
        loop {
            while let Some(line) = state.0.get(next) {
                if line.contains(text) {
                    return Some((next, line.clone()));
                }
                next += 1;
            }
            let left = limit.saturating_duration_since(Instant::now());
            if state.1 || left.is_zero() {
                return None;
            }
            let waited = self.more.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn wait_end(&self, limit: Instant) {
        let mut state = self.lock();
        while !state.1 {
            let left = limit.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.more.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn text(&self) -> String {
        self.lock()
            .0
            .iter()
            .map(|line| format!("{line}\n"))
            .collect()
    }
}

/// A program under way. Dropping it kills it.
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Arc<Lines>,
    stderr: Arc<Lines>,
    seen: usize,
    what: String,
}

/// How a program ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// All it wrote to standard output.
    pub stdout: String,
    /// All it wrote to standard error.
    pub stderr: String,
}

impl Finished {
    /// The exit code; -1 after a signal.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }
}

impl Running {
    /// Starts `command` with all three streams piped.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        let what = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| what.clone())?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("no pipe")?;
        let stderr = child.stderr.take().context("no pipe")?;
        Ok(Self {
            child,
            stdin,
            stdout: Lines::follow(stdout).0,
            stderr: Lines::follow(stderr).0,
            seen: 0,
            what,
        })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the next line of standard output that contains `text`; each line is found
    /// once.
    ///
    /// # Errors
    /// When the time passes or the output ends first; the error has all it wrote.
    pub fn wait_line(&mut self, text: &str, within: Duration) -> Result<String> {
        let found = self.stdout.find(self.seen, text, Instant::now() + within);
        match found {
            Some((at, line)) => {
                self.seen = at + 1;
                Ok(line)
            }
            None => bail!(
                "{}: no line with {text:?} within {within:?}; stdout: {}; stderr: {}",
                self.what,
                self.stdout.text(),
                self.stderr.text()
            ),
        }
    }

    /// As [`Running::wait_line`] on standard error, from its beginning.
    ///
    /// # Errors
    /// When the time passes or the output ends first.
    pub fn wait_error_line(&self, text: &str, within: Duration) -> Result<String> {
        let found = self.stderr.find(0, text, Instant::now() + within);
        found.map(|(_, line)| line).with_context(|| {
            let said = self.stderr.text();
            format!("{}: no line with {text:?} on stderr: {said}", self.what)
        })
    }

    /// What it wrote to standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it wrote to standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Writes to its standard input.
    ///
    /// # Errors
    /// When that is closed.
    pub fn write(&mut self, text: &str) -> Result<()> {
        self.write_bytes(text.as_bytes())
    }

    /// As [`Running::write`], of anything; returns when all is in the pipe.
    ///
    /// # Errors
    /// When that is closed.
    pub fn write_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let stdin = self.stdin.as_mut().context("standard input is closed")?;
        stdin.write_all(bytes)?;
        Ok(stdin.flush()?)
    }

    /// Ends its standard input.
    pub fn close_input(&mut self) {
        self.stdin = None;
    }

    /// Sends a signal by name: `INT`, `TERM`, `HUP`, `KILL`, `STOP`, `CONT`.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, name: &str) -> Result<()> {
        let signal = format!("-{name}");
        let pid = self.pid().to_string();
        let mut command = Command::new("sh");
        command.args(["-c", "kill \"$1\" \"$2\"", "sh", &signal, &pid]);
        crate::cleanup::checked(&mut command, None)?;
        Ok(())
    }

    /// Whether it has ended.
    ///
    /// # Errors
    /// When the kernel does not know it.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Closes its standard input and waits for its end.
    ///
    /// # Errors
    /// When it does not end in time: it is killed, and the error has all it wrote.
    pub fn finish(mut self, within: Duration) -> Result<Finished> {
        self.stdin = None;
        let limit = Instant::now() + within;
        // The end of both streams is the event to wait for; polling begins only after it.
        self.stdout.wait_end(limit);
        self.stderr.wait_end(limit);
        let mut pause = Duration::from_micros(100);
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() >= limit {
                self.kill();
                bail!(
                    "{} did not end within {within:?}; stdout: {}; stderr: {}",
                    self.what,
                    self.stdout.text(),
                    self.stderr.text()
                );
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        };
        let limit = Instant::now() + PIPES_CLOSE;
        self.stdout.wait_end(limit);
        self.stderr.wait_end(limit);
        Ok(Finished {
            status,
            stdout: self.stdout.text(),
            stderr: self.stderr.text(),
        })
    }

    /// Sends a signal and waits for the end.
    ///
    /// # Errors
    /// As [`Running::finish`].
    pub fn stop(self, signal: &str, within: Duration) -> Result<Finished> {
        self.signal(signal)?;
        self.finish(within)
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}
