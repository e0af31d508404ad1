//! What is exported of passing traffic.

use base::{LossPlace, Sender, TcpClass};

use super::{Gather, OfGroup, Value};
use crate::table;

pub(super) fn gather(gather: &mut Gather<'_, '_>) {
    let snapshot = gather.snapshot;
    let Some(capture) = &snapshot.capture else {
        return;
    };
    let values = [&*capture.device, capture.backend, &*capture.reason];
    gather.number(table::CAPTURE_INFO, &values, 1.0);
    gather.number(table::CAPTURE_FRAMES, &[], capture.frames as f64);
    gather.number(table::CAPTURE_BYTES, &[], capture.bytes as f64);
    for (metric, list) in [
        (table::CAPTURE_DROPPED, &capture.dropped),
        (table::CAPTURE_UNDECODED, &capture.undecoded),
        (table::CAPTURE_UNMEASURED, &capture.unmeasured),
    ] {
        for (reason, count) in list {
            gather.number(metric, &[reason], *count as f64);
        }
    }
    for (metric, count) in [
        (table::CAPTURE_DUPLICATES, capture.duplicates),
        (table::CAPTURE_INTERVALS, capture.intervals),
        (table::CAPTURE_DEGRADED, capture.degraded_intervals),
        (table::CAPTURE_INTERRUPTED, capture.interrupted_intervals),
        (table::CAPTURE_INTERRUPTIONS, capture.interruptions),
        (table::CAPTURE_CLOCK_BACK, capture.clock_back),
        (table::FLOW_ENTRIES, capture.flows_active),
        (table::FLOW_CAPACITY, capture.flows_capacity),
        (table::FLOWS, capture.flows),
    ] {
        gather.number(metric, &[], count as f64);
    }
    for (reason, count) in &capture.flows_ended {
        gather.number(table::FLOW_ENDED, &[reason], *count as f64);
    }
    let forgotten = capture.segments_forgotten as f64;
    gather.number(table::FLOW_FORGOTTEN, &[], forgotten);
    for (reason, count) in &capture.no_sample {
        gather.number(table::FLOW_NO_SAMPLE, &[reason], *count as f64);
    }
    groups(gather);
}

fn number<'s>(own: Vec<&'static str>, count: u64) -> OfGroup<'s> {
    (own, Value::Number(count as f64))
}

fn groups(gather: &mut Gather<'_, '_>) {
    let snapshot = gather.snapshot;
    let Some(capture) = &snapshot.capture else {
        return;
    };
    let (groups, since) = (&capture.groups[..], capture.since.0);
    gather.per_group(table::FLOW_RTT, groups, since, |group| {
        let series = group.rtt.iter();
        series
            .map(|(method, leg, series)| {
                (vec![method.as_str(), leg.as_str()], Value::Series(series))
            })
            .collect()
    });
    gather.per_group(table::FLOW_LATE, groups, since, |group| {
        let of = |sender: Sender| {
            let series = group.late[sender.index()].as_deref()?;
            Some((vec![sender.as_str()], Value::Series(series)))
        };
        Sender::ALL.into_iter().filter_map(of).collect()
    });
    let sent = [table::FLOW_PACKETS, table::FLOW_BYTES, table::FLOW_SEGMENTS];
    for (at, metric) in sent.into_iter().enumerate() {
        gather.per_group(metric, groups, since, |group| {
            let traffic = &group.traffic;
            let list = [traffic.packets, traffic.bytes, traffic.segments][at];
            let of = |sender: Sender| number(vec![sender.as_str()], list[sender.index()]);
            Sender::ALL.map(of).to_vec()
        });
    }
    gather.per_group(table::FLOW_CLASSES, groups, since, |group| {
        let all = TcpClass::ALL.iter().flat_map(|class| {
            Sender::ALL.map(|sender| {
                let count = group.counts.classes[sender.index()][class.index()];
                number(vec![class.as_str(), sender.as_str()], count)
            })
        });
        all.collect()
    });
    gather.per_group(table::FLOW_LOST, groups, since, |group| {
        let all = LossPlace::ALL.iter().flat_map(|place| {
            Sender::ALL.map(|sender| {
                let count = group.counts.losses[sender.index()][place.index()];
                number(vec![place.as_str(), sender.as_str()], count)
            })
        });
        all.collect()
    });
    gather.per_group(table::FLOW_TOO_BIG, groups, since, |group| {
        vec![number(Vec::new(), group.counts.too_big)]
    });
    gather.per_group(table::FLOW_BLACK_HOLES, groups, since, |group| {
        vec![number(Vec::new(), group.counts.black_holes)]
    });
}
