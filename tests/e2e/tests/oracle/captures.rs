//! The captures: public ones where they are, fresh ones made once per process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use lab::Lab;
use lab::tcp::{Captured, Scenario, scenarios};

/// Fresh captures differ from run to run in what kernels decide; the relay's part does not.
const SEED: u64 = 20_260;

/// Where the public captures are.
fn folder() -> PathBuf {
    std::env::var_os("NETSONDE_PCAPS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/pcaps"),
        PathBuf::from,
    )
}

/// Why there are no public captures, if there are none.
pub(crate) fn missing_public() -> Option<String> {
    (!folder().is_dir()).then(|| "no captures".to_owned())
}

/// A public capture.
pub(crate) fn public(name: &str) -> PathBuf {
    folder().join(name)
}

/// All public captures, by name.
pub(crate) fn all_public() -> Vec<String> {
    let entries = std::fs::read_dir(folder()).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".pcap") || name.ends_with(".pcapng"))
        .collect();
    names.sort();
    names
}

/// The scenarios of fresh captures.
pub(crate) fn scenarios() -> Vec<Scenario> {
    scenarios::all(SEED)
}

static FRESH: Mutex<BTreeMap<String, Arc<Captured>>> = Mutex::new(BTreeMap::new());

/// The captures of a scenario, made at first need.
pub(crate) fn fresh(scenario: &Scenario) -> Result<Arc<Captured>> {
    let mut known = FRESH.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(captured) = known.get(&scenario.name) {
        return Ok(Arc::clone(captured));
    }
    let captured = Arc::new(scenario.run(&Lab::new()?, &scratch()?)?);
    known.insert(scenario.name.clone(), Arc::clone(&captured));
    Ok(captured)
}

/// Where files of these tests go.
pub(crate) fn scratch() -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("oracle");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder)
}
