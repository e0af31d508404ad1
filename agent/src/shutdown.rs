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

/// Beyond the waits: for the threads.
const GRACE_NS: u64 = 1_000_000_000;
/// Waits of the slowest probe until its session is closed: one for the counted probes in
/// flight, the others for closing probes, which a dead target never answers.
const WAITS: u64 = 3;
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
        capture,
        records,
        export,
        publisher,
        ..
    } = agent;
    if ended == Grace::Ended {
        if !probes.join() {
            failures.push("the probe thread died".to_owned());
        }
    } else if ended == Grace::GivenUp {
        failures.push("probes in flight were given up".to_owned());
    }
    // However it ended: what was decided is on the ring, and must be on the disk.
    if let Some(Err(failure)) = records.map(Writer::finish) {
        failures.push(failure.message);
    }
    if reflector.is_some_and(|reflector| !reflector.stop()) {
        failures.push("the reflect thread died".to_owned());
    }
    // Before the last hand-off: what its rings held is in it.
    if capture.is_some_and(|capture| !capture.stop()) {
        failures.push("a capture thread died".to_owned());
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

/// How the wait for the prober ended.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Grace {
    /// All probes are decided, closing probes too.
    Ended,
    /// Counted probes were decided; closing probes of a silent target were not waited for.
    /// They tell directions of its last losses, which stay unattributed: no failure.
    ClosingCut,
    /// Counted probes may be in flight: asked for by a second signal, or the most there is.
    GivenUp,
}

/// How long the prober is waited for, and what it means if it takes longer.
fn patience(longest_wait_ns: u64) -> (u64, Grace) {
    let patience = longest_wait_ns
        .saturating_mul(WAITS)
        .saturating_add(GRACE_NS)
        .min(MOST_NS);
    // After one wait every counted probe is decided.
    let late = if patience >= longest_wait_ns.saturating_add(GRACE_NS) {
        Grace::ClosingCut
    } else {
        Grace::GivenUp
    };
    (patience, late)
}

/// Waits for the prober's end, if it comes in time and is waited for.
fn grace(agent: &Agent) -> Grace {
    let waits = agent.config.probes.iter().map(|probe| probe.how.wait_ns);
    let (patience, late) = patience(waits.max().unwrap_or(0));
    let deadline = sys::clock::mono_now().plus(patience);
    let mut events = Events::new(4);
    // Relaxed: a flag, nothing is read through it.
    while !agent.shared.prober_gone.load(Ordering::Relaxed) {
        if agent.publisher.is_finished() {
            return Grace::GivenUp;
        }
        if sys::clock::mono_now() >= deadline {
            return late;
        }
        let _ = agent.poller.wait(&mut events, Some(LOOK_NS));
        agent.quiet();
        while let Ok(Some(signal)) = agent.signals.read() {
            if signal != sys::signal::Signal::Hup {
                return Grace::GivenUp;
            }
        }
    }
    Grace::Ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_target_is_waited_for_until_its_closing_probes_are_over() {
        const S: u64 = 1_000_000_000;
        // Draining and closing took up to 2.94 waits with an address that drops everything.
        for wait in [S / 10, S, 3 * S, 9 * S] {
            let (patience, late) = patience(wait);
            assert!(patience as f64 >= 2.94 * wait as f64 + S as f64, "{wait}");
            assert_eq!(late, Grace::ClosingCut);
        }
        // Cut short of systemd's 90 s: closing probes, before counted ones.
        assert_eq!(patience(20 * S), (30 * S, Grace::ClosingCut));
        assert_eq!(patience(30 * S), (30 * S, Grace::GivenUp));
        assert_eq!(patience(u64::MAX), (30 * S, Grace::GivenUp));
    }
}
