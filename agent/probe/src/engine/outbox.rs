//! Where a session's emissions go, and which of them are first added up over a target's
//! paths.

use base::{Gauge, LossTotals, Output, ProbeResult, TargetKey};
use measure::session::Emission;
use record::results::Sender;

use crate::prober::Message;

/// Where results go.
pub(super) struct Outbox {
    pub(super) results: Sender<Message>,
    pub(super) records: Option<Sender<(TargetKey, ProbeResult)>>,
}

impl Outbox {
    pub(super) fn output(&mut self, target: TargetKey, output: Output) {
        // A full ring is counted by the ring.
        self.results.push(Message { target, output });
    }
}

/// What has to be added up over the paths of a target.
#[derive(Copy, Clone, Default)]
pub(super) struct Merged {
    pub(super) loss: Option<LossTotals>,
    pub(super) up: Option<f64>,
    pub(super) in_flight: Option<f64>,
}

pub(super) fn keep(
    merged: &mut Option<Merged>,
    outbox: &mut Outbox,
    key: TargetKey,
    emission: Emission,
) {
    match emission {
        Emission::Output(Output::Loss(loss)) => merged.get_or_insert_default().loss = Some(loss),
        Emission::Output(Output::Gauge(Gauge::Up, up)) => {
            merged.get_or_insert_default().up = Some(up);
        }
        Emission::Output(Output::Gauge(Gauge::InFlight, sum)) => {
            merged.get_or_insert_default().in_flight = Some(sum);
        }
        // A session's own end is not its target's.
        Emission::Output(Output::Finished) => {}
        other => forward(outbox, key, other),
    }
}

pub(super) fn forward(outbox: &mut Outbox, key: TargetKey, emission: Emission) {
    match emission {
        Emission::Output(output) => outbox.output(key, output),
        Emission::Result(result) => {
            if let Some(records) = &mut outbox.records {
                records.push((key, result));
            }
        }
    }
}
