//! Writing and reading packets.

mod shared;

fn main() {
    shared::time(netsonde_bench::loops::wire());
}
