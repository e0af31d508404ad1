//! Children are forked from the test's thread and always waited for. They panic and print
//! nothing: a lock of std that another test held at the fork would stay locked. What needs
//! those is in tests/fork.rs, which has one thread.

use super::*;
use crate::poll::{Events, Interest, Poller};
use crate::signal::{SignalFd, block};

#[test]
fn a_childs_code_is_what_its_function_returned() {
    for code in [0, 7, 255] {
        let child = fork_child(|| code).expect("fork");
        assert_eq!(wait(child).expect("wait"), Exit::Code(code));
        assert!(wait(child).is_err(), "it is gone");
    }
}

#[test]
fn a_signal_is_read_as_data_by_the_child_that_blocks_it() {
    // Blocked before the fork, so that no moment is left in which it would kill.
    block(&[Signal::Term, Signal::Hup]).expect("block");
    let child = fork_child(|| {
        let Ok(signals) = SignalFd::new(&[Signal::Term]) else {
            return 1;
        };
        let Ok(poller) = Poller::new() else { return 2 };
        if poller.add(&signals, 1, Interest::Read).is_err() {
            return 3;
        }
        let mut events = Events::new(1);
        match poller.wait(&mut events, Some(10_000_000_000)) {
            Ok(1) => {}
            _ => return 4,
        }
        match (signals.read(), signals.read()) {
            (Ok(Some(Signal::Term)), Ok(None)) => 42,
            _ => 5,
        }
    })
    .expect("fork");
    kill(child, Signal::Term).expect("kill");
    assert_eq!(wait(child).expect("wait"), Exit::Code(42));
}

#[test]
fn the_end_of_a_child_is_seen_by_pidfd_and_its_signal_by_wait() {
    let child = fork_child(|| {
        loop {
            std::thread::park();
        }
    })
    .expect("fork");
    assert_eq!(try_wait(child).expect("try_wait"), None);
    let fd = pidfd(child).expect("pidfd");
    let poller = Poller::new().expect("epoll");
    poller.add(&fd, 1, Interest::Read).expect("add");
    let mut events = Events::new(1);
    assert_eq!(poller.wait(&mut events, Some(0)).expect("wait"), 0);
    kill(child, Signal::Kill).expect("kill");
    assert_eq!(
        poller
            .wait(&mut events, Some(10_000_000_000))
            .expect("wait"),
        1
    );
    assert_eq!(wait(child).expect("wait"), Exit::Signal(libc::SIGKILL));
}

#[test]
fn a_child_dies_with_the_parent_that_it_watches() {
    let (left, right) = crate::fdpass::pair().expect("a pair");
    // `right` moves into the child's function, so this process holds no copy after the fork.
    let left_in_child = left.try_clone().expect("dup");
    let middle = fork_child(move || {
        drop(left_in_child);
        let grandchild = fork_child(|| {
            let armed = set_parent_death_signal(Signal::Kill).is_ok();
            if !armed || crate::fdpass::send(&right, b"armed", None).is_err() {
                return 1;
            }
            loop {
                std::thread::park();
            }
        });
        grandchild.map_or(1, |grandchild| wait(grandchild).map_or(2, |_| 3))
    })
    .expect("fork");
    let mut buffer = [0; 8];
    let (len, _) = crate::fdpass::recv(&left, &mut buffer).expect("armed");
    assert_eq!(&buffer[..len], b"armed");
    kill(middle, Signal::Kill).expect("kill");
    assert_eq!(wait(middle).expect("wait"), Exit::Signal(libc::SIGKILL));
    // The end is read only when the last holder of the other end, the grandchild, is dead.
    let (len, _) = crate::fdpass::recv(&left, &mut buffer).expect("the end");
    assert_eq!(len, 0);
}

#[test]
fn groups_cannot_be_signalled() {
    for pid in [0, -1, -5] {
        let error = kill(Pid(pid), Signal::Usr1).expect_err("refused");
        assert_eq!(crate::call::errno_of(&error), Some(libc::EINVAL));
    }
}

#[test]
fn limits_and_memory_are_those_of_proc() {
    let limit = raise_open_files().expect("limit");
    let limits = fs::read_to_string("/proc/self/limits").expect("limits");
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .expect("the line");
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(words[3], limit.to_string());
    assert_eq!(words[3], words[4]);

    let before = rss_bytes().expect("rss");
    let block = vec![1_u8; 32 << 20];
    std::hint::black_box(&block);
    let after = rss_bytes().expect("rss");
    assert!(after >= before + (24 << 20), "{before} -> {after}");
}
