//! The run: every receiver at every rate and number of flows, in turn.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use ebpf::generator::{Generator, Plan};
use lab::host::DEVICE;
use lab::{Direct, Host, Lab, LinkOptions};
use serde::Serialize;

use super::receivers::{Counted, Places, Receiver};
use crate::side::machine::{Machine, require_idle, watch};

/// Frames per second; the last: as fast as it goes.
pub const RATES: [Option<u32>; 5] = [
    Some(500_000),
    Some(1_000_000),
    Some(1_500_000),
    Some(2_500_000),
    None,
];
/// Flows at once.
pub const FLOWS: [u32; 2] = [1, 100_000];
/// Octets of a frame.
const FRAME_BYTES: u16 = 60;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the programs are.
    pub places: Places,
    /// Only this receiver.
    pub only: Option<Receiver>,
    /// Only this rate.
    pub rate: Option<u32>,
    /// Times that every receiver has its turn.
    pub rounds: u32,
    /// Of one turn, at most.
    pub frames: u32,
    /// Run on a busy machine, for trying the harness out.
    pub even_if_busy: bool,
    /// Where the JSON goes.
    pub json: PathBuf,
}

/// One turn.
#[derive(Clone, Debug, Serialize)]
pub struct Turn {
    /// Who received.
    pub receiver: Receiver,
    /// Flows at once.
    pub flows: u32,
    /// As asked for.
    pub rate: Option<u32>,
    /// As it was: frames made over the time of the call.
    pub rate_made: f64,
    /// By the generator.
    pub made: u64,
    /// By the receiving device, drops in front of it not among them.
    pub arrived: u64,
    /// By the receiver.
    pub counted: Counted,
}

/// Runs all, prints a table, writes JSON.
///
/// # Errors
/// When the machine is busy or a receiver fails.
pub fn run(options: &Options) -> Result<()> {
    if let Some(missing) = lab::cleanup::missing() {
        bail!("{missing}");
    }
    let before = if options.even_if_busy {
        watch()?
    } else {
        require_idle()?
    };
    println!("before: {}", before.in_words());
    let mut turns = Vec::new();
    for round in 0..options.rounds {
        for flows in FLOWS {
            for rate in RATES {
                if options.rate.is_some() && options.rate != rate {
                    continue;
                }
                let mut receivers = Receiver::ALL;
                // Another one begins in every round.
                receivers.rotate_left(round as usize % Receiver::ALL.len());
                for receiver in receivers {
                    let ours = matches!(receiver, Receiver::AfPacket | Receiver::AfXdp);
                    let left_out = ours && options.places.netsonde.is_none();
                    if left_out || options.only.is_some_and(|only| only != receiver) {
                        continue;
                    }
                    let turn = turn(receiver, flows, rate, options)
                        .with_context(|| format!("{} at {rate:?}", receiver.name()))?;
                    println!("{turn:?}");
                    turns.push(turn);
                }
            }
        }
    }
    println!("\n{}", markdown(&turns));
    let document = serde_json::json!({
        "machine": Machine::this(), "before": before, "turns": turns,
    });
    if let Some(folder) = options.json.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(
        &options.json,
        serde_json::to_string_pretty(&document)? + "\n",
    )?;
    Ok(())
}

fn turn(receiver: Receiver, flows: u32, rate: Option<u32>, options: &Options) -> Result<Turn> {
    let lab = Lab::new()?;
    let net = Direct::new(
        &lab,
        LinkOptions {
            mtu: 1_500,
            ..LinkOptions::default()
        },
    )?;
    if !receiver.is_xdp() {
        // Without it (or an XDP program) a veth takes no frames of XDP.
        net.b.run("ethtool", &["-K", DEVICE, "gro", "on"])?;
    }
    // The frames are nobody's: the stack drops them early, and answers nothing.
    net.b.sysctl("net/ipv4/conf/all/rp_filter", "1")?;
    let nowhere = PathBuf::from("netsonde");
    let netsonde = options.places.netsonde.as_ref().unwrap_or(&nowhere);
    let running = receiver.start(&net.b, DEVICE, netsonde)?;
    let plan = Plan {
        from: hardware(&net.a)?,
        to: hardware(&net.b)?,
        source: Ipv4Addr::new(172, 16, 0, 1),
        // Not its own address, so that no reset goes back.
        destination: Ipv4Addr::new(192, 0, 2, 1),
        port: 443,
        frame_bytes: FRAME_BYTES,
        flows,
        rate,
    };
    let arrived_before = arrived(&net.b)?;
    // A low rate would take too long for all frames.
    let frames = rate.map_or(options.frames, |rate| {
        options.frames.min(rate.saturating_mul(4))
    });
    let (made, took) = net.a.namespace().run(|| -> Result<_> {
        sys::sched::pin(0)?;
        let mut generator = Generator::load(&plan)?;
        let took = generator.run(sys::device::index(DEVICE)?, frames)?;
        Ok((generator.sent()?, took))
    })??;
    receiver.settle(&running)?;
    let counted = receiver.stop(running)?;
    let arrived = arrived(&net.b)? - arrived_before;
    ensure!(made >= u64::from(frames), "{made} of {frames} frames made");
    Ok(Turn {
        receiver,
        flows,
        rate,
        rate_made: made as f64 / took.as_secs_f64(),
        made,
        arrived,
        counted,
    })
}

fn arrived(host: &Host) -> Result<u64> {
    host.device_counter(DEVICE, "rx_packets")
}

fn hardware(host: &Host) -> Result<[u8; 6]> {
    let text = host.run("cat", &[&format!("/sys/class/net/{DEVICE}/address")])?;
    let mut hardware = [0; 6];
    let mut parts = text.trim().split(':');
    for byte in &mut hardware {
        *byte = u8::from_str_radix(parts.next().context("hardware address")?, 16)?;
    }
    Ok(hardware)
}

/// Medians of the share that was captured.
#[must_use]
pub fn markdown(turns: &[Turn]) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "| flows | rate asked, M/s | receiver | rate made, M/s | made | captured | not captured | runs |\n|---|---|---|---|---|---|---|---|"
    );
    for flows in FLOWS {
        for rate in RATES {
            for receiver in Receiver::ALL {
                let mut found: Vec<&Turn> = turns
                    .iter()
                    .filter(|turn| {
                        (turn.flows, turn.rate, turn.receiver) == (flows, rate, receiver)
                    })
                    .collect();
                found.sort_by_key(|turn| turn.made.saturating_sub(turn.counted.captured));
                let Some(median) = found.get(found.len() / 2) else {
                    continue;
                };
                let asked = rate.map_or_else(
                    || "all it can".to_owned(),
                    |rate| format!("{:.2}", f64::from(rate) / 1e6),
                );
                let missed = median.made.saturating_sub(median.counted.captured);
                let _ = writeln!(
                    text,
                    "| {flows} | {asked} | {} | {:.2} | {} | {} | {missed} | {} |",
                    receiver.name(),
                    median.rate_made / 1e6,
                    median.made,
                    median.counted.captured,
                    found.len(),
                );
            }
        }
    }
    text
}
