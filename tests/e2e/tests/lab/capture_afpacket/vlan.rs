//! Frames with VLAN tags, of which the kernel takes the outermost out: the same octets,
//! lengths and matches as tcpdump has on the same device. On a bridge, where frames arrive with
//! a tag beside them on one device and leave so on the other.

#[path = "vlan/bridged.rs"]
mod bridged;
#[path = "vlan/witness.rs"]
mod witness;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use capture::{AfPacketOptions, AfPacketSource, Filter};
use lab::{Capability, Lab};
use libtest_mimic::Trial;
use netsonde_e2e::{missing, missing_program, netsonde, trial};

use super::{Tally, on_device, read_until, sources_on};
use crate::commands::{PATIENCE, document, number};
use bridged::{Bridged, DEVICES, bridged, traffic};
use witness::{Seen, Tcpdump, add, count, difference, read};

pub(super) fn trials() -> Vec<Trial> {
    let missing = || missing().or_else(|| missing_program("tcpdump", "tcpdump"));
    vec![
        trial("afpacket::has_vlan_tags_in_place", missing, octets),
        trial("afpacket::filters_vlans_in_the_kernel", missing, || {
            filters(None)
        }),
        trial("afpacket::filters_vlans_in_user_space", missing, || {
            filters(Some(Capability::NetRaw))
        }),
        trial("afpacket::writes_and_counts_vlan_tags", missing, written),
    ]
}

/// More than any frame has.
const WHOLE: u32 = 262_144;

/// A ring that holds all of the traffic until somebody reads.
fn patient(device: &str, snaplen: u32, filter: &str) -> Result<AfPacketOptions> {
    let words = [filter.to_owned()];
    Ok(AfPacketOptions {
        device: Some(device.to_owned()),
        ring_bytes: 8 << 20,
        block_bytes: 128 << 10,
        retire_ms: 50,
        snaplen,
        filter: (!filter.is_empty())
            .then(|| Filter::compile(&words, &[]))
            .transpose()?,
        ..on_device()
    })
}

/// All that comes of what passes the device, and what became of it.
fn all_of(
    net: &Bridged,
    sources: &mut [AfPacketSource],
    device: &str,
    before: u64,
) -> Result<(Seen, Tally)> {
    let (mut seen, mut tally) = (Seen::new(), Tally::default());
    let each = |_, frame: &base::Frame<'_>| add(&mut seen, frame);
    read_until(sources, &mut tally, each, |tally| {
        Ok(tally.all() >= net.passed(device)? - before)
    })?;
    Ok((seen, tally))
}

fn octets() -> Result<()> {
    let lab = Lab::new()?;
    let net = bridged(&lab)?;
    let mut running = Vec::new();
    for device in DEVICES {
        for snaplen in [WHOLE, 128, 61, 18, 17, 16, 14] {
            let workers = if snaplen == WHOLE { 3 } else { 1 };
            let dump = Tcpdump::start(&net.bridge, device, snaplen, "")?;
            let mut options = patient(device, snaplen, "")?;
            options.vnet_header = snaplen != 18;
            options.ring_bytes *= workers;
            let sources = sources_on(&net.bridge, &options, workers)?;
            running.push((device, snaplen, dump, sources, net.passed(device)?));
        }
    }
    traffic(&net)?;
    for (device, snaplen, dump, mut sources, before) in running {
        let (ours, tally) = all_of(&net, &mut sources, device, before)?;
        let theirs = dump.stop(tally.lent)?;
        let offered = net.passed(device)? - before;
        ensure!(
            (tally.lent, tally.drops) == (offered, [0; 3]),
            "{snaplen} on {device}: {tally:?} of {offered}"
        );
        ensure!(
            ours == theirs,
            "{snaplen} on {device}: {}",
            difference(&ours, &theirs)
        );
        if snaplen == WHOLE {
            let of_kind = |kind: [u8; 2]| {
                let of_kind =
                    |((bytes, _), _): &(&(Vec<u8>, u32), &u32)| bytes.get(12..14) == Some(&kind);
                ours.iter().filter(of_kind).map(|(_, count)| count).sum()
            };
            let kinds: [u32; 4] = [[0x81, 0], [0x88, 0xa8], [0x91, 0], [8, 0]].map(of_kind);
            ensure!(kinds.iter().all(|count| *count > 90), "{kinds:?}");
            let longest = ours.keys().map(|(_, length)| *length).max();
            ensure!(longest > Some(9_100), "none is cut later: {longest:?}");
        }
    }
    Ok(())
}

