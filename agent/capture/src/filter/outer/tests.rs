//! Oracles: libpcap's own program for whole frames, and the one it makes for an open device,
//! which asks for the tag beside a frame.

use base::{Frame, LinkType};
use pcap::{Active, Capture};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::super::{
    Filter,
    tests::{any_expression, any_packet, frame, header, words},
};
use super::*;

/// A frame of these tags, from the outermost on, and a packet.
fn tagged(tags: &[(u16, u16)], network: u8, packet: &[u8]) -> Vec<u8> {
    let mut bytes = header(Slot::Ethernet, network);
    let ethertype = bytes.split_off(12);
    for (kind, control) in tags {
        bytes.extend(kind.to_be_bytes());
        bytes.extend(control.to_be_bytes());
    }
    [&bytes[..], &ethertype, packet].concat()
}

/// What the kernel makes of it: the outermost tag is beside the frame.
fn parted(whole: &[u8]) -> (Vec<u8>, Option<u16>) {
    if !matches!(whole[12..14], [0x81, 0] | [0x88, 0xa8]) {
        return (whole.to_vec(), None);
    }
    let control = u16::from_be_bytes([whole[14], whole[15]]);
    ([&whole[..12], &whole[16..]].concat(), Some(control))
}

fn any_tags() -> impl Strategy<Value = Vec<(u16, u16)>> {
    let control = prop::sample::select(&[0_u16, 7, 8, 0xe007, 0x1007, 4095][..]);
    let kind = prop::sample::select(&[0x8100_u16, 0x8100, 0x88a8][..]);
    prop::collection::vec((kind, control), 0..3)
}

fn compiled(text: &str) -> Filter {
    Filter::compile(&words(text), &[]).unwrap_or_else(|error| panic!("{error}"))
}

fn ethernet(bytes: &[u8]) -> Frame<'_> {
    frame(bytes, LinkType::Ethernet)
}

#[test]
fn which_word_is_asked_of_what_is_beside() {
    let there = "(ether[4294963248:1] = 1";
    for (text, expected) in [
        ("vlan", format!(" {there}) ")),
        ("not vlan", format!("not  {there}) ")),
        (
            "vlan 7",
            format!(" {there} and ether[4294963244:2] & 0xfff = 7) "),
        ),
        (
            "tcp or (vlan 0x7 and vlan 8)",
            format!("tcp or ( {there} and ether[4294963244:2] & 0xfff = 0x7)  and vlan 8)"),
        ),
        (
            "vlan ( ( 7 ) ) and tcp",
            format!(" {there} and ether[4294963244:2] & 0xfff = 7)  and tcp"),
        ),
        ("vlan&&tcp", format!(" {there}) &&tcp")),
    ] {
        assert_eq!(beside(text).as_deref(), Some(expected.as_str()), "{text}");
    }
    for text in [
        "tcp",
        "host vlan-7.example.com",
        "host vlan7",
        "ether proto \\vlan",
        "geneve and vlan 7",
        "mpls and vlan",
        "",
    ] {
        assert_eq!(beside(text), None, "{text}");
    }
}

