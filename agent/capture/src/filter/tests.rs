#![cfg_attr(
    not(feature = "pcap"),
    allow(
        dead_code,
        unused_imports,
        reason = "most need libpcap to compare with"
    )
)]

use std::io::Cursor;
use std::time::Duration;

use base::{Passage, WallNanos};
use proptest::prelude::*;

use super::*;
use crate::{BATCH, DropReason, FileSource, Polled, Source};

pub(super) fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

pub(super) fn frame(bytes: &[u8], link: LinkType) -> Frame<'_> {
    Frame {
        link,
        ..Frame::ethernet(bytes, WallNanos(0))
    }
}

fn built_in(text: &str) -> Filter {
    Filter::built_in(&words(text), &[]).expect(text)
}

/// The link header before a network packet.
pub(super) fn header(slot: Slot, network: u8) -> Vec<u8> {
    let ethertype: [u8; 2] = match network {
        4 => [0x08, 0x00],
        6 => [0x86, 0xdd],
        0 => [0x08, 0x06],
        1 => [0x80, 0x35],
        _ => [0x81, 0x00],
    };
    match slot {
        Slot::Ethernet => [&[7; 12][..], &ethertype].concat(),
        Slot::Raw => Vec::new(),
        Slot::LinuxCooked => [&[0; 14][..], &ethertype].concat(),
        Slot::LinuxCooked2 => [&ethertype[..], &[0; 18]].concat(),
        Slot::Ppp => match network {
            4 => vec![0xff, 3, 0, 0x21],
            6 => vec![0xff, 3, 0, 0x57],
            _ => [&[0xff, 3][..], &ethertype].concat(),
        },
        Slot::LoopbackLittle => vec![[2, 10, 77][usize::from(network % 4) / 2 % 3], 0, 0, 0],
        Slot::LoopbackBig => vec![0, 0, 0, [2, 10, 77][usize::from(network % 4) / 2 % 3]],
    }
}

fn link(slot: Slot) -> LinkType {
    match slot {
        Slot::Ethernet => LinkType::Ethernet,
        Slot::Raw => LinkType::Raw,
        Slot::LinuxCooked => LinkType::LinuxCooked,
        Slot::LinuxCooked2 => LinkType::LinuxCooked2,
        Slot::Ppp => LinkType::Ppp,
        Slot::LoopbackLittle | Slot::LoopbackBig => LinkType::Loopback,
    }
}

/// Addresses and ports are few, so that filters and frames meet.
const ADDRESSES: &[u32] = &[0x0a00_0001, 0x0a00_0002, 0x0a01_0001, 0xc0a8_0001];
const PORTS: &[u16] = &[22, 53, 80, 443, 8080];
const PROTOCOLS: &[u8] = &[1, 6, 17, 44, 58, 132];

fn v6(address: u32) -> [u8; 16] {
    let mut octets = [0; 16];
    octets[..4].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
    octets[12..].copy_from_slice(&address.to_be_bytes());
    octets
}

/// A packet with what tests look at, long enough that no load misses.
pub(super) fn any_packet() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let pick = || prop::sample::select(ADDRESSES);
    let port = || prop::sample::select(PORTS);
    let protocol = prop::sample::select(PROTOCOLS);
    let network = prop::sample::select(&[4, 4, 4, 6, 6, 6, 0, 1, 9][..]);
    let fragment = prop::sample::select(&[0_u16, 0, 0x2000, 0x4000, 0x2001, 0x1fff][..]);
    (
        network,
        pick(),
        pick(),
        port(),
        port(),
        protocol,
        5..8_u8,
        fragment,
    )
        .prop_map(
            |(network, source, destination, low, high, protocol, words, fragment)| {
                let (source, destination) = (source, destination);
                let mut packet = match network {
                    4 => {
                        let mut packet = vec![0; usize::from(words) * 4];
                        packet[0] = 0x40 | words;
                        packet[6..8].copy_from_slice(&fragment.to_be_bytes());
                        packet[9] = protocol;
                        packet[12..16].copy_from_slice(&source.to_be_bytes());
                        packet[16..20].copy_from_slice(&destination.to_be_bytes());
                        packet
                    }
                    6 => {
                        let head = [0x60, 0, 0, 0, 0, 0, protocol, 64];
                        let mut packet = [&head[..], &v6(source), &v6(destination)].concat();
                        if protocol == 44 {
                            // The next header behind a fragment header.
                            packet.extend([PROTOCOLS[usize::from(words) % 6], 0, 0, 0]);
                        }
                        packet
                    }
                    _ => {
                        let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1];
                        packet.extend([9; 6]);
                        packet.extend(source.to_be_bytes());
                        packet.extend([9; 6]);
                        packet.extend(destination.to_be_bytes());
                        packet
                    }
                };
                packet.extend(low.to_be_bytes());
                packet.extend(high.to_be_bytes());
                packet.resize(128, 0);
                (network, packet)
            },
        )
}

