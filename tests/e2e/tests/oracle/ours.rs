//! What `netsonde capture` says of a capture file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base::TcpClass;
use lab::Running;
use netsonde_e2e::netsonde;
use serde_json::Value;

use crate::captures::scratch;

/// A limit, never a wait.
const PATIENCE: Duration = Duration::from_secs(120);

/// Classes of one frame.
pub(crate) type Classes = BTreeSet<TcpClass>;

/// Whose definitions are used, and what becomes of frames that were captured twice.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Mode {
    pub(crate) classifier: &'static str,
    pub(crate) duplicates: &'static str,
}

/// As tshark: no frame is set apart.
pub(crate) const TSHARK: Mode = Mode {
    classifier: "tshark",
    duplicates: "classify",
};

/// As tcptrace, likewise.
pub(crate) const TCPTRACE: Mode = Mode {
    classifier: "tcptrace",
    duplicates: "classify",
};

/// As a user gets it: duplicates of a mirror apart.
pub(crate) const DEFAULT: Mode = Mode {
    classifier: "tshark",
    duplicates: "apart",
};

/// A round trip of a frame's acknowledgement.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Rtt {
    pub(crate) frame: u64,
    pub(crate) method: String,
    pub(crate) ns: u64,
}

/// A loss as it was placed, at the frame that showed it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Placed {
    pub(crate) frame: u64,
    /// `near` or `remote`: who had sent it.
    pub(crate) sender: String,
    pub(crate) place: String,
    pub(crate) segments: u64,
}

/// All of one run.
#[derive(Debug)]
pub(crate) struct Analysed {
    /// The document.
    pub(crate) report: Value,
    /// Classes by frame, numbered from 1.
    pub(crate) classes: BTreeMap<u64, Classes>,
    /// Round trips in the order of frames.
    pub(crate) rtts: Vec<Rtt>,
    /// Losses in the order of frames, where records have them.
    pub(crate) placed: Vec<Placed>,
    /// Lines of `--flows`.
    pub(crate) flows: Vec<Value>,
}

/// Runs it on a file.
pub(crate) fn analyse(capture: &Path, mode: Mode) -> Result<Analysed> {
    let scratch = scratch()?;
    let name = capture.file_name().context("a file")?.to_string_lossy();
    let file = |kind: &str| scratch.join(format!("{name}.{}.{kind}", mode.classifier));
    let (records, flows) = (file("records"), file("flows"));
    let mut command = Command::new(netsonde()?);
    command.arg("capture").arg("-r").arg(capture);
    command.args(["--classifier", mode.classifier]);
    command.args(["--duplicates", mode.duplicates, "--json"]);
    command.arg("--records").arg(&records);
    command.arg("--flows").arg(&flows);
    let finished = Running::start(&mut command)?.finish(PATIENCE)?;
    ensure!(
        finished.code() == 0,
        "{command:?}: {}: {}",
        finished.status,
        finished.stderr
    );
    let mut analysed = Analysed {
        report: serde_json::from_str(&finished.stdout).context("the document")?,
        classes: BTreeMap::new(),
        rtts: Vec::new(),
        placed: Vec::new(),
        flows: lines(&flows)?,
    };
    for line in lines(&records)? {
        analysed.add(&line).with_context(|| line.to_string())?;
    }
    for path in [records, flows] {
        std::fs::remove_file(path)?;
    }
    Ok(analysed)
}

fn lines(path: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let lines = text.lines().map(serde_json::from_str);
    Ok(lines.collect::<Result<_, _>>()?)
}

fn class(word: &Value) -> Result<TcpClass> {
    let word = word.as_str().context("a class is a word")?;
    let known = TcpClass::ALL.iter().find(|class| class.as_str() == word);
    known
        .copied()
        .with_context(|| format!("unknown class {word}"))
}

impl Analysed {
    fn add(&mut self, line: &Value) -> Result<()> {
        let number = |value: &Value, key: &str| {
            value[key]
                .as_u64()
                .with_context(|| format!("{key} is no number"))
        };
        let text = |value: &Value, key: &str| {
            let text = value[key].as_str().with_context(|| format!("no {key}"))?;
            anyhow::Ok(text.to_owned())
        };
        let frame = number(line, "frame")?;
        let list = |key: &str| line[key].as_array().into_iter().flatten();
        let classes: Classes = list("classes").map(class).collect::<Result<_>>()?;
        if !classes.is_empty() {
            let before = self.classes.insert(frame, classes);
            ensure!(before.is_none(), "two lines for one frame");
        }
        for rtt in list("rtt") {
            self.rtts.push(Rtt {
                frame,
                method: text(rtt, "method")?,
                ns: number(rtt, "ns")?,
            });
        }
        for loss in list("loss") {
            self.placed.push(Placed {
                frame,
                sender: text(loss, "sender")?,
                place: text(loss, "place")?,
                segments: number(loss, "segments")?,
            });
        }
        Ok(())
    }

    /// Round trips of one method, by frame.
    pub(crate) fn rtts_by(&self, method: &str) -> Vec<(u64, u64)> {
        let wanted = self.rtts.iter().filter(|rtt| rtt.method == method);
        wanted.map(|rtt| (rtt.frame, rtt.ns)).collect()
    }

    /// A number of the document, by the keys on the way to it.
    pub(crate) fn number(&self, keys: &[&str]) -> Result<u64> {
        let value = keys.iter().fold(&self.report, |value, key| &value[*key]);
        value
            .as_u64()
            .with_context(|| format!("{keys:?} is no number: {value}"))
    }
}
