//! The only place where `ping` meets the prober, the clocks and the signals.
//!
//! This thread adds up and shows; the prober's thread measures and never waits for this
//! one: what does not fit the ring between them is counted, and makes the run incomplete.

use std::fs::File;
use std::io::{self, Write};

use anyhow::Context as _;
use base::{MonoNanos, TargetKey};
use probe::prober::{self, AddError, ClockTrust, DontFragment, Options, Prober, TargetSpec};
use sys::clock::{mono_now, wall_now};
use sys::poll::{Events, Interest, Poller};
use sys::signal::{Signal, SignalFd};
use wire::stamp::TimestampFormat;

use super::live::Live;
use super::plan::{Choice, Plan, Target};
use super::preflight;
use crate::cli::{FormatArg, FragmentArg};
use crate::exit::{Exit, Failure, complain};
use crate::output::records::Recorder;
use crate::output::words;

/// What ends a run.
pub const SIGNALS: [Signal; 3] = [Signal::Int, Signal::Term, Signal::Hup];
/// How often the ring is emptied: at 10 000 probes a second a thousand outputs wait by then.
const PERIOD_NS: u64 = 10_000_000;
const STANDARD_OUTPUT: &str = "cannot write to standard output";

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
        (Some(file), Some(ring), Some(path)) => Some(Recorder::start(file, path, names, ring)?),
        _ => None,
    };
    for (place, target) in plan.targets.iter().enumerate() {
        prober
            .add(spec(plan, place, target))
            .map_err(|error| refused(target, &error))?;
    }
    let mut out = io::stdout().lock();
    let end = measure(plan, &mut live, &mut prober, &mut out);
    if end.is_err() {
        live.leave(&mut out)?;
    }
    let at_once = end? == End::AtOnce;
    let dropped = prober.results.drop_counter();
    prober.finish();
    // What is still on the ring was taken by the last round of `measure`.
    let joined = if at_once { Ok(()) } else { prober.join() };
    let now = wall_now();
    let exit = live.end(now, &mut out).context(STANDARD_OUTPUT)?;
    for complaint in live.complaints() {
        complain(complaint);
    }
    live.finish_log(now)?;
    if let Some(recorder) = recorder {
        recorder.finish()?;
    }
    if at_once {
        return Err(Failure::incomplete(
            "ended at once by a second signal: probes in flight count as sent, and neither as received nor as lost",
        )
        .into());
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
    loop {
        // Asked before the ring is emptied: what an ended thread left is on the ring.
        let ended = prober.is_finished();
        prober
            .results
            .drain(|message| live.take(message.target, &message.output));
        let now = mono_now();
        live.tick(now, wall_now(), out).context(STANDARD_OUTPUT)?;
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
            live.ending();
        }
    }
}

fn place_key(place: usize) -> TargetKey {
    TargetKey(u32::try_from(place).unwrap_or(u32::MAX))
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
        protocol: plan.protocol,
        interval_ns: plan.interval_ns(plan.protocol == Choice::Icmp),
        fallback_interval_ns: Some(plan.interval_ns(true)),
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
