//! The end of a capture, live or not: the summary or the document, and the assertions.

use std::io::{self, Write};

use base::WallNanos;
use serde_json::Value;
use sys::clock::wall_now;

use super::plan::Plan;
use super::tally::Origin;
use crate::exit::{Exit, complain};
use crate::output::assertion::{Assertion, Outcome};
use crate::output::json::{self, Source};
use crate::output::passive::{Report, json as body, summary};

/// A line for people: beside the frames, if those go to standard output.
///
/// # Errors
/// When it cannot be written.
pub fn say(plan: &Plan, text: &str) -> io::Result<()> {
    if plan.writes_to_stdout() {
        return io::stderr().write_all(text.as_bytes());
    }
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// What is captured, how, and why so.
#[must_use]
pub fn first_lines(origin: &Origin) -> String {
    let mut text = format!(
        "netsonde shows flows, not packets (-w FILE writes those); backend {} on {}: {}\n",
        origin.backend, origin.source_name, origin.reason
    );
    for note in &origin.notes {
        text.push_str(note);
        text.push('\n');
    }
    text
}

/// A document on one line: of an interval, or the last one.
#[must_use]
pub fn document(
    report: &Report<'_>,
    outcomes: &[Outcome],
    source: &Source,
    started: WallNanos,
    ended: WallNanos,
) -> String {
    let mut map = body::body(report);
    map.insert(
        "assertions".into(),
        outcomes.iter().map(Outcome::json).collect(),
    );
    let document = json::document(&crate::command_line(), started, ended, source, map);
    format!("{document}\n")
}

/// Shows the whole run; says whether the assertions held.
///
/// # Errors
/// When standard output cannot be written.
pub fn show(
    plan: &Plan,
    report: &Report<'_>,
    assertions: &[Assertion],
    source: &Source,
    started: WallNanos,
) -> io::Result<Exit> {
    let outcomes: Vec<Outcome> = if assertions.is_empty() {
        Vec::new()
    } else {
        let body = Value::Object(body::body(report));
        assertions.iter().map(|each| each.check(&body)).collect()
    };
    let complaints: Vec<String> = outcomes
        .iter()
        .filter_map(|outcome| outcome.complaint(report.source_name))
        .collect();
    if plan.show.is_text() {
        let mut text = summary::text(report);
        for complaint in &complaints {
            text.push_str(complaint);
            text.push('\n');
        }
        say(plan, &text)?;
    } else {
        say(
            plan,
            &document(report, &outcomes, source, started, wall_now()),
        )?;
        complaints.iter().for_each(complain);
    }
    if outcomes.iter().any(|outcome| !outcome.ok) {
        return Ok(Exit::Assertion);
    }
    Ok(Exit::Measured)
}
