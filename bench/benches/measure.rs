//! A probe through the session, an answer through the reflector.

mod shared;

fn main() {
    shared::time(netsonde_bench::loops::measure());
}
