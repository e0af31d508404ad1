//! From a snapshot to metric families, in the order of the table.
//!
//! Pure: no clock, no lock, no I/O. Labels are the metric's own, then those configured for
//! the probe, then those of the agent; the first of equal names wins, reserved ones are left out. A family never has
//! more than [`Encoding::max_series`] label sets: targets and groups of flows beyond are folded
//! into one with `__other__` for all its names (gauges are left out), and counted.

mod agent;
mod capture;
mod target;

use std::collections::BTreeMap;

use prometheus::proto::{self, MetricType};
use protobuf::MessageField;
use record::snapshot::{CaptureGroup, TargetSnapshot};
use record::{SeriesSnapshot, Snapshot};

use crate::http::ExportStats;
use crate::native;
use crate::table::{self, Kind, Metric};

/// What stands for the names of folded targets.
pub const OTHER: &str = "__other__";

/// How to encode, from `[export.prometheus]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Encoding {
    /// Short names of the families with classic buckets (`probe_rtt`).
    pub classic: Vec<String>,
    /// Whether protobuf carries native histograms.
    pub native: bool,
    /// The most label sets of one family.
    pub max_series: usize,
}

impl Default for Encoding {
    fn default() -> Self {
        Self {
            classic: vec!["probe_rtt".to_owned()],
            native: true,
            max_series: 5_000,
        }
    }
}

impl Encoding {
    fn is_classic(&self, metric: &Metric) -> bool {
        self.classic.iter().any(|name| name == metric.short_name())
    }
}

/// Gives every family of a snapshot that has a value to `sink`, one by one in the order of
/// the table, so that only one is in memory. `native` says whether histograms get their
/// native fields (protobuf only).
pub fn families(
    snapshot: &Snapshot,
    encoding: &Encoding,
    stats: &ExportStats,
    native: bool,
    sink: &mut dyn FnMut(proto::MetricFamily),
) {
    let mut gather = Gather {
        snapshot,
        encoding,
        native: native && encoding.native,
        current: None,
        sink,
        counts: Vec::new(),
    };
    agent::gather(&mut gather, stats);
    target::gather(&mut gather);
    agent::reflector(&mut gather);
    capture::gather(&mut gather);
    agent::series(&mut gather);
    gather.flush();
}

/// One value of a label set.
#[derive(Copy, Clone)]
enum Value<'s> {
    Number(f64),
    Series(&'s SeriesSnapshot),
}