/// `with`: all that the capturing thread may do; `None`: everything.
fn filters(with: Option<Capability>) -> Result<()> {
    let lab = Lab::new()?;
    let net = bridged(&lab)?;
    let texts = [
        "vlan",
        "vlan 7",
        "vlan 8",
        "vlan 9",
        "not vlan",
        "not vlan 7",
        "vlan and host 10.7.0.1",
        "vlan 7 and tcp port 80",
        "vlan 8 and (icmp or arp)",
        "vlan 9 and vlan 5 and udp",
        "vlan 7 or vlan 8",
        "udp",
        "host 10.0.0.1 and not vlan",
        "vlan and greater 200",
        "vlan and dst host 10.7.0.2",
    ];
    let mut running = Vec::new();
    for device in DEVICES {
        for text in texts {
            let dump = Tcpdump::start(&net.bridge, device, WHOLE, text)?;
            let options = patient(device, WHOLE, text)?;
            let sources = match with {
                None => sources_on(&net.bridge, &options, 1)?,
                Some(capability) => {
                    let opened = net.bridge.run_with_only(&[capability], || {
                        AfPacketSource::open_group(&options, 1)
                    })??;
                    opened.sources
                }
            };
            let in_kernel = sources.iter().all(AfPacketSource::filters_in_kernel);
            ensure!(in_kernel == with.is_none());
            running.push((device, text, dump, sources, net.passed(device)?));
        }
    }
    traffic(&net)?;
    for (device, text, dump, mut sources, before) in running {
        let (ours, tally) = all_of(&net, &mut sources, device, before)?;
        let theirs = dump.stop(tally.lent)?;
        let offered = net.passed(device)? - before;
        ensure!(
            tally.all() == offered && tally.drops[1..] == [0, 0],
            "{text} on {device}: {tally:?} of {offered}"
        );
        ensure!(
            ours == theirs && tally.lent == count(&theirs),
            "{text} on {device}: {}",
            difference(&ours, &theirs)
        );
        ensure!((1..offered).contains(&tally.lent), "{text}: {tally:?}");
    }
    Ok(())
}

/// The command: its file is tcpdump's, and what it says of live frames is what it says of
/// tcpdump's file.
fn written() -> Result<()> {
    let lab = Lab::new()?;
    let net = bridged(&lab)?;
    let device = DEVICES[1];
    for filter in ["", "vlan 7", "vlan and not tcp"] {
        let dump = Tcpdump::start(&net.bridge, device, WHOLE, filter)?;
        let theirs_at = dump.path.clone();
        let ours_at = net.bridge.file("ours.pcapng")?;
        let file = ours_at.to_string_lossy();
        let snaplen = WHOLE.to_string();
        let mut args = vec!["capture", "-i", device, "--backend", "afpacket", "--json"];
        args.extend(["--ring", "32MiB", "-s", &snaplen, "-w", &file]);
        args.extend(filter.split_whitespace());
        let running = net.bridge.spawn(netsonde()?, &args)?;
        running.wait_error_line("backend afpacket", PATIENCE)?;
        let before = net.passed(device)?;
        traffic(&net)?;
        // Its blocks stay open for a second at most.
        let limit = Instant::now() + PATIENCE;
        let mut found = (0, Instant::now());
        while found.1.elapsed() < Duration::from_millis(1_500) && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(50));
            let now = count(&read(&theirs_at)?);
            if now > found.0 {
                found = (now, Instant::now());
            }
        }
        let theirs = dump.stop(found.0)?;
        let live = document(&running.stop("INT", PATIENCE)?)?;
        let ours = read(&ours_at)?;
        ensure!(ours == theirs, "{filter}: {}", difference(&ours, &theirs));
        let octets: u64 = theirs
            .iter()
            .map(|((_, length), count)| u64::from(*length) * u64::from(*count))
            .sum();
        ensure!(
            number(&live, "frames")? == count(&theirs) && number(&live, "bytes")? == octets,
            "{filter}: {} frames of {octets} octets: {live}",
            count(&theirs)
        );
        let filtered = net.passed(device)? - before - count(&theirs);
        ensure!(
            live["capture_drops"]["filtered"].as_u64() == Some(filtered),
            "{filtered}: {live}"
        );
        let path = theirs_at.to_string_lossy();
        let args = ["capture", "-r", &path, "--json"];
        let of_file = document(&net.bridge.spawn(netsonde()?, &args)?.finish(PATIENCE)?)?;
        for key in [
            "frames",
            "bytes",
            "decoded",
            "measured",
            "decode",
            "unmeasured",
        ] {
            ensure!(
                live[key] == of_file[key],
                "{filter}: {key}: live {}, of tcpdump's file {}",
                live[key],
                of_file[key]
            );
        }
    }
    Ok(())
}