/// An expression of the subset.
pub(super) fn any_expression() -> impl Strategy<Value = String> {
    let v4 = |address: u32| std::net::Ipv4Addr::from_bits(address).to_string();
    let v6_text = |address: u32| std::net::Ipv6Addr::from(v6(address)).to_string();
    let pick = || prop::sample::select(ADDRESSES);
    let end = || {
        let ends = ["", "src ", "dst ", "src or dst ", "src and dst "];
        prop::sample::select(ends.map(str::to_owned).to_vec())
    };
    let port = || prop::sample::select(PORTS);
    let word = prop::sample::select(
        &[
            "tcp", "udp", "sctp", "icmp", "icmp6", "ip", "ip6", "arp", "rarp",
        ][..],
    );
    let test = prop_oneof![
        word.prop_map(str::to_owned),
        (end(), pick()).prop_map(move |(end, a)| format!("{end}host {}", v4(a))),
        (end(), pick()).prop_map(move |(end, a)| format!("ip {end}host {}", v4(a))),
        (end(), pick()).prop_map(move |(end, a)| format!("{end}host {}", v6_text(a))),
        (end(), pick(), 0..=32_u32).prop_map(move |(end, a, bits)| {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            format!("{end}net {}/{bits}", v4(a & mask))
        }),
        (end(), pick(), 0..=128_u32).prop_map(move |(end, a, bits)| {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            let address = u128::from_be_bytes(v6(a)) & mask;
            format!("{end}net {}/{bits}", std::net::Ipv6Addr::from_bits(address))
        }),
        (end(), port()).prop_map(|(end, port)| format!("{end}port {port}")),
        (end(), port(), port()).prop_map(|(end, port, or)| format!("{end}port {port} or {or}")),
        (end(), port()).prop_map(|(end, port)| format!("tcp {end}port {port}")),
        (end(), port()).prop_map(|(end, port)| format!("udp {end}port {port}")),
        (end(), port(), port()).prop_map(|(end, a, b)| format!("{end}portrange {a}-{b}")),
        prop::sample::select(PROTOCOLS).prop_map(|number| format!("proto {number}")),
        prop::sample::select(PROTOCOLS).prop_map(|number| format!("ip6 proto {number}")),
    ];
    test.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|inner| format!("not {inner}")),
            inner.clone().prop_map(|inner| format!("!({inner})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} and {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} || {b}")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("({a}) or {b}")),
        ]
    })
}

#[test]
fn words_of_the_subset() {
    for (text, why) in [
        ("tcp prot 80", "\"prot\" does not belong there"),
        (
            "prot 80",
            "\"prot\" is not a word that is built in, and no value can be here",
        ),
        (
            "10.0.0.1",
            "\"10.0.0.1\" is not a word that is built in, and no value can be here",
        ),
        (
            "(port 80) or 443",
            "\"443\" is not a word that is built in, and no value can be here",
        ),
        (
            "tcp or 10.0.0.1",
            "\"10.0.0.1\" is not a word that is built in, and no value can be here",
        ),
        ("port 80 and", "something is missing at the end"),
        ("host", "something is missing after \"host\""),
        ("(tcp", "a parenthesis is not closed"),
        ("tcp)", "\")\" does not belong there"),
        ("port 70000", "\"70000\" is no port number"),
        ("portrange 80", "\"80\" is no range such as 8000-8080"),
        ("icmp port 1", "ports go with tcp, udp and sctp only"),
        (
            "ip6 host 10.0.0.1",
            "\"10.0.0.1\" does not go with the word before it",
        ),
        (
            "tcp host 10.0.0.1",
            "\"10.0.0.1\" does not go with the word before it",
        ),
    ] {
        let error = Filter::built_in(&words(text), &[]).expect_err(text);
        assert_eq!(
            error.to_string(),
            format!("filter \"{text}\": {why}; built in are: {SUBSET}")
        );
    }
    for text in ["net 10.0.0.1/8", "host www.example.com", "net 10.0.0.0/33"] {
        let error = Filter::built_in(&words(text), &[])
            .expect_err(text)
            .to_string();
        assert!(
            error.contains("is no address (names need libpcap)"),
            "{error}"
        );
    }
    let deep = format!("{}tcp", "not ".repeat(10_000));
    assert!(Filter::built_in(&words(&deep), &[]).is_err());
}

