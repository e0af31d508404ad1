//! Forking where it is meant to be: in a process of one thread (no test harness).

use netsonde_sys::process::{Exit, PANICKED, fork_child, wait};

fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    let child = fork_child(|| panic!("in the child")).expect("fork");
    let exit = wait(child).expect("wait");
    let _ = std::panic::take_hook();
    assert_eq!(exit, Exit::Code(PANICKED));
    println!("a panic ends the child alone ... ok");
}
