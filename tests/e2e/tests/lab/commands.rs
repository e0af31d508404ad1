//! Runs of the real binary and of the programs that it is held against.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::{Finished, Host, Running};
use libtest_mimic::Trial;
use netsonde_e2e::{missing, missing_program, netsonde, trial};
use serde_json::Value;

/// How long anything may take to start or to end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// A machine that stands still for so long makes answers late that a test takes for granted.
const STALL: Duration = Duration::from_millis(50);
/// How often a test is tried on such a machine.
const ATTEMPTS: u32 = 3;

/// A test that is repeated if it failed while the machine stood still, by a witness of its
/// own: a failure on a machine that did not is one.
pub(crate) fn steady_trial(
    name: &str,
    needs: impl FnOnce() -> Option<String>,
    test: impl Fn() -> Result<()> + Send + 'static,
) -> Trial {
    trial(name, needs, move || {
        for _ in 1..ATTEMPTS {
            let (result, stall) = with_witness(&test);
            match result {
                Err(error) if stall > STALL => {
                    println!("once more, the machine stood still for {stall:?}: {error:.100}");
                }
                result => return result,
            }
        }
        test()
    })
}

/// Runs a test beside a thread that does nothing but sleep; how late it woke at worst.
fn with_witness(test: &impl Fn() -> Result<()>) -> (Result<()>, Duration) {
    let nap = Duration::from_millis(5);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let witness = scope.spawn(|| {
            let mut worst = Duration::ZERO;
            // Relaxed: it orders nothing; one nap more does no harm.
            while !done.load(Ordering::Relaxed) {
                let begun = Instant::now();
                std::thread::sleep(nap);
                worst = worst.max(begun.elapsed().saturating_sub(nap));
            }
            worst
        });
        let end = SetOnDrop(&done);
        let result = test();
        drop(end);
        (result, witness.join().unwrap_or_default())
    })
}

/// Ends the witness after a panic too.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

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
