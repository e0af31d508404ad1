//! From a probe's outputs to distributions.

mod shared;

fn main() {
    shared::time(netsonde_bench::loops::record());
}