#[test]
fn no_words_let_everything_pass() {
    for filter in [
        Filter::compile(&[], &[]).expect("nothing"),
        Filter::built_in(&[], &[]).expect("nothing"),
    ] {
        assert!(filter.matches(&frame(&[], LinkType::Ethernet)));
        assert!(!filter.matches(&frame(&[1; 60], LinkType::Other)));
    }
}

#[test]
fn the_kernel_takes_the_programs() {
    let long = format!("host 10.0.0.1{}", " or host 10.0.0.2 or port 80".repeat(40));
    for text in [
        "tcp and not port 22",
        "net 2001:db8::/33 or udp",
        "src and dst portrange 1-9",
        &long,
    ] {
        let filter = built_in(text);
        for link in [LinkType::Ethernet, LinkType::Raw, LinkType::LinuxCooked2] {
            let instructions = filter.instructions(link).expect("a program");
            let filter: Vec<_> = instructions
                .iter()
                .map(|i| socket2::SockFilter::new(i.code, i.jt, i.jf, i.k))
                .collect();
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
            socket2::SockRef::from(&socket)
                .attach_filter(&filter)
                .expect(text);
        }
    }
}

#[test]
fn no_program_but_these() {
    let instruction = |code, jt, jf, k| Instruction { code, jt, jf, k };
    let end = instruction(6, 0, 0, 1);
    for (bad, why) in [
        (instruction(5, 0, 0, 1), "it jumps backwards"),
        (instruction(5, 0, 0, u32::MAX), "it jumps backwards"),
        (instruction(0x15, 1, 0, 0), "it jumps backwards"),
        (instruction(0x15, 0, 255, 0), "it jumps backwards"),
        (instruction(0x34, 0, 0, 0), "it divides by 0"),
        (instruction(0x94, 0, 0, 0), "it divides by 0"),
        (instruction(2, 0, 0, 16), "it stores outside"),
        (instruction(0x61, 0, 0, 16), "it stores outside"),
        (
            instruction(0x20, 0, 0, 0xffff_f008),
            "it asks for something",
        ),
        (instruction(0x38, 0, 0, 0), "an unknown instruction"),
        (instruction(0x120, 0, 0, 0), "an unknown instruction"),
    ] {
        let error = Program::new([bad, end]).expect_err(why);
        assert!(error.starts_with(why), "{error}");
    }
    assert!(Program::new([]).is_err() && Program::new([instruction(0, 0, 0, 1)]).is_err());
    assert!(Program::new(vec![end; 4097]).is_err());
    // Division by an X of 0 refuses the frame.
    let divides = Program::new([instruction(0x3c, 0, 0, 0), end]).expect("a program");
    assert_eq!(divides.run(&frame(&[0; 60], LinkType::Ethernet)), 0);
}

#[test]
fn what_is_refused_is_counted() {
    let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0];
    file.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0]);
    for index in 0..1000_u32 {
        let mut bytes = [header(Slot::Ethernet, 4), vec![0; 46]].concat();
        bytes[14] = 0x45;
        bytes[23] = if index % 3 == 0 { 6 } else { 17 };
        for word in [index, 0, 60, 60] {
            file.extend(word.to_le_bytes());
        }
        file.extend(bytes);
    }
    let open = || FileSource::from_reader("file", Cursor::new(file.clone())).expect("pcap");
    for filter in [None, Some(built_in("tcp")), Some(built_in("icmp"))] {
        let passes = |index: &u64| match &filter {
            None => true,
            Some(filter) => filter.text() == "tcp" && index.is_multiple_of(3),
        };
        let expected: Vec<u64> = (0..1000).filter(passes).collect();
        let mut source = Filtered::new(open(), filter.clone());
        let mut seen = Vec::new();
        loop {
            let before = seen.len();
            let polled = source.poll(Duration::ZERO, |frames| {
                assert!((1..=BATCH).contains(&frames.len()));
                seen.extend(frames.iter().map(|frame| frame.at.0 / 1_000_000_000));
            });
            match polled.expect("a whole file") {
                Polled::Frames(count) => assert_eq!(count, seen.len() - before),
                end => break assert_eq!(end, Polled::End),
            }
        }
        assert_eq!(seen, expected);
        let drops = source.drops().expect("drops");
        assert_eq!(drops.get(DropReason::Filtered), 1000 - seen.len() as u64);
        assert_eq!(drops.lost(), 0);
        let newest = seen.last().map(|at| WallNanos(at * 1_000_000_000));
        assert_eq!(source.newest(), newest);
    }
}

