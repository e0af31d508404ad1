//! The main thread of the agent: signals, reload, names that resolve, and whether the
//! workers live. Owns which targets run; no packet and no series passes here.
//!
//! Legal order: [`Agent::start`], [`Agent::run`], and the stop of [`crate::shutdown`].

mod devices;
mod reload;
mod sessions;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use base::{EventKind, MonoNanos, TargetKey};
use record::series::ClassicBounds;
use record::snapshot::{ConfigInfo, Health};
use sys::poll::{Events, Interest, Poller, Waker};
use sys::signal::{Signal, SignalFd};
use tokio::sync::watch;

use crate::config::{Config, saved};
use crate::exit::{Exit, Failure};
use crate::notify::Notify;
use crate::opener::Opener;
use crate::publish::{self, Note, Publisher, Shared, SlotId, event};
use crate::startup::{Loaded, SIGNALS};
use crate::targets::{self, Name, Wanted};
use crate::worker::capture::{self as capturing, Capturing};
use crate::worker::export::{Exporting, Listeners};
use crate::worker::probe::{Options, Probes};
use crate::worker::records::Writer;
use crate::worker::reflect::Reflecting;
use crate::worker::resolve::Resolver;

/// How often the workers are looked at, if nothing happens.
const LOOK_NS: u64 = 500_000_000;

/// How often a target is tried again whose sockets did not open.
const RETRY_NS: u64 = 5_000_000_000;

const SIGNAL: u64 = 0;
const ANSWER: u64 = 1;
const OPENER: u64 = 2;

/// What the start prepared: all of it bound, opened and unprivileged.
pub struct Parts {
    /// The configuration's file.
    pub path: PathBuf,
    /// `--set`.
    pub overrides: Vec<String>,
    /// What it said.
    pub loaded: Loaded,
    /// Who opens sockets.
    pub opener: Opener,
    /// For HTTP.
    pub listeners: Listeners,
    /// For the reflector.
    pub reflect: Vec<(SocketAddr, OwnedFd)>,
    /// For the capture, if there is one.
    pub capture: Option<capturing::Ready>,
    /// For `--records`.
    pub records: Option<File>,
    /// Where state is kept.
    pub state: PathBuf,
    /// What is worse than it should be.
    pub complaints: Vec<String>,
}

/// A target that runs, or waits for its address.
struct Running {
    slot: SlotId,
    wanted: Wanted,
    key: Option<TargetKey>,
    address: Option<SocketAddr>,
}

/// See the module.
pub struct Agent {
    pub(crate) path: PathBuf,
    overrides: Vec<String>,
    pub(crate) config: Config,
    pub(crate) info: ConfigInfo,
    state: PathBuf,
    opener: Opener,
    pub(crate) notes: Sender<Note>,
    pub(crate) probes: Probes,
    resolver: Resolver,
    pub(crate) reflector: Option<Reflecting>,
    reflect: Vec<(SocketAddr, OwnedFd)>,
    pub(crate) capture: Option<Capturing>,
    pub(crate) records: Option<Writer>,
    pub(crate) export: Exporting,
    pub(crate) publisher: JoinHandle<()>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) notify: Notify,
    running: BTreeMap<Name, Running>,
    /// Of these, those whose sockets did not open.
    unopened: BTreeSet<Name>,
    devices: devices::Devices,
    next_retry: MonoNanos,
    bounds: ClassicBounds,
    next_slot: u32,
    next_key: u32,
    pub(crate) signals: SignalFd,
    pub(crate) poller: Poller,
    waker: Waker,
    /// Readable once the opener has ended.
    opener_end: Option<OwnedFd>,
}

