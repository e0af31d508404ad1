//! The relay from a test's side: started in a host, told what to do, stopped, its log read.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::config::RelayConfig;
use super::log::RelayLog;
use crate::host::Host;
use crate::running::{Finished, Running};

const STARTS: Duration = Duration::from_secs(10);
const ANSWERS: Duration = Duration::from_secs(10);
const STOPS: Duration = Duration::from_secs(60);

/// A running relay. Dropping it kills it; its log goes with its host.
pub struct Relay {
    running: Option<Running>,
    log: PathBuf,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay")
            .field("log", &self.log)
            .finish_non_exhaustive()
    }
}

/// The relay's program: `NETSONDE_RELAY`, or beside `NETSONDE_BIN`, or where cargo put it
/// beside this test.
///
/// # Errors
/// When it is in none of these places.
pub fn program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("NETSONDE_RELAY") {
        return Ok(path.into());
    }
    let own = std::env::current_exe()?;
    let beside_binary = std::env::var_os("NETSONDE_BIN").map(PathBuf::from);
    let places = [
        beside_binary.as_deref().and_then(Path::parent),
        own.parent(),
        own.parent().and_then(Path::parent),
    ];
    places
        .into_iter()
        .flatten()
        .map(|folder| folder.join("netsonde-relay"))
        .find(|path| path.exists())
        .context("no netsonde-relay: build it (cargo build -p netsonde-lab), or set NETSONDE_RELAY")
}

impl Relay {
    /// Starts it inside `host` between its devices `left` and `right`; returns when it is
    /// ready.
    ///
    /// # Errors
    /// When there is no program, or it does not become ready.
    pub fn start(host: &Host, config: &RelayConfig) -> Result<Self> {
        Self::start_program(host, config, &program()?)
    }

    /// As [`Relay::start`], with the program at `path`.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start_program(host: &Host, config: &RelayConfig, path: &Path) -> Result<Self> {
        let program = path;
        let log = host.file("relay.log")?;
        let path = log
            .to_str()
            .context("a temporary folder with a strange name")?;
        let running = host.spawn(program, &["--log", path])?;
        let mut relay = Self {
            running: Some(running),
            log,
        };
        relay.order(config, "ready", STARTS)?;
        Ok(relay)
    }

    /// Replaces what it does. In force for the next packet when this returns; indices for
    /// decisions (not those of the log) start again at 0.
    ///
    /// # Errors
    /// When the relay is gone.
    pub fn configure(&mut self, config: &RelayConfig) -> Result<()> {
        self.order(config, "ok", ANSWERS)
    }

    fn order(&mut self, config: &RelayConfig, answer: &str, within: Duration) -> Result<()> {
        let running = self.running.as_mut().context("the relay was stopped")?;
        running.write(&format!("{}\n", serde_json::to_string(config)?))?;
        running.wait_line(answer, within)?;
        Ok(())
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(Running::pid)
    }

    /// Where its log will be.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Stops it and reads its log. Whoever sent must have finished: what is still on its way
    /// to the relay is neither forwarded nor logged.
    ///
    /// # Errors
    /// When it failed or its log is not whole.
    pub fn stop(mut self) -> Result<RelayLog> {
        let running = self.running.take().context("the relay was stopped")?;
        let finished = running.finish(STOPS)?;
        ensure!(
            finished.status.success(),
            "the relay failed: {}",
            finished.stderr
        );
        RelayLog::read(&self.log)
    }
}

impl Relay {
    /// Ends it by SIGTERM; the log is then at [`Relay::log_path`].
    ///
    /// # Errors
    /// When it does not end.
    pub fn terminate(mut self) -> Result<Finished> {
        let running = self.running.take().context("the relay was stopped")?;
        running.stop("TERM", STOPS)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Before the host, whose files it writes.
        self.running = None;
    }
}
