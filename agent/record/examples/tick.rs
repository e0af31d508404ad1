//! Times what the publisher does in one tick with 1 000 targets that all changed:
//! `cargo run --profile fast -p netsonde-record --example tick`.

use std::hint::black_box;
use std::time::Instant;

use base::{Output, Quantity, Sample};
use netsonde_record::TargetSeries;
use netsonde_record::series::ClassicBounds;

fn main() {
    let bounds = ClassicBounds::default();
    let second = 1_000_000_000;
    let mut targets: Vec<TargetSeries> = (0..1_000)
        .map(|_| TargetSeries::new(second, second, &bounds))
        .collect();
    let mut shared = Vec::new();
    let mut step = 1u64;
    for tick in 0..120 {
        let start = Instant::now();
        for target in &mut targets {
            for quantity in Quantity::ALL {
                step = step.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let value = 100_000 + (step >> 33) as i64 % 300_000;
                target.apply(&Output::Sample(Sample {
                    quantity: *quantity,
                    value,
                }));
            }
        }
        let applied = start.elapsed();
        for target in &mut targets {
            target.tick();
        }
        let folded = start.elapsed() - applied;
        shared = targets.iter().map(TargetSeries::snapshot).collect();
        if tick % 20 == 19 {
            let all = start.elapsed();
            println!("tick {tick}: apply {applied:?}, fold and share {folded:?}, all {all:?}");
        }
    }
    black_box(shared);
}
