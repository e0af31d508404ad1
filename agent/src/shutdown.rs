//! The ordered end: probes cease, those in flight get their grace, one last hand-off, HTTP
//! ends, and the exit code says what failed. A second signal skips the grace.

use std::sync::atomic::Ordering;
use std::time::Duration;

use base::EventKind;
use sys::poll::Events;

use crate::exit::{Exit, Failure};
use crate::publish::{Note, event};
use crate::supervise::{Agent, End};
use crate::worker::records::Writer;

/// Beyond the longest wait of any probe: closing probes need one more.
const GRACE_NS: u64 = 1_000_000_000;
/// Never more than this, whatever the configuration waits for; systemd gives 90 s.
const MOST_NS: u64 = 30_000_000_000;
/// For requests that are being answered.
const HTTP_DEADLINE: Duration = Duration::from_secs(2);
/// How often it is looked whether the prober has ended.
const LOOK_NS: u64 = 10_000_000;

/// Stops `agent`.
///
/// # Errors
/// What failed first.
pub fn stop(mut agent: Agent, end: &End) -> anyhow::Result<Exit> {
    let mut failures = Vec::new();
    let reason = match end {
        End::Signal(signal) => format!("{signal:?}").to_uppercase(),
        End::Dead(name) => {
            let text = format!("the {name} thread died");
            failures.push(text.clone());
            text
        }
    };
    agent.notify.stopping();
    agent.note(Note::NotReady(vec!["stopping".to_owned()]));
    agent.note(Note::Event(event(
        EventKind::AgentStopping,
        None,
        "",
        &reason,
    )));
    agent.probes.finish();
    let ended = grace(&agent);
    let Agent {
        notes,
        probes,
        reflector,
        records,
        export,
        publisher,
        ..
    } = agent;
    if ended {
        if !probes.join() {
            failures.push("the probe thread died".to_owned());
        }
        if let Some(Err(failure)) = records.map(Writer::finish) {
            failures.push(failure.message);
        }
    } else {
        failures.push("probes in flight were given up".to_owned());
    }
    if reflector.is_some_and(|reflector| !reflector.stop()) {
        failures.push("the reflect thread died".to_owned());
    }
    // If it is gone, that is in the list already.
    let _ = notes.send(Note::Finish);
    if publisher.join().is_err() {
        failures.push("the publish thread died".to_owned());
    }
    if !export.stop(HTTP_DEADLINE) {
        failures.push("the exporter did not end in time".to_owned());
    }
    failures.dedup();
    match failures.first() {
        None => {
            tracing::info!(reason, "stopped");
            Ok(Exit::Measured)
        }
        Some(_) => Err(Failure::incomplete(failures.join("; ")).into()),
    }
}

/// Waits for the prober's end; false if it does not come in time or is not waited for.
fn grace(agent: &Agent) -> bool {
    let longest = agent
        .config
        .probes
        .iter()
        .map(|probe| probe.how.wait_ns)
        .max();
    let patience = (2 * longest.unwrap_or(0) + GRACE_NS).min(MOST_NS);
    let deadline = sys::clock::mono_now().plus(patience);
    let mut events = Events::new(4);
    // Relaxed: a flag, nothing is read through it.
    while !agent.shared.prober_gone.load(Ordering::Relaxed) {
        if sys::clock::mono_now() >= deadline || agent.publisher.is_finished() {
            return false;
        }
        let _ = agent.poller.wait(&mut events, Some(LOOK_NS));
        agent.quiet();
        while let Ok(Some(signal)) = agent.signals.read() {
            if signal != sys::signal::Signal::Hup {
                return false;
            }
        }
    }
    true
}
