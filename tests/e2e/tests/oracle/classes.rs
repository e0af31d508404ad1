//! Classes: ours and tshark's, frame by frame.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use netsonde_e2e::{missing, trial};

use crate::captures::{all_public, fresh, missing_public, public, scenarios};
use crate::differences::{KNOWN, LIMIT, RULES};
use crate::ours::{self, Classes, analyse};
use crate::tshark::{self, Word};

/// Frames compared, and those that differed on purpose.
static FRAMES: AtomicU64 = AtomicU64::new(0);
static DIFFERENT: AtomicU64 = AtomicU64::new(0);
/// A capture that is quite different is not printed whole.
const SHOWN: usize = 20;

pub(crate) fn trials() -> Vec<Trial> {
    let needs_public = || missing().or_else(missing_public).or_else(tshark::missing);
    let needs_fresh = || missing().or_else(tshark::missing);
    let mut trials = vec![trial(
        "classes::every_difference_is_of_a_capture_and_has_a_reason",
        missing_public,
        known_differences_exist,
    )];
    for name in all_public() {
        let title = format!("classes::{name}");
        trials.push(trial(&title, needs_public, move || {
            let wrong = compare(&public(&name), Some(&name))?;
            ensure!(wrong.is_empty(), "{wrong}");
            Ok(())
        }));
    }
    for scenario in scenarios() {
        let title = format!("classes::fresh_{}", scenario.name);
        trials.push(trial(&title, needs_fresh, move || {
            let captured = fresh(&scenario)?;
            let mut wrong = String::new();
            for (place, path) in &captured.files {
                let found = compare(path, None)?;
                if !found.is_empty() {
                    let _ = writeln!(wrong, "{}:\n{found}", place.name());
                }
            }
            ensure!(wrong.is_empty(), "{wrong}");
            Ok(())
        }));
    }
    trials.push(trial(
        "classes::few_deliberate_differences",
        needs_public,
        few_differences,
    ));
    trials
}

fn known_differences_exist() -> Result<()> {
    let all = all_public();
    for known in KNOWN {
        ensure!(all.iter().any(|name| name == known.capture), "{known:?}");
        ensure!(
            known.why.len() > 10 && known.ours != known.theirs,
            "{known:?}"
        );
    }
    for rule in RULES {
        ensure!(rule.why.len() > 10 && rule.ours != rule.theirs, "{rule:?}");
    }
    Ok(())
}

/// Over all captures of this run; runs last.
fn few_differences() -> Result<()> {
    let frames = FRAMES.load(Ordering::Relaxed);
    let different = DIFFERENT.load(Ordering::Relaxed);
    let allowed = (frames as f64 * LIMIT).floor() as u64;
    ensure!(
        different <= allowed,
        "{different} of {frames} frames differ on purpose, {allowed} may"
    );
    Ok(())
}

fn words(classes: Option<&Classes>) -> String {
    let words: Vec<&str> = classes
        .into_iter()
        .flatten()
        .map(|class| class.as_str())
        .collect();
    words.join(",")
}

/// Frames that differ without a reason, one a line.
fn compare(capture: &Path, name: Option<&str>) -> Result<String> {
    let theirs = Word::of(capture)?;
    let ours = analyse(capture, ours::TSHARK).context("ours")?;
    FRAMES.fetch_add(theirs.frames, Ordering::Relaxed);
    let mut frames: Vec<u64> = theirs
        .classes
        .keys()
        .chain(ours.classes.keys())
        .copied()
        .collect();
    frames.sort_unstable();
    frames.dedup();
    let mut wrong = Vec::new();
    for frame in frames {
        let of_ours = words(ours.classes.get(&frame));
        let of_theirs = words(theirs.classes.get(&frame));
        if of_ours == of_theirs {
            continue;
        }
        let known = KNOWN.iter().any(|known| {
            name == Some(known.capture)
                && known.frame == frame
                && (known.ours, known.theirs) == (&of_ours, &of_theirs)
        });
        let rule = name.is_none()
            && RULES
                .iter()
                .any(|rule| (rule.ours, rule.theirs) == (&of_ours, &of_theirs));
        if known || rule {
            DIFFERENT.fetch_add(1, Ordering::Relaxed);
        } else {
            wrong.push(format!(
                "frame {frame}, stream {:?}: ours [{of_ours}], tshark's [{of_theirs}]",
                theirs.streams.get(&frame)
            ));
        }
    }
    let count = wrong.len();
    if count > SHOWN {
        wrong.truncate(SHOWN);
        wrong.push(format!("... {count} of {} frames", theirs.frames));
    }
    Ok(wrong.join("\n"))
}
