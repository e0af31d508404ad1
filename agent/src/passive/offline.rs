//! A capture file through the analyser, in one thread and one tight loop.
//!
//! No clock is read and nothing is allocated per frame; time is the file's own. Signals are
//! looked at between polls of the source.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use base::{FlowSummary, Frame, WallNanos};
use capture::{Drops, FileSource, Filter, Filtered, Polled, Source, SourceError, Writer};
use measure::passive::{Analyser, Counters};
use record::passive::{TopFlows, Traffic};
use sys::cache::HostMemory;
use sys::clock::wall_now;
use sys::signal::SignalFd;

use super::finish;
use super::plan::{Plan, Show};
use super::sinks::{Sinks, captured_at};
use super::tally::{Origin, Standing, Tally};
use super::write::{Unwritten, writer};
use crate::exit::{Exit, Failure};
use crate::output::assertion::Assertion;
use crate::output::json::Source as Head;
use crate::output::passive::subtract_counters;
use crate::output::words;

/// How long a pipe is waited for between two looks at the signals.
const WAIT: Duration = Duration::from_millis(100);
/// Polls of a source that always has frames between two looks at the signals.
const POLLS_PER_LOOK: u32 = 64;
/// `--json-stream` tells of so long.
const INTERVAL_NS: u64 = 1_000_000_000;

/// What failed when nothing can be said.
const UNSAID: &str = "cannot write to standard output";

/// Why the reading ended.
enum End {
    /// The file's end, the count or the duration.
    Whole,
    /// A signal, or nobody wants the frames that are written.
    Signal,
    /// The file breaks here.
    Broken(SourceError),
}

/// Reads the file and reports.
///
/// # Errors
/// With the usage code for what is no capture file or no filter; with the code for
/// "incomplete" for a file that breaks, after the report on all before.
pub fn run(plan: &Plan, path: &Path, assertions: &[Assertion]) -> anyhow::Result<Exit> {
    let source = FileSource::open(path).map_err(|error| refused(&error))?;
    let filter = filter(plan, &source)?;
    let origin = Origin {
        source_name: if path.as_os_str() == "-" {
            "standard input".to_owned()
        } else {
            path.display().to_string()
        },
        backend: "file",
        reason: format!("-r names a {} file", source.format()),
        filter: plan.filter.join(" "),
        notes: filter
            .as_ref()
            .and_then(super::built_in)
            .into_iter()
            .collect(),
    };
    let sinks = Sinks::create(plan)?;
    let link = source.links().first().copied();
    let writer = writer(plan, "", link.unwrap_or(base::LinkType::Ethernet))?;
    let mut source = Filtered::new(source, filter);
    if plan.show.is_text() {
        finish::say(plan, &finish::first_lines(&origin)).context(UNSAID)?;
    }
    let started = wall_now();
    let analyser = Analyser::with_memory(plan.options.clone(), HostMemory);
    let groups = plan.options.groups.count();
    let tally = Tally::new(groups, plan.top);
    let mut run = Run {
        plan,
        origin: &origin,
        intervals: (plan.show == Show::JsonStream).then(|| Intervals {
            began: WallNanos(0),
            before: analyser.counters(),
            traffic: vec![Traffic::default(); groups],
            standing: Standing::new(groups, plan.top),
            failed: None,
        }),
        analyser,
        analysed: 0,
        whole: tally.clone(),
        tally,
        sinks,
        writer,
        unwritten: None,
    };
    let end = read(plan, &mut source, &mut run)?;
    let before = run.last();
    // What the end settles (losses, flows that end with it) is of the last interval.
    run.finish();
    if let Some((_, last)) = run.tally.span {
        run.end_interval(WallNanos(last.0 + 1), Some(&before));
    }
    run.unshown()?;
    let counters = run.analyser.counters();
    let drops = source.drops()?;
    let mut unwritten = run.unwritten;
    let mut tally = run.tally;
    if run.intervals.is_some() {
        run.whole.merge(&tally);
        tally = run.whole;
    }
    if let Some(writer) = run.writer {
        let (written, result) = writer.finish(counters.frames + drops.lost(), drops);
        tally.written = Some(written);
        unwritten = unwritten.or_else(|| result.err().map(Unwritten::from));
    }
    // Every flow has ended; those that a longer capture would have seen more of are active.
    let empty = Standing::new(groups, 0);
    let traffic = tally.traffic(&empty).collect();
    let options = &plan.options;
    let mut report = tally.report(&origin, &counters, drops, &options.groups, traffic, &empty);
    report.active = before.active;
    let exit =
        finish::show(plan, &report, assertions, &Head::default(), started).context(UNSAID)?;
    run.sinks.finish()?;
    if let Some(unwritten) = unwritten {
        return Err(Failure::incomplete(unwritten.why).into());
    }
    match end {
        End::Whole | End::Signal => Ok(exit),
        End::Broken(error) => Err(Failure::incomplete(format!(
            "{error}; the {} before it are in the report",
            words::plural(counters.frames, "frame")
        ))
        .into()),
    }
}

