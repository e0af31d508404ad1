//! The `reflect` thread: answers STAMP requests on its sockets.
//!
//! One reply per request, from the address that was probed, with DF and TTL 255. T2 is the
//! kernel's receive stamp, T3 is read right before each send. Everything that arrives is
//! answered or counted.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use base::StampSource;
use measure::reflector::{Arrival, Config, Drop, Reflector as Logic};
use sys::clock;
use sys::poll::{Events, Interest, Poller, Waker};
use sys::socket::{Batch, Pmtu, ProbeSocket, SocketSpec};

use crate::clock::KernelClock;

/// Requests are at most this long; EC2's largest packet is 9001 octets.
const MAX_REQUEST: usize = 9216;
const BATCH: usize = 64;
/// Batches from one socket before the others have their turn.
const ROUNDS: usize = 8;
/// Idle sessions are looked for this often at least.
const SWEEP_NS: u64 = 1_000_000_000;
const RECEIVE_BUFFER: usize = 4 << 20;
const WAKER: u64 = u64::MAX;

/// What the reflector is started with.
pub struct Options {
    /// Bound sockets (see [`bind`]) and where they listen.
    pub listen: Vec<(SocketAddr, OwnedFd)>,
    /// What it answers.
    pub config: Config,
}

/// Counters, written by the thread after each batch, read by anybody.
#[derive(Debug, Default)]
pub struct ReflectorStats {
    requests: AtomicU64,
    replies: AtomicU64,
    drops: [AtomicU64; Drop::ALL.len()],
    sessions: AtomicU64,
    sessions_begun: AtomicU64,
    sessions_expired: AtomicU64,
    malformed_tlvs: AtomicU64,
    sender_restarts: AtomicU64,
    overflows: AtomicU64,
    receive_stamps: [AtomicU64; 4],
}

macro_rules! readers {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        impl ReflectorStats {
            $($(#[doc = $doc])+ #[must_use] pub fn $name(&self) -> u64 {
                // Relaxed: a statistic, it orders nothing.
                self.$name.load(Ordering::Relaxed)
            })+

            /// Requests that were not answered, by reason.
            #[must_use]
            pub fn dropped(&self, reason: Drop) -> u64 {
                self.drops[reason.index()].load(Ordering::Relaxed)
            }

            /// Where the receive stamps (T2) came from.
            #[must_use]
            pub fn receive_stamps(&self, source: StampSource) -> u64 {
                self.receive_stamps[source.index()].load(Ordering::Relaxed)
            }
        }
    };
}

readers! {
    /// Datagrams received: answered and dropped ones.
    requests,
    /// Replies sent.
    replies,
    /// Sessions now.
    sessions,
    /// Sessions begun.
    sessions_begun,
    /// Sessions ended for idleness.
    sessions_expired,
    /// Requests with malformed TLVs; answered, flagged.
    malformed_tlvs,
    /// Senders that began their numbers anew.
    sender_restarts,
    /// Datagrams that the sockets dropped before we read them (`SO_RXQ_OVFL`).
    overflows,
}

/// The running `reflect` thread.
#[derive(Debug)]
pub struct Reflector {
    stats: Arc<ReflectorStats>,
    stop: Arc<AtomicBool>,
    waker: Waker,
    thread: JoinHandle<()>,
}

/// Opens and binds a socket to listen on.
///
/// # Errors
/// `AddrInUse`, `PermissionDenied` (ports below 1024 need `CAP_NET_BIND_SERVICE`),
/// `AddrNotAvailable`.
pub fn bind(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = ProbeSocket::open(&SocketSpec::udp(address.is_ipv6()))?;
    socket.bind(address)?;
    Ok(socket.into_fd())
}

struct Listener {
    socket: ProbeSocket,
    local: SocketAddr,
    overflow: u32,
}

/// Starts the thread.
///
/// # Errors
/// When a socket does not take what is needed of it, or there can be no thread.
pub fn spawn(options: Options) -> io::Result<Reflector> {
    let poller = Poller::new()?;
    let waker = Waker::new()?;
    poller.add(&waker, WAKER, Interest::Read)?;
    let mut listeners = Vec::with_capacity(options.listen.len());
    for (address, fd) in options.listen {
        let socket = ProbeSocket::from_fd(fd, &SocketSpec::udp(address.is_ipv6()))?;
        socket.receive_ttl_tos_pktinfo()?;
        // Without kernel stamps T2 is our own clock, and counted as such.
        let _ = socket.enable_receive_stamps(false);
        socket.set_ttl(255)?;
        socket.set_pmtu(Pmtu::Probe)?;
        socket.grow_receive_buffer(RECEIVE_BUFFER)?;
        poller.add(&socket, listeners.len() as u64, Interest::Read)?;
        let local = socket.local_addr()?;
        // A socket that another thread read before has a total already.
        let overflow = socket.memory()?.drops;
        listeners.push(Listener {
            socket,
            local,
            overflow,
        });
    }
    let stats = Arc::new(ReflectorStats::default());
    let stop = Arc::new(AtomicBool::new(false));
    let mut worker = Worker {
        logic: Logic::new(options.config),
        listeners,
        poller,
        waker: waker.clone(),
        stats: Arc::clone(&stats),
        stop: Arc::clone(&stop),
        batch: Batch::new(BATCH, MAX_REQUEST),
        packet: vec![0; MAX_REQUEST].into_boxed_slice(),
        clock: KernelClock::new(),
    };
    let thread = std::thread::Builder::new()
        .name("reflect".to_owned())
        .spawn(move || worker.run())?;
    Ok(Reflector {
        stats,
        stop,
        waker,
        thread,
    })
}

