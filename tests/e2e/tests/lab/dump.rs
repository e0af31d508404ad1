//! Captures by Wireshark's own tools inside a host: an observer that is no part of ours.

use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::{Host, Running};
use netsonde_e2e::missing_program;

use crate::commands::{PATIENCE, missing_python};

/// The discard port: where the packets go that mark the end of a capture.
const MARKER_PORT: u16 = 9;
const MARKER: &[u8] = b"the end of this capture";

/// What a test with a capture needs.
pub(crate) fn missing_tshark() -> Option<String> {
    missing_python()
        .or_else(|| missing_program("dumpcap", "tshark"))
        .or_else(|| missing_program("tshark", "tshark"))
}

/// A capture under way of what one host sends and receives on its device, STAMP's port only.
pub(crate) struct Dump {
    running: Running,
    path: PathBuf,
}

impl Dump {
    /// Starts it; every packet from now on is seen, with nanoseconds.
    pub(crate) fn start(host: &Host) -> Result<Self> {
        let path = host.file("capture.pcapng")?;
        let filter = format!("udp port 862 or udp port {MARKER_PORT}");
        let file = path.to_string_lossy();
        let args = ["-q", "-i", "eth0", "-B", "64", "-f", &filter, "-w", &file];
        let running = host.spawn("dumpcap", &args)?;
        // It says so when the socket is open.
        running.wait_error_line("File: ", PATIENCE)?;
        Ok(Self { running, path })
    }

    /// Ends captures on `from` and on the host at `to` that see what goes from one to the
    /// other: when a last packet is in all files, all before it are.
    pub(crate) fn stop<const N: usize>(
        from: &Host,
        to: &Host,
        dumps: [Self; N],
    ) -> Result<[PathBuf; N]> {
        let socket = from
            .namespace()
            .run(|| UdpSocket::bind((from.ipv4(), 0)))??;
        socket.send_to(MARKER, (to.ipv4(), MARKER_PORT))?;
        let paths = dumps.each_ref().map(|dump| dump.path.clone());
        let limit = Instant::now() + PATIENCE;
        for dump in dumps {
            while !contains(&std::fs::read(&dump.path)?, MARKER) {
                ensure!(Instant::now() < limit, "the capture does not end");
                std::thread::sleep(Duration::from_millis(20));
            }
            let finished = dump.running.stop("INT", PATIENCE)?;
            ensure!(finished.code() == 0, "dumpcap: {finished:?}");
            let dropped = finished.stderr.contains("(pcap:0/dumpcap:0/flushed:0");
            ensure!(dropped, "the capture lost packets: {}", finished.stderr);
        }
        Ok(paths)
    }
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// tshark's reading of the STAMP packets of a capture: one row for each, with these fields,
/// in the order of the capture. Checksums are verified; a field that is not there is empty.
pub(crate) fn fields(path: &std::path::Path, fields: &[&str]) -> Result<Vec<Vec<String>>> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(path);
    command.args(["-Y", "udp.port == 862", "-T", "fields"]);
    command.args([
        "-o",
        "udp.check_checksum:TRUE",
        "-o",
        "ip.check_checksum:TRUE",
    ]);
    // TWAMP-Test and STAMP share the base packet; tshark 4.0 knows it by the former name.
    command.args(["-d", "udp.port==862,twamp.test"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let finished = Running::start(&mut command)?.finish(PATIENCE)?;
    ensure!(finished.code() == 0, "tshark: {}", finished.stderr);
    let rows = finished.stdout.lines().map(|line| {
        let row: Vec<String> = line.split('\t').map(str::to_owned).collect();
        (row.len() == fields.len())
            .then_some(row)
            .with_context(|| format!("tshark's line {line:?}"))
    });
    rows.collect()
}

/// Nanoseconds since 1970 of tshark's `1795186179.475038831`.
pub(crate) fn epoch_ns(text: &str) -> Result<u64> {
    let (seconds, rest) = text.split_once('.').context("no fraction")?;
    ensure!(rest.len() == 9, "no nanoseconds: {text}");
    Ok(seconds.parse::<u64>()? * 1_000_000_000 + rest.parse::<u64>()?)
}

/// Nanoseconds since midnight, of tshark's `Nov 20, 2026 14:49:39.467733941 UTC`.
pub(crate) fn of_day_ns(text: &str) -> Result<u64> {
    let clock = text.split(' ').nth_back(1).context("no time")?;
    let mut parts = clock.split(':');
    let mut part = || parts.next().context("no time");
    let (hours, minutes, seconds) = (part()?, part()?, part()?);
    let minutes = hours.parse::<u64>()? * 60 + minutes.parse::<u64>()?;
    Ok(minutes * 60_000_000_000 + epoch_ns(seconds)?)
}
