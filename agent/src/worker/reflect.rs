//! The `reflect` thread as the supervisor sees it. The one file of the agent that knows the
//! shape of the reflector.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use measure::reflector::{Config as Rules, Drop};
use probe::reflector::{Options, Reflector as Thread, ReflectorStats};
use record::snapshot::ReflectorSnapshot;

use crate::config::Reflector;

/// See the module.
pub struct Reflecting {
    thread: Thread,
    listen: Vec<String>,
    capacity: u64,
}

impl Reflecting {
    /// Starts the thread on sockets that are bound already.
    ///
    /// # Errors
    /// When there can be no thread, or a socket lacks what it needs.
    pub fn start(config: &Reflector, sockets: Vec<(SocketAddr, OwnedFd)>) -> std::io::Result<Self> {
        let listen = sockets
            .iter()
            .map(|(address, socket)| bound(*address, socket))
            .collect();
        let thread = probe::reflector::spawn(Options {
            listen: sockets,
            config: Rules {
                allow: config
                    .allow
                    .iter()
                    .map(|range| (range.network(), range.prefix_len()))
                    .collect(),
                twamp_light: config.twamp_light,
                min_request: config.min_request.into(),
                max_sessions: config.max_sessions,
                idle_ns: config.idle_ns,
                rate: config.packets_per_second,
                stateless: false,
                private_tlv: true,
                seed: sys::clock::wall_now().0 ^ u64::from(std::process::id()),
            },
        })?;
        Ok(Self {
            thread,
            listen,
            capacity: config.max_sessions.into(),
        })
    }

    /// How to ask for its counters, from any thread.
    pub fn counters(&self) -> Box<dyn Fn() -> ReflectorSnapshot + Send> {
        let (stats, listen) = (self.thread.stats(), self.listen.clone());
        let capacity = self.capacity;
        Box::new(move || counters(&stats, &listen, capacity))
    }

    /// Whether the thread is there.
    pub fn alive(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Ends the thread; false if it had died.
    pub fn stop(self) -> bool {
        self.thread.stop();
        self.thread.join().is_ok()
    }
}

fn counters(stats: &Arc<ReflectorStats>, listen: &[String], capacity: u64) -> ReflectorSnapshot {
    let mut dropped: Vec<(&'static str, u64)> = Drop::ALL
        .iter()
        .map(|reason| (reason.as_str(), stats.dropped(*reason)))
        .collect();
    // Not seen by the reflector's logic, but lost at its socket all the same.
    dropped.push(("receive_overflow", stats.overflows()));
    ReflectorSnapshot {
        listen: listen.to_vec(),
        received: stats.requests(),
        reflected: stats.replies(),
        dropped,
        sessions: stats.sessions(),
        session_capacity: capacity,
        sessions_expired: stats.sessions_expired(),
        notes: vec![
            ("malformed_tlvs", stats.malformed_tlvs()),
            ("sender_restarts", stats.sender_restarts()),
        ],
    }
}

/// Where a socket really listens: port 0 has become one.
fn bound(address: SocketAddr, socket: &OwnedFd) -> String {
    socket
        .try_clone()
        .and_then(|socket| std::net::UdpSocket::from(socket).local_addr())
        .unwrap_or(address)
        .to_string()
}
