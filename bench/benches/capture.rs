//! The stages of a captured frame.

mod shared;

fn main() {
    shared::time(netsonde_bench::loops::capture());
}
