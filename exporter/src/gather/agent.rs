//! What is exported of the agent as a whole.

use base::EventKind;
use record::snapshot::Health;

use super::Gather;
use crate::http::{ExportStats, Failure};
use crate::table;

const SINK: &str = "prometheus";

pub(super) fn gather(gather: &mut Gather<'_, '_>, stats: &ExportStats) {
    identity(gather);
    process(gather);
    events(gather);
    export(gather, stats);
}

fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

fn identity(gather: &mut Gather<'_, '_>) {
    let snapshot = gather.snapshot;
    let build = &snapshot.build;
    let values = [&*build.version, &*build.revision, &*build.rustc];
    gather.number(table::BUILD_INFO, &values, 1.0);
    let config = &snapshot.config;
    gather.number(table::CONFIG_INFO, &[&config.sha256], 1.0);
    gather.number(table::CONFIG_RELOAD_OK, &[], flag(config.last_reload_ok));
    gather.number(
        table::CONFIG_RELOAD_TIME,
        &[],
        seconds(config.last_success_at.0),
    );
    gather.number(table::READY, &[], flag(snapshot.unready().next().is_none()));
    for component in &snapshot.components {
        let healthy = flag(component.health == Health::Healthy);
        gather.number(table::COMPONENT_HEALTHY, &[component.name], healthy);
    }
}

fn process(gather: &mut Gather<'_, '_>) {
    let snapshot = gather.snapshot;
    let process = snapshot.process;
    gather.number(table::START_TIME, &[], seconds(snapshot.started_at.0));
    gather.number(table::PROCESS_MEMORY, &[], process.resident_bytes as f64);
    gather.number(table::PROCESS_CPU, &[], seconds(process.cpu_ns));
    gather.number(table::PROCESS_FDS, &[], process.open_fds as f64);
    gather.number(table::PROCESS_MAX_FDS, &[], process.max_fds as f64);
    gather.number(table::PROCESS_THREADS, &[], process.threads as f64);
}

fn events(gather: &mut Gather<'_, '_>) {
    let snapshot = gather.snapshot;
    for kind in EventKind::ALL {
        let count = snapshot.event_counts[kind.index()] as f64;
        gather.number(table::EVENTS, &[kind.as_str()], count);
    }
    gather.number(table::EVENTS_EVICTED, &[], snapshot.events_evicted as f64);
    gather.number(
        table::RESULTS_DROPPED,
        &["ring_full"],
        snapshot.results_dropped as f64,
    );
    gather.number(table::PUBLISH_DURATION, &[], seconds(snapshot.publish_ns));
}

fn export(gather: &mut Gather<'_, '_>, stats: &ExportStats) {
    for (format, count) in [("text", stats.text()), ("protobuf", stats.protobuf())] {
        gather.number(table::EXPORT_SCRAPES, &[format], count as f64);
    }
    for failure in Failure::ALL {
        let count = stats.failures(*failure) as f64;
        gather.number(table::EXPORT_ERRORS, &[SINK, failure.as_str()], count);
    }
    let snapshot = gather.snapshot;
    for (sink, reason, count) in &snapshot.export_errors {
        gather.number(table::EXPORT_ERRORS, &[sink, reason], *count as f64);
    }
    let last = seconds(stats.last_encode_ns());
    gather.number(table::EXPORT_DURATION, &[SINK], last);
}

pub(super) fn reflector(gather: &mut Gather<'_, '_>) {
    let snapshot = gather.snapshot;
    let Some(reflector) = &snapshot.reflector else {
        return;
    };
    gather.number(table::REFLECTOR_RECEIVED, &[], reflector.received as f64);
    gather.number(table::REFLECTOR_REFLECTED, &[], reflector.reflected as f64);
    for (reason, count) in &reflector.dropped {
        gather.number(table::REFLECTOR_DROPPED, &[reason], *count as f64);
    }
    for (reason, count) in &reflector.notes {
        gather.number(table::REFLECTOR_NOTES, &[reason], *count as f64);
    }
    gather.number(table::REFLECTOR_SESSIONS, &[], reflector.sessions as f64);
    let capacity = reflector.session_capacity as f64;
    gather.number(table::REFLECTOR_CAPACITY, &[], capacity);
    let expired = reflector.sessions_expired as f64;
    gather.number(table::REFLECTOR_EXPIRED, &[], expired);
}

/// Last: counts the label sets of the families that grow with the targets.
pub(super) fn series(gather: &mut Gather<'_, '_>) {
    let counts = std::mem::take(&mut gather.counts);
    for (metric, exported, _) in &counts {
        gather.number(table::SERIES, &[metric.name], *exported as f64);
    }
    for (metric, _, folded) in &counts {
        gather.number(table::SERIES_OVERFLOW, &[metric.name], *folded as f64);
    }
}
