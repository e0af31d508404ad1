//! The program by `BPF_PROG_TEST_RUN`, with the frames that are easily misjudged.

use super::*;
use aya::programs::{TestRun, TestRunOptions};
use std::io;
use std::os::fd::FromRawFd;

const PASS: u32 = 2;
const REDIRECT: u32 = 4;

/// The program with a socket on queue 0; `None`: not allowed here, said on standard error.
fn loaded(wanted: Wanted, spare: &[u16]) -> Option<(XdpCapture, OwnedFd)> {
    let options = XdpOptions {
        wanted,
        spare_tcp_ports: spare.to_vec(),
        stamps: true,
        queues: 1,
    };
    let mut made = match XdpCapture::load(&options) {
        Err(LoadError::System { error, .. }) if error.raw_os_error() == Some(libc::EPERM) => {
            eprintln!("ignored: {error}");
            return None;
        }
        other => other.expect("loads"),
    };
    // The map takes any socket of the family; a test run redirects nothing for good.
    // SAFETY: plain integers.
    let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    assert!(fd >= 0, "{}", io::Error::last_os_error());
    // SAFETY: just opened.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    made.set_socket(0, socket.as_fd()).expect("queue 0");
    made.arm(true).expect("armed");
    Some((made, socket))
}

fn run(made: &XdpCapture, frame: &[u8]) -> (u32, Vec<u8>) {
    let mut out = vec![0; frame.len() + 256];
    let result = program(&made.ebpf)
        .expect("the program")
        .test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ..TestRunOptions::new()
        })
        .expect("runs");
    out.truncate(result.data_size_out as usize);
    (result.return_value, out)
}

/// Ethernet, tags, type.
fn ethernet(tags: &[u16], kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2; 12];
    for tag in tags {
        frame.extend(tag.to_be_bytes());
        frame.extend([0, 7]);
    }
    frame.extend(kind.to_be_bytes());
    frame.extend(payload);
    frame
}

/// IPv4 with `options` words, and the flags-and-offset field as it is.
fn ipv4(protocol: u8, options: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 20 + usize::from(options) * 4];
    packet[0] = 0x45 + options;
    packet[6..8].copy_from_slice(&fragment.to_be_bytes());
    packet[9] = protocol;
    packet.extend(payload);
    packet
}

fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 40];
    packet[0] = 0x60;
    packet[6] = next;
    packet.extend(payload);
    packet
}

/// A UDP or TCP header as far as ports go, and something behind.
fn ports(destination: u16) -> Vec<u8> {
    let mut header = vec![0xc0, 0x01];
    header.extend(destination.to_be_bytes());
    header.extend([0; 16]);
    header
}

/// An extension header of 8 octets, or an authentication header of 24.
fn extension(next: u8, authentication: bool) -> Vec<u8> {
    let mut header = vec![next, if authentication { 4 } else { 0 }];
    header.resize(if authentication { 24 } else { 8 }, 0);
    header
}

/// IPv6 fragment header with its offset in octets.
fn fragment(next: u8, offset: u16, more: bool) -> Vec<u8> {
    let mut header = vec![next, 0];
    header.extend((offset | u16::from(more)).to_be_bytes());
    header.extend([0, 0, 0, 9]);
    header
}

#[derive(Copy, Clone, PartialEq, Debug)]
enum Expect {
    Take,
    Pass,
    Unjudged,
}
use Expect::{Pass, Take, Unjudged};

struct Case {
    what: &'static str,
    frame: Vec<u8>,
    /// Tunnels to 4789 and 6081; all IP; all but TCP to 22.
    expect: [Expect; 3],
}

fn case(what: &'static str, frame: Vec<u8>, expect: [Expect; 3]) -> Case {
    Case {
        what,
        frame,
        expect,
    }
}

fn v4(payload: &[u8]) -> Vec<u8> {
    ethernet(&[], 0x0800, payload)
}

fn v6(payload: &[u8]) -> Vec<u8> {
    ethernet(&[], 0x86dd, payload)
}

