//! Over loopback, or over a loopback device of a namespace of its own where the MTU matters.
//!
//! Nothing sleeps to synchronise: whatever must arrive is waited for with a bounded poll.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base::WallNanos;

use super::*;
use crate::clock::{mono_now, wall_now};
use crate::poll::{Events, Interest, Poller};

mod icmp;
mod mtu;

/// Far above what loopback needs, so that only a packet that never comes reaches it.
const PATIENCE_NS: u64 = 5_000_000_000;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn udp(address: IpAddr) -> ProbeSocket {
    let socket = ProbeSocket::open(&SocketSpec::udp(address.is_ipv6())).expect("open");
    socket.bind((address, 0).into()).expect("bind");
    socket
}

/// Two UDP sockets, the first connected to the second.
fn connected_pair(address: IpAddr) -> (ProbeSocket, ProbeSocket) {
    let (sender, receiver) = (udp(address), udp(address));
    sender
        .connect(receiver.local_addr().expect("address"))
        .expect("connect");
    (sender, receiver)
}

/// Whether the error is a missing privilege, which only CI may not have.
fn unprivileged(error: &io::Error) -> bool {
    let missing = matches!(errno_of(error), Some(libc::EPERM | libc::EACCES));
    if missing {
        assert!(std::env::var_os("CI").is_none(), "CI runs this as root");
        eprintln!("not tried: {error}");
    }
    missing
}

/// A port that was free a moment ago, with nobody behind it.
///
/// Dissolved by connect(AF_UNSPEC), not by closing: a child that another test forks may hold
/// a copy of the descriptor for a while, and the port would stay open as long.
fn closed_port(address: IpAddr) -> SocketAddr {
    let socket = udp(address);
    let closed = socket.local_addr().expect("address");
    // SAFETY: all zero is a valid sockaddr, of the family AF_UNSPEC.
    let nowhere: libc::sockaddr = unsafe { std::mem::zeroed() };
    let fd = std::os::fd::AsRawFd::as_raw_fd(&socket.as_fd());
    // SAFETY: `nowhere` is readable for the 16 bytes given.
    let result = unsafe { libc::connect(fd, &raw const nowhere, 16) };
    assert_eq!(result, 0);
    assert_ne!(socket.local_addr().expect("address"), closed, "released");
    closed
}

/// Calls `step` until it says enough, waiting for the socket in between.
fn until(socket: &ProbeSocket, mut step: impl FnMut() -> bool) {
    let poller = Poller::new().expect("epoll");
    poller.add(socket, 0, Interest::Read).expect("add");
    let mut events = Events::new(1);
    let start = mono_now();
    while !step() {
        assert!(mono_now().since(start) < PATIENCE_NS, "it never came");
        poller.wait(&mut events, Some(100_000_000)).expect("wait");
    }
}

