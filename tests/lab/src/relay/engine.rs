//! The relay at work: two raw sockets, one thread, two lanes.
//!
//! Owns: both sockets and the log. Never: a file access (the log's thread does that), a
//! sleep through the last [`SPIN_NS`] before something is due. Times are `CLOCK_REALTIME`,
//! since the kernel's receive stamps are.

use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, TryRecvError};

use anyhow::{Context, Result};
use base::Direction;
use sys::packet::{FrameBatch, PacketSocket, wait};

use super::config::{Matching, RelayConfig};
use super::lane::{BATCH, Lane, wall_ns};
use super::log::{DirectionTotals, LogWriter};

/// A sleep ends up to 50 us late; the rest of the way to a departure is spun.
pub const SPIN_NS: u64 = 60_000;
/// How long a wait lasts at most, so that a stop is heard.
const NAP_NS: u64 = 10_000_000;
/// `ENETDOWN`, by number: this crate links no libc.
const ENETDOWN: i32 = 100;
const FRAME_BYTES: usize = 9_216;
const BUFFER_BYTES: u32 = 64 << 20;

/// What a running relay is told.
#[derive(Debug)]
pub enum Order {
    /// From the next packet on do this instead; indices for decisions start again at 0.
    Configure(Box<RelayConfig>),
    /// Send what waits, write the log, end.
    Stop,
}

/// Both directions and their sockets.
pub struct Engine {
    /// `left` and `right`; a lane receives on its own and sends on the other.
    sockets: [PacketSocket; 2],
    lanes: [Lane; 2],
    batch: FrameBatch,
    matching: Matching,
    log: LogWriter,
}

impl Engine {
    /// Opens the sockets in the calling thread's namespace.
    ///
    /// # Errors
    /// When an interface is missing or the privilege is.
    pub fn open(devices: [&str; 2], config: &RelayConfig, log: LogWriter) -> Result<Self> {
        let open = |device: &str| -> Result<PacketSocket> {
            let socket =
                PacketSocket::open(device).with_context(|| format!("relay on {device}"))?;
            socket.set_buffers(BUFFER_BYTES)?;
            socket.enable_send_stamps()?;
            Ok(socket)
        };
        Ok(Self {
            sockets: [open(devices[0])?, open(devices[1])?],
            lanes: Direction::ALL.map(|direction| Lane::new(direction, config)),
            batch: FrameBatch::new(BATCH, FRAME_BYTES),
            matching: config.matching,
            log,
        })
    }

    fn configure(&mut self, config: &RelayConfig) {
        self.matching = config.matching;
        for lane in &mut self.lanes {
            lane.configure(config);
        }
    }

    /// Bridges until `orders` says stop (or its sender is gone), then writes the log.
    /// `done` is called after each other order.
    ///
    /// # Errors
    /// When an interface fails or the log cannot be written.
    pub fn run(mut self, orders: &Receiver<Order>, mut done: impl FnMut()) -> Result<()> {
        loop {
            match orders.try_recv() {
                Ok(Order::Configure(config)) => {
                    self.configure(&config);
                    done();
                }
                Ok(Order::Stop) | Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {}
            }
            if self.turn()? == 0 {
                self.rest()?;
            }
        }
        // What is under way when the order comes still counts: read until nothing is there.
        while self.turn()? > 0 {}
        for (lane, to) in self.lanes.iter_mut().zip([1, 0]) {
            lane.release(u64::MAX);
            lane.send(&self.batch, &self.sockets[to], &mut self.log);
        }
        let mut totals = [DirectionTotals::default(); 2];
        for ((lane, socket), totals) in self.lanes.iter().zip(&self.sockets).zip(&mut totals) {
            *totals = lane.totals;
            // Frames after the last read are the next run's; those dropped before are ours.
            totals.dropped_by_socket += u64::from(socket.statistics()?.dropped);
            totals.received += totals.dropped_by_socket;
        }
        self.log.finish(&totals)
    }

    /// One batch from each side, and what is due; returns how many frames came.
    fn turn(&mut self) -> Result<usize> {
        let mut came = 0;
        for from in 0..2 {
            let count = match self.sockets[from].receive(&mut self.batch) {
                Ok(count) => count,
                // An interface that is down is a fault that a test injects.
                Err(error) if error.raw_os_error() == Some(ENETDOWN) => 0,
                Err(error) => return Err(error).context("relay receive"),
            };
            came += count;
            let lane = &mut self.lanes[from];
            lane.totals.received += count as u64;
            for i in 0..count {
                if let Some(answer) = lane.accept(&mut self.batch, i, self.matching) {
                    lane.totals.icmp_sent += 1;
                    let _ = self.sockets[from].send(&[&answer]);
                    let _ = self.sockets[from].send_stamps(&mut lane.stamps);
                }
            }
            lane.release(wall_ns());
            lane.send(&self.batch, &self.sockets[1 - from], &mut self.log);
        }
        Ok(came)
    }

    /// Sleeps until a frame comes or shortly before something is due.
    fn rest(&self) -> Result<()> {
        let due_ns = self.lanes.iter().filter_map(Lane::next_deadline).min();
        let left_ns = due_ns.map_or(NAP_NS, |due_ns| due_ns.saturating_sub(wall_ns()));
        if left_ns > SPIN_NS {
            let nap_ns = (left_ns - SPIN_NS).min(NAP_NS);
            wait(&[self.sockets[0].as_fd(), self.sockets[1].as_fd()], nap_ns)?;
        }
        Ok(())
    }
}