/// What a run of a file works on.
struct Run<'p> {
    plan: &'p Plan,
    origin: &'p Origin,
    analyser: Analyser<HostMemory>,
    /// Frames that it had so far.
    analysed: u64,
    /// The whole run; with intervals, of those that ended.
    whole: Tally,
    /// The interval that runs; the whole run without intervals.
    tally: Tally,
    sinks: Sinks,
    writer: Option<Writer>,
    /// Why that writes no more.
    unwritten: Option<Unwritten>,
    intervals: Option<Intervals>,
}

/// Of flows that end with the run: those that a longer capture would have seen more of.
struct Last {
    active: u64,
    /// The largest of the last interval.
    top: Vec<FlowSummary>,
}

/// `--json-stream`: intervals in the file's own time.
struct Intervals {
    began: WallNanos,
    before: Counters,
    traffic: Vec<Traffic>,
    standing: Standing,
    /// The first line that could not be written.
    failed: Option<std::io::Error>,
}

impl Run<'_> {
    fn take(&mut self, frames: &[Frame<'_>]) {
        let mut rest = frames;
        while let Some(first) = rest.first() {
            let mut now = rest;
            if let Some(intervals) = &mut self.intervals {
                if intervals.began == WallNanos(0) {
                    intervals.began = first.at;
                }
                let end = WallNanos(intervals.began.0.saturating_add(INTERVAL_NS));
                let inside = rest.iter().position(|frame| frame.at >= end);
                if inside == Some(0) {
                    self.end_interval(first.at, None);
                    continue;
                }
                now = rest.get(..inside.unwrap_or(rest.len())).unwrap_or(rest);
            }
            self.batch(now);
            rest = rest.get(now.len()..).unwrap_or_default();
        }
    }

    #[inline]
    fn batch(&mut self, frames: &[Frame<'_>]) {
        let Self {
            analyser,
            tally,
            sinks,
            writer,
            analysed,
            ..
        } = self;
        tally.frames(frames);
        if let Some(writer) = writer {
            writer.write(frames);
        }
        if sinks.wanted() {
            let before = *analysed;
            analyser.batch(frames, &mut |number, observation| {
                tally.observe(&observation);
                let at = captured_at(frames, before, number);
                sinks.take(number, at, &observation);
            });
        } else {
            analyser.batch(frames, &mut |_, observation| tally.observe(&observation));
        }
        *analysed += frames.len() as u64;
    }

    /// Every flow ends.
    fn finish(&mut self) {
        let Self {
            analyser,
            tally,
            sinks,
            ..
        } = self;
        analyser.finish(&mut |number, observation| {
            tally.observe(&observation);
            sinks.take(number, None, &observation);
        });
        tally.windows.finish();
    }

    /// Fails if an interval could not be told of.
    fn unshown(&mut self) -> anyhow::Result<()> {
        let failed = self.intervals.as_mut().and_then(|each| each.failed.take());
        failed.map_or(Ok(()), |error| Err(error).context(UNSAID))
    }

    /// Whether nobody wants the frames that are written any more.
    fn unwanted(&mut self) -> bool {
        if let Some(error) = self.writer.as_mut().and_then(Writer::failure) {
            self.unwritten = Some(error.into());
        }
        let unwritten = self.unwritten.as_ref();
        unwritten.is_some_and(|unwritten| unwritten.unwanted)
    }

    /// The flows of the interval that runs, before all of them end.
    fn last(&mut self) -> Last {
        let mut top = TopFlows::new(self.plan.top);
        if let Some(intervals) = &mut self.intervals {
            let standing = &mut intervals.standing;
            standing.walk(self.analyser.flows(), intervals.began);
            let ended = self.tally.stats.top.iter();
            ended
                .chain(standing.largest.iter())
                .for_each(|flow| top.offer(flow));
        }
        Last {
            active: u64::from(self.analyser.active()),
            top: top.sorted(),
        }
    }

    /// Tells of the interval that ends before `next`, and begins the one that has it; of the
    /// last one after the end of all flows.
    fn end_interval(&mut self, next: WallNanos, last: Option<&Last>) {
        let Some(intervals) = &mut self.intervals else {
            return;
        };
        let now = self.analyser.counters();
        let mut counters = now.clone();
        subtract_counters(&mut counters, &intervals.before);
        intervals.before = now;
        self.whole.merge(&self.tally);
        let Intervals {
            standing, traffic, ..
        } = intervals;
        standing.walk(self.analyser.flows(), intervals.began);
        let sent: Vec<Traffic> = self.whole.traffic(standing).collect();
        let since: Vec<Traffic> = sent
            .iter()
            .zip(traffic.iter())
            .map(|(now, before)| now.since(before))
            .collect();
        *traffic = sent;
        let mut report = self.tally.report(
            self.origin,
            &counters,
            Drops::default(),
            &self.plan.options.groups,
            since,
            standing,
        );
        if let Some(last) = last {
            report.active = last.active;
            report.top.clone_from(&last.top);
        }
        let end = WallNanos(intervals.began.0.saturating_add(INTERVAL_NS)).min(next);
        let line = finish::document(&report, &[], &Head::default(), intervals.began, end);
        if intervals.failed.is_none() {
            intervals.failed = finish::say(self.plan, &line).err();
        }
        // Intervals without traffic are not told of.
        let over = next.0.saturating_sub(intervals.began.0) / INTERVAL_NS;
        intervals.began = WallNanos(intervals.began.0 + over * INTERVAL_NS);
        self.tally.clear();
    }
}

/// Until the file's end, a limit or a signal.
fn read(plan: &Plan, source: &mut Filtered<FileSource>, run: &mut Run<'_>) -> anyhow::Result<End> {
    let signals = SignalFd::new(&crate::ping::SIGNALS)?;
    let mut left = plan.count.unwrap_or(u64::MAX);
    let mut until = None;
    let mut over = false;
    let mut polls = 0u32;
    loop {
        let polled = source.poll(WAIT, |frames| {
            run.take(within(plan, frames, &mut left, &mut until, &mut over));
        });
        let quiet = match polled {
            Ok(Polled::Frames(_)) => false,
            Ok(Polled::Quiet) => true,
            Ok(Polled::End) => return Ok(End::Whole),
            Err(error) => return Ok(End::Broken(error)),
        };
        if over {
            return Ok(End::Whole);
        }
        polls = polls.wrapping_add(1);
        if quiet || polls.is_multiple_of(POLLS_PER_LOOK) {
            if quiet {
                run.sinks.flush();
                if let Some(writer) = &mut run.writer {
                    writer.flush();
                }
            }
            if run.unwanted() {
                return Ok(End::Signal);
            }
            if signals.read()?.is_some() {
                return Ok(End::Signal);
            }
            run.unshown()?;
        }
    }
}

/// The frames that `-c` and `--duration` leave.
fn within<'f, 'b>(
    plan: &Plan,
    frames: &'f [Frame<'b>],
    left: &mut u64,
    until: &mut Option<WallNanos>,
    over: &mut bool,
) -> &'f [Frame<'b>] {
    if *over {
        return &[];
    }
    let mut frames = frames;
    if let Some(duration_ns) = plan.duration_ns
        && let Some(first) = frames.first()
    {
        let until = *until.get_or_insert(WallNanos(first.at.0.saturating_add(duration_ns)));
        if let Some(at) = frames.iter().position(|frame| frame.at > until) {
            frames = frames.get(..at).unwrap_or_default();
            *over = true;
        }
    }
    if plan.count.is_some() {
        let most = usize::try_from(*left).unwrap_or(usize::MAX);
        frames = frames.get(..most).unwrap_or(frames);
        *left -= frames.len() as u64;
        *over |= *left == 0;
    }
    frames
}

fn filter(plan: &Plan, source: &FileSource) -> Result<Option<Filter>, Failure> {
    if plan.filter.is_empty() {
        return Ok(None);
    }
    Filter::compile(&plan.filter, &source.links())
        .map(Some)
        .map_err(|error| Failure::usage(error.to_string()))
}

/// Why a file cannot be read at all.
fn refused(error: &SourceError) -> Failure {
    match error {
        SourceError::System {
            operation,
            object,
            error,
        } => {
            let why = sys::call::errno_of(error).map_or_else(|| error.to_string(), words::errno);
            Failure::usage(format!(
                "cannot {operation} {object}: {why}; name a pcap or pcapng file with -r"
            ))
        }
        other => Failure::usage(other.to_string()),
    }
}
