//! What is seen of a live capture while it runs: a table on a terminal, else a line or a
//! document per second. Pure but for the terminal's size.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use base::units::format_ns;
use base::{MonoNanos, WallNanos};

use super::merged::{Merged, Moving};
use crate::exit::complain;
use crate::output::json::Source;
use crate::output::passive::summary::{flow_rate, name, octets, rate};
use crate::output::passive::{Report, best_known};
use crate::output::table::Screen;
use crate::passive::finish;
use crate::passive::plan::{Plan, Show};
use crate::passive::tally::Origin;

const SECOND_NS: u64 = 1_000_000_000;
/// For a terminal that does not say.
const USUAL_SIZE: (u16, u16) = (80, 24);
/// A flow's name gets the room that the numbers leave, within these.
const NAME_LEAST: usize = 16;
const NAME_MOST: usize = 60;

/// See the module.
pub struct Shown<'o> {
    plan: &'o Plan,
    origin: &'o Origin,
    screen: Screen,
    started: WallNanos,
    second_began: WallNanos,
    next_second: MonoNanos,
    /// Lines that wait.
    notes: String,
    moving: Vec<Moving>,
}

impl<'o> Shown<'o> {
    /// A run that begins now.
    #[must_use]
    pub fn new(plan: &'o Plan, origin: &'o Origin) -> Self {
        let started = sys::clock::wall_now();
        Self {
            plan,
            origin,
            screen: Screen::default(),
            started,
            second_began: started,
            next_second: sys::clock::mono_now().plus(SECOND_NS),
            notes: String::new(),
            moving: Vec::new(),
        }
    }

    /// When the run began.
    #[must_use]
    pub const fn started(&self) -> WallNanos {
        self.started
    }

    /// What is captured, how, and why so.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn first_lines(&self) -> io::Result<()> {
        let text = finish::first_lines(self.origin);
        if !self.plan.show.is_text() {
            // As tcpdump: whoever reads the document waits for this line to know that it
            // captures.
            return io::stderr().write_all(text.as_bytes());
        }
        finish::say(self.plan, &text)
    }

    /// A line for people, told with the next tick; beside documents at once.
    pub fn note(&mut self, line: &str) {
        if self.plan.show.is_text() {
            self.notes.push_str(line);
        } else {
            // It is in the document too, as a number.
            let _ = io::stderr().write_all(line.as_bytes());
        }
    }

    /// A line about what went wrong, at once.
    pub fn warn(&mut self, line: &str) {
        if self.plan.show == Show::Table {
            // Nobody else writes where the table is.
            self.note(&format!("{line}\n"));
        } else {
            complain(line);
        }
    }

    /// Shows what is due.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn tick(&mut self, now: MonoNanos, wall: WallNanos, merged: &mut Merged) -> io::Result<()> {
        self.tell()?;
        if now < self.next_second {
            return Ok(());
        }
        // After a stall the next second is a whole one again.
        self.next_second = self
            .next_second
            .plus(SECOND_NS)
            .max(now.plus(SECOND_NS / 2));
        merged.end_interval();
        if let Some(moving) = merged.moving() {
            self.moving = moving;
        }
        self.second(wall, merged, 0)
    }

    /// Shows the interval that the end of the run ends: with it the intervals add up to the
    /// whole. A table stays as it is.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn last(&mut self, wall: WallNanos, merged: &mut Merged) -> io::Result<()> {
        merged.end_interval();
        if self.plan.show == Show::Table {
            return Ok(());
        }
        self.tell()?;
        // Workers hand over some time after a frame came: a short interval has older ones.
        let span = merged.interval_report(self.origin).span;
        let came = span.map_or(0, |(first, last)| last.delta(first));
        self.second(wall, merged, came)
    }

    /// The interval that ended; it lasted `least` at least, in ns.
    fn second(&mut self, wall: WallNanos, merged: &mut Merged, least: i64) -> io::Result<()> {
        let mut report = merged.interval_report(self.origin);
        let ns = wall.delta(self.second_began).max(least);
        report.watched_ns = u64::try_from(ns).ok();
        match self.plan.show {
            Show::Lines => {
                let text = line(&report, ns);
                finish::say(self.plan, &format!("{} {text}\n", second_of(wall)))?;
            }
            Show::JsonStream => {
                report.top = self.moving.iter().map(|each| each.flow).collect();
                let source = Source {
                    address: None,
                    device: Some(self.origin.source_name.clone()),
                };
                let text = finish::document(&report, &[], &source, self.second_began, wall);
                finish::say(self.plan, &text)?;
            }
            Show::Table => {
                let size = sys::terminal::size().unwrap_or(USUAL_SIZE);
                let head = line(&report, ns);
                let lines = frame(
                    &head,
                    &self.moving,
                    usize::from(size.0),
                    usize::from(size.1),
                );
                let mut out = io::stdout().lock();
                self.screen.draw(&mut out, &lines, usize::from(size.0))?;
            }
            Show::Summary | Show::Json => {}
        }
        drop(report);
        merged.begin_interval();
        self.second_began = wall;
        Ok(())
    }

    /// Lines that wait, above the table if there is one.
    fn tell(&mut self) -> io::Result<()> {
        if self.notes.is_empty() {
            return Ok(());
        }
        let text = std::mem::take(&mut self.notes);
        if self.plan.show != Show::Table {
            return finish::say(self.plan, &text);
        }
        let (columns, _) = sys::terminal::size().unwrap_or(USUAL_SIZE);
        let mut out = io::stdout().lock();
        self.screen.above(&mut out, &text, usize::from(columns))
    }

    /// The table stays as it is; the summary comes below.
    ///
    /// # Errors
    /// When the terminal cannot be written.
    pub fn leave(&mut self) -> io::Result<()> {
        self.tell()?;
        let mut out = io::stdout().lock();
        self.screen.leave(&mut out)?;
        out.flush()
    }
}