#[cfg(feature = "pcap")]
mod with_libpcap {
    use pcap::{BpfProgram, Capture, Linktype};
    use proptest::strategy::ValueTree;

    use super::*;

    /// libpcap's own run of its own program: the oracle. It compiles nothing for what no
    /// frame can match.
    struct Oracle(Option<BpfProgram>);

    impl Oracle {
        fn filter(&self, bytes: &[u8]) -> bool {
            self.0.as_ref().is_some_and(|program| program.filter(bytes))
        }
    }

    fn oracle(text: &str, slot: Slot) -> Oracle {
        let number = match slot {
            Slot::Ethernet => 1,
            Slot::Raw => 12,
            Slot::LinuxCooked => 113,
            Slot::LinuxCooked2 => 276,
            Slot::Ppp => 9,
            Slot::LoopbackLittle => 0,
            Slot::LoopbackBig => 108,
        };
        let dead = Capture::dead(Linktype(number)).expect("a handle");
        match dead.compile(text, true) {
            Ok(program) => Oracle(Some(program)),
            Err(error) => {
                let nothing = "expression rejects all packets";
                assert!(error.to_string().contains(nothing), "{text}: {error}");
                Oracle(None)
            }
        }
    }

    /// What the subset does not have, and the interpreter must run.
    const BEYOND: &[&str] = &[
        "ether host 07:07:07:07:07:07 and len <= 200",
        "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
        "ip[0] & 0xf != 5 or ip[2:2] / 3 > 4",
        "ip6[4:2] * 2 + ip6[6] << 1 >= 20",
        "greater 100 and not less 120",
        "vlan and ip",
        "mpls",
        "pppoes and tcp",
        "ip[9] = ip[8] + 6 and udp[0:2] % 7 == 3",
        "tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420",
        "ip[0:4] ^ 0x45000000 | 1 = 1",
        "-ip[1] = 0",
        "broadcast or multicast or ip6 multicast",
        "icmp[icmptype] == icmp-echo or tcp port https",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn the_subset_means_the_same(
            text in any_expression(),
            packets in prop::collection::vec(any_packet(), 20),
        ) {
            let ours = built_in(&text);
            let theirs = Filter::compile(&words(&text), &[]);
            prop_assert!(ours.is_built_in());
            for slot in Slot::ALL {
                let oracle = oracle(&text, *slot);
                for (network, packet) in &packets {
                    let bytes = [header(*slot, *network), packet.clone()].concat();
                    let frame = frame(&bytes, link(*slot));
                    let expected = oracle.filter(&bytes);
                    prop_assert_eq!(ours.matches(&frame), expected, "{} {:?}", text, slot);
                    match &theirs {
                        Ok(theirs) => prop_assert_eq!(theirs.matches(&frame), expected),
                        Err(_) => prop_assert!(!expected),
                    }
                }
            }
        }

        #[test]
        fn the_interpreter_agrees_on_any_octets(
            text in prop_oneof![any_expression(), prop::sample::select(BEYOND).prop_map(str::to_owned)],
            (network, packet) in any_packet(),
            noise in prop::collection::vec((0..160_usize, any::<u8>()), 0..10),
            length in 0..160_usize,
        ) {
            let oracle = oracle(&text, Slot::Ethernet);
            let program = library::compile(&text, Slot::Ethernet);
            prop_assert_eq!(program.is_ok(), oracle.0.is_some());
            let mut bytes = [header(Slot::Ethernet, network), packet].concat();
            for (at, octet) in noise {
                if let Some(place) = bytes.get_mut(at) {
                    *place = octet;
                }
            }
            bytes.truncate(length);
            if let Ok(program) = program {
                let matched = program.run(&frame(&bytes, LinkType::Ethernet)) != 0;
                prop_assert_eq!(matched, oracle.filter(&bytes));
            }
        }
    }

