//! Makes a long trace of a captured one.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use wire::checksum::{protocol, update_bytes};
use wire::frame::Frame;

use super::pcap::{Record, Writer, Written, records};

/// Who opened the connections, in the lab.
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// Between the end of a copy and the start of the next.
const GAP_NS: u64 = 1_000_000;
const SNAPLEN: u16 = 96;

/// Writes the TCP frames of `from` again and again until there are at least `frames`;
/// returns how many `from` had as well.
///
/// # Errors
/// When `from` is no capture of the lab's hosts, or the disk is full.
pub fn write(from: &Path, frames: u64, to: &Path) -> Result<(Written, u64)> {
    let file = std::fs::read(from).with_context(|| from.display().to_string())?;
    let all = records(&file)?;
    let parsed: Vec<(Record<'_>, Frame)> = all
        .into_iter()
        .filter_map(|record| Some((record, headers(&record)?)))
        .collect();
    let captured = parsed.len() as u64;
    let (first, last) = parsed.first().zip(parsed.last()).context("no TCP frames")?;
    let span_ns = last.0.at_ns.saturating_sub(first.0.at_ns) + GAP_NS;
    let copies = u8::try_from(frames.div_ceil(captured))
        .context("too few frames were captured for so many copies")?;
    let mut writer = Writer::create(to, SNAPLEN)?;
    for copy in 0..copies {
        let client = Ipv4Addr::new(10, 0, copy, 1);
        for (record, frame) in &parsed {
            let mut bytes = record.bytes.to_vec();
            readdress(&mut bytes, frame, client);
            let at_ns = record.at_ns + u64::from(copy) * span_ns;
            writer.write(at_ns, &bytes, record.wire_len)?;
        }
    }
    let written = writer.finish()?;
    ensure!(written.frames >= frames);
    Ok((written, captured))
}

/// The headers of a TCP frame, of which the payload may be missing.
fn headers(record: &Record<'_>) -> Option<Frame> {
    let mut whole = record.bytes.to_vec();
    whole.resize(record.wire_len as usize, 0);
    let frame = Frame::parse(&whole).ok()?;
    (frame.protocol == protocol::TCP).then_some(frame)
}

/// Gives the client another address, and adjusts both checksums (RFC 1624).
fn readdress(bytes: &mut [u8], frame: &Frame, client: Ipv4Addr) {
    // RFC 791 section 3.1: source at 12, destination at 16, checksum at 10.
    let at = match (frame.source, frame.destination) {
        (IpAddr::V4(CLIENT), _) => frame.l3 + 12,
        (_, IpAddr::V4(CLIENT)) => frame.l3 + 16,
        _ => return,
    };
    for sum_at in [frame.l3 + 10, frame.l4 + 16] {
        if let Some(field) = bytes.get_mut(sum_at..sum_at + 2) {
            let old = u16::from_be_bytes([field[0], field[1]]);
            let new = update_bytes(old, &CLIENT.octets(), &client.octets());
            field.copy_from_slice(&new.to_be_bytes());
        }
    }
    if let Some(field) = bytes.get_mut(at..at + 4) {
        field.copy_from_slice(&client.octets());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::checksum::{verify, verify_transport};

    use crate::traces::million::{Plan, segment};

    #[test]
    fn a_copy_has_another_client_and_right_checksums() {
        // A frame from and one to the client.
        for step in [2, 3] {
            let original = segment(&Plan::default(), 5, step, CLIENT);
            let frame = Frame::parse(&original).expect("well formed");
            let mut copy = original.clone();
            readdress(&mut copy, &frame, Ipv4Addr::new(10, 0, 77, 1));
            let after = Frame::parse(&copy).expect("well formed");
            let ends = |frame: &Frame| [frame.source, frame.destination];
            let clients = ends(&after)
                .iter()
                .filter(|end| **end == IpAddr::from([10, 0, 77, 1]))
                .count();
            assert_eq!(clients, 1, "{after:?}");
            assert!(!ends(&after).contains(&CLIENT.into()));
            assert!(verify(&copy[after.l3..after.l4]));
            let whole = &copy[after.segment()];
            assert!(verify_transport(after.source, after.destination, 6, whole));
        }
    }
}
