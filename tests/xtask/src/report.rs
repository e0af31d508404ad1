//! What a failed command said, kept for the end of the run: a log that is read from its
//! end, or cut to it, then still tells what failed.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

/// Lines that are repeated of one command; a test log's reasons come first, so its end is cut.
const REPEATED: usize = 80;
/// Lines of the end, where nothing in the output looks like a reason.
const TAIL: usize = 30;
/// A longer line is cut: a dump says nothing at the end of a log.
const WIDTH: usize = 400;
/// How long after a command's end its output may go on: a child that it left behind holds
/// the pipe open for as long as it lives, and must not hold us.
const LINGER: Duration = Duration::from_secs(2);

/// Collects the reasons out of a command's output.
#[derive(Default)]
pub(crate) struct Reasons {
    /// Between libtest's `failures:` and its `test result:`, or in a compiler's error.
    inside: Option<Inside>,
    found: Vec<String>,
    last: VecDeque<String>,
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Inside {
    Failures,
    Error,
}

impl Reasons {
    fn take(&mut self, line: &str) {
        let line: String = line.chars().take(WIDTH).collect();
        let starts = |word: &str| line.starts_with(word);
        if starts("failures:") {
            self.inside = Some(Inside::Failures);
        } else if starts("error") {
            self.inside = Some(Inside::Error);
        }
        if self.inside.is_some() && !line.trim().is_empty() && self.found.len() < REPEATED {
            self.found.push(line.clone());
        }
        let ends = match self.inside {
            Some(Inside::Failures) => starts("test result:"),
            Some(Inside::Error) => line.trim().is_empty(),
            None => false,
        };
        if ends {
            self.inside = None;
        }
        if self.last.len() == TAIL {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    /// What to repeat: the reasons, or else the end of the output.
    pub(crate) fn lines(self) -> Vec<String> {
        if self.found.is_empty() {
            self.last.into()
        } else {
            self.found
        }
    }
}

/// Hands on what `from` says, byte by byte as it comes, and keeps the reasons.
fn hand_on(from: impl Read, mut to: impl Write, reasons: &Mutex<Reasons>) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while let Ok(1..) = from.read_until(b'\n', &mut line) {
        // Nobody reads any more: the command still runs to its end, or it would be killed by
        // a closed pipe.
        let _ = to.write_all(&line).and_then(|()| to.flush());
        let text = String::from_utf8_lossy(&line);
        let mut reasons = reasons.lock().unwrap_or_else(PoisonError::into_inner);
        reasons.take(text.trim_end());
        line.clear();
    }
}

/// Runs a command with its output shown, and kept in part.
pub(crate) fn run(command: &mut Command) -> std::io::Result<(ExitStatus, Reasons)> {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let reasons = Arc::new(Mutex::new(Reasons::default()));
    let (ended, end) = mpsc::channel();
    if let Some(out) = child.stdout.take() {
        let (reasons, ended) = (Arc::clone(&reasons), ended.clone());
        thread::spawn(move || {
            hand_on(out, std::io::stdout(), &reasons);
            ended.send(())
        });
    }
    if let Some(err) = child.stderr.take() {
        let (reasons, ended) = (Arc::clone(&reasons), ended.clone());
        thread::spawn(move || {
            hand_on(err, std::io::stderr(), &reasons);
            ended.send(())
        });
    }
    drop(ended);
    let status = child.wait()?;
    while end.recv_timeout(LINGER).is_ok() {}
    let mut reasons = reasons.lock().unwrap_or_else(PoisonError::into_inner);
    Ok((status, std::mem::take(&mut *reasons)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        let mut reasons = Reasons::default();
        text.lines().for_each(|line| reasons.take(line));
        reasons.lines()
    }

    #[test]
    fn failures_of_a_test_run_are_kept() {
        let text = "running 2 tests\ntest a ... ok\ntest b ... FAILED\n\nfailures:\n\n\
                    ---- b stdout ----\nb.rs:1: no\n\n\nfailures:\n    b\n\n\
                    test result: FAILED. 1 passed\n\nrunning 1 test\ntest c ... ok\n";
        let expected = [
            "failures:",
            "---- b stdout ----",
            "b.rs:1: no",
            "failures:",
            "    b",
            "test result: FAILED. 1 passed",
        ];
        assert_eq!(lines(text), expected);
    }

    #[test]
    fn errors_of_a_compiler_are_kept() {
        let text = "Compiling a\nerror[E0001]: no\n --> a.rs:1\n\nwarning: b\n";
        assert_eq!(lines(text), ["error[E0001]: no", " --> a.rs:1"]);
    }

    #[test]
    fn else_the_end_is_kept() {
        let text: String = (0..100).map(|n| format!("line {n}\n")).collect();
        let kept = lines(&text);
        assert_eq!(kept.len(), TAIL);
        assert_eq!(kept.last().map(String::as_str), Some("line 99"));
    }

    #[test]
    fn a_command_says_both_ways() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let (status, reasons) = run(&mut command).expect("sh runs");
        assert_eq!(status.code(), Some(3));
        let mut kept = reasons.lines();
        kept.sort();
        assert_eq!(kept, ["err", "out"]);
    }

    #[test]
    fn a_child_left_behind_does_not_hold_us() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 60 & echo $!"]);
        let start = std::time::Instant::now();
        let (status, reasons) = run(&mut command).expect("sh runs");
        let pid = reasons.lines().remove(0);
        let killed = Command::new("kill").arg(pid).status();
        assert!(killed.is_ok_and(|killed| killed.success()));
        assert!(status.success() && start.elapsed() < Duration::from_secs(30));
    }
}
