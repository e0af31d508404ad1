//! The HTTP endpoint: /metrics, /healthz, /readyz, /api/v1/…, and a page that lists them.
//!
//! One thread, `export`, with a current-thread tokio runtime. It reads the newest
//! `Arc<Snapshot>` and takes no lock that a measurement needs. A stuck or slow client
//! costs one of a bounded number of connections until its time-out, and nobody anything
//! else: heads must arrive, and responses be taken, within their time-outs. When all
//! connections are in use, who has waited longest without asking gives way to a new one.

mod places;
mod routes;
mod stats;
mod timed;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use hyper::service::Service as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use record::Snapshot;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::Encoding;
use places::{Place, Places};
pub use stats::{ExportStats, Failure};
use timed::TimedStream;

/// What a listener serves.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Role {
    /// Everything.
    Full,
    /// `/metrics`, `/healthz` and `/readyz` alone (`metrics_listen`).
    Metrics,
}

/// How to serve.
#[derive(Debug)]
pub struct ServerOptions {
    /// Bound sockets and what each serves.
    pub listeners: Vec<(TcpListener, Role)>,
    /// How `/metrics` is encoded.
    pub encoding: Encoding,
    /// Connections at one time. A further one takes the place of the one that has waited
    /// longest for a request of its peer, or, when all are being served, is closed at once;
    /// both are counted.
    pub max_connections: usize,
    /// For a request's head to arrive, also on a kept-alive connection.
    pub header_timeout: Duration,
    /// For a response to be taken.
    pub write_timeout: Duration,
    /// Without a new snapshot for so long, `/healthz` says that the publisher is stuck.
    pub stale_after: Duration,
}

impl ServerOptions {
    /// The defaults for these listeners.
    #[must_use]
    pub fn new(listeners: Vec<(TcpListener, Role)>, encoding: Encoding) -> Self {
        Self {
            listeners,
            encoding,
            max_connections: 64,
            header_timeout: Duration::from_secs(3),
            write_timeout: Duration::from_secs(10),
            stale_after: Duration::from_secs(15),
        }
    }
}

/// A running endpoint.
#[derive(Debug)]
pub struct Server {
    thread: std::thread::JoinHandle<bool>,
    stop: watch::Sender<Option<Duration>>,
    stats: Arc<ExportStats>,
    addresses: Vec<SocketAddr>,
}

impl Server {
    /// Where it listens, in the order of the options.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Its own counters.
    #[must_use]
    pub fn stats(&self) -> &Arc<ExportStats> {
        &self.stats
    }

    /// Whether its thread has ended, which without [`Server::stop`] is a failure.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Stops accepting, lets requests in progress end within `deadline`, and says whether
    /// they did.
    #[must_use]
    pub fn stop(self, deadline: Duration) -> bool {
        // Fails only if the thread is gone, which the join tells.
        let _ = self.stop.send(Some(deadline));
        self.thread.join().unwrap_or(false)
    }
}

