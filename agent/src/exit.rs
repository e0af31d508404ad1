//! Exit codes, and the one-line error that chooses one.
//!
//! A command returns `anyhow::Result<Exit>`: `Ok` with what it measured, or an error. A
//! [`Failure`] anywhere in the chain names its exit code; any other error is
//! [`Exit::Incomplete`], except a broken pipe on standard output, after which nothing is said.
//! When several codes fit one run, [`Exit::worst`] decides.

use std::fmt;
use std::io::Write as _;

/// What a process ends with.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Exit {
    /// Measured.
    Measured = 0,
    /// Measured, and at least one target gave no answer at all.
    NoAnswer = 1,
    /// Usage or configuration.
    Usage = 2,
    /// A missing privilege or kernel feature.
    Privilege = 3,
    /// Measured, but an assertion was false, or `status` found an error.
    Assertion = 4,
    /// Truncated input, a sink that could not flush, a worker that died.
    Incomplete = 5,
}

impl Exit {
    /// The number for the shell.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The one that matters more of two ends of one run: numbers that cannot be trusted (5)
    /// before an explicit demand that was not met (4) before silence (1).
    #[must_use]
    pub const fn worst(self, other: Self) -> Self {
        if self.code() > other.code() {
            self
        } else {
            other
        }
    }
}

/// An error with its exit code. The message is one line: what failed, on what, what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// What the process ends with.
    pub exit: Exit,
    /// One line without the program's name and without a full stop.
    pub message: String,
}

impl Failure {
    /// Any failure.
    #[must_use]
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
        }
    }

    /// Wrong usage or configuration.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// A missing privilege or kernel feature.
    #[must_use]
    pub fn privilege(message: impl Into<String>) -> Self {
        Self::new(Exit::Privilege, message)
    }

    /// What was measured is not complete, or could not be handed over.
    #[must_use]
    pub fn incomplete(message: impl Into<String>) -> Self {
        Self::new(Exit::Incomplete, message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// One line on standard error. That nobody reads there any more is no reason to end
/// otherwise, and `eprintln!` would panic.
pub fn complain(line: impl fmt::Display) {
    let _ = writeln!(std::io::stderr(), "netsonde: {line}");
}

/// The exit code of an error, and what to say: nothing for a reader that went away.
#[must_use]
pub fn explain(error: &anyhow::Error) -> (Exit, Option<String>) {
    let broken_pipe = error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    });
    if broken_pipe {
        return (Exit::Incomplete, None);
    }
    let exit = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Failure>())
        .map_or(Exit::Incomplete, |failure| failure.exit);
    // `{:#}` is the whole chain on one line, but for messages that hold line ends themselves.
    (exit, Some(format!("{error:#}").replace('\n', "; ")))
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn codes_are_the_documented_ones() {
        let all = [
            Exit::Measured,
            Exit::NoAnswer,
            Exit::Usage,
            Exit::Privilege,
            Exit::Assertion,
            Exit::Incomplete,
        ];
        assert_eq!(all.map(Exit::code), [0, 1, 2, 3, 4, 5]);
        assert_eq!(Exit::NoAnswer.worst(Exit::Assertion), Exit::Assertion);
        assert_eq!(Exit::Incomplete.worst(Exit::NoAnswer), Exit::Incomplete);
    }

    #[test]
    fn a_failure_keeps_its_code_under_context() {
        let error = Err::<(), _>(Failure::privilege("cannot open a raw socket\nsecond"))
            .context("10.0.0.2")
            .unwrap_err();
        let (exit, text) = explain(&error);
        assert_eq!(exit, Exit::Privilege);
        assert_eq!(
            text.as_deref(),
            Some("10.0.0.2: cannot open a raw socket; second")
        );
    }

    #[test]
    fn a_broken_pipe_is_quiet_and_other_errors_are_incomplete() {
        let pipe = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert_eq!(explain(&pipe.into()).1, None);
        let disk = std::io::Error::other("disk full");
        assert_eq!(
            explain(&disk.into()),
            (Exit::Incomplete, Some("disk full".to_owned()))
        );
    }
}