fn cases() -> Vec<Case> {
    let hop_by_hop = |rest: &[u8]| [extension(17, false), rest.to_vec()].concat();
    vec![
        case("VXLAN", v4(&ipv4(17, 0, 0, &ports(4789))), [Take; 3]),
        case("Geneve", v4(&ipv4(17, 0, 0, &ports(6081))), [Take; 3]),
        case(
            "near VXLAN",
            v4(&ipv4(17, 0, 0, &ports(4788))),
            [Pass, Take, Take],
        ),
        case("port 0", v4(&ipv4(17, 0, 0, &ports(0))), [Pass, Take, Take]),
        case(
            "port 65535",
            v4(&ipv4(17, 0, 0, &ports(65535))),
            [Pass, Take, Take],
        ),
        case(
            "TCP to 4789",
            v4(&ipv4(6, 0, 0, &ports(4789))),
            [Pass, Take, Take],
        ),
        case("ssh", v4(&ipv4(6, 0, 0, &ports(22))), [Pass, Take, Pass]),
        case(
            "UDP to 22",
            v4(&ipv4(17, 0, 0, &ports(22))),
            [Pass, Take, Take],
        ),
        case("options", v4(&ipv4(17, 10, 0, &ports(4789))), [Take; 3]),
        case(
            "a first fragment",
            v4(&ipv4(17, 0, 0x2000, &ports(4789))),
            [Take; 3],
        ),
        case(
            "a later fragment",
            v4(&ipv4(17, 0, 0x2001, &ports(4789))),
            [Unjudged, Take, Take],
        ),
        case(
            "the last fragment",
            v4(&ipv4(17, 0, 0x0001, &ports(4789))),
            [Unjudged, Take, Take],
        ),
        case(
            "don't fragment",
            v4(&ipv4(17, 0, 0x4000, &ports(4789))),
            [Take; 3],
        ),
        case(
            "a later fragment of TCP",
            v4(&ipv4(6, 0, 1, &ports(22))),
            [Pass, Take, Unjudged],
        ),
        case("GRE", v4(&ipv4(47, 0, 0, &[0; 8])), [Pass, Take, Take]),
        case(
            "ICMP",
            v4(&ipv4(1, 0, 0, &[8, 0, 0, 0])),
            [Pass, Take, Take],
        ),
        case(
            "cut in the ports",
            v4(&ipv4(17, 0, 0, &[0xc0, 1, 0x12])),
            [Unjudged, Take, Take],
        ),
        case(
            "cut before the ports",
            v4(&ipv4(6, 0, 0, &[])),
            [Pass, Take, Unjudged],
        ),
        case(
            "cut in the header",
            v4(&ipv4(17, 0, 0, &[])[..19]),
            [Unjudged; 3],
        ),
        case(
            "a header of 16",
            v4(&[&[0x44; 1][..], &[0; 40]].concat()),
            [Unjudged; 3],
        ),
        case(
            "IPv6 inside IPv4's type",
            v4(&ipv6(17, &ports(4789))),
            [Unjudged; 3],
        ),
        case("Ethernet alone", ethernet(&[], 0x0800, &[]), [Unjudged; 3]),
        case("ARP", ethernet(&[], 0x0806, &[0; 28]), [Pass, Pass, Take]),
        case(
            "a tag",
            ethernet(&[0x8100], 0x0800, &ipv4(17, 0, 0, &ports(4789))),
            [Take; 3],
        ),
        case(
            "two tags",
            ethernet(&[0x88a8, 0x8100], 0x86dd, &ipv6(17, &ports(4789))),
            [Take; 3],
        ),
        case(
            "three tags",
            ethernet(
                &[0x88a8, 0x8100, 0x8100],
                0x0800,
                &ipv4(17, 0, 0, &ports(4789)),
            ),
            [Pass, Pass, Take],
        ),
        case(
            "cut in a tag",
            ethernet(&[0x8100], 0x0800, &[])[..16].to_vec(),
            [Unjudged; 3],
        ),
        case("VXLAN on IPv6", v6(&ipv6(17, &ports(4789))), [Take; 3]),
        case("ssh on IPv6", v6(&ipv6(6, &ports(22))), [Pass, Take, Pass]),
        case("cut in IPv6", v6(&ipv6(17, &[])[..39]), [Unjudged; 3]),
        case(
            "hop by hop",
            v6(&ipv6(0, &hop_by_hop(&ports(4789)))),
            [Take; 3],
        ),
        case(
            "authentication",
            v6(&ipv6(51, &[extension(17, true), ports(4789)].concat())),
            [Take; 3],
        ),
        case(
            "cut in an extension",
            v6(&ipv6(0, &[17, 0, 0])),
            [Unjudged; 3],
        ),
        case(
            "a first IPv6 fragment",
            v6(&ipv6(44, &[fragment(17, 0, true), ports(4789)].concat())),
            [Take; 3],
        ),
        case(
            "a later IPv6 fragment",
            v6(&ipv6(44, &[fragment(17, 8, false), ports(4789)].concat())),
            [Unjudged, Take, Take],
        ),
        case(
            "extensions without end",
            v6(&ipv6(
                0,
                &[extension(0, false).repeat(6), hop_by_hop(&ports(4789))].concat(),
            )),
            [Unjudged; 3],
        ),
    ]
}