    #[test]
    fn long_expressions_jump_far() {
        let text = format!("port 1{}", " or port 2 or src host 10.0.0.9".repeat(60));
        let text = format!("not ({text}) and host 10.0.0.1 or udp dst port 53");
        let ours = built_in(&text);
        assert!(
            ours.instructions(LinkType::Ethernet)
                .expect("Ethernet")
                .len()
                > 1000
        );
        let oracle = oracle(&text, Slot::Ethernet);
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let mut matched = 0;
        for _ in 0..2000 {
            let (network, packet) = any_packet().new_tree(&mut runner).expect("one").current();
            let bytes = [header(Slot::Ethernet, network), packet].concat();
            let expected = oracle.filter(&bytes);
            matched += usize::from(expected);
            assert_eq!(ours.matches(&frame(&bytes, LinkType::Ethernet)), expected);
        }
        assert!((100..1900).contains(&matched), "{matched}");
    }

    #[test]
    fn both_agree_on_the_public_captures() {
        let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/pcaps");
        let folder = std::env::var("NETSONDE_PCAPS").unwrap_or(beside.to_owned());
        let Ok(files) = std::fs::read_dir(folder) else {
            return eprintln!("skipped: no captures");
        };
        let texts = [
            "tcp",
            "udp port 443",
            "port 53 or 80",
            "ip6 and udp",
            "net 192.168.0.0/16",
            "icmp or icmp6",
            "src net 10.0.0.0/8 and not tcp",
            "src portrange 1024-65535 and dst port 443",
        ];
        let pairs = texts.map(|text| (text, built_in(text), oracle(text, Slot::Ethernet)));
        let mut matched = texts.map(|_| 0);
        for file in files.flatten() {
            let name = file.file_name();
            if !name.to_string_lossy().contains(".pcap") {
                continue;
            }
            let mut source = FileSource::open(file.path()).expect("a capture");
            let mut compare = |frames: &[Frame<'_>]| {
                for frame in frames
                    .iter()
                    .filter(|frame| frame.link == LinkType::Ethernet)
                {
                    for ((text, ours, oracle), matched) in pairs.iter().zip(&mut matched) {
                        let expected = oracle.filter(frame.bytes);
                        *matched += usize::from(expected);
                        assert_eq!(ours.matches(frame), expected, "{text} {name:?}");
                    }
                }
            };
            while source.poll(Duration::ZERO, &mut compare).expect("whole") != Polled::End {}
        }
        assert!(matched.iter().all(|matched| *matched > 0), "{matched:?}");
    }

    #[test]
    fn what_libpcap_says_is_said() {
        let error = Filter::compile(&words("tcp prot 80"), &[]).expect_err("no filter");
        assert_eq!(
            error.to_string(),
            format!(
                "filter \"tcp prot 80\": can't parse filter expression: syntax error; built in are: {SUBSET}"
            )
        );
        // Right, but not on every link type.
        let ether = words("ether host 07:07:07:07:07:07");
        let filter = Filter::compile(&ether, &[LinkType::Ethernet]).expect("on Ethernet");
        assert!(filter.matches(&frame(&[7; 60], LinkType::Ethernet)));
        assert!(!filter.matches(&frame(&[7; 60], LinkType::Raw)));
        let error = Filter::compile(&ether, &[LinkType::Ethernet, LinkType::Raw]);
        let error = error.expect_err("not on raw").to_string();
        assert!(
            error.contains("on raw IP frames: ethernet addresses supported only on"),
            "{error}"
        );
        // A loop that no kernel takes.
        let error = Filter::compile(&words("ip6 protochain 6"), &[]).expect_err("a loop");
        assert!(error.to_string().contains("protochain"), "{error}");
    }

    #[test]
    fn passage_is_the_packet_type() {
        let filter = Filter::compile(&words("outbound"), &[]).expect("a filter");
        let mut sent = frame(&[0; 60], LinkType::Ethernet);
        assert!(!filter.matches(&sent));
        sent.passage = Passage::Sent;
        assert!(filter.matches(&sent));
        let filter = Filter::compile(&words("inbound"), &[]).expect("a filter");
        assert!(!filter.matches(&sent));
    }
}