fn second_of(wall: WallNanos) -> String {
    let time = wall.rfc3339();
    format!("{}Z", time.get(..19).unwrap_or(&time))
}

/// An interval on a line.
fn line(report: &Report<'_>, ns: i64) -> String {
    let counters = report.counters;
    let mut text = format!(
        "frames {}, {}, flows {}",
        counters.frames,
        rate(report.wire_bytes(), ns.max(0).cast_unsigned()),
        report.active
    );
    let _ = write!(text, ", retransmitted {}", report.retransmissions());
    if let Some((method, summary)) = best_known(&report.total) {
        let p50 = summary.p50.or(summary.min).unwrap_or(0);
        let _ = write!(
            text,
            ", rtt remote by {} p50 {}",
            method.as_str().replace('_', " "),
            format_ns(p50 as f64)
        );
        if let Some(p99) = summary.p99 {
            let _ = write!(text, " p99 {}", format_ns(p99 as f64));
        }
    }
    for (what, count) in [
        ("evicted", report.evicted()),
        ("clock set back", report.counters.clock_back),
    ] {
        if count > 0 {
            let _ = write!(text, ", {what} {count}");
        }
    }
    if report.drops.lost() > 0 {
        let _ = write!(
            text,
            ", dropped {} (losses are degraded)",
            report.drops.lost()
        );
    }
    text
}

/// The table: the interval on a line, then a line per flow; none wider than `columns - 1`, no
/// more than `lines - 1`.
fn frame(head: &str, moving: &[Moving], columns: usize, lines: usize) -> Vec<String> {
    const NUMBERS: usize = 9 + 13 + 7 + 9 + 9;
    let total = columns.saturating_sub(1);
    let longest = moving
        .iter()
        .map(|each| name(&each.flow).chars().count())
        .max();
    let width = longest
        .unwrap_or(0)
        .clamp(NAME_LEAST, NAME_MOST)
        .min(total.saturating_sub(NUMBERS))
        .max(NAME_LEAST);
    let mut out = vec![cut(head, total)];
    let titles = format!(
        "{:<width$}{:>9}{:>13}{:>7}{:>9}{:>9}",
        "largest flows", "bytes", "rate", "retr", "rtt near", "remote"
    );
    out.push(cut(&titles, total));
    let room = lines.saturating_sub(3);
    for each in moving.iter().take(room) {
        let [near, remote] = &each.flow.sides;
        let time =
            |ns: Option<u32>| ns.map_or_else(|| "-".to_owned(), |ns| format_ns(f64::from(ns)));
        let text = format!(
            "{:<width$}{:>9}{:>13}{:>7}{:>9}{:>9}",
            cut(&name(&each.flow), width.saturating_sub(1)),
            octets(near.bytes + remote.bytes),
            flow_rate(near.packets + remote.packets, each.bytes, each.ns),
            u64::from(near.retransmissions) + u64::from(remote.retransmissions),
            time(remote.rtt_ns),
            time(near.rtt_ns),
        );
        out.push(cut(&text, total));
    }
    out.truncate(lines.saturating_sub(1).max(1));
    out
}

fn cut(text: &str, width: usize) -> String {
    text.chars().take(width).collect()
}
