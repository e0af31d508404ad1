//! A source of frames for benches, in the kernel: millions a second from one core.
//!
//! Owns: the program, its template and its counter. The rule is in `xdp_generator.bpf.c`. The
//! kernel runs it with live frames (`BPF_F_TEST_XDP_LIVE_FRAMES`, Linux 5.18) and sends what it
//! returns from a device by `ndo_xdp_xmit`; nothing is attached anywhere. On a veth pair the
//! peer needs an XDP program or GRO, and its counters account for every frame.
//!
//! A run costs some 20 ms before its first and after its last frame: few runs of many frames.
//! Frames leave in batches of [`BATCH`], with the processor's soft interrupts off, also when
//! they are paced: a rate below some 10 000 frames/s is not kept.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use aya::maps::{Array, MapError};
use aya::programs::{TestRun, TestRunAttrs, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader, Pod};

use crate::error::{LoadError, raise_memory_limit};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../objects/xdp_generator.bpf.o");
const PROGRAM: &str = "xdp_generator";
const STATE: &str = "generator_state";

/// Frames that leave at once.
pub const BATCH: u32 = 64;
/// Ethernet, IPv4 and TCP without options.
const HEADERS: usize = 54;
const ETHERNET: usize = 14;
const IP: usize = 20;
/// The largest frame: it lies in one page beside its headroom.
const MOST_BYTES: u16 = 3_000;
/// Without the checksum of the wire.
const LEAST_BYTES: u16 = 60;

/// What is sent.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Hardware address of the sending device.
    pub from: [u8; 6],
    /// Hardware address of the receiver.
    pub to: [u8; 6],
    /// Source address of the first flows; every 50 000 flows it is the next one.
    pub source: Ipv4Addr,
    /// Destination of all.
    pub destination: Ipv4Addr,
    /// Destination port of all.
    pub port: u16,
    /// Octets of a frame, 60 to 3000.
    pub frame_bytes: u16,
    /// TCP flows, which take turns; source ports from 10 000.
    pub flows: u32,
    /// Frames per second; as fast as it goes if not given.
    pub rate: Option<u32>,
}

/// In step with `struct state` in `xdp_generator.bpf.c`.
#[derive(Copy, Clone, Debug, Default)]
#[repr(C)]
struct State {
    sent: u64,
    begin_ns: u64,
    begin_sent: u64,
    flow: u32,
    round: u32,
}

// SAFETY: `repr(C)` integers without padding.
unsafe impl Pod for State {}

/// The loaded program.
#[derive(Debug)]
pub struct Generator {
    ebpf: Ebpf,
    template: Vec<u8>,
}

impl Generator {
    /// Loads it.
    ///
    /// # Errors
    /// When privilege or a kernel feature is missing.
    pub fn load(plan: &Plan) -> Result<Self, LoadError> {
        raise_memory_limit();
        let template = template(plan);
        let payload_bytes = (template.len() - HEADERS) as u32;
        let gap_ns = plan.rate.map_or(0, |rate| 1_000_000_000 / rate.max(1));
        let first_source = u32::from(plan.source);
        let flows = plan.flows.max(1);
        let (ip_sum, tcp_sum) = sums(&template);
        let mut ebpf = EbpfLoader::new()
            .override_global("flows", &flows, true)
            .override_global("gap_ns", &gap_ns, true)
            .override_global("first_source", &first_source, true)
            .override_global("payload_bytes", &payload_bytes, true)
            .override_global("ip_sum", &ip_sum, true)
            .override_global("tcp_sum", &tcp_sum, true)
            .load(OBJECT)
            .map_err(|error| LoadError::of_object(PROGRAM, error))?;
        let program = ebpf.program_mut(PROGRAM).ok_or_else(missing)?;
        let program: &mut Xdp = program.try_into().map_err(|_| missing())?;
        program
            .load()
            .map_err(|error| LoadError::of_program(PROGRAM, error))?;
        Ok(Self { ebpf, template })
    }

    /// Sends so many frames from the device with this index in the namespace of the calling
    /// thread, which it keeps busy; returns how long that took.
    ///
    /// # Errors
    /// When the kernel is older than 5.18, or a signal came first: [`Generator::sent`] knows
    /// how many went.
    pub fn run(&mut self, device: u32, frames: u32) -> Result<Duration, LoadError> {
        // A pace begins with its run.
        let state = State {
            begin_ns: 0,
            ..self.state()?
        };
        let map = self.ebpf.map_mut(STATE).ok_or_else(missing)?;
        let mut map: Array<_, State> = Array::try_from(map).map_err(of_map)?;
        map.set(0, state, 0).map_err(of_map)?;
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress.
        let length = self.template.len() as u32;
        let mut context = [0; 24];
        for (place, word) in context
            .chunks_exact_mut(4)
            .zip([0, length, 0, device, 0, 0])
        {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        let program = self.ebpf.program(PROGRAM).ok_or_else(missing)?;
        let program: &Xdp = program.try_into().map_err(|_| missing())?;
        let started = Instant::now();
        program
            .test_run(TestRunOptions {
                data_in: Some(&self.template),
                ctx_in: Some(&context),
                repeat: frames,
                attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
                ..TestRunOptions::new()
            })
            .map_err(|error| LoadError::of_program(PROGRAM, error))?;
        Ok(started.elapsed())
    }

    /// Frames made in all runs.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn sent(&self) -> Result<u64, LoadError> {
        Ok(self.state()?.sent)
    }

    fn state(&self) -> Result<State, LoadError> {
        let map = self.ebpf.map(STATE).ok_or_else(missing)?;
        let map: Array<_, State> = Array::try_from(map).map_err(of_map)?;
        map.get(&0, 0).map_err(of_map)
    }
}

fn missing() -> LoadError {
    LoadError::Object(format!("{PROGRAM} lacks a program or map"))
}

fn of_map(error: MapError) -> LoadError {
    match error {
        MapError::SyscallError(error) => LoadError::System {
            operation: error.call,
            error: error.io_error,
        },
        other => LoadError::Object(other.to_string()),
    }
}

/// The frame with what varies at 0: checksums, source address and port, sequence.
fn template(plan: &Plan) -> Vec<u8> {
    let length = plan.frame_bytes.clamp(LEAST_BYTES, MOST_BYTES);
    let mut frame = Vec::with_capacity(length.into());
    frame.extend(plan.to);
    frame.extend(plan.from);
    frame.extend([8, 0]);
    frame.extend([0x45, 0]);
    frame.extend((length - ETHERNET as u16).to_be_bytes());
    // No identification (RFC 6864: DF is set), TTL 64, TCP.
    frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    frame.extend([0; 4]);
    frame.extend(plan.destination.octets());
    frame.extend([0, 0]);
    frame.extend(plan.port.to_be_bytes());
    frame.extend([0; 4]);
    // Acknowledges always the same; five words of header; ACK and CWR: with that one GRO
    // merges no frames, so that each is seen.
    frame.extend([0, 0, 0, 1, 0x50, 0x90]);
    frame.extend(502u16.to_be_bytes());
    frame.resize(length.into(), 0);
    frame
}

fn words(bytes: &[u8]) -> u32 {
    let pairs = bytes.chunks(2);
    pairs
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum()
}

/// Of the IP header; of the segment with the pseudo-header (RFC 9293 section 3.1).
fn sums(template: &[u8]) -> (u32, u32) {
    let (ip, segment) = template[ETHERNET..].split_at(IP);
    let pseudo = words(&ip[12..]) + 6 + segment.len() as u32;
    (words(ip), words(segment) + pseudo)
}

#[cfg(test)]
mod tests;
