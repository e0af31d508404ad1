//! The only place where `ping` meets the prober, the clocks and the signals.
//!
//! This thread adds up and shows; the prober's thread measures and never waits for this
//! one: what does not fit the ring between them is counted, and makes the run incomplete.

use std::fs::File;
use std::io::{self, Write};

use base::{MonoNanos, Output, Protocol, TargetKey, Why};
use probe::prober::{self, AddError, ClockTrust, DontFragment, Options, Prober, TargetSpec};
use sys::clock::{mono_now, wall_now};
use sys::poll::{Events, Interest, Poller};
use sys::signal::{Signal, SignalFd};
use wire::stamp::TimestampFormat;

use super::live::Live;
use super::plan::{Choice, Plan, Target};
use super::preflight;
use crate::cli::{FormatArg, FragmentArg};
use crate::exit::{Exit, Failure};
use crate::output::records::{Names, Recorder};
use crate::output::words;

/// What ends a run.
pub const SIGNALS: [Signal; 3] = [Signal::Int, Signal::Term, Signal::Hup];
/// How often the ring is emptied: at 10 000 probes a second a thousand outputs wait by then.
const PERIOD_NS: u64 = 10_000_000;

/// How the measuring ended.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum End {
    /// Everything is decided.
    Decided,
    /// A second signal: at once.
    AtOnce,
    /// The prober's thread is gone, though probes are not decided.
    Died,
}

/// Measures until the count, the deadline or a signal, and shows it.
///
/// # Errors
/// When the prober cannot start or dies, a sink fails, or the output cannot be written.
pub fn run(
    plan: &Plan,
    mut live: Live<'_>,
    records: Option<File>,
    names: &[String],
) -> anyhow::Result<Exit> {
    // A socket per target and source port; the soft limit is often 1024.
    sys::process::raise_open_files()?;
    let mut prober = prober::spawn(Options {
        realtime: plan.realtime,
        packets_per_second: 0,
        sockets: probe::direct(),
        records: records.is_some(),
    })?;
    let recorder = match (records, prober.records.take(), &plan.records) {
        (Some(file), Some(ring), Some(path)) => {
            let names = if plan.changes_pace() {
                Names::Twice(names)
            } else {
                Names::Once(names)
            };
            Some(Recorder::start(file, path, &names, ring)?)
        }
        _ => None,
    };
    for (place, target) in plan.targets.iter().enumerate() {
        add(&mut prober, target, spec(plan, place, target))?;
    }
    let mut out = io::stdout().lock();
    let end = measure(plan, &mut live, &mut prober, &mut out);
    if !matches!(end, Ok(End::Decided)) {
        live.leave(&mut out)?;
    }
    if end? == End::AtOnce {
        return Ok(Exit::Incomplete);
    }
    let dropped = prober.results.drop_counter();
    prober.finish();
    // What is still on the ring was taken by the last round of `measure`.
    let joined = prober.join();
    let now = wall_now();
    let exit = live.end(now, &mut out)?;
    for complaint in live.complaints() {
        eprintln!("netsonde: {complaint}");
    }
    live.finish_log(now)?;
    if let Some(recorder) = recorder {
        recorder.finish()?;
    }
    if joined.is_err() || !live.finished() {
        return Err(Failure::incomplete(
            "the probe thread died; the numbers above are those until then",
        )
        .into());
    }
    let dropped = dropped.load(std::sync::atomic::Ordering::Relaxed);
    if dropped > 0 {
        return Err(Failure::incomplete(format!(
            "{dropped} results came faster than they could be added up, so the numbers above are not complete; use a longer -i"
        ))
        .into());
    }
    Ok(exit)
}

fn measure(
    plan: &Plan,
    live: &mut Live<'_>,
    prober: &mut Prober,
    out: &mut impl Write,
) -> anyhow::Result<End> {
    let signals = SignalFd::new(&SIGNALS)?;
    let poller = Poller::new()?;
    poller.add(&signals, 0, Interest::Read)?;
    let mut events = Events::new(1);
    let deadline = plan.deadline_ns.map(|ns| mono_now().plus(ns));
    let mut finishing = false;
    let mut pace = Pace::new(plan);
    loop {
        // Asked before the ring is emptied: what an ended thread left is on the ring.
        let ended = prober.is_finished();
        prober.results.drain(|message| {
            if let Some(key) = pace.place(message.target, &message.output) {
                live.take(key, &message.output);
            }
        });
        if !finishing {
            pace.slow_down(plan, live, prober)?;
        }
        let now = mono_now();
        live.tick(now, wall_now(), out)?;
        if live.finished() {
            return Ok(End::Decided);
        }
        if ended {
            return Ok(End::Died);
        }
        if !finishing && deadline.is_some_and(|deadline| now >= deadline) {
            finishing = true;
            prober.finish();
        }
        poller.wait(&mut events, Some(pause(now, deadline, finishing)))?;
        while signals.read()?.is_some() {
            if finishing {
                return Ok(End::AtOnce);
            }
            finishing = true;
            prober.finish();
        }
    }
}

