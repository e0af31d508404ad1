use super::*;
use crate::netns::{Namespace, unique_name};
use std::process::Command;

fn ip(namespace: &str, words: &str) {
    let status = Command::new("ip")
        .args(["-n", namespace])
        .args(words.split(' '))
        .status()
        .expect("iproute2");
    assert!(status.success(), "ip -n {namespace} {words}");
}

/// A veth pair in a namespace of its own; `None` without the privilege.
fn pair() -> Option<Namespace> {
    let name = unique_name();
    let namespace = Namespace::create(&name).ok()?;
    namespace
        .run(|| std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"))
        .expect("enter")
        .expect("sysctl");
    ip(
        &name,
        "link add left mtu 9001 type veth peer name right mtu 9001",
    );
    ip(&name, "link set left up");
    ip(&name, "link set right up");
    Some(namespace)
}

fn frame(number: u32, length: usize) -> Vec<u8> {
    let mut bytes = vec![0xa5; length];
    bytes[..6].fill(0xff);
    // An EtherType for local experiments: no protocol of the kernel takes it.
    bytes[12..14].copy_from_slice(&[0x88, 0xb5]);
    bytes[14..18].copy_from_slice(&number.to_be_bytes());
    bytes
}

#[test]
fn frames_arrive_whole_in_order_stamped_and_never_at_their_sender() {
    let Some(namespace) = pair() else { return };
    let (left, right) = namespace
        .run(|| (PacketSocket::open("left"), PacketSocket::open("right")))
        .expect("enter");
    let (left, right) = (left.expect("left"), right.expect("right"));
    assert!(right.set_buffers(8 << 20).expect("buffers") >= 4 << 20);

    let sizes = [60, 1_514, 9_015, 60, 61];
    let frames: Vec<_> = (0..).zip(sizes).map(|(n, size)| frame(n, size)).collect();
    let slices: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    let before = std::time::SystemTime::now();
    assert_eq!(left.send(&slices).expect("send"), 5);

    let mut batch = FrameBatch::new(8, 9_100);
    let mut seen = 0;
    while seen < 5 && wait(&[right.as_fd()], 1_000_000_000).expect("ppoll") {
        let count = right.receive(&mut batch).expect("receive");
        // The softirq that stamps them may run after send() has returned.
        let after = std::time::SystemTime::now();
        for i in 0..count {
            let got = batch.get(i);
            assert_eq!(got.bytes, frames[seen], "frame {seen}");
            assert!(!got.truncated);
            let at = got.at.expect("a kernel stamp").0;
            let nanos = |t: std::time::SystemTime| {
                let since = t.duration_since(std::time::UNIX_EPOCH).expect("after 1970");
                u64::try_from(since.as_nanos()).expect("fits")
            };
            assert!((nanos(before)..=nanos(after)).contains(&at));
            seen += 1;
        }
    }
    assert_eq!(seen, 5);
    assert_eq!(left.receive(&mut batch).expect("receive"), 0);
    assert!(batch.is_empty() && batch.get(0).bytes.is_empty());
    let counted = right.statistics().expect("statistics");
    assert_eq!((counted.seen, counted.dropped), (5, 0));
    assert_eq!(right.statistics().expect("statistics").seen, 0);
}

#[test]
fn a_frame_longer_than_the_buffer_says_so() {
    let Some(namespace) = pair() else { return };
    let (left, right) = namespace
        .run(|| (PacketSocket::open("left"), PacketSocket::open("right")))
        .expect("enter");
    let (left, right) = (left.expect("left"), right.expect("right"));
    left.send(&[&frame(1, 1_000)]).expect("send");
    let mut batch = FrameBatch::new(1, 100);
    assert!(wait(&[right.as_fd()], 1_000_000_000).expect("ppoll"));
    assert_eq!(right.receive(&mut batch).expect("receive"), 1);
    assert!(batch.get(0).truncated);
    assert_eq!(batch.get(0).bytes.len(), 100);
}

#[test]
fn a_full_buffer_is_counted() {
    let Some(namespace) = pair() else { return };
    let (left, right) = namespace
        .run(|| (PacketSocket::open("left"), PacketSocket::open("right")))
        .expect("enter");
    let (left, right) = (left.expect("left"), right.expect("right"));
    set_option(
        right.fd.as_raw_fd(),
        libc::SOL_SOCKET,
        libc::SO_RCVBUF,
        4_096,
    )
    .expect("small");
    let one = frame(1, 1_000);
    for _ in 0..200 {
        left.send(&[&one]).expect("send");
    }
    let counted = right.statistics().expect("statistics");
    assert_eq!(counted.seen, 200);
    assert!(counted.dropped > 100, "{counted:?}");
}

#[test]
fn a_missing_device_is_an_error() {
    let error = PacketSocket::open("no-such-device").expect_err("missing");
    assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
}