#[test]
fn each_frame_is_judged_as_listed() {
    let ways = [
        (Wanted::mirror(), &[][..]),
        (Wanted::Ip, &[]),
        (Wanted::All, &[22]),
    ];
    for (way, (wanted, spare)) in ways.into_iter().enumerate() {
        let Some((made, _socket)) = loaded(wanted.clone(), spare) else {
            return;
        };
        for case in cases() {
            let before = made.verdicts().expect("counters");
            let (action, out) = run(&made, &case.frame);
            let after = made.verdicts().expect("counters");
            let (expected, counted) = match case.expect[way] {
                Take => (REDIRECT, after.redirected - before.redirected),
                Pass => (PASS, after.passed - before.passed),
                Unjudged => (PASS, after.unjudged - before.unjudged),
            };
            let what = format!("{wanted:?}: {}", case.what);
            assert_eq!(action, expected, "{what}");
            assert_eq!(counted, 1, "{what}: {before:?} {after:?}");
            let all = |v: Verdicts| v.redirected + v.passed + v.unjudged + v.no_socket;
            assert_eq!(all(after) - all(before), 1, "{what}: one verdict");
            assert_eq!(after.unstamped, 0);
            // The frame itself is as it was, behind the time if it was taken.
            let stamp = if expected == REDIRECT { STAMP_BYTES } else { 0 };
            assert_eq!(out[stamp..], case.frame, "{what}");
        }
    }
}

#[test]
fn all_means_all() {
    let Some((made, _socket)) = loaded(Wanted::All, &[]) else {
        return;
    };
    for case in cases() {
        assert_eq!(run(&made, &case.frame).0, REDIRECT, "{}", case.what);
    }
}

#[test]
fn gre_is_a_tunnel_when_asked_for() {
    let wanted = Wanted::Tunnels {
        udp_ports: vec![],
        gre: true,
    };
    let Some((made, _socket)) = loaded(wanted, &[]) else {
        return;
    };
    assert_eq!(run(&made, &v4(&ipv4(47, 0, 1, &[0; 8]))).0, REDIRECT);
    assert_eq!(run(&made, &v4(&ipv4(17, 0, 0, &ports(4789)))).0, PASS);
}

fn mono_now() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is writable.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

#[test]
fn the_time_in_front_is_the_monotonic_clock() {
    let Some((made, _socket)) = loaded(Wanted::All, &[]) else {
        return;
    };
    let before = mono_now();
    let (_, out) = run(&made, &[0; 60]);
    let after = mono_now();
    let stamp = u64::from_ne_bytes(out[..8].try_into().expect("eight"));
    assert!(
        before <= stamp && stamp <= after,
        "{before} {stamp} {after}"
    );
}

#[test]
fn times_are_shared_as_often_as_asked_for() {
    let Some((mut made, _socket)) = loaded(Wanted::All, &[]) else {
        return;
    };
    let times = |made: &XdpCapture, count: usize| -> Vec<u64> {
        let one = |_| {
            let (_, out) = run(made, &[0; 60]);
            u64::from_ne_bytes(out[..8].try_into().expect("eight"))
        };
        (0..count).map(one).collect()
    };
    let own = times(&made, 8);
    assert!(own.windows(2).all(|pair| pair[0] < pair[1]), "{own:?}");
    made.share_times(0, 3).expect("queue 0");
    let shared = times(&made, 400);
    // A tick of the kernel ends a run early.
    let runs: Vec<usize> = shared.chunk_by(|a, b| a == b).map(<[u64]>::len).collect();
    let whole = runs.iter().filter(|run| **run == 4).count();
    assert!(runs.iter().all(|run| *run <= 4) && whole > 20, "{runs:?}");
    assert!(shared.is_sorted() && shared[0] > own[7]);
    // In the middle of a run.
    made.share_times(0, 0).expect("queue 0");
    let own = times(&made, 8);
    assert!(own.windows(2).all(|pair| pair[0] < pair[1]), "{own:?}");
    assert!(own[0] > shared[399]);
    assert!(made.share_times(1, 1).is_err());
}

#[test]
fn without_a_socket_or_unarmed_the_host_keeps_its_frames() {
    let Some((mut made, socket)) = loaded(Wanted::All, &[]) else {
        return;
    };
    made.arm(false).expect("disarmed");
    assert_eq!(run(&made, &[0; 60]), (PASS, vec![0; 60]));
    assert_eq!(made.verdicts().expect("counters"), Verdicts::default());
    made.arm(true).expect("armed");
    // Closing a socket takes it out of the map.
    drop(socket);
    assert_eq!(
        run(&made, &[0; 60]),
        (PASS, vec![0; 60]),
        "no time left in front"
    );
    let expected = Verdicts {
        no_socket: 1,
        ..Verdicts::default()
    };
    assert_eq!(made.verdicts().expect("counters"), expected);
    assert!(made.set_socket(1, io::stderr().as_fd()).is_err());
}
