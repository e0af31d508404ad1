//! tcpdump in a host: an observer that is no part of ours.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::host::{DEVICE, Host};
use crate::running::Running;

/// The discard port: where the packet goes that marks the end of a capture.
const MARKER_PORT: u16 = 9;
const MARKER: &[u8] = b"the end of this capture";
const PATIENCE: Duration = Duration::from_secs(60);
/// The marker is the last record, or nearly.
const TAIL_BYTES: u64 = 65_536;
/// Nothing is under way any more when nothing moved for so long: longer than any delay.
const QUIET: Duration = Duration::from_millis(200);

/// A capture under way: TCP and the marker, nanoseconds, classic pcap.
pub struct Tap {
    running: Running,
    path: PathBuf,
}

impl Tap {
    /// Starts it; every packet from now on is seen. `snaplen` 0 keeps whole frames.
    ///
    /// # Errors
    /// When tcpdump does not start.
    pub fn start(host: &Host, device: &str, snaplen: u32, path: PathBuf) -> Result<Self> {
        let file = path.to_string_lossy();
        let snaplen = snaplen.to_string();
        let filter = format!("tcp or udp port {MARKER_PORT}");
        let args = [
            "-n",
            "-i",
            device,
            "-s",
            &snaplen,
            // KiB.
            "-B",
            "131072",
            "--time-stamp-precision=nano",
            "-U",
            // Its own user could not write the file.
            "-Z",
            "root",
            "-w",
            &file,
            &filter,
        ];
        let running = host.spawn("tcpdump", &args)?;
        running.wait_error_line("listening on", PATIENCE)?;
        Ok(Self { running, path })
    }

    /// Ends captures that see what goes from `from` to `to`: when a last packet is in all
    /// files, all before it are.
    ///
    /// # Errors
    /// When the packet does not come, or a capture lost packets: it is no witness then.
    pub fn stop_all(from: &Host, to: &Host, taps: Vec<Self>) -> Result<Vec<PathBuf>> {
        let limit = Instant::now() + PATIENCE;
        // The marker overtakes what a relay holds: not before all is there.
        let moved = || -> Result<[u64; 2]> {
            let count = |host: &Host| host.device_counter(DEVICE, "rx_packets");
            Ok([count(from)?, count(to)?])
        };
        let mut before = moved()?;
        loop {
            std::thread::sleep(QUIET);
            let now = moved()?;
            if now == before {
                break;
            }
            before = now;
            ensure!(Instant::now() < limit, "the traffic does not end");
        }
        let socket = from
            .namespace()
            .run(|| UdpSocket::bind((from.ipv4(), 0)))??;
        socket.send_to(MARKER, (to.ipv4(), MARKER_PORT))?;
        let mut paths = Vec::new();
        for tap in taps {
            while !ends_with_marker(&tap.path)? {
                ensure!(Instant::now() < limit, "{:?} does not end", tap.path);
                std::thread::sleep(Duration::from_millis(20));
            }
            let finished = tap.running.stop("INT", PATIENCE)?;
            ensure!(finished.code() == 0, "tcpdump: {finished:?}");
            let whole = finished.stderr.contains("\n0 packets dropped by kernel");
            ensure!(whole, "the capture lost packets: {}", finished.stderr);
            paths.push(tap.path);
        }
        Ok(paths)
    }
}

fn ends_with_marker(path: &Path) -> Result<bool> {
    let mut file = File::open(path).with_context(|| path.display().to_string())?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    Ok(tail.windows(MARKER.len()).any(|window| window == MARKER))
}
