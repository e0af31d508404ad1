//! The receive path against a kernel in memory: rings over plain mappings, whose other end
//! the test plays.

use std::collections::VecDeque;
use std::fs::File;

use proptest::prelude::*;

use crate::memory::Mapping;
use crate::ring::{Consumer, Mapped, Memory, Producer};
use crate::socket::{Obtained, Socket};
use crate::umem::{Place, Umem};

const CHUNK: u32 = 2048;
const HEADROOM: u64 = 256;

fn offsets() -> libc::xdp_ring_offset {
    libc::xdp_ring_offset {
        producer: 0,
        consumer: 64,
        desc: 192,
        flags: 128,
    }
}

/// Both ends of one ring: ours, and a second view of the same memory.
fn both<T: Copy>(slots: u32, start: u32) -> (Mapped<T>, Mapped<T>) {
    let bytes = Mapped::<T>::bytes(&offsets(), slots).expect("small");
    let file = memory_file(bytes);
    let view = || {
        let mapping = Mapping::ring(std::os::fd::AsFd::as_fd(&file), bytes, 0).expect("maps");
        Mapped::new(mapping, &offsets(), slots).expect("fits")
    };
    let (ours, theirs) = (view(), view());
    ours.publish_producer(start);
    ours.publish_consumer(start);
    (ours, theirs)
}

