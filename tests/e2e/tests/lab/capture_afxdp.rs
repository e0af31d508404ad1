//! AF_XDP capture between hosts of a lab: jumbo frames, accounts under overload, times,
//! several queues, other programs, and every way to go.
//!
//! Here is what the trials share: a source on a host, and what the kernel says that it gave to
//! XDP. The trials are by subject in `capture_afxdp/`.

#[path = "capture_afxdp/device.rs"]
mod device;
#[path = "capture_afxdp/frames.rs"]
mod frames;
#[path = "capture_afxdp/queues.rs"]
mod queues;

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use capture::afxdp::{AfXdpSource, Attach, Options, XdpMode};
use capture::{Polled, Source};
use lab::Host;
use libtest_mimic::Trial;
use netsonde_e2e::{missing_program, trial};

pub(crate) use device::victim;

const DEVICE: &str = "eth0";
const PORT: u16 = 4789;
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn trials() -> Vec<Trial> {
    let needs = lab::cleanup::missing;
    let mut trials = Vec::new();
    for attach in [Attach::Native, Attach::Generic] {
        let name = |what: &str| format!("afxdp::{what}_{attach:?}").to_lowercase();
        trials.extend([
            trial(&name("takes_jumbo_frames"), needs, move || {
                frames::jumbo(attach)
            }),
            trial(&name("accounts_for_overload"), needs, move || {
                frames::overload(attach)
            }),
            trial(&name("leaves_another_program_alone"), needs, move || {
                device::other(attach)
            }),
            trial(&name("detaches_when_killed"), needs, move || {
                device::killed(attach)
            }),
            trial(&name("tells_of_a_device_that_goes"), needs, move || {
                device::gone(attach)
            }),
        ]);
    }
    trials.extend([
        trial("afxdp::spares_the_host", needs, device::spares),
        trial("afxdp::merges_queues_by_time", needs, queues::queues),
        trial("afxdp::filters_and_counts", needs, frames::filters),
        trial(
            "afxdp::times_fit_the_kernels",
            || needs().or_else(|| missing_program("tcpdump", "tcpdump")),
            frames::times,
        ),
    ]);
    trials
}

fn options(attach: Attach) -> Options {
    Options {
        attach,
        ..Options::new(DEVICE)
    }
}

fn open(host: &Host, options: &Options) -> Result<AfXdpSource> {
    Ok(host.namespace().run(|| AfXdpSource::open(options))??)
}

/// Polls until the rings have been found empty once after `enough` frames were lent or
/// nothing more came for a while.
fn drain(
    source: &mut AfXdpSource,
    enough: usize,
    mut see: impl FnMut(&base::Frame<'_>),
) -> Result<usize> {
    let mut lent = 0;
    let limit = Instant::now() + LIMIT;
    let mut quiet = 0;
    while quiet < 2 {
        ensure!(Instant::now() < limit, "{lent} of {enough} frames");
        let wait = Duration::from_millis(if lent < enough { 100 } else { 0 });
        match source.poll(wait, |frames| {
            assert!(!frames.is_empty() && frames.len() <= capture::BATCH);
            frames.iter().for_each(&mut see);
        })? {
            Polled::Frames(frames) => {
                lent += frames;
                quiet = 0;
            }
            Polled::Quiet => quiet += 1,
            Polled::End => bail!("a live source has no end"),
        }
    }
    Ok(lent)
}

/// What the device gave to XDP, as the kernel counts: the driver's own counters in native
/// mode, received packets in generic mode.
fn seen(host: &Host, mode: XdpMode) -> Result<u64> {
    match mode {
        XdpMode::Generic => host.device_counter(DEVICE, "rx_packets"),
        XdpMode::Native => host.xdp_packets(DEVICE),
    }
}

/// Number of the datagram, from its payload; the frame is IPv4 without options.
fn number(frame: &base::Frame<'_>) -> u32 {
    let word = frame
        .bytes
        .get(42..46)
        .and_then(|word| word.try_into().ok());
    word.map_or(u32::MAX, u32::from_be_bytes)
}
