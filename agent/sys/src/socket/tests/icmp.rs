//! Echo by raw and ping sockets. The kernel of this host is the one that answers.

use super::*;
use crate::netns::{Namespace, unique_name};

fn echo(kind: u8, ident: u16, sequence: u16) -> [u8; 16] {
    let mut packet = [0x5a; 16];
    packet[0] = kind;
    packet[1..4].fill(0);
    packet[4..6].copy_from_slice(&ident.to_be_bytes());
    packet[6..8].copy_from_slice(&sequence.to_be_bytes());
    let sum: u32 = packet
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "folded to 16 bits, of 8 words"
    )]
    packet[2..4].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    packet
}

/// The answer to one echo, its stamps, and the identifier on the wire.
fn echo_is_answered(address: IpAddr, kind: SocketKind, namespaced: bool) {
    let _on = stamps_are_on();
    let spec = SocketSpec {
        ipv6: address.is_ipv6(),
        kind,
        device: None,
    };
    let socket = match ProbeSocket::open(&spec) {
        Ok(socket) => socket,
        Err(error) if !namespaced && unprivileged(&error) => return,
        Err(error) => panic!("{error}"),
    };
    socket.bind((address, 0).into()).expect("bind");
    socket.receive_ttl_tos_pktinfo().expect("options");
    socket.receive_errors_on().expect("errors on");
    let mode = socket.enable_stamps(false).expect("stamps");
    socket.connect((address, 0).into()).expect("connect");
    let (request, reply) = if address.is_ipv6() {
        (128, 129)
    } else {
        (8, 0)
    };
    // A ping socket's identifier is its port, whatever we write.
    let ident = match kind {
        SocketKind::IcmpPing => socket.local_addr().expect("address").port(),
        _ => 0x4e53,
    };
    let own_id = mode.own_ids.then_some(4711);
    let packet = echo(request, ident, 7);
    assert_eq!(socket.send(&packet, own_id).expect("send"), packet.len());
    let mut batch = Batch::new(4, 128);
    // Other tests' echoes are seen by raw sockets too: ours has our identifier.
    until(&socket, || {
        socket.receive(&mut batch).expect("receive");
        batch.iter().any(|received| {
            assert_eq!(
                received.payload[0], reply,
                "the filter lets only replies through"
            );
            let ours = received.payload[4..8] == packet[4..8];
            if ours {
                assert_eq!(received.payload.len(), packet.len());
                assert_eq!(received.payload[8..], packet[8..]);
                assert_eq!(received.from.ip(), address);
                assert_eq!(received.to, Some(address));
                assert_eq!(received.ttl, Some(64));
                assert!(received.kernel.is_some());
            }
            ours
        })
    });
    let mut errors = ErrorBatch::new(4, 128);
    until(&socket, || {
        socket.receive_errors(&mut errors).expect("errors") == 1
    });
    let item = errors.iter().next().expect("one");
    let ErrorItem::Stamp {
        id,
        kernel: Some(_),
        ..
    } = item
    else {
        panic!("unexpected {item:?}");
    };
    assert_eq!(id, own_id.unwrap_or(0));
}

#[test]
fn raw_echo_is_answered_and_stamped() {
    echo_is_answered(V4, SocketKind::IcmpRaw, false);
}

#[test]
fn raw_echo_is_answered_and_stamped_v6() {
    echo_is_answered(V6, SocketKind::IcmpRaw, false);
}

#[test]
fn ping_sockets_are_answered_and_stamped_where_the_group_may() {
    let namespace = match Namespace::create(&unique_name()) {
        Ok(namespace) => namespace,
        Err(error) => {
            assert!(unprivileged(&error), "{error}");
            return;
        }
    };
    namespace
        .run(|| {
            mtu::loopback_up(65_536);
            let range = "/proc/sys/net/ipv4/ping_group_range";
            std::fs::write(range, "0 0").expect("the namespace's own group range");
            for address in [V4, V6] {
                echo_is_answered(address, SocketKind::IcmpPing, true);
            }
        })
        .expect("enter");
}