/// Why the loop ended.
pub enum End {
    /// It was asked to.
    Signal(Signal),
    /// A worker is gone.
    Dead(&'static str),
}

impl Agent {
    /// Spawns every thread and adds every target.
    ///
    /// # Errors
    /// When a thread cannot be had; the process must end.
    pub fn start(parts: Parts) -> Result<Self, Failure> {
        let failed = |what: &'static str| {
            move |error: std::io::Error| {
                Failure::incomplete(format!("cannot start {what}: {error}"))
            }
        };
        let config = parts.loaded.config;
        let signals = SignalFd::new(&SIGNALS).map_err(failed("reading signals"))?;
        let poller = Poller::new().map_err(failed("waiting"))?;
        let waker = Waker::new().map_err(failed("waiting"))?;
        for (fd, token) in [(signals.as_fd(), SIGNAL), (waker.as_fd(), ANSWER)] {
            poller
                .add(fd, token, Interest::Read)
                .map_err(failed("waiting"))?;
        }
        let (probes, results, records) = Probes::start(Options {
            realtime: config.agent.realtime,
            packets_per_second: config.packets_per_second,
            records: parts.records.is_some(),
            opener: parts.opener.clone(),
        })
        .map_err(failed("the prober"))?;
        if config.agent.realtime {
            crate::privileges::end_realtime()?;
        }
        let records = match (parts.records, records) {
            (Some(file), Some(ring)) => {
                Some(Writer::start(file, ring).map_err(failed("the writer of --records"))?)
            }
            _ => None,
        };
        let began = sys::clock::wall_now();
        let (out, snapshots) = watch::channel(Arc::new(publish::starting(began)));
        let (notes, inbox) = channel();
        let shared = Arc::new(Shared::default());
        let publisher =
            Publisher::new(inbox, results, Arc::clone(&shared), out, parts.opener.pid());
        let publisher = std::thread::Builder::new()
            .name("publish".into())
            .spawn(move || publisher.run())
            .map_err(failed("the publisher"))?;
        let addresses = parts.listeners.addresses();
        let export = Exporting::start(parts.listeners, snapshots, &config.prometheus)
            .map_err(failed("the exporter"))?;
        let resolver = Resolver::start(waker.clone()).map_err(failed("the resolver"))?;
        let mut agent = Self {
            path: parts.path,
            overrides: parts.overrides,
            info: ConfigInfo::default(),
            state: parts.state,
            opener: parts.opener,
            notes,
            probes,
            resolver,
            reflector: None,
            reflect: Vec::new(),
            capture: None,
            records,
            export,
            publisher,
            shared,
            notify: Notify::new(std::env::var("NOTIFY_SOCKET").ok().as_deref()),
            running: BTreeMap::new(),
            unopened: BTreeSet::new(),
            devices: devices::Devices::default(),
            next_retry: MonoNanos(0),
            bounds: config.prometheus.bounds(),
            next_slot: 0,
            next_key: 0,
            signals,
            poller,
            waker,
            opener_end: None,
            config,
        };
        agent.watch_opener();
        agent.begin(
            parts.loaded.rejected.map(|error| error.to_string()),
            &parts.complaints,
        );
        agent
            .reflect(parts.reflect)
            .map_err(failed("the reflector"))?;
        agent
            .capture(parts.capture)
            .map_err(failed("the capture"))?;
        agent.note(Note::NotReady(Vec::new()));
        let status = agent.status();
        tracing::info!(listen = addresses, targets = agent.running.len(), "started");
        agent.note(Note::Event(event(
            EventKind::AgentStarted,
            None,
            "",
            &status,
        )));
        agent.notify.ready(&status);
        Ok(agent)
    }

    /// The first configuration comes into force.
    fn begin(&mut self, rejected: Option<String>, complaints: &[String]) {
        for warning in self.config.warnings.iter().chain(complaints) {
            tracing::warn!("{warning}");
        }
        self.info = ConfigInfo {
            sha256: self.config.sha256.clone(),
            path: self.path.display().to_string(),
            last_reload_ok: rejected.is_none(),
            last_reload_error: rejected.clone().unwrap_or_default(),
            last_success_at: sys::clock::wall_now(),
            last_valid_in_force: rejected.is_some(),
        };
        match rejected {
            Some(error) => self.rejected(&error, "the last valid configuration is in force"),
            None => self.keep_valid(),
        }
        self.note(Note::Config(self.info.clone()));
        self.note(Note::Labels(targets::labels(&self.config.agent.labels)));
        let wanted = targets::wanted(&self.config);
        self.apply(targets::plan(&BTreeMap::new(), wanted));
        self.order();
    }

    pub(crate) fn note(&self, note: Note) {
        // The publisher ends only after us, or died, which the loop notices.
        let _ = self.notes.send(note);
    }

    pub(crate) fn health(&self, name: &'static str, health: Health, detail: String) {
        self.note(Note::Health(name, health, detail));
    }

    /// One line for systemd and the start's event.
    fn status(&self) -> String {
        let reflecting = if self.reflector.is_some() {
            ", reflecting"
        } else {
            ""
        };
        let capturing = if self.capture.is_some() {
            ", capturing"
        } else {
            ""
        };
        format!("{} targets{reflecting}{capturing}", self.running.len())
    }

    fn watch_opener(&mut self) {
        // Kernels before 5.3 have no such descriptor: then its end shows at the next request.
        self.opener_end = self
            .opener
            .pid()
            .and_then(|pid| sys::process::pidfd(pid).ok())
            .filter(|fd| self.poller.add(fd, OPENER, Interest::Read).is_ok());
    }

    /// The configuration in force is the one to fall back to.
    fn keep_valid(&self) {
        match saved::save(&self.state, &self.path, &self.config) {
            Ok(()) => self.health("state", Health::Healthy, String::new()),
            Err(error) => self.health(
                "state",
                Health::Degraded,
                format!(
                    "the last valid configuration cannot be kept in {}: {error}; let the agent's user write there",
                    self.state.display()
                ),
            ),
        }
    }

    fn rejected(&self, error: &str, consequence: &str) {
        let old = self.info.sha256.clone();
        let new = format!("{error}; {consequence}");
        self.note(Note::Event(event(
            EventKind::ConfigRejected,
            None,
            &old,
            &new,
        )));
    }

