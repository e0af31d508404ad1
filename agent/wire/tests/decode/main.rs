//! The innermost packet of every frame of the public captures, as tshark sees it.
//!
//! `tshark.txt` holds what tshark 4.0.17 says of the first frames of each capture; the
//! ignored test asks a tshark that is installed about all of them, and writes the file anew
//! with `NETSONDE_WRITE_VECTORS=1`.
#![forbid(unsafe_code)]

// By this name the checks of the fuzz target know the crate.
extern crate netsonde_wire as wire;

mod capture;
#[path = "../../../../tests/fuzz/checks/decode.rs"]
mod check;
mod tshark;

use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;

use netsonde_wire::decode::{self, Layer, Packet, PacketFlags, TcpHeader, Transport, Undecoded};

/// Frames of a capture of which the file has a line: a capture is more of the same after it.
const COMMITTED: usize = 60;

/// Frames of a capture, by number, and why ours are not tshark's.
const DIFFERENT: &[(&str, &[usize], &str)] = &[
    (
        "tcpdump_bigtcp-ipv4-vxlan-ipv4.pcap",
        &[1],
        "the stack writes a UDP length of 0 where it does not fit; tshark stops there",
    ),
    (
        "zeek_erspan.pcap",
        &[
            153, 157, 178, 182, 187, 191, 199, 216, 220, 226, 243, 251, 255, 265, 279, 283,
        ],
        "first fragments of the tunnel: ours gives the length that the inner IP header has, \
         tshark (not reassembling) what is left of it",
    ),
];

/// Ours in the form of [`tshark::lines`].
fn show(decoded: Result<Packet, Undecoded>) -> String {
    let packet = match decoded {
        Ok(packet) => packet,
        Err(reason) => return format!("- {}", reason.as_str()),
    };
    let mut line = format!(
        "{} {} ttl={} len={} id={} df={} tunnel={}",
        packet.source,
        packet.destination,
        packet.ttl,
        packet.ip_len,
        packet.ip_id,
        u8::from(packet.flags.has(PacketFlags::DONT_FRAGMENT)),
        packet.tunnel_id,
    );
    let ports = format!("{} {}", packet.source_port, packet.destination_port);
    let payload = packet.payload_len;
    if packet.flags.has(PacketFlags::FRAGMENT) {
        write!(line, " part={:x}", packet.fragment_id).expect("text");
    }
    match packet.transport {
        Transport::Tcp(tcp) => {
            write!(
                line,
                " tcp {ports} payload={payload} seq={} ack={} flags={:x} window={}",
                tcp.seq, tcp.ack, tcp.flags, tcp.window
            )
            .expect("text");
            let (left, right) = tcp.sack;
            for (flag, text) in [
                (
                    TcpHeader::TIMESTAMPS,
                    format!(" ts={},{}", tcp.tsval, tcp.tsecr),
                ),
                (TcpHeader::MSS, format!(" mss={}", tcp.mss)),
                (TcpHeader::SCALE, format!(" scale={}", tcp.scale)),
                (TcpHeader::SACK, format!(" sack={left},{right}")),
            ] {
                if tcp.options & flag != 0 {
                    line += &text;
                }
            }
        }
        Transport::Udp => write!(line, " udp {ports} payload={payload}").expect("text"),
        Transport::Echo { reply, sequence } => {
            assert_eq!(packet.source_port, packet.destination_port);
            let identifier = packet.source_port;
            write!(
                line,
                " echo reply={reply} identifier={identifier} sequence={sequence}"
            )
            .expect("text");
        }
        Transport::IcmpError(error) => {
            write!(line, " error {}/{}", error.kind, error.code).expect("text");
            if let Some(quoted) = error.quoted {
                write!(
                    line,
                    " [{} {} {} {}]",
                    quoted.source, quoted.destination, quoted.source_port, quoted.destination_port
                )
                .expect("text");
            }
            if let Some(mtu) = error.next_hop_mtu {
                write!(line, " mtu={mtu}").expect("text");
            }
        }
        Transport::Fragment(fragment) => {
            assert_eq!(fragment.id, packet.fragment_id);
            let more = if fragment.more { "+" } else { "" };
            write!(line, "@{}{more} fragment", fragment.offset).expect("text");
        }
        Transport::Other => line += " other",
    }
    line
}

