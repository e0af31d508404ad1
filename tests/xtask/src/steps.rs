//! Steps of a run: each named, timed, and remembered if it failed. A failed step does not
//! stop those that do not need it.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use crate::report;

/// Success or failure as an exit code.
pub(crate) fn code(success: bool) -> ExitCode {
    if success {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Whether a step's output says by itself how many tests passed.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) enum Counts {
    /// cargo test: yes.
    Itself,
    /// A check such as clippy: it counts as one in our closing line.
    AsOne,
}

struct Done {
    name: String,
    took: Duration,
    success: bool,
    counts: Counts,
    /// What it said, if it failed: repeated at the end.
    said: Vec<String>,
}

/// The steps so far.
#[derive(Default)]
pub(crate) struct Steps {
    done: Vec<Done>,
    skipped: usize,
}

impl Steps {
    /// Runs a step; returns whether it succeeded.
    pub(crate) fn run(&mut self, name: &str, counts: Counts, work: impl FnOnce() -> bool) -> bool {
        self.step(name, counts, || (work(), Vec::new()))
    }

    fn step(
        &mut self,
        name: &str,
        counts: Counts,
        work: impl FnOnce() -> (bool, Vec<String>),
    ) -> bool {
        println!("\n== {name}");
        let start = Instant::now();
        let (success, said) = work();
        let took = start.elapsed();
        let verdict = if success { "done" } else { "FAILED" };
        println!("== {name}: {verdict} in {:.1} s", took.as_secs_f64());
        self.done.push(Done {
            name: name.to_owned(),
            took,
            success,
            counts,
            said,
        });
        success
    }

    /// A step that cannot run here: said, counted, and no failure.
    pub(crate) fn skip(&mut self, name: &str, why: &str) {
        println!("\n== {name}: skipped, {why}");
        self.skipped += 1;
    }

    /// Runs a command as a step.
    pub(crate) fn command(&mut self, name: &str, counts: Counts, command: &mut Command) -> bool {
        self.step(name, counts, || match report::run(command) {
            Ok((status, _)) if status.success() => (true, Vec::new()),
            Ok((_, reasons)) => (false, reasons.lines()),
            Err(error) => (false, vec![format!("{command:?}: {error}")]),
        })
    }

    /// What failed and why, the table of times, and the verdict.
    pub(crate) fn finish(&self) -> ExitCode {
        println!();
        for done in self.done.iter().filter(|done| !done.said.is_empty()) {
            println!("== {} FAILED and said:", done.name);
            done.said.iter().for_each(|line| println!("   {line}"));
            println!();
        }
        for done in &self.done {
            let verdict = if done.success { "" } else { "  FAILED" };
            println!("{:>8.1} s  {}{verdict}", done.took.as_secs_f64(), done.name);
        }
        let total: Duration = self.done.iter().map(|done| done.took).sum();
        println!("{:>8.1} s  in all", total.as_secs_f64());
        // Test runners print their own counts; the checks among the steps have nobody else.
        let checks = || {
            let done = self.done.iter();
            done.filter(|done| done.counts == Counts::AsOne)
        };
        let failed = checks().filter(|done| !done.success).count();
        if checks().count() > 0 {
            let skipped = match self.skipped {
                0 => String::new(),
                count => format!(", {count} skipped"),
            };
            let passed = checks().count() - failed;
            println!("{passed} passed, {failed} failed{skipped}");
        }
        code(self.done.iter().all(|done| done.success))
    }
}
