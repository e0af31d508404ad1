//! A live capture: the main thread opens, shows and ends; workers capture and analyse.
//!
//! [`devices`] says which devices, [`source`] opens them, [`threads`] are those that capture
//! them ([`worker`]), [`load`] is what they hand over, [`watched`] what became of the devices,
//! [`show`] is what is seen while it runs. The main thread alone touches standard output, the
//! files of lines and the signals.

pub mod devices;
pub mod load;
mod merged;
mod show;
pub mod slot;
pub mod source;
mod threads;
pub mod watched;
pub mod worker;

use anyhow::Context as _;
use capture::Filter;
use sys::clock::mono_now;
use sys::netns::Namespace;

use super::finish;
use super::plan::Plan;
use super::sinks::Sinks;
use crate::exit::{Exit, Failure};
use crate::output::assertion::Assertion;
use crate::output::json::Source as Head;
use devices::Wanted;
use merged::Merged;
use show::Shown;
use source::Settings;
use threads::Threads;

/// Captures until a limit or a signal, and shows it.
///
/// # Errors
/// When nothing can be captured, a worker dies, or a file cannot be written.
pub fn run(plan: &Plan, typed: &[String], assertions: &[Assertion]) -> anyhow::Result<Exit> {
    // Threads that start from here on are in the same namespace.
    let namespace = plan.netns.as_deref().map(namespace).transpose()?;
    let _inside = namespace
        .as_ref()
        .map(|namespace| {
            namespace.enter().map_err(|error| {
                Failure::privilege(format!(
                    "cannot enter network namespace {}: {error}; needs CAP_SYS_ADMIN: run as root",
                    namespace.name()
                ))
            })
        })
        .transpose()?;
    let filter = if plan.filter.is_empty() {
        None
    } else {
        let filter = Filter::compile(&plan.filter, &[]);
        Some(filter.map_err(|error| Failure::usage(error.to_string()))?)
    };
    let settings = Settings {
        backend: plan.backend,
        filter,
        snaplen: kept(plan),
        ring_bytes: plan.ring_bytes,
        ignore_outgoing: plan.ignore_outgoing,
        layer: plan.options.layer,
        xdp_mode: plan.xdp_mode,
        xdp_take: plan.xdp_take,
        workers: plan.workers,
        seed: super::seed()[0],
    };
    let wanted = Wanted::new(typed)?;
    let mut sinks = Sinks::create(plan)?;
    let (threads, origin) = Threads::start(plan, settings, wanted, &sinks)?;
    let mut merged = Merged::new(plan, threads.workers());
    let mut shown = Shown::new(plan, &origin);
    let unsaid = "cannot write to standard output";
    shown.first_lines().context(unsaid)?;
    let begun = mono_now();
    let ended = threads.watch(plan, &mut merged, &mut shown, &mut sinks)?;
    let watched_ns = mono_now().since(begun);
    shown.leave().context(unsaid)?;
    let mut report = merged.report(&origin);
    report.watched_ns = Some(watched_ns);
    let head = Head {
        address: None,
        device: Some(origin.source_name.clone()),
    };
    let exit = finish::show(plan, &report, assertions, &head, shown.started()).context(unsaid)?;
    drop(report);
    sinks.finish()?;
    if let Some(unwritten) = ended.unwritten {
        return Err(Failure::incomplete(unwritten.why).into());
    }
    if ended.died {
        return Err(Failure::incomplete(
            "a capture thread died; the numbers above are those until then",
        )
        .into());
    }
    if merged.lines_lost > 0 {
        return Err(Failure::incomplete(format!(
            "{} lines of --flows and --records came faster than they could be written, and are missing there",
            merged.lines_lost
        ))
        .into());
    }
    Ok(exit)
}

/// A namespace by name or by one of its processes.
fn namespace(text: &str) -> Result<Namespace, Failure> {
    let opened = match text.parse::<u32>() {
        Ok(pid) => Namespace::of_process(pid),
        Err(_) => Namespace::open(text),
    };
    opened.map_err(|error| {
        Failure::usage(format!(
            "--netns {text}: {error}; give a process id, or a name that ip netns list shows"
        ))
    })
}

/// Octets that are kept of a frame: enough for the headers inside two tunnels, and for what
/// is written.
fn kept(plan: &Plan) -> u32 {
    const HEADERS: u32 = 256;
    match plan.write.as_ref().map(|write| write.snaplen) {
        None => HEADERS,
        Some(0) => capture::file::CAPTURED_MAX as u32,
        Some(snaplen) => snaplen.max(HEADERS),
    }
}
