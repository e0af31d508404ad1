//! A capture file through the analyser, in one thread and one tight loop.
//!
//! No clock is read and nothing is allocated per frame; time is the file's own. Signals are
//! looked at between polls of the source.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use base::{Frame, WallNanos};
use capture::{FileSource, Filter, Filtered, Polled, Source, SourceError, WriteOptions, Writer};
use measure::passive::Analyser;
use sys::clock::wall_now;
use sys::signal::SignalFd;

use super::finish;
use super::plan::Plan;
use super::sinks::Sinks;
use super::tally::{Origin, Tally};
use crate::exit::{Exit, Failure};
use crate::output::assertion::Assertion;
use crate::output::json::Source as Head;

/// How long a pipe is waited for between two looks at the signals.
const WAIT: Duration = Duration::from_millis(100);
/// Polls of a source that always has frames between two looks at the signals.
const POLLS_PER_LOOK: u32 = 64;

/// Why the reading ended.
enum End {
    /// The file's end, the count or the duration.
    Whole,
    /// A signal.
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
        notes: Vec::new(),
    };
    let mut sinks = Sinks::create(plan)?;
    let mut writer = writer(plan, &source)?;
    let mut source = Filtered::new(source, filter);
    if plan.show.is_text() {
        let line = format!(
            "netsonde shows flows, not packets (-w FILE writes those); backend file: {}\n",
            origin.reason
        );
        finish::say(plan, &line)?;
    }
    let started = wall_now();
    let mut analyser = Analyser::new(plan.options.clone());
    let mut tally = Tally::new(plan.options.groups.count(), plan.top);
    let end = read(
        plan,
        &mut source,
        &mut analyser,
        &mut tally,
        &mut sinks,
        writer.as_mut(),
    )?;
    let active = u64::from(analyser.active());
    let wanted = sinks.wanted();
    analyser.finish(&mut |number, observation| {
        tally.observe(&observation);
        if wanted {
            sinks.take(number, &observation);
        }
    });
    tally.windows.finish();
    let counters = analyser.counters();
    let drops = source.drops()?;
    let mut unwritten = Ok(());
    if let Some(writer) = writer {
        let (written, result) = writer.finish(counters.frames + drops.lost(), drops);
        tally.written = Some(written);
        unwritten = result;
    }
    let mut report = tally.report(
        &origin,
        &counters,
        drops,
        &plan.options.groups,
        std::iter::empty(),
    );
    report.active = active;
    let exit = finish::show(plan, &report, assertions, &Head::default(), started)
        .context("cannot write to standard output")?;
    sinks.finish()?;
    unwritten.map_err(|error| Failure::incomplete(error.to_string()))?;
    match end {
        End::Whole | End::Signal => Ok(exit),
        End::Broken(error) => Err(Failure::incomplete(format!(
            "{error}; the {} before it are in the report",
            crate::output::words::plural(counters.frames, "frame")
        ))
        .into()),
    }
}

/// Until the file's end, a limit or a signal.
fn read(
    plan: &Plan,
    source: &mut Filtered<FileSource>,
    analyser: &mut Analyser,
    tally: &mut Tally,
    sinks: &mut Sinks,
    mut writer: Option<&mut Writer>,
) -> anyhow::Result<End> {
    let signals = SignalFd::new(&crate::ping::SIGNALS)?;
    let wanted = sinks.wanted();
    let mut left = plan.count.unwrap_or(u64::MAX);
    let mut until = None;
    let mut over = false;
    let mut polls = 0u32;
    loop {
        let polled = source.poll(WAIT, |frames| {
            let frames = within(plan, frames, &mut left, &mut until, &mut over);
            tally.frames(frames);
            if let Some(writer) = &mut writer {
                writer.write(frames);
            }
            if wanted {
                analyser.batch(frames, &mut |number, observation| {
                    tally.observe(&observation);
                    sinks.take(number, &observation);
                });
            } else {
                analyser.batch(frames, &mut |_, observation| tally.observe(&observation));
            }
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
                sinks.flush();
            }
            if signals.read()?.is_some() {
                return Ok(End::Signal);
            }
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

fn writer(plan: &Plan, source: &FileSource) -> Result<Option<Writer>, Failure> {
    let Some(write) = &plan.write else {
        return Ok(None);
    };
    let options = WriteOptions {
        path: write.path.clone(),
        snaplen: write.snaplen,
        device: String::new(),
        link: source
            .links()
            .first()
            .copied()
            .unwrap_or(base::LinkType::Ethernet),
        filter: plan.filter.join(" "),
        file_bytes: write.file_bytes,
        files: write.files,
    };
    Writer::create(options)
        .map(Some)
        .map_err(|error| Failure::usage(format!("-w: {error}; name a file that can be made")))
}

/// Why a file cannot be read at all.
fn refused(error: &SourceError) -> Failure {
    match error {
        SourceError::System { .. } => Failure::usage(format!(
            "cannot {error}; name a pcap or pcapng file with -r"
        )),
        other => Failure::usage(other.to_string()),
    }
}