fn memory_file(bytes: usize) -> File {
    // SAFETY: the name ends in NUL.
    let fd = unsafe { libc::memfd_create(c"ring".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(fd >= 0);
    // SAFETY: just opened; nobody else owns it.
    let file = unsafe { <File as std::os::fd::FromRawFd>::from_raw_fd(fd) };
    file.set_len(bytes as u64).expect("grows");
    file
}

/// The kernel's side: takes chunks from the fill ring, puts descriptors into the receive
/// ring.
struct Kernel {
    fill: Consumer<Mapped<u64>>,
    receive: Producer<Mapped<libc::xdp_desc>>,
    /// Chunks it has taken and not given back.
    pool: VecDeque<u64>,
}

fn connected(chunks: u32, slots: u32, start: u32) -> (Socket, Kernel) {
    let (fill, fill_kernel) = both(chunks.next_power_of_two(), start);
    let (receive, receive_kernel) = both(slots, start);
    let (completion, _) = both(1, start);
    let memory = Mapping::anonymous((chunks * CHUNK) as usize, false).expect("memory");
    let (umem, all) = Umem::new(memory, chunks, CHUNK).expect("fits");
    let mut socket = Socket {
        fd: memory_file(1).into(),
        receive: Consumer::new(receive),
        fill: Producer::new(fill),
        send: None,
        completion: Consumer::new(completion),
        umem,
        free: Vec::new(),
        parts: Vec::with_capacity(slots as usize),
        slots: slots as usize,
        invalid: 0,
        multi_buffer: true,
        send_chunks: 0,
        queue: 0,
        obtained: Obtained {
            zero_copy: false,
            refused: None,
        },
    };
    for chunk in all {
        let address = socket.umem.give(chunk, Place::Receiving);
        assert!(socket.fill.push(address));
    }
    socket.fill.publish();
    let kernel = Kernel {
        fill: Consumer::new(fill_kernel),
        receive: Producer::new(receive_kernel),
        pool: VecDeque::new(),
    };
    (socket, kernel)
}

/// What the kernel puts into a descriptor.
#[derive(Copy, Clone, Debug)]
enum Kind {
    Good,
    /// Longer than its chunk.
    TooLong,
    /// Outside the memory, by so many chunks.
    Outside,
}

impl Kernel {
    fn look(&mut self) {
        let filled = self.fill.filled(u32::MAX);
        for n in 0..filled {
            self.pool.push_back(self.fill.peek(n).expect("filled"));
        }
        self.fill.release(filled);
    }

    /// One descriptor, not yet visible; `false`: no chunk or no room.
    fn put(&mut self, len: u32, more: bool, kind: Kind, outside: u64) -> bool {
        self.look();
        if self.receive.free(1) == 0 || self.pool.is_empty() {
            return false;
        }
        let (addr, len) = match kind {
            Kind::Outside => (outside, len),
            _ => {
                let chunk = self.pool.pop_front().expect("asked") + HEADROOM;
                let len = if matches!(kind, Kind::TooLong) {
                    CHUNK
                } else {
                    len
                };
                (chunk, len)
            }
        };
        let options = if more { libc::XDP_PKT_CONTD } else { 0 };
        self.receive.push(libc::xdp_desc { addr, len, options })
    }
}

#[derive(Clone, Debug)]
enum Op {
    /// A frame of so many descriptors of this length, of which one may be bad.
    Frame(usize, u32, Option<(usize, Kind)>),
    Publish,
    /// With this limit, leaving all after so many frames, if so.
    Receive(u32, Option<usize>),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let kind = prop_oneof![Just(Kind::TooLong), Just(Kind::Outside)];
    let bad = prop_oneof![
        4 => Just(None),
        1 => (0..4usize, kind).prop_map(Some),
    ];
    let op = prop_oneof![
        3 => (1..4usize, 1..1700u32, bad).prop_map(|(parts, len, bad)| Op::Frame(parts, len, bad)),
        2 => Just(Op::Publish),
        2 => (0..8u32, prop::option::of(0..6usize)).prop_map(|(limit, keep)| Op::Receive(limit, keep)),
    ];
    prop::collection::vec(op, 1..150)
}

proptest! {
    /// Every good frame comes once, in order, with its length; bad ones are counted; no
    /// chunk is lost or doubled.
    #[test]
    fn frames_come_once_and_chunks_come_back(
        ops in ops(),
        start in prop_oneof![Just(0), Just(u32::MAX - 8), any::<u32>()],
    ) {
        let chunks = 16;
        let (mut socket, mut kernel) = connected(chunks, 16, start);
        let mut expected: VecDeque<Option<(usize, usize)>> = VecDeque::new();
        let mut unpublished: VecDeque<Option<(usize, usize)>> = VecDeque::new();
        let mut bad_frames = 0;
        for op in ops {
            match op {
                Op::Frame(parts, len, bad) => {
                    kernel.look();
                    // As the kernel does: room for the whole frame, or none of it.
                    let room = kernel.receive.free(u32::MAX) as usize;
                    if room < parts || kernel.pool.len() < parts {
                        continue;
                    }
                    let mut good = true;
                    for n in 0..parts {
                        let kind = match bad {
                            Some((at, kind)) if at == n => kind,
                            _ => Kind::Good,
                        };
                        good &= matches!(kind, Kind::Good);
                        let outside = u64::from(chunks * CHUNK) + 300;
                        prop_assert!(kernel.put(len, n + 1 < parts, kind, outside));
                    }
                    unpublished.push_back(good.then_some((parts, parts * len as usize)));
                }
                Op::Publish => {
                    kernel.receive.publish();
                    expected.append(&mut unpublished);
                }
                Op::Receive(limit, keep) => {
                    let mut batch = socket.receive(limit);
                    let count = batch.len() as usize;
                    prop_assert_eq!(count, expected.len().min(limit as usize));
                    let mut frames = batch.frames();
                    let mut left = frames.left();
                    let mut taken = 0;
                    let mut stopped = false;
                    for wanted in expected.iter().take(count) {
                        // A bad frame before the place to stop goes with those before it.
                        if keep == Some(taken) {
                            stopped = true;
                            break;
                        }
                        if let Some((parts, bytes)) = wanted {
                            let frame = frames.next().expect("a good frame");
                            prop_assert_eq!(frame.len(), *bytes);
                            prop_assert_eq!(frame.iter().count(), *parts);
                            prop_assert_eq!(frame.is_single(), *parts == 1);
                            prop_assert_eq!(frame.first().len(), bytes / parts);
                            prop_assert!(frame.metadata::<8>().is_some());
                            prop_assert!(frame.metadata::<257>().is_none());
                            left = frames.left();
                            taken += 1;
                        }
                    }
                    if stopped {
                        batch.leave(left);
                        // Those up to the last good one taken are gone.
                        let mut good = 0;
                        while good < taken {
                            let frame = expected.pop_front().expect("taken");
                            good += usize::from(frame.is_some());
                            bad_frames += u64::from(frame.is_none());
                        }
                    } else {
                        prop_assert!(frames.next().is_none());
                        for frame in expected.drain(..count) {
                            bad_frames += u64::from(frame.is_none());
                        }
                    }
                }
            }
            prop_assert_eq!(socket.invalid(), bad_frames);
        }
        // Read all that is there: then every chunk is with the kernel again, once.
        kernel.receive.publish();
        while !socket.receive(4).is_empty() {}
        kernel.look();
        let mut all: Vec<u64> = kernel.pool.iter().copied().collect();
        all.sort_unstable();
        let every: Vec<u64> = (0..chunks).map(|n| u64::from(n * CHUNK)).collect();
        prop_assert_eq!(all, every);
    }
}

/// A batch that is forgotten gives nothing back, and its frames come again.
#[test]
fn a_forgotten_batch_comes_again() {
    let (mut socket, mut kernel) = connected(4, 4, 0);
    for len in [60, 61] {
        assert!(kernel.put(len, false, Kind::Good, 0));
    }
    kernel.receive.publish();
    std::mem::forget(socket.receive(8));
    let lengths: Vec<_> = socket
        .receive(8)
        .frames()
        .map(|frame| frame.len())
        .collect();
    assert_eq!(lengths, [60, 61]);
    assert!(socket.receive(8).is_empty());
}

/// The kernel never shows part of a frame; if one day it did, the rest is waited for, and a
/// frame longer than the ring is cut rather than waited for.
#[test]
fn a_frame_in_two_runs_and_one_without_end() {
    let (mut socket, mut kernel) = connected(8, 4, u32::MAX);
    assert!(kernel.put(100, true, Kind::Good, 0));
    kernel.receive.publish();
    assert!(socket.receive(8).is_empty());
    assert!(kernel.put(50, false, Kind::Good, 0));
    kernel.receive.publish();
    let lengths: Vec<_> = socket
        .receive(8)
        .frames()
        .map(|frame| frame.len())
        .collect();
    assert_eq!(lengths, [150]);
    for _ in 0..4 {
        assert!(kernel.put(10, true, Kind::Good, 0));
    }
    kernel.receive.publish();
    let lengths: Vec<_> = socket
        .receive(8)
        .frames()
        .map(|frame| frame.len())
        .collect();
    assert_eq!(lengths, [40]);
}