/// Receives one datagram and hands it on.
fn one<T>(socket: &ProbeSocket, look: impl FnOnce(Received<'_>) -> T) -> T {
    let mut batch = Batch::new(1, 2048);
    until(socket, || socket.receive(&mut batch).expect("receive") == 1);
    look(batch.iter().next().expect("one datagram"))
}

/// The kernel switches receive stamps on some time after the first socket asks; the socket
/// returned keeps them on.
fn stamps_are_on() -> ProbeSocket {
    let socket = udp(V4);
    socket
        .connect(socket.local_addr().expect("address"))
        .expect("connect");
    socket.enable_receive_stamps(false).expect("stamps");
    let start = mono_now();
    loop {
        socket.send(b"x", None).expect("send");
        if one(&socket, |received| received.kernel.is_some()) {
            return socket;
        }
        assert!(mono_now().since(start) < PATIENCE_NS, "no stamps at all");
    }
}

const DATAGRAMS: u32 = 1000;
const FIRST_ID: u32 = 0xffff_fe00;

fn stamps_both_ways(address: IpAddr, with_own_ids: bool) {
    let _on = stamps_are_on();
    let (sender, receiver) = connected_pair(address);
    sender.set_receive_buffer(4 << 20).expect("buffer");
    receiver.set_receive_buffer(4 << 20).expect("buffer");
    let mode = sender.enable_stamps(false).expect("stamps");
    receiver.enable_receive_stamps(false).expect("stamps");
    if with_own_ids && !mode.own_ids {
        eprintln!("not tried: this kernel takes no ids of our own");
        return;
    }
    let first = if with_own_ids { FIRST_ID } else { 0 };
    let mut windows: BTreeMap<u32, (WallNanos, WallNanos)> = BTreeMap::new();
    for n in 0..DATAGRAMS {
        // Over the end of 32 bits, as it happens to a session that lives long.
        let id = first.wrapping_add(n);
        let before = wall_now();
        sender
            .send(&id.to_be_bytes(), with_own_ids.then_some(id))
            .expect("send");
        windows.insert(id, (before, wall_now()));
    }
    let mut sent: BTreeMap<u32, WallNanos> = BTreeMap::new();
    let mut errors = ErrorBatch::new(64, 128);
    until(&sender, || {
        while sender.receive_errors(&mut errors).expect("errors") > 0 {
            for item in errors.iter() {
                let ErrorItem::Stamp {
                    id,
                    kernel: Some(at),
                    hardware: None,
                    ..
                } = item
                else {
                    panic!("unexpected {item:?}");
                };
                assert_eq!(sent.insert(id, at), None, "stamp {id} came twice");
            }
        }
        sent.len() == windows.len()
    });
    let mut received = 0;
    let mut batch = Batch::new(32, 64);
    let mut last = WallNanos(0);
    until(&receiver, || {
        while receiver.receive(&mut batch).expect("receive") > 0 {
            for datagram in batch.iter() {
                let id = u32::from_be_bytes(datagram.payload.try_into().expect("4 bytes"));
                assert_eq!(id, first.wrapping_add(received), "order");
                received += 1;
                assert_eq!(datagram.from, sender.local_addr().expect("address"));
                let at = datagram.kernel.expect("a stamp");
                // In the same clock as ours, and in the order of what happened.
                let (before, after) = windows[&id];
                assert!(before <= sent[&id], "left before it was sent");
                assert!(sent[&id] <= at, "arrived before it left");
                assert!(sent[&id] <= after, "stamped after send returned");
                assert!(last <= at && at <= wall_now());
                last = at;
            }
        }
        received == DATAGRAMS
    });
    assert!(sent.keys().eq(windows.keys()));
}

#[test]
fn every_datagram_is_stamped_by_own_id_v4() {
    stamps_both_ways(V4, true);
}

#[test]
fn every_datagram_is_stamped_by_own_id_v6() {
    stamps_both_ways(V6, true);
}

#[test]
fn every_datagram_is_stamped_by_count_v4() {
    stamps_both_ways(V4, false);
}

#[test]
fn every_datagram_is_stamped_by_count_v6() {
    stamps_both_ways(V6, false);
}

#[test]
fn port_unreachable_is_told_and_leaves_the_socket_good() {
    for (address, kind, code) in [(V4, 3, 3), (V6, 1, 4)] {
        let closed = closed_port(address);
        let sender = udp(address);
        sender.connect(closed).expect("connect");
        sender.receive_errors_on().expect("errors on");
        sender.send(b"anybody there?", None).expect("send");
        let mut errors = ErrorBatch::new(4, 128);
        until(&sender, || {
            sender.receive_errors(&mut errors).expect("errors") == 1
        });
        let item = errors.iter().next().expect("one");
        let ErrorItem::Icmp {
            kind: got_kind,
            code: got_code,
            errno,
            info,
            offender,
            to,
            payload,
        } = item
        else {
            panic!("unexpected {item:?}");
        };
        assert_eq!((got_kind, got_code, info), (kind, code, 0));
        assert_eq!(errno, libc::ECONNREFUSED);
        assert_eq!(offender, Some(address));
        assert_eq!(to, Some(closed));
        assert_eq!(payload, b"anybody there?");
        // Drained: nothing is pending, and a listener that comes back gets the next one.
        assert_eq!(sender.take_error().expect("SO_ERROR"), None);
        let listener = ProbeSocket::open(&SocketSpec::udp(address.is_ipv6())).expect("open");
        listener.bind(closed).expect("bind");
        sender.send(b"again", None).expect("send");
        one(&listener, |received| assert_eq!(received.payload, b"again"));
    }
}

#[test]
fn a_pending_error_costs_neither_a_send_nor_a_receive() {
    let closed = closed_port(V4);
    let socket = udp(V4);
    socket.receive_errors_on().expect("errors on");
    let healthy = udp(V4);
    let target = healthy.local_addr().expect("address");
    let pending = |poller_on: &ProbeSocket| {
        let poller = Poller::new().expect("epoll");
        poller.add(poller_on, 9, Interest::Errors).expect("add");
        let mut events = Events::new(1);
        assert_eq!(
            poller.wait(&mut events, Some(PATIENCE_NS)).expect("wait"),
            1
        );
        let ready = events.iter().next().expect("one");
        assert!(ready.error && ready.token == 9);
    };

    socket.send_reply(b"x", closed, None, 0).expect("send");
    pending(&socket);
    // E2: by plain sendmsg this fails with ECONNREFUSED and sends nothing.
    socket
        .send_reply(b"healthy", target, None, 0)
        .expect("send");
    one(&healthy, |received| {
        assert_eq!(received.payload, b"healthy");
    });
    let mut errors = ErrorBatch::new(4, 128);
    assert_eq!(socket.receive_errors(&mut errors).expect("errors"), 1);

    socket.send_reply(b"x", closed, None, 0).expect("send");
    pending(&socket);
    let back = socket.local_addr().expect("address");
    healthy.send_reply(b"answer", back, None, 0).expect("send");
    let mut batch = Batch::new(4, 64);
    assert_eq!(socket.receive(&mut batch).expect("no failure"), 0);
    assert_eq!(batch.soft_error, Some(libc::ECONNREFUSED));
    assert!(batch.is_empty() && batch.iter().next().is_none());
    until(&socket, || {
        socket.receive(&mut batch).expect("receive") == 1
    });
    assert_eq!(batch.soft_error, None);
    assert_eq!(batch.iter().next().expect("one").payload, b"answer");
}

#[test]
fn an_empty_queue_is_no_error() {
    let socket = udp(V4);
    let mut batch = Batch::new(4, 64);
    let mut errors = ErrorBatch::new(4, 64);
    assert_eq!(socket.receive(&mut batch).expect("receive"), 0);
    assert_eq!(batch.soft_error, None);
    assert_eq!(socket.receive_errors(&mut errors).expect("errors"), 0);
    assert!(errors.is_empty());
}

#[test]
fn what_a_full_buffer_drops_is_counted() {
    let (sender, receiver) = connected_pair(V4);
    receiver.receive_ttl_tos_pktinfo().expect("options");
    let bytes = receiver.set_receive_buffer(1).expect("buffer");
    assert!((1..16_384).contains(&bytes), "{bytes}");
    let sent = 300_u32;
    for _ in 0..sent {
        sender.send(&[0; 200], None).expect("send");
    }
    let mut batch = Batch::new(64, 256);
    let mut received = 0;
    let mut overflow = None;
    // Loopback delivers within send: all that will come is there.
    while receiver.receive(&mut batch).expect("receive") > 0 {
        received += u32::try_from(batch.len()).expect("few");
    }
    assert!(received < sent, "nothing was dropped");
    // The count rides on what comes after the drops.
    sender.send(b"tell", None).expect("send");
    one(&receiver, |datagram| overflow = datagram.overflow);
    assert_eq!(overflow, Some(sent - received));
    let memory = receiver.memory().expect("SO_MEMINFO");
    assert_eq!(memory.drops, sent - received);
    assert_eq!(usize::try_from(memory.receive_limit), Ok(bytes));
}

#[test]
fn buffers_are_as_large_as_the_kernel_says() {
    let socket = udp(V4);
    // Twice the request: the kernel's allowance for its overhead, socket(7).
    assert_eq!(socket.set_receive_buffer(1 << 20).expect("buffer"), 2 << 20);
    assert_eq!(socket.set_send_buffer(1 << 20).expect("buffer"), 2 << 20);
    assert!(socket.set_receive_buffer(usize::MAX).expect("capped") >= 2 << 20);
}

#[test]
fn ttl_tos_and_destination_are_received() {
    for (any, destination) in [
        (
            IpAddr::from(Ipv4Addr::UNSPECIFIED),
            IpAddr::from([127, 0, 0, 3]),
        ),
        (IpAddr::from(Ipv6Addr::UNSPECIFIED), V6),
    ] {
        let receiver = udp(any);
        receiver.receive_ttl_tos_pktinfo().expect("options");
        let port = receiver.local_addr().expect("address").port();
        let sender = udp(if any.is_ipv6() { V6 } else { V4 });
        sender.connect((destination, port).into()).expect("connect");
        for (ttl, tos) in [(255, 0), (77, 0xb8)] {
            sender.set_ttl(ttl).expect("ttl");
            sender.set_tos(tos).expect("tos");
            sender.send(b"how was the way?", None).expect("send");
            one(&receiver, |received| {
                assert_eq!(received.ttl, Some(ttl));
                assert_eq!(received.tos, Some(tos));
                assert_eq!(received.to, Some(destination));
                assert_eq!(received.ifindex, crate::device::index("lo").expect("lo"));
                assert_eq!(received.from, sender.local_addr().expect("address"));
                assert!(!received.truncated);
                assert_eq!(received.fragment_bytes, None);
            });
        }
        sender.send(&[1; 100], None).expect("send");
        let mut short = Batch::new(1, 10);
        until(&receiver, || {
            receiver.receive(&mut short).expect("receive") == 1
        });
        let received = short.iter().next().expect("one");
        assert!(received.truncated && received.payload == [1; 10]);
    }
}

#[test]
fn a_reply_leaves_from_the_address_that_was_probed() {
    let reflector = udp(Ipv4Addr::UNSPECIFIED.into());
    reflector.receive_ttl_tos_pktinfo().expect("options");
    let port = reflector.local_addr().expect("address").port();
    let probed = IpAddr::from([127, 0, 0, 2]);
    // Not connected, so that a reply from a wrong address would be seen.
    let client = udp(V4);
    client.receive_ttl_tos_pktinfo().expect("options");
    client
        .send_reply(b"probe", (probed, port).into(), None, 0)
        .expect("send");
    let (from, to, ifindex) = one(&reflector, |received| {
        (received.from, received.to, received.ifindex)
    });
    assert_eq!(to, Some(probed));
    reflector.send_reply(b"a", from, to, 0).expect("send");
    one(&client, |received| {
        assert_eq!(received.from, (probed, port).into());
    });
    reflector
        .send_reply_tos(b"b", from, to, ifindex, Some(0x28))
        .expect("send");
    one(&client, |received| {
        assert_eq!(received.from, (probed, port).into());
        assert_eq!(received.tos, Some(0x28));
    });
    // The control: without it the kernel chooses another address.
    reflector.send_reply(b"c", from, None, 0).expect("send");
    one(&client, |received| {
        assert_eq!(received.from, (V4, port).into());
    });
    // An address that is not ours is refused, not forged.
    let foreign = IpAddr::from([192, 0, 2, 1]);
    assert!(reflector.send_reply(b"d", from, Some(foreign), 0).is_err());
}

#[test]
fn a_reply_leaves_from_the_address_that_was_probed_v6() {
    let reflector = udp(Ipv6Addr::UNSPECIFIED.into());
    reflector.receive_ttl_tos_pktinfo().expect("options");
    let port = reflector.local_addr().expect("address").port();
    let client = udp(V6);
    client.receive_ttl_tos_pktinfo().expect("options");
    client.connect((V6, port).into()).expect("connect");
    client.send(b"probe", None).expect("send");
    let (from, to) = one(&reflector, |received| (received.from, received.to));
    reflector
        .send_reply_tos(b"answer", from, to, 0, Some(0x28))
        .expect("send");
    one(&client, |received| {
        assert_eq!(received.payload, b"answer");
        assert_eq!(received.from, (V6, port).into());
        assert_eq!(received.tos, Some(0x28));
    });
}

#[test]
fn an_ipv6_socket_never_takes_ipv4() {
    let six = udp(Ipv6Addr::UNSPECIFIED.into());
    let port = six.local_addr().expect("address").port();
    let four = ProbeSocket::open(&SocketSpec::udp(false)).expect("open");
    // Were it not v6-only, the port would be taken.
    four.bind((Ipv4Addr::UNSPECIFIED, port).into())
        .expect("bind");
}

#[test]
fn a_socket_bound_to_a_device_and_passed_on_works() {
    let spec = SocketSpec {
        device: Some("lo".to_owned()),
        ..SocketSpec::udp(false)
    };
    let opened = ProbeSocket::open(&spec).expect("open");
    opened.bind((V4, 0).into()).expect("bind");
    let (left, right) = crate::fdpass::pair().expect("pair");
    crate::fdpass::send(&left, b"socket", Some(opened.as_fd())).expect("send");
    let address = opened.local_addr().expect("address");
    drop(opened);
    let (_, fd) = crate::fdpass::recv(&right, &mut [0; 16]).expect("recv");
    let taken = ProbeSocket::from_fd(fd.expect("a descriptor"), &spec).expect("from_fd");
    assert_eq!(taken.local_addr().expect("address"), address);
    let client = udp(V4);
    client.connect(address).expect("connect");
    client.send(b"to the taken one", None).expect("send");
    one(&taken, |received| {
        assert_eq!(received.payload, b"to the taken one");
    });
}

#[test]
fn what_cannot_be_opened_or_bound_is_named() {
    let spec = SocketSpec {
        device: Some("nosuch0".to_owned()),
        ..SocketSpec::udp(false)
    };
    let error = ProbeSocket::open(&spec).expect_err("no such device");
    assert!(error.to_string().contains("nosuch0"), "{error}");
    let taken = udp(V4);
    let address = taken.local_addr().expect("address");
    let other = ProbeSocket::open(&SocketSpec::udp(false)).expect("open");
    let error = other.bind(address).expect_err("in use");
    assert_eq!(errno_of(&error), Some(libc::EADDRINUSE));
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[test]
fn a_batch_crosses_threads() {
    fn send<T: Send>(_: &T) {}
    send(&Batch::new(1, 1));
    send(&ErrorBatch::new(1, 1));
    // Bounds are kept, not trusted.
    assert!(Batch::new(0, 0).is_empty());
    // A value that moved after use is used again.
    let (sender, receiver) = connected_pair(V4);
    let mut batch = Batch::new(2, 16);
    for n in 0..3_u8 {
        sender.send(&[n; 8], None).expect("send");
        until(&receiver, || {
            receiver.receive(&mut batch).expect("receive") == 1
        });
        batch = std::thread::spawn(move || {
            assert_eq!(batch.iter().next().expect("one").payload, [n; 8]);
            batch
        })
        .join()
        .expect("the other thread");
    }
}
