//! AF_PACKET capture against what was sent and what the kernel counted.
//!
//! Here is what the trials share: sources on a host, reading them to the end, and the sums of what
//! they lent and dropped. The trials are by subject in `capture_afpacket/`.

#[path = "capture_afpacket/counts.rs"]
mod counts;
#[path = "capture_afpacket/device.rs"]
mod device;
#[path = "capture_afpacket/flows.rs"]
mod flows;
#[path = "capture_afpacket/frames.rs"]
mod frames;
#[path = "capture_afpacket/vlan.rs"]
mod vlan;

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use capture::{AfPacketOptions, AfPacketSource, DropReason, Drops, Polled, Source};
use lab::traffic::udp_frame;
use lab::{Direct, Host};
use libtest_mimic::Trial;
use netsonde_e2e::trial;

type Test = fn() -> Result<()>;

pub(crate) fn trials() -> Vec<Trial> {
    let tests: [(&str, Test); 11] = [
        ("afpacket::accounts_for_every_frame", counts::accounts),
        (
            "afpacket::accounts_for_every_frame_under_overload",
            counts::overload,
        ),
        ("afpacket::counts_what_the_filter_rejects", counts::filters),
        ("afpacket::keeps_a_flow_on_one_worker", flows::one_worker),
        (
            "afpacket::counts_wire_segments_with_offloads_on",
            frames::segments,
        ),
        ("afpacket::has_the_kernels_stamps", frames::stamps),
        ("afpacket::sees_both_directions_or_one", frames::directions),
        (
            "afpacket::survives_a_device_that_goes_down",
            device::down_and_up,
        ),
        (
            "afpacket::survives_a_device_that_is_made_again",
            device::made_again,
        ),
        ("afpacket::needs_no_privilege_to_read", device::unprivileged),
        ("afpacket::does_without_ebpf", device::without_ebpf),
    ];
    let mut trials = Vec::from(tests.map(|(name, test)| trial(name, lab::cleanup::missing, test)));
    trials.extend(vlan::trials());
    trials
}

const DEVICE: &str = "eth0";
const MAC: ([u8; 6], [u8; 6]) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);

fn on_device() -> AfPacketOptions {
    AfPacketOptions {
        device: Some(DEVICE.to_owned()),
        seed: 7,
        ..AfPacketOptions::default()
    }
}

/// Sources on a host; whatever is not as it should be here is a failure.
fn sources_on(host: &Host, options: &AfPacketOptions, workers: u32) -> Result<Vec<AfPacketSource>> {
    let opened = host
        .namespace()
        .run(|| AfPacketSource::open_group(options, workers))??;
    ensure!(opened.notes.is_empty(), "{:?}", opened.notes);
    ensure!(opened.fanout.is_some() == (workers > 1));
    Ok(opened.sources)
}

/// Reads until nothing has come for longer than blocks are held back.
fn drain(source: &mut AfPacketSource, mut each: impl FnMut(&base::Frame<'_>)) -> Result<u64> {
    let mut lent = 0;
    loop {
        let polled = source.poll(Duration::from_millis(60), |frames| {
            frames.iter().for_each(&mut each);
            lent += frames.len() as u64;
        })?;
        match polled {
            Polled::Frames(_) => {}
            Polled::Quiet => return Ok(lent),
            Polled::End => bail!("a live source ended"),
        }
    }
}

/// What became of the frames so far.
#[derive(Default, Debug)]
struct Tally {
    lent: u64,
    /// Filtered, ring full, malformed.
    drops: [u64; 3],
}

impl Tally {
    fn all(&self) -> u64 {
        self.lent + self.drops.iter().sum::<u64>()
    }
}

/// Reads all sources in turn until `enough`, for some seconds at most (what was sent waits in
/// the device's queue while the processor is taken), and then until nothing comes any more:
/// too much would show too.
fn read_until(
    sources: &mut [AfPacketSource],
    tally: &mut Tally,
    mut each: impl FnMut(usize, &base::Frame<'_>),
    mut enough: impl FnMut(&Tally) -> Result<bool>,
) -> Result<()> {
    let mut last = false;
    for _ in 0..100 {
        for (worker, source) in sources.iter_mut().enumerate() {
            tally.lent += drain(source, |frame| each(worker, frame))?;
        }
        tally.drops = drops_of(sources)?;
        if last {
            break;
        }
        last = enough(tally)?;
    }
    Ok(())
}

fn drops_of(sources: &mut [AfPacketSource]) -> Result<[u64; 3]> {
    let mut sum = [0; 3];
    for source in sources {
        let drops: Drops = source.drops()?;
        let reasons = [
            DropReason::Filtered,
            DropReason::RingFull,
            DropReason::Malformed,
        ];
        for (sum, reason) in sum.iter_mut().zip(reasons) {
            *sum += drops.get(reason);
        }
    }
    Ok(sum)
}

/// UDP frames from a to b of ports that vary, so that workers share them.
fn datagrams(net: &Direct, count: u16, port: impl Fn(u16) -> u16) -> Vec<Vec<u8>> {
    let addresses = (net.a.address(false), net.b.address(false));
    (0..count)
        .map(|i| udp_frame(MAC, addresses, (20_000 + i % 1_000, port(i)), &[0xa5; 32]))
        .collect()
}

/// Frames that the kernel says passed a device, in and out.
fn passed(host: &Host) -> Result<u64> {
    Ok(host.device_counter(DEVICE, "rx_packets")? + host.device_counter(DEVICE, "tx_packets")?)
}