impl Reflector {
    /// Its counters.
    #[must_use]
    pub fn stats(&self) -> Arc<ReflectorStats> {
        Arc::clone(&self.stats)
    }

    /// Asks it to end.
    pub fn stop(&self) {
        // Release: pairs with Acquire in Worker::run.
        self.stop.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the thread to end.
    ///
    /// # Errors
    /// What it panicked with.
    pub fn join(self) -> std::thread::Result<()> {
        self.thread.join()
    }
}

struct Worker {
    logic: Logic,
    listeners: Vec<Listener>,
    poller: Poller,
    waker: Waker,
    stats: Arc<ReflectorStats>,
    stop: Arc<AtomicBool>,
    batch: Batch,
    packet: Box<[u8]>,
    clock: KernelClock,
}

impl Worker {
    fn run(&mut self) {
        let mut events = Events::new(64);
        // Acquire: pairs with Release in Reflector::stop.
        while !self.stop.load(Ordering::Acquire) {
            if self.poller.wait(&mut events, Some(SWEEP_NS)).is_err() {
                continue;
            }
            let now = clock::mono_now();
            self.clock.refresh(now);
            for ready in events.iter() {
                if ready.token == WAKER {
                    self.waker.drain();
                } else if let Ok(index) = usize::try_from(ready.token) {
                    self.serve(index);
                }
            }
            self.logic.sweep(now);
            self.publish();
        }
    }

    fn serve(&mut self, index: usize) {
        for _ in 0..ROUNDS {
            let listener = &mut self.listeners[index];
            let Ok(received) = listener.socket.receive(&mut self.batch) else {
                return;
            };
            if received == 0 {
                return;
            }
            let now = clock::mono_now();
            let mut tally = Tally::default();
            for request in self.batch.iter() {
                if let Some(total) = request.overflow {
                    let new = total.wrapping_sub(listener.overflow);
                    if new < u32::MAX / 2 {
                        listener.overflow = total;
                        tally.overflows += u64::from(new);
                    }
                }
                let (at, source) = match request.kernel {
                    Some(at) => (at, StampSource::Kernel),
                    None => (clock::wall_now(), StampSource::User),
                };
                tally.stamps[source.index()] += 1;
                let probed = request.to.unwrap_or(listener.local.ip());
                let arrival = Arrival {
                    peer: request.from,
                    local: SocketAddr::new(probed, listener.local.port()),
                    ttl: request.ttl,
                    at,
                    now,
                    overflow: listener.overflow,
                };
                let len = request.payload.len();
                let result = if request.truncated {
                    Err(Drop::TooLong)
                } else {
                    self.packet[..len].copy_from_slice(request.payload);
                    self.logic
                        .answer(&mut self.packet, len, &arrival, self.clock.state)
                };
                let result = result.and_then(|prepared| {
                    let reply = &mut self.packet[..prepared.len];
                    prepared.stamp(reply, clock::wall_now());
                    let device = if is_link_local(request.from.ip()) {
                        request.ifindex
                    } else {
                        0
                    };
                    listener
                        .socket
                        .send_reply(reply, request.from, Some(probed), device)
                        .map_err(|_| Drop::SendFailed)
                });
                match result {
                    Ok(_) => tally.replies += 1,
                    Err(reason) => tally.drops[reason.index()] += 1,
                }
            }
            self.stats.add(received as u64, &tally);
            if received < BATCH {
                return;
            }
        }
    }

    fn publish(&self) {
        let stats = &self.stats;
        stats
            .sessions
            .store(self.logic.sessions() as u64, Ordering::Relaxed);
        stats
            .sessions_begun
            .store(self.logic.begun, Ordering::Relaxed);
        stats
            .sessions_expired
            .store(self.logic.expired, Ordering::Relaxed);
        stats
            .malformed_tlvs
            .store(self.logic.malformed_tlvs, Ordering::Relaxed);
        stats
            .sender_restarts
            .store(self.logic.sender_restarts, Ordering::Relaxed);
    }
}

/// What one batch came to.
#[derive(Default)]
struct Tally {
    replies: u64,
    overflows: u64,
    drops: [u64; Drop::ALL.len()],
    stamps: [u64; 4],
}

impl ReflectorStats {
    fn add(&self, requests: u64, tally: &Tally) {
        let add = |counter: &AtomicU64, count: u64| {
            if count > 0 {
                counter.fetch_add(count, Ordering::Relaxed);
            }
        };
        add(&self.requests, requests);
        add(&self.replies, tally.replies);
        add(&self.overflows, tally.overflows);
        for (counter, count) in self.drops.iter().zip(tally.drops) {
            add(counter, count);
        }
        for (counter, count) in self.receive_stamps.iter().zip(tally.stamps) {
            add(counter, count);
        }
    }
}

const fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
        IpAddr::V4(ip) => ip.is_link_local(),
    }
}
