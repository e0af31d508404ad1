//! The `export` thread as the supervisor sees it: HTTP on listeners that are bound already.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use base::{Counter, Gauge, Output, Quantity, Sample, TargetKey, WallNanos};
use exporter::encode::Format;
use exporter::http::ExportStats;
use exporter::{Encoding, Role, Server, ServerOptions};
use record::Snapshot;
use tokio::sync::watch;

use crate::config::{Config, Prometheus};
use crate::publish::{Slot, starting};
use crate::targets;

/// Label sets of one family: all that a configuration may have, and what is not theirs.
const MAX_SERIES: usize = 50_000;

/// See the module.
pub struct Exporting {
    server: Server,
}

/// The listeners of the agent.
pub struct Listeners {
    /// Page and API, and the metrics unless they have their own.
    pub main: TcpListener,
    /// Metrics and health alone.
    pub metrics: Option<TcpListener>,
}

impl Listeners {
    /// Where they really listen, for the log.
    pub fn addresses(&self) -> String {
        let all = std::iter::once(&self.main).chain(&self.metrics);
        let text = |listener: &TcpListener| {
            listener
                .local_addr()
                .map_or_else(|_| "?".to_owned(), |address| address.to_string())
        };
        all.map(text).collect::<Vec<_>>().join(" ")
    }
}

fn encoding(config: &Prometheus) -> Encoding {
    Encoding {
        classic: config.classic.clone(),
        native: config.native,
        max_series: MAX_SERIES,
    }
}

impl Exporting {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there can be no thread or runtime.
    pub fn start(
        listeners: Listeners,
        snapshots: watch::Receiver<Arc<Snapshot>>,
        config: &Prometheus,
    ) -> std::io::Result<Self> {
        let mut all = vec![(listeners.main, Role::Full)];
        all.extend(listeners.metrics.map(|listener| (listener, Role::Metrics)));
        let server = exporter::spawn(ServerOptions::new(all, encoding(config)), snapshots)?;
        Ok(Self { server })
    }

    /// Whether the thread is there.
    pub fn alive(&self) -> bool {
        !self.server.is_finished()
    }

    /// Takes no new request, lets running ones end within the deadline; false if it had
    /// died or did not end in time.
    pub fn stop(self, deadline: Duration) -> bool {
        self.server.stop(deadline)
    }
}

/// How many series a configuration makes in Prometheus.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct SeriesCount {
    /// Scraped as protobuf, with native histograms.
    pub native: usize,
    /// Scraped as text, with classic buckets.
    pub classic: usize,
}

/// Counts them with the encoder itself: a target that has measured everything, per probe.
pub fn series(config: &Config) -> SeriesCount {
    let mut snapshot = starting(WallNanos(0));
    let alone = count(&snapshot, &config.prometheus);
    let mut sum = alone;
    let wanted = targets::wanted(config);
    for probe in &config.probes {
        let Some((name, one)) = wanted.iter().find(|(name, _)| *name.0 == *probe.name) else {
            continue;
        };
        let mut slot = Slot::new(name, one, &config.prometheus.bounds());
        measured(&mut slot);
        snapshot.targets = vec![slot.snapshot()];
        let each = count(&snapshot, &config.prometheus);
        sum.native += probe.targets.len() * (each.native - alone.native);
        sum.classic += probe.targets.len() * (each.classic - alone.classic);
    }
    sum
}

/// Stands for any session.
const KEY: TargetKey = TargetKey(0);

fn measured(slot: &mut Slot) {
    for quantity in Quantity::ALL {
        let (quantity, value) = (*quantity, 1);
        slot.apply(KEY, &Output::Sample(Sample { quantity, value }));
    }
    for counter in Counter::ALL {
        slot.apply(KEY, &Output::Count(*counter, 1));
    }
    for gauge in Gauge::ALL {
        slot.apply(KEY, &Output::Gauge(*gauge, 1.0));
    }
    slot.tick();
}

fn count(snapshot: &Snapshot, config: &Prometheus) -> SeriesCount {
    let (encoding, stats) = (encoding(config), ExportStats::default());
    let mut native = 0;
    exporter::gather::families(snapshot, &encoding, &stats, true, &mut |family| {
        native += family.metric.len();
    });
    // A snapshot cannot be refused; without text there are no classic series.
    let text = exporter::encode::encode(snapshot, &encoding, &stats, Format::Text);
    let is_sample = |line: &&[u8]| !line.is_empty() && line[0] != b'#';
    SeriesCount {
        native,
        classic: text.map_or(0, |text| {
            text.split(|byte| *byte == b'\n').filter(is_sample).count()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_grow_by_targets_and_classic_families() {
        let count = |text: &str| series(&Config::parse("f", text).unwrap());
        let none = count("");
        let one = count("[[probe]]\ntargets=['a']\n");
        let three = count("[[probe]]\ntargets=['a','b','c']\n");
        assert!(
            none.native > 0 && one.native > none.native,
            "{none:?} {one:?}"
        );
        assert_eq!(three.native - none.native, 3 * (one.native - none.native));
        assert_eq!(
            three.classic - none.classic,
            3 * (one.classic - none.classic)
        );
        let more = count(
            "[[probe]]\ntargets=['a']\n[export.prometheus]\nclassic=['probe_rtt','probe_response']\n",
        );
        // One more family with the 33 bounds of ec2-dense.
        assert_eq!(more.classic - one.classic, 33);
        assert_eq!(more.native, one.native);
        // DESIGN section 6: "20 targets cost some hundreds of series and not thousands".
        let twenty: Vec<String> = (0..20).map(|n| format!("'t{n}'")).collect();
        let twenty = count(&format!("[[probe]]\ntargets=[{}]\n", twenty.join(",")));
        println!("{one:?} {twenty:?}");
    }
}