fn name(path: &Path) -> String {
    path.file_name().expect("a file").to_string_lossy().into()
}

/// Compares frame by frame; the number of frames that were equal.
fn compare(path: &Path, theirs: &[&str]) -> usize {
    let capture = name(path);
    let records = capture::read(path);
    assert!(theirs.len() <= records.len());
    let mut equal = 0;
    let mut wrong = String::new();
    for (number, (record, theirs)) in (1..).zip(records.iter().zip(theirs)) {
        let ours = show(decode::decode(&record.frame(), Layer::Innermost));
        let listed = DIFFERENT
            .iter()
            .any(|(file, frames, _)| *file == capture && frames.contains(&number));
        if listed {
            assert_ne!(
                ours, *theirs,
                "{capture} {number} is equal: not to be listed"
            );
        } else if ours == *theirs {
            equal += 1;
        } else {
            writeln!(
                wrong,
                "{capture} {number}\n  ours   {ours}\n  theirs {theirs}"
            )
            .expect("text");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    equal
}

/// The fuzz target's seeds, and the captures for more of them.
#[test]
fn fuzz_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/decode");
    let mut seeds = 0;
    for entry in std::fs::read_dir(corpus).expect("the corpus") {
        let input = std::fs::read(entry.expect("readable").path()).expect("readable");
        check::check(&input);
        seeds += 1;
    }
    assert!(seeds >= 20);
    for path in capture::all().unwrap_or_default() {
        for record in capture::read(&path) {
            let frame = record.frame();
            let mut input = vec![frame.link as u8, 0];
            input.extend(frame.bytes);
            check::check(&input);
        }
    }
}

#[test]
fn equal_to_what_tshark_said() {
    let Some(captures) = capture::all() else {
        return;
    };
    let mut known: HashMap<&str, Vec<&str>> = HashMap::new();
    let mut lines = None;
    for line in include_str!("tshark.txt").lines() {
        match line.strip_prefix("# ") {
            Some(capture) => lines = Some(known.entry(capture).or_default()),
            None => lines.as_mut().expect("a capture first").push(line),
        }
    }
    let mut equal = 0;
    for path in &captures {
        if let Some(theirs) = known.remove(name(path).as_str()) {
            equal += compare(path, &theirs);
        }
    }
    assert!(
        known.is_empty(),
        "captures that are gone: {:?}",
        known.keys()
    );
    println!("{equal} frames equal");
}

#[test]
#[ignore = "needs tshark: cargo xtask test runs it"]
fn equal_to_tshark_now() {
    let Some(captures) = capture::all() else {
        return;
    };
    assert!(tshark::installed(), "no tshark");
    let mut file = String::new();
    let mut wrong = String::new();
    let mut equal = 0;
    for path in &captures {
        let theirs = tshark::lines(path);
        let theirs: Vec<_> = theirs.iter().map(String::as_str).collect();
        writeln!(file, "# {}", name(path)).expect("text");
        for line in theirs.iter().take(COMMITTED) {
            writeln!(file, "{line}").expect("text");
        }
        assert_eq!(theirs.len(), capture::read(path).len(), "{}", name(path));
        match std::panic::catch_unwind(|| compare(path, &theirs)) {
            Ok(same) => equal += same,
            Err(why) => wrong += why.downcast_ref::<String>().map_or("", |text| text),
        }
    }
    if std::env::var_os("NETSONDE_WRITE_VECTORS").is_some() {
        let to = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/decode/tshark.txt");
        std::fs::write(to, file).expect("writable");
    }
    assert!(wrong.is_empty(), "{wrong}");
    println!("{equal} frames of {} captures equal", captures.len());
}