    /// Until it is asked to stop, or a worker is gone.
    fn supervise(&mut self) -> End {
        let mut events = Events::new(4);
        loop {
            if let Some(name) = self.dead() {
                return End::Dead(name);
            }
            self.watch_devices();
            self.retry();
            self.watch_capture();
            if self.poller.wait(&mut events, Some(LOOK_NS)).is_err() {
                return End::Dead("main");
            }
            for ready in events.iter() {
                match ready.token {
                    SIGNAL => {
                        while let Ok(Some(signal)) = self.signals.read() {
                            match signal {
                                Signal::Hup => self.reload(),
                                _ => return End::Signal(signal),
                            }
                        }
                    }
                    ANSWER => {
                        self.waker.drain();
                        while let Some(answer) = self.resolver.answer() {
                            self.resolved(answer);
                        }
                    }
                    _ => self.opener_gone(),
                }
            }
        }
    }

    /// Runs until the end, and stops in order.
    ///
    /// # Errors
    /// What failed on the way out, or which worker died.
    pub fn run(mut self) -> anyhow::Result<Exit> {
        let end = self.supervise();
        crate::shutdown::stop(self, &end)
    }

    /// The first worker that is gone.
    fn dead(&self) -> Option<&'static str> {
        // Relaxed: a flag, nothing is read through it.
        let prober = self
            .shared
            .prober_gone
            .load(std::sync::atomic::Ordering::Relaxed);
        [
            ("publish", self.publisher.is_finished()),
            ("probe", prober),
            ("export", !self.export.alive()),
            ("resolve", !self.resolver.alive()),
            (
                "reflect",
                self.reflector
                    .as_ref()
                    .is_some_and(|reflector| !reflector.alive()),
            ),
            (
                "capture",
                self.capture
                    .as_ref()
                    .is_some_and(|capture| !capture.alive()),
            ),
        ]
        .into_iter()
        .find_map(|(name, dead)| dead.then_some(name))
    }

    /// While it stops, names that resolve matter no longer.
    pub(crate) fn quiet(&self) {
        self.waker.drain();
    }

    fn opener_gone(&mut self) {
        if self.opener.reap() {
            if let Some(end) = self.opener_end.take() {
                let _ = self.poller.remove(&end);
            }
            let detail = "the opener process ended; sockets that need capabilities cannot be opened again until a restart";
            self.health("opener", Health::Degraded, detail.to_owned());
        }
    }

    /// Starts the capture on what was opened for it.
    fn capture(&mut self, ready: Option<capturing::Ready>) -> std::io::Result<()> {
        let (Some(config), Some(ready)) = (&self.config.capture, ready) else {
            return Ok(());
        };
        let (capturing, collector) = Capturing::start(config, ready, &self.bounds)?;
        self.captures(capturing, collector);
        Ok(())
    }

    /// Another capture, or none, in place of the one that there is.
    fn capture_again(&mut self) -> std::io::Result<()> {
        let Some(before) = self.capture.take() else {
            return Ok(());
        };
        let Some(config) = &self.config.capture else {
            before.stop();
            self.note(Note::Capture(None));
            self.note(Note::NoComponent("capture"));
            return Ok(());
        };
        let (capturing, collector) = before.succeed(config, &self.bounds)?;
        self.captures(capturing, collector);
        Ok(())
    }

    fn captures(&mut self, capturing: Capturing, collector: capturing::Collector) {
        self.note(Note::Capture(Some(Box::new(collector))));
        self.capture = Some(capturing);
        self.watch_capture();
    }

    /// Opens devices again that came back, and tells how well the capture is.
    fn watch_capture(&mut self) {
        let opener = &self.opener;
        let Some(capture) = &mut self.capture else {
            return;
        };
        let now = sys::clock::mono_now();
        let open = |config: &_, device: &_| opener.capture(config, device);
        let looked = capture.look(now, open);
        let news = capture.news();
        if let Some((health, detail)) = looked {
            self.health("capture", health, detail);
        }
        if let Some(described) = news {
            self.note(Note::CaptureIs(described));
        }
    }

    /// Starts the reflector on these sockets, in place of what there was.
    fn reflect(&mut self, sockets: Vec<(SocketAddr, OwnedFd)>) -> std::io::Result<()> {
        if let Some(before) = self.reflector.take() {
            before.stop();
        }
        self.reflect.clear();
        self.note(Note::Reflector(None));
        let Some(config) = &self.config.reflector else {
            self.note(Note::NoComponent("reflector"));
            return Ok(());
        };
        // A copy stays here, so that a reload can start another one on the same ports.
        let copies = sockets
            .iter()
            .map(|(address, socket)| Ok((*address, socket.try_clone()?)))
            .collect::<std::io::Result<_>>()?;
        let reflector = Reflecting::start(config, sockets)?;
        self.note(Note::Reflector(Some(reflector.counters())));
        self.health("reflector", Health::Healthy, String::new());
        self.reflector = Some(reflector);
        self.reflect = copies;
        Ok(())
    }
}
