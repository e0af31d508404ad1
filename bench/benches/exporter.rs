//! A scrape; throughput in targets.

mod shared;

fn main() {
    shared::time(netsonde_bench::loops::exporter());
}
