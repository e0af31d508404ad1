//! A run of `ping` as it goes: what the targets add up to, and what is shown of it when.
//!
//! Owns the numbers of every target, the place on the screen and the HDR log. Takes outputs
//! and the time as arguments, writes to what it is given: no socket, no clock, no signal.
//! One thread.

use std::io::{self, Write};

use base::units::format_ns;
use base::{Counter, Gauge, MonoNanos, Output, Quantity, TargetKey, WallNanos};
use record::TargetStats;

use super::plan::{Plan, Show};
use super::tracked::Tracked;
use crate::exit::Exit;
use crate::output::assertion::{Assertion, Outcome};
use crate::output::hlog::HdrLog;
use crate::output::json::{self, Source};
use crate::output::report::Report;
use crate::output::table::{self, Row, Screen};
use crate::output::{protocol, summary, words};

/// Five frames a second: quick to the eye, nothing to the measurement.
const FRAME_NS: u64 = 200_000_000;
const SECOND_NS: u64 = 1_000_000_000;
/// For a terminal that does not say.
const USUAL_SIZE: (u16, u16) = (80, 24);

/// What stands in the head of every document.
#[derive(Clone, Debug)]
pub struct Head {
    /// The command line.
    pub command: Vec<String>,
    /// Where the probes come from.
    pub source: Source,
    /// When the run began.
    pub started: WallNanos,
}

/// See the module.
pub struct Live<'p> {
    plan: &'p Plan,
    assertions: Vec<Assertion>,
    head: Head,
    tracked: Vec<Tracked>,
    hlog: Option<HdrLog>,
    screen: Screen,
    /// Lines for people that wait for the next tick.
    notes: String,
    second_began: WallNanos,
    next_second: MonoNanos,
    next_frame: MonoNanos,
}

impl<'p> Live<'p> {
    /// A run that begins at `now`.
    #[must_use]
    pub fn new(
        plan: &'p Plan,
        assertions: Vec<Assertion>,
        head: Head,
        hlog: Option<HdrLog>,
        now: MonoNanos,
    ) -> Self {
        let tracked = plan.targets.iter().cloned().map(Tracked::new);
        Self {
            plan,
            assertions,
            tracked: tracked.collect(),
            hlog,
            screen: Screen::default(),
            notes: String::new(),
            second_began: head.started,
            next_second: now.plus(SECOND_NS),
            next_frame: now.plus(FRAME_NS),
            head,
        }
    }

    /// Takes one output of a target; keys are the places of the targets in the plan.
    pub fn take(&mut self, key: TargetKey, output: &Output) {
        let place = key.0 as usize;
        let Some(tracked) = self.tracked.get_mut(place) else {
            return;
        };
        tracked.total.apply(output);
        if matches!(self.plan.show, Show::Lines | Show::JsonStream) {
            tracked.interval.apply(output);
        }
        if let Some(hlog) = &mut self.hlog {
            hlog.apply(place, output);
        }
        let news = match output {
            Output::Protocol(..) => {
                tracked.announced = false;
                None
            }
            Output::Event(event) => tracked.news(event),
            other => tracked.sending(other),
        };
        if matches!(self.plan.show, Show::Table | Show::Lines)
            && let Some(text) = news
        {
            self.notes.push_str(&text);
        }
    }

    /// Says what the end of the run waits for, if that is long enough to wonder.
    pub fn ending(&mut self) {
        if self.plan.wait_ns > SECOND_NS && self.plan.show.is_text() {
            self.notes.push_str(&format!(
                "waiting up to {} for the probes in flight; Ctrl-C again ends at once\n",
                format_ns(self.plan.wait_ns as f64)
            ));
        }
    }

