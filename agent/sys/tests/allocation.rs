//! Sending and receiving allocate nothing: shown by an allocator that counts per thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::net::Ipv4Addr;

use netsonde_sys::poll::{Events, Interest, Poller};
use netsonde_sys::socket::{Batch, ErrorBatch, ProbeSocket, SocketSpec};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: everything is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // try_with: the allocator outlives the thread's variables.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, which is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

#[test]
fn nothing_is_allocated_per_packet() {
    let open = || {
        let socket = ProbeSocket::open(&SocketSpec::udp(false)).expect("open");
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("bind");
        socket
    };
    let (sender, receiver, closed) = (open(), open(), open());
    let nobody = closed.local_addr().expect("address");
    drop(closed);
    sender
        .connect(receiver.local_addr().expect("address"))
        .expect("connect");
    let ids = sender.enable_stamps(false).expect("stamps").own_ids;
    sender.receive_errors_on().expect("errors on");
    receiver.enable_receive_stamps(false).expect("stamps");
    receiver.receive_ttl_tos_pktinfo().expect("options");
    receiver.receive_errors_on().expect("errors on");
    let poller = Poller::new().expect("epoll");
    poller.add(&receiver, 1, Interest::Read).expect("add");
    poller.add(&sender, 2, Interest::Read).expect("add");
    let mut events = Events::new(4);
    let mut batch = Batch::new(16, 128);
    let mut errors = ErrorBatch::new(16, 128);
    // The counter counts, or the test below would say nothing.
    let before = allocations();
    black_box(Box::new(1_u8));
    assert!(allocations() > before);

    let before = allocations();
    let (mut received, mut stamped, mut refused) = (0, 0, 0);
    for n in 0..500_u32 {
        sender.send(&[0; 44], ids.then_some(n)).expect("send");
        // An ICMP error a round, and with it a receive that fails softly.
        receiver
            .send_reply(&[0; 44], nobody, None, 0)
            .expect("send");
        poller.wait(&mut events, Some(1_000_000_000)).expect("wait");
        black_box(events.iter().count());
        loop {
            let got = receiver.receive(&mut batch).expect("receive");
            if got == 0 && batch.soft_error.is_none() {
                break;
            }
            for datagram in batch.iter() {
                received += 1;
                let from = datagram.from;
                receiver
                    .send_reply(datagram.payload, from, datagram.to, 0)
                    .expect("reply");
            }
        }
        while sender.receive_errors(&mut errors).expect("errors") > 0 {
            stamped += errors.iter().count();
        }
        while receiver.receive_errors(&mut errors).expect("errors") > 0 {
            refused += errors.iter().count();
        }
        while sender.receive(&mut batch).expect("receive") > 0 {
            black_box(batch.iter().map(|d| d.payload.len()).sum::<usize>());
        }
    }
    assert_eq!(allocations() - before, 0);
    assert_eq!((received, stamped, refused), (500, 500, 500));
}