#[test]
fn what_is_wrong_is_refused_and_what_devices_can_have_is_not() {
    for text in ["vlan 4096", "vlan 7 and prot 80", "vlan (7", "vlan 7 tcp"] {
        assert!(Filter::compile(&words(text), &[]).is_err(), "{text}");
    }
    // No frame of a file can be both; on a device it is a question about its inside.
    let both = compiled("ip and vlan 7");
    let bytes = [&header(Slot::Ethernet, 4)[..], &[0x45], &[0; 60]].concat();
    assert!(both.matches_beside(&ethernet(&bytes), Some(7)));
    assert!(!both.matches_beside(&ethernet(&bytes), Some(8)));
    assert!(!both.matches_beside(&ethernet(&bytes), None));
    assert!(!both.matches(&ethernet(&bytes)));
    let of_file = Filter::compile(&words("ip and vlan 7"), &[LinkType::Ethernet]);
    let error = of_file.expect_err("of a file").to_string();
    assert!(error.contains(NOTHING), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// With `vlan` in front a frame that was taken apart matches as it does whole.
    #[test]
    fn behind_vlan_nothing_has_moved(
        number in prop::sample::select(&["", " 7", " 8", " 0", " 4095"][..]),
        second in prop::sample::select(&["", "vlan and ", "vlan 7 and "][..]),
        text in any_expression(),
        packets in prop::collection::vec((any_tags(), any_packet()), 30),
    ) {
        let text = format!("vlan{number} and {second}({text})");
        let Ok(filter) = Filter::compile(&words(&text), &[]) else {
            // Nothing matches that.
            prop_assert!(library_refuses(&text));
            return Ok(());
        };
        for (tags, (network, packet)) in packets {
            let whole = tagged(&tags, network, &packet);
            let (inside, tag) = parted(&whole);
            prop_assert_eq!(
                filter.matches_beside(&ethernet(&inside), tag),
                filter.matches(&ethernet(&whole)),
                "{} {:?}", text, tags
            );
            prop_assert_eq!(
                filter.matches_live(&ethernet(&whole)),
                filter.matches(&ethernet(&whole))
            );
            // A driver may leave the tag where it was.
            prop_assert_eq!(
                filter.matches_beside(&ethernet(&whole), None),
                filter.matches(&ethernet(&whole))
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever is asked and however a frame is cut, as it is by a copy without the tag.
    #[test]
    fn a_frame_with_its_tag_in_place_is_seen_without(
        text in prop_oneof![
            any_expression(),
            any_expression().prop_map(|text| format!("({text}) and not vlan 7")),
            prop::sample::select(&[
                "ether[10:4] & 0xffff = 0x0800",
                "ether[9:4] & 0xff = 8",
                "ether[11:2] = 0x0708",
                "len <= 142",
                "vlan or greater 100",
            ][..]).prop_map(str::to_owned),
        ],
        (tags, (network, packet), length) in (any_tags(), any_packet(), 20..160_usize),
    ) {
        let Ok(filter) = Filter::compile(&words(&text), &[]) else {
            prop_assert!(library_refuses(&text));
            return Ok(());
        };
        let mut whole = tagged(&tags, network, &packet);
        let original = whole.len() as u32;
        whole.truncate(length);
        let (inside, tag) = parted(&whole);
        let cut = |bytes, original_len| Frame { original_len, ..ethernet(bytes) };
        prop_assert_eq!(
            filter.matches_live(&cut(&whole, original)),
            filter.matches_beside(
                &cut(&inside, original - (whole.len() - inside.len()) as u32),
                tag
            ),
            "{} {:?}", text, tags
        );
    }
}

fn library_refuses(text: &str) -> bool {
    let error = super::super::library::compile(text, Slot::Ethernet).expect_err("refused");
    error.contains(NOTHING)
}

/// libpcap with a device open, if this process may.
fn on_device() -> Option<Capture<Active>> {
    let opened = Capture::from_device("lo").and_then(Capture::open);
    match opened {
        Ok(open) => Some(open),
        Err(error) => {
            eprintln!("ignored: {error}");
            None
        }
    }
}

fn theirs(device: &Capture<Active>, text: &str) -> Program {
    let compiled = device.compile(text, true).expect(text);
    let instructions: Vec<Instruction> = compiled
        .get_instructions()
        .iter()
        .map(|one| {
            let fields: Vec<u32> = one
                .to_string()
                .split(' ')
                .map(|field| field.parse().expect("a number"))
                .collect();
            Instruction {
                code: fields[0] as u16,
                jt: fields[1] as u8,
                jf: fields[2] as u8,
                k: fields[3],
            }
        })
        .collect();
    Program::new(instructions).expect(text)
}

#[test]
fn as_libpcap_does_it_for_an_open_device() {
    let Some(device) = on_device() else { return };
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let frames: Vec<_> = (0..3_000)
        .map(|_| {
            let tree = (any_tags(), any_packet()).new_tree(&mut runner);
            let (tags, (network, packet)) = tree.expect("a frame").current();
            parted(&tagged(&tags, network, &packet))
        })
        .collect();
    for (text, on_untagged) in [
        ("vlan", true),
        ("vlan 7", true),
        ("vlan 8 and tcp", true),
        ("not vlan", true),
        ("not vlan 7", true),
        ("not vlan and host 10.0.0.1", true),
        ("host 10.0.0.1 and not vlan", true),
        ("vlan and host 10.0.0.1", true),
        ("vlan 7 and (tcp port 80 or udp)", true),
        ("vlan 7 and vlan 8", true),
        ("vlan 7 or vlan 8", true),
        ("vlan or ip6", true),
        ("host 10.0.0.1", true),
        ("tcp port 443", true),
        ("tcp or vlan 7", true),
        // Where the test before `vlan` decides, libpcap goes on without the shift.
        ("host 10.0.0.1 or vlan and host 10.0.0.2", false),
        ("icmp and vlan 7 or port 80", false),
    ] {
        let (ours, theirs) = (compiled(text), theirs(&device, text));
        let mut matched = 0;
        for (bytes, tag) in &frames {
            let expected = theirs.run_beside(&ethernet(bytes), *tag) != 0;
            matched += u32::from(expected);
            if on_untagged || tag.is_some() {
                let got = ours.matches_beside(&ethernet(bytes), *tag);
                assert_eq!(got, expected, "{text} {tag:?} {bytes:x?}");
            }
        }
        // The shift behind `vlan` is there for frames without a tag too.
        assert_eq!(matched > 0, text != "not vlan and host 10.0.0.1", "{text}");
    }
}