/// Starts the endpoint.
///
/// # Errors
/// When a socket cannot be made non-blocking, or the runtime or thread not be made.
pub fn spawn(
    options: ServerOptions,
    snapshots: watch::Receiver<Arc<Snapshot>>,
) -> io::Result<Server> {
    let mut addresses = Vec::new();
    for (listener, _) in &options.listeners {
        listener.set_nonblocking(true)?;
        addresses.push(listener.local_addr()?);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    let stats = Arc::new(ExportStats::default());
    let (stop, stopped) = watch::channel(None);
    let shared = Arc::clone(&stats);
    let thread = std::thread::Builder::new()
        .name("export".to_owned())
        .spawn(move || runtime.block_on(serve(options, snapshots, shared, stopped)))?;
    Ok(Server {
        thread,
        stop,
        stats,
        addresses,
    })
}

type Stopped = watch::Receiver<Option<Duration>>;

/// Waits for the order to stop; a vanished [`Server`] is one, too.
async fn order(mut stopped: Stopped) -> Duration {
    match stopped.wait_for(Option::is_some).await {
        Ok(deadline) => deadline.unwrap_or_default(),
        Err(_) => Duration::ZERO,
    }
}

async fn serve(
    options: ServerOptions,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    stats: Arc<ExportStats>,
    stopped: Stopped,
) -> bool {
    let app = routes::App::new(
        options.encoding,
        options.stale_after,
        snapshots,
        Arc::clone(&stats),
    );
    let watcher = tokio::spawn(Arc::clone(&app).watch());
    let limits = Arc::new(Limits {
        places: Places::new(options.max_connections),
        header_timeout: options.header_timeout,
        write_timeout: options.write_timeout,
        stats,
    });
    let mut accepting = JoinSet::new();
    for (listener, role) in options.listeners {
        let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
            return false;
        };
        let router = routes::router(Arc::clone(&app), role);
        let limits = Arc::clone(&limits);
        accepting.spawn(accept(listener, router, limits, stopped.clone()));
    }
    let deadline = order(stopped).await;
    let clean = tokio::time::timeout(deadline, async {
        while accepting.join_next().await.is_some() {}
    })
    .await
    .is_ok();
    watcher.abort();
    clean
}

struct Limits {
    places: Arc<Places>,
    header_timeout: Duration,
    write_timeout: Duration,
    stats: Arc<ExportStats>,
}

/// Accepts until told to stop, then waits for its connections.
async fn accept(
    listener: tokio::net::TcpListener,
    router: axum::Router,
    limits: Arc<Limits>,
    stopped: Stopped,
) {
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(order(stopped.clone()));
    loop {
        let accepted = tokio::select! {
            _ = &mut stop => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors, or the client was gone already: no reason to spin.
            limits.stats.fail(Failure::Accept);
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Some(place) = place(&limits).await else {
            limits.stats.fail(Failure::TooManyConnections);
            continue;
        };
        let turn = place.turn();
        let (router, shared, stopped) = (router.clone(), Arc::clone(&limits), stopped.clone());
        let task = connections.spawn(async move {
            connection(stream, router, &shared, stopped, place).await;
        });
        limits.places.started(&turn, task);
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// A free place, or that of the connection that has waited longest for a request.
async fn place(limits: &Limits) -> Option<Place> {
    if limits.places.full() {
        // In a burst, lets those that have sent their request already be served first.
        tokio::task::yield_now().await;
    }
    if limits.places.full() && limits.places.evict() {
        limits.stats.fail(Failure::Evicted);
    }
    limits.places.take()
}

async fn connection(
    stream: tokio::net::TcpStream,
    router: axum::Router,
    limits: &Limits,
    stopped: Stopped,
    place: Place,
) {
    // Costs latency, not correctness, if it fails.
    let _ = stream.set_nodelay(true);
    let stream = TimedStream::new(stream, limits.write_timeout, place.turn());
    let asking = stream.asking();
    let (turn, router) = (place.turn(), TowerToHyperService::new(router));
    let service = hyper::service::service_fn(move |request| {
        turn.serve();
        router.call(request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        _ = order(stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        let failure = failure_of(&error);
        // A kept connection that idles is closed, but nothing went wrong.
        if failure != Failure::HeaderTimeout || asking.load(Relaxed) {
            limits.stats.fail(failure);
        }
    }
}

fn failure_of(error: &hyper::Error) -> Failure {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(one) = cause {
        if one
            .downcast_ref::<io::Error>()
            .is_some_and(|io| io.kind() == io::ErrorKind::TimedOut)
        {
            return Failure::WriteTimeout;
        }
        cause = one.source();
    }
    if error.is_timeout() {
        Failure::HeaderTimeout
    } else if error.is_parse() {
        Failure::BadRequest
    } else {
        Failure::Connection
    }
}

#[cfg(test)]
mod tests;