struct Gather<'s, 'o> {
    snapshot: &'s Snapshot,
    encoding: &'s Encoding,
    native: bool,
    current: Option<(&'static Metric, proto::MetricFamily)>,
    sink: &'o mut dyn FnMut(proto::MetricFamily),
    /// Of the families that grow with the targets: label sets exported, and label sets
    /// folded or left out.
    counts: Vec<(&'static Metric, usize, usize)>,
}

fn pair(name: &str, value: &str) -> proto::LabelPair {
    let mut pair = proto::LabelPair::new();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

impl<'s> Gather<'s, '_> {
    /// The family of a metric; the one before is finished.
    fn family(&mut self, metric: &'static Metric) -> &mut Vec<proto::Metric> {
        if self
            .current
            .as_ref()
            .is_none_or(|(known, _)| *known != metric)
        {
            self.flush();
        }
        let (_, family) = self.current.get_or_insert_with(|| {
            let mut family = proto::MetricFamily::new();
            family.set_name(metric.name.to_owned());
            family.set_help(metric.help.to_owned());
            family.set_field_type(match metric.kind {
                Kind::Counter => MetricType::COUNTER,
                Kind::Gauge => MetricType::GAUGE,
                Kind::Histogram => MetricType::HISTOGRAM,
            });
            (metric, family)
        });
        &mut family.metric
    }

    fn flush(&mut self) {
        if let Some((_, family)) = self.current.take()
            && !family.metric.is_empty()
        {
            (self.sink)(family);
        }
    }

    fn labels(
        &self,
        metric: &Metric,
        values: &[&str],
        probe: &[(String, String)],
    ) -> Vec<proto::LabelPair> {
        debug_assert_eq!(metric.labels.len(), values.len(), "{}", metric.name);
        let mut labels: Vec<proto::LabelPair> =
            Vec::with_capacity(values.len() + probe.len() + self.snapshot.labels.len());
        for (name, value) in metric.labels.iter().zip(values) {
            labels.push(pair(name, value));
        }
        for (name, value) in probe.iter().chain(self.snapshot.labels.iter()) {
            // The configuration refuses both; a label that is there twice would make the
            // whole scrape invalid.
            let known = labels.iter().any(|known| known.name() == name);
            if !known && !table::is_reserved_label(name) {
                labels.push(pair(name, value));
            }
        }
        labels
    }

    /// A number of the agent as a whole.
    fn number(&mut self, metric: &'static Metric, values: &[&str], number: f64) {
        let labels = self.labels(metric, values, &[]);
        let message = self.message(metric, labels, Value::Number(number), 0);
        self.family(metric).push(message);
    }

    fn message(
        &self,
        metric: &Metric,
        labels: Vec<proto::LabelPair>,
        value: Value<'_>,
        created_ns: u64,
    ) -> proto::Metric {
        let mut message = proto::Metric::from_label(labels);
        match (metric.kind, value) {
            (Kind::Histogram, Value::Series(series)) => {
                message.histogram = MessageField::some(self.histogram(metric, series, created_ns));
            }
            (Kind::Counter, Value::Number(number)) => {
                let mut counter = proto::Counter::new();
                counter.set_value(number);
                message.counter = MessageField::some(counter);
            }
            (_, Value::Number(number)) => {
                let mut gauge = proto::Gauge::new();
                gauge.set_value(number);
                message.gauge = MessageField::some(gauge);
            }
            (_, Value::Series(_)) => debug_assert!(false, "{} is no histogram", metric.name),
        }
        message
    }

    fn histogram(
        &self,
        metric: &Metric,
        series: &SeriesSnapshot,
        created_ns: u64,
    ) -> proto::Histogram {
        let mut histogram = proto::Histogram::new();
        histogram.set_sample_count(series.count);
        histogram.set_sample_sum(series.exported_sum());
        if self.encoding.is_classic(metric) {
            let mut cumulative = 0;
            for (bound, count) in series.bounds.iter().zip(&series.classic) {
                cumulative += count;
                let mut bucket = proto::Bucket::new();
                bucket.set_upper_bound(*bound as f64 / series.unit.per_exported());
                bucket.set_cumulative_count(cumulative);
                histogram.bucket.push(bucket);
            }
        }
        if self.native {
            native::add(&mut histogram, series, created_ns);
        }
        histogram
    }

    /// One family over all targets. `sets` is how many label sets a target has at most;
    /// `list` gives them: the values of the labels after those of [`table::TARGET`], and
    /// the value.
    fn per_target(
        &mut self,
        metric: &'static Metric,
        sets: usize,
        list: impl Fn(&'s TargetSnapshot, &mut dyn FnMut(&[&'s str], Value<'s>)),
    ) {
        let snapshot = self.snapshot;
        let most = self.encoding.max_series / sets.max(1);
        let mut messages = Vec::new();
        let mut other = BTreeMap::<Vec<&'s str>, (f64, Vec<&'s SeriesSnapshot>)>::new();
        let mut folded = 0;
        for (place, target) in snapshot.targets.iter().enumerate() {
            list(target, &mut |extra, value| {
                if place >= most {
                    folded += 1;
                    let sum = other.entry(extra.to_vec()).or_default();
                    match value {
                        Value::Number(number) => sum.0 += number,
                        Value::Series(series) => sum.1.push(series),
                    }
                    return;
                }
                let mut values = vec![&*target.probe, &*target.target, protocol(target)];
                values.extend(extra);
                let labels = self.labels(metric, &values, &target.labels);
                messages.push(self.message(metric, labels, value, target.since.0));
            });
        }
        if metric.kind != Kind::Gauge {
            for (extra, (number, series)) in other {
                let mut values = vec![OTHER, OTHER, OTHER];
                values.extend(extra);
                let labels = self.labels(metric, &values, &[]);
                let sum = SeriesSnapshot::sum(series.into_iter());
                let value = sum.as_ref().map_or(Value::Number(number), Value::Series);
                messages.push(self.message(metric, labels, value, snapshot.started_at.0));
            }
        }
        self.counts.push((metric, messages.len(), folded));
        self.family(metric).append(&mut messages);
    }
}

/// A value of a group: labels before those of the group, and the number or the series.
type OfGroup<'s> = (Vec<&'static str>, Value<'s>);

impl<'s> Gather<'s, '_> {
    /// One family over all groups of flows: of each the label sets that `list` gives.
    fn per_group(
        &mut self,
        metric: &'static Metric,
        groups: &'s [CaptureGroup],
        since_ns: u64,
        list: impl Fn(&'s CaptureGroup) -> Vec<OfGroup<'s>>,
    ) {
        let mut messages = Vec::new();
        let mut other = BTreeMap::<Vec<&'static str>, (f64, Vec<&'s SeriesSnapshot>)>::new();
        let mut folded = 0;
        for group in groups {
            for (own, value) in list(group) {
                if messages.len() >= self.encoding.max_series {
                    folded += 1;
                    let sum = other.entry(own).or_default();
                    match value {
                        Value::Number(number) => sum.0 += number,
                        Value::Series(series) => sum.1.push(series),
                    }
                    continue;
                }
                let mut values: Vec<&str> = own;
                values.extend([&*group.group, &*group.service]);
                let labels = self.labels(metric, &values, &[]);
                messages.push(self.message(metric, labels, value, since_ns));
            }
        }
        for (own, (number, series)) in other {
            let mut values: Vec<&str> = own;
            values.extend([OTHER, OTHER]);
            let labels = self.labels(metric, &values, &[]);
            let sum = SeriesSnapshot::sum(series.into_iter());
            let value = sum.as_ref().map_or(Value::Number(number), Value::Series);
            messages.push(self.message(metric, labels, value, since_ns));
        }
        self.counts.push((metric, messages.len(), folded));
        self.family(metric).append(&mut messages);
    }
}

/// The label: how the target is probed, or what was asked for until that is known.
fn protocol(target: &TargetSnapshot) -> &'static str {
    target
        .protocol
        .map_or(target.protocol_requested, base::Protocol::as_str)
}

#[cfg(test)]
mod tests;