    /// Whether every probe of every target is decided.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.tracked.iter().all(|tracked| tracked.total.finished)
    }

    /// Shows what is due at `now`.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn tick(
        &mut self,
        now: MonoNanos,
        wall: WallNanos,
        out: &mut impl Write,
    ) -> io::Result<()> {
        if self.plan.show.is_text() {
            self.announce(out)?;
        }
        if now >= self.next_second {
            // After a stall the next second is a whole one again.
            self.next_second = self
                .next_second
                .plus(SECOND_NS)
                .max(now.plus(SECOND_NS / 2));
            self.end_second(wall, out)?;
        }
        if self.plan.show == Show::Table && now >= self.next_frame {
            self.next_frame = now.plus(FRAME_NS);
            let size = sys::terminal::size().unwrap_or(USUAL_SIZE);
            self.draw(size, out)?;
        }
        Ok(())
    }

    /// Writes what waits: the first line of a target, and news.
    fn announce(&mut self, out: &mut impl Write) -> io::Result<()> {
        let mut text = String::new();
        for place in 0..self.tracked.len() {
            if self.tracked[place].announced {
                continue;
            }
            if let Some(line) = protocol::first_line(&self.report(place)) {
                text.push_str(&line);
                text.push('\n');
                self.tracked[place].announced = true;
            }
        }
        text.push_str(&std::mem::take(&mut self.notes));
        if text.is_empty() {
            return Ok(());
        }
        if self.plan.show == Show::Table {
            let (columns, _) = sys::terminal::size().unwrap_or(USUAL_SIZE);
            return self.screen.above(out, &text, usize::from(columns));
        }
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    fn draw(&mut self, size: (u16, u16), out: &mut impl Write) -> io::Result<()> {
        let rows: Vec<Row<'_>> = self
            .tracked
            .iter()
            .map(|tracked| Row {
                name: &tracked.target.name,
                stats: &tracked.total,
            })
            .collect();
        let columns = usize::from(size.0);
        let lines = table::frame(&rows, columns, usize::from(size.1));
        self.screen.draw(out, &lines, columns)
    }

    fn end_second(&mut self, wall: WallNanos, out: &mut impl Write) -> io::Result<()> {
        if let Some(hlog) = &mut self.hlog {
            hlog.tick(wall);
        }
        if matches!(self.plan.show, Show::Lines | Show::JsonStream) {
            for tracked in &mut self.tracked {
                tracked.close_interval();
            }
            let text = if self.plan.show == Show::Lines {
                self.lines(wall)
            } else {
                self.interval_document(wall)
            };
            for tracked in &mut self.tracked {
                tracked.interval = TargetStats::new();
            }
            out.write_all(text.as_bytes())?;
            out.flush()?;
        }
        self.second_began = wall;
        Ok(())
    }

    /// A line per target with which anything happened in the second that ends.
    fn lines(&self, wall: WallNanos) -> String {
        let time = wall.rfc3339();
        let time = time.get(..19).unwrap_or(&time);
        let mut text = String::new();
        for tracked in &self.tracked {
            if tracked.total.protocol.is_none() || !tracked.stirred() {
                continue;
            }
            let stats = &tracked.interval;
            let rtt = stats.distribution(Quantity::Rtt).summary();
            let cell =
                |ns: Option<i64>| ns.map_or_else(|| "-".to_owned(), |ns| format_ns(ns as f64));
            text.push_str(&format!(
                "{time}Z {}: sent {}, lost {}, p50 {}, p99 {}, max {}",
                tracked.target.name,
                stats.counter(Counter::Sent),
                stats.counter(Counter::Lost),
                cell(rtt.p50),
                cell(rtt.p99),
                cell(rtt.max),
            ));
            if stats.counter(Counter::Skipped) > 0 {
                text.push_str(&format!(", skipped {}", stats.counter(Counter::Skipped)));
            }
            if stats.counter(Counter::SendErrors) > 0 {
                let names: Vec<String> = stats
                    .errnos
                    .iter()
                    .map(|(errno, _)| words::errno_name(*errno))
                    .collect();
                text.push_str(&format!(
                    ", send errors {} ({})",
                    stats.counter(Counter::SendErrors),
                    names.join(", ")
                ));
            }
            text.push('\n');
        }
        text
    }

    fn interval_document(&self, wall: WallNanos) -> String {
        let targets = self.tracked.iter().map(|tracked| {
            let report = self.report_on(tracked, &tracked.interval);
            json::target(&report, &[])
        });
        let document = json::document(
            &self.head.command,
            self.second_began,
            wall,
            &self.head.source,
            json::targets(targets.collect()),
        );
        format!("{document}\n")
    }

    /// Ends the run: the last interval, the summary or the document, and the assertions.
    /// The code says what the numbers say; whether sinks failed is for the caller.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn end(&mut self, wall: WallNanos, out: &mut impl Write) -> io::Result<Exit> {
        let show = self.plan.show;
        if show.is_text() {
            self.announce(out)?;
        }
        if show == Show::JsonStream && wall > self.second_began {
            self.end_second(wall, out)?;
        }
        if show == Show::Table {
            let size = sys::terminal::size().unwrap_or(USUAL_SIZE);
            self.draw(size, out)?;
            self.screen.leave(out)?;
        }
        let mut exit = Exit::Measured;
        let mut outcomes: Vec<Vec<Outcome>> = Vec::new();
        for place in 0..self.tracked.len() {
            let report = self.report(place);
            if !report.answered() {
                exit = exit.worst(Exit::NoAnswer);
            }
            let document = json::target(&report, &[]);
            let checked: Vec<Outcome> =
                self.assertions.iter().map(|a| a.check(&document)).collect();
            if checked.iter().any(|outcome| !outcome.ok) {
                exit = exit.worst(Exit::Assertion);
            }
            outcomes.push(checked);
        }
        let text = if show.is_text() {
            self.summaries(&outcomes)
        } else {
            self.last_document(wall, &outcomes)
        };
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(exit)
    }

    fn summaries(&self, outcomes: &[Vec<Outcome>]) -> String {
        let mut text = String::new();
        for place in 0..self.tracked.len() {
            text.push('\n');
            text.push_str(&summary::text(&self.report(place)));
        }
        for (tracked, outcomes) in self.tracked.iter().zip(outcomes) {
            for complaint in outcomes
                .iter()
                .filter_map(|outcome| outcome.complaint(&tracked.target.name))
            {
                text.push_str(&complaint);
                text.push('\n');
            }
        }
        text
    }

    fn last_document(&self, wall: WallNanos, outcomes: &[Vec<Outcome>]) -> String {
        let targets = (0..self.tracked.len())
            .map(|place| json::target(&self.report(place), &outcomes[place]))
            .collect();
        let document = json::document(
            &self.head.command,
            self.head.started,
            wall,
            &self.head.source,
            json::targets(targets),
        );
        format!("{document}\n")
    }

    /// Lines on assertions that did not hold, for standard error where the output is JSON.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        if self.plan.show.is_text() {
            return Vec::new();
        }
        let mut lines = Vec::new();
        for place in 0..self.tracked.len() {
            let document = json::target(&self.report(place), &[]);
            for assertion in &self.assertions {
                let outcome = assertion.check(&document);
                lines.extend(outcome.complaint(&self.tracked[place].target.name));
            }
        }
        lines
    }

    /// Writes the rest of the HDR log.
    ///
    /// # Errors
    /// With the code for "incomplete".
    pub fn finish_log(&mut self, wall: WallNanos) -> Result<(), crate::exit::Failure> {
        match self.hlog.take() {
            Some(hlog) => hlog.finish(wall),
            None => Ok(()),
        }
    }

    /// Leaves the terminal as it was, whatever state the run is in.
    ///
    /// # Errors
    /// When the terminal cannot be written.
    pub fn leave(&mut self, out: &mut impl Write) -> io::Result<()> {
        self.screen.leave(out)
    }

    fn report(&self, place: usize) -> Report<'_> {
        let tracked = &self.tracked[place];
        self.report_on(tracked, &tracked.total)
    }

    fn report_on<'a>(&'a self, tracked: &'a Tracked, stats: &'a TargetStats) -> Report<'a> {
        Report {
            name: &tracked.target.name,
            address: tracked.target.address,
            requested: self.plan.protocol.as_str(),
            source_ports: self.plan.source_ports,
            tos: self.plan.tos,
            device: self.plan.device.as_deref(),
            packet_bytes: tracked
                .total
                .gauge(Gauge::PacketBytes)
                .map(|bytes| bytes as u16),
            stats,
        }
    }
}

#[cfg(test)]
#[path = "live/tests.rs"]
mod tests;
