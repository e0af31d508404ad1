//! The clock on a hot loop.

use criterion::{Criterion, Throughput};
use netsonde_bench::loops::Loop;

/// Times loops as `action/packet-family/time`, in packets per second.
pub(crate) fn time(loops: Vec<Loop>) {
    let mut criterion = Criterion::default().configure_from_args();
    for mut hot in loops {
        let (action, family) = hot.name.split_once('/').unwrap_or((hot.name, ""));
        let mut group = criterion.benchmark_group(action);
        group.throughput(Throughput::Elements(hot.packets));
        group.bench_function(format!("{family}/time"), |bencher| {
            bencher.iter(|| hot.pass());
        });
        group.finish();
    }
    criterion.final_summary();
}