/// `auto` without `-i`: a target that falls back to ICMP was begun at STAMP's pace, and is
/// probed anew at ICMP's, under a second key. Nothing of the first attempt is counted.
struct Pace {
    targets: usize,
    /// Pace is to be changed at all.
    wanted: bool,
    /// Places that fell back since the last look.
    fell_back: Vec<usize>,
    slowed: Vec<bool>,
}

impl Pace {
    fn new(plan: &Plan) -> Self {
        let targets = plan.targets.len();
        Self {
            targets,
            wanted: plan.changes_pace(),
            fell_back: Vec::new(),
            slowed: vec![false; targets],
        }
    }

    /// The place that a message belongs to; `None` for what is not counted.
    fn place(&mut self, key: TargetKey, output: &Output) -> Option<TargetKey> {
        let key = key.0 as usize;
        let (place, second) = if key >= self.targets {
            (key - self.targets, true)
        } else {
            (key, false)
        };
        match output {
            // The line with the real reason was said already.
            Output::Protocol(..) if second => return None,
            Output::Protocol(Protocol::Icmp, Why::StampRefused | Why::StampSilent)
                if self.wanted =>
            {
                self.fell_back.push(place);
            }
            _ => {}
        }
        let counted = self
            .slowed
            .get(place)
            .is_none_or(|slowed| *slowed == second);
        counted.then_some(place_key(place))
    }

    fn slow_down(
        &mut self,
        plan: &Plan,
        live: &mut Live<'_>,
        prober: &mut Prober,
    ) -> Result<(), Failure> {
        for place in std::mem::take(&mut self.fell_back) {
            let target = &plan.targets[place];
            prober.remove(place_key(place));
            live.restart(place);
            self.slowed[place] = true;
            let again = TargetSpec {
                key: place_key(place + self.targets),
                protocol: prober::Choice::Icmp,
                interval_ns: plan.interval_ns(true),
                ..spec(plan, place, target)
            };
            add(prober, target, again)?;
        }
        Ok(())
    }
}

fn place_key(place: usize) -> TargetKey {
    TargetKey(u32::try_from(place).unwrap_or(u32::MAX))
}

fn add(prober: &mut Prober, target: &Target, spec: TargetSpec) -> Result<(), Failure> {
    prober.add(spec).map_err(|error| refused(target, &error))
}

/// Until the ring wants emptying, or the deadline.
fn pause(now: MonoNanos, deadline: Option<MonoNanos>, finishing: bool) -> u64 {
    match deadline {
        Some(deadline) if !finishing => deadline.since(now).min(PERIOD_NS),
        _ => PERIOD_NS,
    }
}

fn spec(plan: &Plan, place: usize, target: &Target) -> TargetSpec {
    TargetSpec {
        protocol: match plan.protocol {
            Choice::Auto => prober::Choice::Auto,
            Choice::Stamp => prober::Choice::Stamp,
            Choice::Icmp => prober::Choice::Icmp,
        },
        interval_ns: plan.interval_ns(plan.protocol == Choice::Icmp),
        wait_ns: plan.wait_ns,
        packet_bytes: plan.packet_bytes,
        tos: plan.tos,
        ttl: plan.ttl,
        fragment: match plan.fragment {
            None => DontFragment::Probe,
            Some(FragmentArg::Do) => DontFragment::Do,
            Some(FragmentArg::Dont) => DontFragment::Dont,
        },
        device: plan.device.clone(),
        source_ports: plan.source_ports,
        poisson: plan.poisson,
        count: plan.count,
        format: match plan.format {
            FormatArg::Ntp => TimestampFormat::Ntp,
            FormatArg::Ptp => TimestampFormat::Ptp,
        },
        private_tlv: plan.private_tlv,
        clock: plan
            .clock_error_ns
            .map_or(ClockTrust::Kernel, |error_ns| ClockTrust::Assume {
                error_ns,
            }),
        opening_first: true,
        ..TargetSpec::new(place_key(place), target.address)
    }
}

/// Why a target could not be added. Most reasons were found before ([`preflight`]).
fn refused(target: &Target, error: &AddError) -> Failure {
    let errno = sys::call::errno_of(&error.source);
    let denied = matches!(
        errno.map(words::errno_name).as_deref(),
        Some("EPERM" | "EACCES")
    );
    if denied && error.step.contains("ICMP") {
        return preflight::no_icmp(&error.source);
    }
    let why = errno.map_or_else(|| error.source.to_string(), words::errno);
    let message = format!("cannot {} for {}: {why}", error.step, target.name);
    if denied {
        Failure::privilege(format!("{message}; run as root"))
    } else {
        Failure::usage(format!("{message}; ip route get {}", target.address.ip()))
    }
}
