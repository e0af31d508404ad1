use std::net::UdpSocket;
use std::process::Command;
use std::time::Instant;

use sys::clock::wall_now;
use sys::netns::{Namespace, unique_name};

use super::*;

/// Runs in a namespace of its own with `lo` up and a pair of devices; without the privilege
/// it says so and does not run.
fn inside(work: impl FnOnce()) {
    let namespace = match Namespace::create(&unique_name()) {
        Ok(namespace) => namespace,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    let run = namespace.run(|| {
        ip(&["link", "set", "lo", "up"]);
        ip(&[
            "link", "add", "left", "type", "veth", "peer", "name", "right",
        ]);
        ip(&["link", "set", "left", "up"]);
        ip(&["link", "set", "right", "up"]);
        work();
    });
    run.expect("entered");
}

fn ip(words: &[&str]) {
    let status = Command::new("ip").args(words).status().expect("iproute2");
    assert!(status.success(), "{words:?}");
}

/// Polls until `enough`, or for 10 s.
fn poll_until(
    source: &mut LibpcapSource,
    mut enough: impl FnMut(&Frame<'_>) -> bool,
) -> Result<(), SourceError> {
    let begun = Instant::now();
    let mut done = false;
    while !done {
        assert!(begun.elapsed() < Duration::from_secs(10), "nothing comes");
        source.poll(Duration::from_millis(100), |frames| {
            for frame in frames {
                done |= enough(frame);
            }
        })?;
    }
    Ok(())
}

#[test]
fn frames_come_with_their_times_and_lengths() {
    inside(|| {
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let to = receiver.local_addr().expect("bound");
        let filter = format!("udp dst port {}", to.port());
        let mut source = LibpcapSource::open("lo", &filter, 60, 4 << 20).expect("lo");
        assert_eq!(source.link(), LinkType::Ethernet);
        let before = wall_now();
        let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        for index in 0..300_usize {
            sender.send_to(&vec![7; index], to).expect("sent");
            // Not for the filter.
            sender
                .send_to(&[0], sender.local_addr().expect("bound"))
                .expect("sent");
        }
        let mut lengths = Vec::new();
        let (mut last, mut finer) = (before, 0);
        let seen = poll_until(&mut source, |frame| {
            assert!(frame.at >= last, "in order");
            last = frame.at;
            finer += usize::from(!last.0.is_multiple_of(1000));
            assert_eq!(frame.bytes.len(), 60.min(frame.original_len as usize));
            lengths.push(frame.original_len as usize);
            lengths.len() == 300
        });
        seen.expect("lo stays");
        // Ethernet, IPv4 and UDP before the payload.
        assert_eq!(
            lengths,
            (0..300).map(|index| 42 + index).collect::<Vec<_>>()
        );
        assert!(last <= wall_now() && source.newest() == Some(last));
        assert!(finer > 250, "nanoseconds, not microseconds");
        assert_eq!(source.drops().expect("drops"), Drops::default());
        let quiet = source.poll(Duration::ZERO, |_| panic!("nothing was sent"));
        assert_eq!(quiet.expect("lo stays"), Polled::Quiet);
    });
}

#[test]
fn what_its_ring_drops_is_counted() {
    inside(|| {
        // To a neighbour that is not there: the other end of the pair sees every frame.
        ip(&["addr", "add", "10.0.0.1/24", "dev", "left"]);
        ip(&[
            "neigh",
            "add",
            "10.0.0.2",
            "lladdr",
            "02:00:00:00:00:02",
            "dev",
            "left",
        ]);
        let to = "10.0.0.2:9";
        let mut source =
            LibpcapSource::open("right", "udp dst port 9", 0, 64 << 10).expect("a device");
        let sender = UdpSocket::bind("10.0.0.1:0").expect("a socket");
        let sent = 5000;
        for _ in 0..sent {
            sender.send_to(&[7; 1400], to).expect("sent");
        }
        let mut lent = 0;
        // Everything was on the device before the first poll: what is there ends.
        while let Polled::Frames(count) = source
            .poll(Duration::from_millis(200), |_| {})
            .expect("lo stays")
        {
            lent += count as u64;
        }
        let lost = source.drops().expect("drops").lost();
        assert!(lost > 0, "the ring was too large for this test");
        assert_eq!(lent + lost, sent);
    });
}

#[test]
fn a_device_that_goes_is_an_error() {
    inside(|| {
        let mut source = LibpcapSource::open("left", "", 0, 0).expect("a device");
        ip(&["link", "del", "left"]);
        let error = poll_until(&mut source, |_| false).expect_err("it is gone");
        assert!(
            error.to_string().starts_with("pcap_dispatch on left: "),
            "{error}"
        );
    });
}

#[test]
fn what_cannot_be_opened_says_why() {
    inside(|| {
        let error = LibpcapSource::open("nosuch0", "", 0, 0)
            .err()
            .expect("none");
        assert!(error.to_string().contains("nosuch0"), "{error}");
        let error = LibpcapSource::open("lo", "tcp prot 1", 0, 0)
            .err()
            .expect("none");
        assert!(error.to_string().contains("syntax error"), "{error}");
    });
}
