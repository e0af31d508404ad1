//! The program run by the kernel on made frames (as they arrive; frames that leave are in the
//! lab's trials). Needs the privilege to load programs.

use aya::programs::{TestRun, TestRunOptions};

use super::*;

const SEED: u64 = 0x0123_4567_89ab_cdef;

struct Program(Fanout);

impl Program {
    fn load(layer: Layer) -> Option<Self> {
        match Fanout::load(layer, SEED) {
            Ok(fanout) => Some(Self(fanout)),
            Err(LoadError::System { error, .. })
                if error.raw_os_error() == Some(libc::EPERM)
                    && std::env::var_os("CI").is_none() =>
            {
                eprintln!("ignored: {error}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn hash(&self, frame: &[u8]) -> u32 {
        let options = TestRunOptions {
            data_in: Some(frame),
            ..TestRunOptions::new()
        };
        let program = program(&self.0.ebpf).expect("the program");
        program.test_run(options).expect("it runs").return_value
    }
}

#[derive(Copy, Clone)]
struct End(u8, u16);
const A: End = End(1, 40_000);
const B: End = End(2, 443);

fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    frame.extend(kind.to_be_bytes());
    frame.extend(payload);
    frame
}

/// `place`: the 16 bits of flags and fragment offset.
fn ipv4_full(
    from: u8,
    to: u8,
    protocol: u8,
    id: u16,
    place: u16,
    options: usize,
    payload: &[u8],
) -> Vec<u8> {
    let mut packet = vec![0x45 + options as u8, 0];
    packet.extend((20 + options * 4 + payload.len()).to_be_bytes()[6..].iter());
    packet.extend(id.to_be_bytes());
    packet.extend(place.to_be_bytes());
    packet.extend([64, protocol, 0, 0, 10, 0, 0, from, 10, 0, 0, to]);
    packet.extend(vec![1; options * 4]);
    packet.extend(payload);
    packet
}

fn ipv4(from: u8, to: u8, protocol: u8, payload: &[u8]) -> Vec<u8> {
    ipv4_full(from, to, protocol, 7, 0x4000, 0, payload)
}

fn ipv6(from: u8, to: u8, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(&payload.len().to_be_bytes()[6..]);
    packet.extend([next, 64]);
    for end in [from, to] {
        packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, end]);
    }
    packet.extend(payload);
    packet
}

fn ports(from: End, to: End) -> Vec<u8> {
    [from.1.to_be_bytes(), to.1.to_be_bytes()].concat()
}

fn tcp(from: End, to: End) -> Vec<u8> {
    [
        ports(from, to),
        vec![0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 1, 0, 0, 0, 0, 0],
    ]
    .concat()
}

