//! Runs of the real binary and of the programs that it is held against.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::{Finished, Host, Running};
use netsonde_e2e::{missing, missing_program, netsonde};
use serde_json::Value;

/// How long anything may take to start or to end. A limit, never a wait: it may be long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What a test needs that runs a Python script besides the binary.
pub(crate) fn missing_python() -> Option<String> {
    missing().or_else(|| missing_program("python3", "python3"))
}

/// Where a program of `cargo xtask tools` is: the environment says it, or it is beside our
/// own artefacts.
pub(crate) fn tool(variable: &str, place: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Ok(path.into());
    }
    let own = std::env::current_exe()?;
    own.ancestors()
        .map(|folder| folder.join(place))
        .find(|path| path.exists())
        .with_context(|| format!("no {variable}; `cargo xtask tools` gets it"))
}

/// One of the scripts of `tests/interop`.
pub(crate) fn script(name: &str) -> String {
    format!("{}/../interop/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// What a run of `netsonde ping` came to.
#[derive(Debug)]
pub(crate) struct Pinged {
    /// Its only target in the JSON document.
    pub(crate) report: Value,
    /// The lines of `--records`.
    pub(crate) records: Vec<Value>,
    /// How it ended.
    pub(crate) finished: Finished,
}

impl Pinged {
    /// A counter or another whole number.
    pub(crate) fn number(&self, key: &str) -> Result<u64> {
        number(&self.report, key)
    }

    /// Probes that were answered but gave no sample, for whatever reason.
    pub(crate) fn discarded(&self) -> Result<u64> {
        let reasons = self.report["discarded"].as_object();
        let reasons = reasons.context("discarded is no object")?;
        Ok(reasons.values().filter_map(Value::as_u64).sum())
    }

    /// `sent = received + lost + discarded`, in the document and in the records, and both
    /// say the same.
    pub(crate) fn check_sum(&self) -> Result<()> {
        let discarded = self.discarded()?;
        let get = |key| self.number(key);
        let (sent, received, lost) = (get("sent")?, get("received")?, get("lost")?);
        ensure!(
            sent == received + lost + discarded,
            "sent {sent}, received {received}, lost {lost}, discarded {discarded}"
        );
        let verdicts = |wanted: &[&str]| {
            let found = self
                .records
                .iter()
                .filter(|line| wanted.iter().any(|verdict| line["verdict"] == *verdict));
            found.count() as u64
        };
        let recorded = (verdicts(&["received"]), verdicts(&["lost", "lost_local"]));
        ensure!(
            recorded == (received, lost),
            "records say {recorded:?} received and lost, the document {received} and {lost}"
        );
        Ok(())
    }

    /// Records with this verdict.
    pub(crate) fn with_verdict(&self, verdict: &str) -> impl Iterator<Item = &Value> {
        self.records
            .iter()
            .filter(move |line| line["verdict"] == verdict)
    }
}

/// A whole number of a document.
pub(crate) fn number(report: &Value, key: &str) -> Result<u64> {
    report[key]
        .as_u64()
        .with_context(|| format!("{key} is {}", report[key]))
}

/// Runs `netsonde ping` to its end; `words` are options separated by spaces.
pub(crate) fn ping(from: &Host, to: IpAddr, words: &str) -> Result<Pinged> {
    let records = from.file("records.jsonl")?;
    let (to, path) = (to.to_string(), records.to_string_lossy().into_owned());
    let mut args = vec!["ping", &to, "--json", "--records", &path];
    args.extend(words.split_whitespace());
    let finished = from.spawn(netsonde()?, &args)?.finish(PATIENCE)?;
    let document: Value = serde_json::from_str(&finished.stdout)
        .with_context(|| format!("ping {words}: {finished:?}"))?;
    let report = document["targets"].get(0).context("no target")?.clone();
    let records = records_of(&records)?;
    Ok(Pinged {
        report,
        records,
        finished,
    })
}

/// The lines of a `--records` file.
pub(crate) fn records_of(path: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let lines = text.lines().map(serde_json::from_str);
    Ok(lines.collect::<Result<_, _>>()?)
}

/// A running `netsonde reflect --json`.
pub(crate) struct Reflecting(Running);

impl Reflecting {
    /// Starts it; `words` are options separated by spaces.
    pub(crate) fn start(host: &Host, words: &str) -> Result<Self> {
        let mut args = vec!["reflect", "--json"];
        args.extend(words.split_whitespace());
        let running = host.spawn(netsonde()?, &args)?;
        running.wait_error_line("reflecting STAMP on", PATIENCE)?;
        Ok(Self(running))
    }

    /// Ends it as a service manager would, and returns its counters.
    pub(crate) fn stop(mut self) -> Result<Value> {
        ensure!(
            !self.0.has_ended()?,
            "it ended by itself: {}",
            self.0.stderr()
        );
        let finished = self.0.stop("TERM", PATIENCE)?;
        ensure!(finished.code() == 0, "reflect ended badly: {finished:?}");
        let document: Value = serde_json::from_str(&finished.stdout)?;
        Ok(document["reflector"].clone())
    }
}

/// The plain reflector of `tests/interop`.
pub(crate) struct Plain(Running);

impl Plain {
    /// Starts it on an address; `words` are options separated by spaces.
    pub(crate) fn start(host: &Host, address: IpAddr, words: &str) -> Result<Self> {
        let (script, address) = (script("reflector.py"), address.to_string());
        let mut args = vec![script.as_str(), "--listen", &address];
        args.extend(words.split_whitespace());
        let mut running = host.spawn("python3", &args)?;
        running.wait_line("ready", PATIENCE)?;
        Ok(Self(running))
    }

    /// Ends it and returns what it counted.
    pub(crate) fn stop(self) -> Result<Value> {
        let finished = self.0.stop("TERM", PATIENCE)?;
        ensure!(finished.code() == 0, "the plain reflector: {finished:?}");
        let report = finished.stdout.lines().last().context("it said nothing")?;
        Ok(serde_json::from_str(report)?)
    }
}

/// The document of a run that ended well.
pub(crate) fn document(finished: &Finished) -> Result<Value> {
    ensure!(finished.code() == 0, "{finished:?}");
    let line = finished.stdout.lines().last().context("no document")?;
    Ok(serde_json::from_str(line)?)
}