fn udp(from_port: u16, to_port: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = ports(End(0, from_port), End(0, to_port));
    datagram.extend(&(8 + payload.len()).to_be_bytes()[6..]);
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

fn tcp4(from: End, to: End) -> Vec<u8> {
    ipv4(from.0, to.0, 6, &tcp(from, to))
}

fn tcp6(from: End, to: End) -> Vec<u8> {
    ipv6(from.0, to.0, 6, &tcp(from, to))
}

/// As VPC Traffic Mirroring sends it: the outer ports say nothing of the inner flow.
fn mirrored(outer_port: u16, inner: &[u8]) -> Vec<u8> {
    let vxlan = [&[8, 0, 0, 0, 0, 0, 77, 0][..], &ethernet(0x0800, inner)].concat();
    ethernet(0x0800, &ipv4(9, 10, 17, &udp(outer_port, 4789, &vxlan)))
}

fn icmp(kind: u8, quoted: &[u8]) -> Vec<u8> {
    [&[kind, 4, 0, 0, 0, 0, 5, 0], quoted].concat()
}

/// Every frame that must reach the worker of the flow between A and B, both ways.
fn of_one_flow_v4() -> Vec<(&'static str, Vec<u8>)> {
    let vlan = |inner: &[u8]| [&[0, 5, 8, 0], inner].concat();
    let mut frames = Vec::new();
    for (from, to, outer) in [(A, B, 50_001), (B, A, 61_234)] {
        let inner = tcp4(from, to);
        let geneve = [&[2, 0, 8, 0, 0, 0, 9, 0][..], &[0; 8], &inner].concat();
        let gre = |flags: u16, kind: u16, options: usize, inner: &[u8]| {
            let head = [flags.to_be_bytes(), kind.to_be_bytes()].concat();
            let packet = [&head, &vec![0; options][..], inner].concat();
            ethernet(0x0800, &ipv4(8, 9, 47, &packet))
        };
        let in_ethernet = ethernet(0x0800, &inner);
        let mut options = ipv4_full(from.0, to.0, 6, 9, 0, 3, &tcp(from, to));
        options.extend([0; 6]);
        frames.extend([
            ("plain", ethernet(0x0800, &inner)),
            ("IPv4 options", ethernet(0x0800, &options)),
            ("VLAN", ethernet(0x8100, &vlan(&inner))),
            (
                "two VLANs",
                ethernet(0x88a8, &[&[0, 9, 0x81, 0], &vlan(&inner)[..]].concat()),
            ),
            (
                "MPLS",
                ethernet(0x8847, &[&[0, 1, 0, 64, 0, 2, 1, 64], &inner[..]].concat()),
            ),
            ("VXLAN", mirrored(outer, &inner)),
            (
                "Geneve",
                ethernet(0x0800, &ipv4(3, 4, 17, &udp(outer, 6081, &geneve))),
            ),
            ("GRE", gre(0, 0x0800, 0, &inner)),
            ("GRE with key and sequence", gre(0x3000, 0x0800, 8, &inner)),
            ("GRE with Ethernet", gre(0x2000, 0x6558, 4, &in_ethernet)),
            ("ERSPAN I", gre(0, 0x88be, 0, &in_ethernet)),
            (
                "ERSPAN II",
                gre(0x1000, 0x88be, 4, &[&[0x10; 8], &in_ethernet[..]].concat()),
            ),
            (
                "ERSPAN III",
                gre(0x1000, 0x22eb, 4, &[&[0x20; 12], &in_ethernet[..]].concat()),
            ),
            (
                "IP in IP",
                ethernet(0x0800, &ipv4(from.0 + 7, to.0 + 9, 4, &inner)),
            ),
            (
                "IP in IPv6",
                ethernet(0x86dd, &ipv6(from.0 + 7, to.0 + 9, 4, &inner)),
            ),
            (
                "too big",
                ethernet(0x0800, &ipv4(99, from.0, 1, &icmp(3, &inner[..28]))),
            ),
            (
                "time exceeded in VXLAN",
                mirrored(outer, &ipv4(98, from.0, 1, &icmp(11, &inner[..28]))),
            ),
        ]);
    }
    frames
}

#[test]
fn whatever_is_of_a_flow_reaches_its_worker() {
    let Some(program) = Program::load(Layer::Innermost) else {
        return;
    };
    let frames = of_one_flow_v4();
    let expected = program.hash(&frames[0].1);
    for (name, frame) in &frames {
        assert_eq!(program.hash(frame), expected, "{name}");
    }
    let counted = program.0.counters().expect("counters");
    assert_eq!(counted.flow, frames.len() as u64 + 1);
    assert_eq!((counted.not_ip, counted.orphan_fragments), (0, 0));
    // What must differ does: the hash is not of too little.
    for (from, to) in [
        (End(1, 40_001), B),
        (End(3, 40_000), B),
        (A, End(2, 444)),
        (A, End(4, 443)),
    ] {
        assert_ne!(program.hash(&ethernet(0x0800, &tcp4(from, to))), expected);
    }
}

#[test]
fn ipv6_with_what_may_be_before_tcp() {
    let Some(program) = Program::load(Layer::Innermost) else {
        return;
    };
    let expected = program.hash(&ethernet(0x86dd, &tcp6(A, B)));
    for (from, to) in [(A, B), (B, A)] {
        let header =
            |next: u8, words: u8| [&[next, words][..], &vec![0; words as usize * 8 + 6]].concat();
        let chain = [header(43, 0), header(60, 1), header(51, 0), {
            // RFC 4302: the length is in 4-octet units, less 2.
            let mut authentication = vec![6, 4];
            authentication.resize(24, 0);
            authentication
        }];
        let packet = ipv6(from.0, to.0, 0, &[chain.concat(), tcp(from, to)].concat());
        assert_eq!(
            program.hash(&ethernet(0x86dd, &packet)),
            expected,
            "extension headers"
        );
        let atomic = [&[6, 0, 0, 0, 0, 0, 0, 9][..], &tcp(from, to)].concat();
        let packet = ipv6(from.0, to.0, 44, &atomic);
        assert_eq!(
            program.hash(&ethernet(0x86dd, &packet)),
            expected,
            "atomic fragment"
        );
        let quoted = tcp6(from, to);
        let packet = ipv6(77, from.0, 58, &icmp(2, &quoted));
        assert_eq!(
            program.hash(&ethernet(0x86dd, &packet)),
            expected,
            "packet too big"
        );
    }
}

#[test]
fn fragments_reach_the_worker_of_the_whole() {
    let Some(program) = Program::load(Layer::Innermost) else {
        return;
    };
    for (from, to) in [(A, B), (B, A)] {
        // UDP: whole, first and later fragments in any order, both ways.
        let whole = program.hash(&ethernet(
            0x0800,
            &ipv4(A.0, B.0, 17, &udp(A.1, B.1, &[0; 32])),
        ));
        let datagram = udp(from.1, to.1, &[0; 32]);
        for (name, place) in [("last", 0x0003), ("middle", 0x2001), ("first", 0x2000)] {
            let packet = ipv4_full(from.0, to.0, 17, 0x1234, place, 0, &datagram);
            assert_eq!(
                program.hash(&ethernet(0x0800, &packet)),
                whole,
                "UDP, {name} first"
            );
        }
        // TCP: after the first fragment.
        let whole = program.hash(&ethernet(0x0800, &tcp4(A, B)));
        for (name, place) in [("first", 0x2000), ("middle", 0x2001), ("last", 0x0003)] {
            let packet = ipv4_full(from.0, to.0, 6, 0x4321, place, 0, &tcp(from, to));
            assert_eq!(
                program.hash(&ethernet(0x0800, &packet)),
                whole,
                "TCP, {name}"
            );
        }
        let whole = program.hash(&ethernet(0x86dd, &tcp6(A, B)));
        for (name, place) in [("first", 1u16), ("last", 8)] {
            let head = [&[6, 0][..], &place.to_be_bytes(), &[0, 0, 7, 7]].concat();
            let packet = ipv6(from.0, to.0, 44, &[head, tcp(from, to)].concat());
            assert_eq!(
                program.hash(&ethernet(0x86dd, &packet)),
                whole,
                "TCP on IPv6, {name}"
            );
        }
        // A tunnel's own fragments: by the flow inside.
        let whole = program.hash(&ethernet(0x0800, &tcp4(A, B)));
        let mut first = mirrored(50_000, &tcp4(from, to))[14..].to_vec();
        first[6..8].copy_from_slice(&0x2000_u16.to_be_bytes());
        assert_eq!(
            program.hash(&ethernet(0x0800, &first)),
            whole,
            "VXLAN, first"
        );
        let last = ipv4_full(9, 10, 17, 7, 0x0010, 0, &[0x55; 40]);
        assert_eq!(program.hash(&ethernet(0x0800, &last)), whole, "VXLAN, last");
    }
    assert_eq!(program.0.counters().expect("counters").orphan_fragments, 0);
    let lone = ipv4_full(A.0, B.0, 6, 0x9999, 0x0003, 0, &[0; 32]);
    program.hash(&ethernet(0x0800, &lone));
    assert_eq!(program.0.counters().expect("counters").orphan_fragments, 1);
}

#[test]
fn the_outer_layer_on_request() {
    let Some(program) = Program::load(Layer::Outermost) else {
        return;
    };
    let outer = program.hash(&mirrored(1, &tcp4(A, B)));
    assert_eq!(program.hash(&mirrored(2, &tcp4(End(7, 9), B))), outer);
    let quoted = ethernet(0x0800, &ipv4(99, A.0, 1, &icmp(3, &tcp4(A, B)[..28])));
    assert_eq!(
        program.hash(&quoted),
        program.hash(&ethernet(0x0800, &tcp4(A, B)))
    );
}

#[test]
fn flows_are_spread_and_rubbish_has_a_worker() {
    let Some(program) = Program::load(Layer::Innermost) else {
        return;
    };
    let mut members = [0u32; 4];
    for i in 0..2000u16 {
        let frame = ethernet(0x0800, &tcp4(End((i % 200) as u8, 30_000 + i), B));
        members[program.hash(&frame) as usize % members.len()] += 1;
    }
    // 500 each; five times the standard deviation (19) to either side.
    assert!(
        members.iter().all(|member| (403..597).contains(member)),
        "{members:?}"
    );
    let arp = ethernet(0x0806, &[0; 28]);
    assert_eq!(program.hash(&arp), 0);
    assert_eq!(program.0.counters().expect("counters").not_ip, 1);
    // Cut at every place past the header that the test run wants: an answer, and the kernel's verifier vouches for the rest.
    let frame = mirrored(3, &ipv4(98, A.0, 1, &icmp(11, &tcp4(A, B))));
    for length in 34..frame.len() {
        program.hash(&frame[..length]);
    }
}
