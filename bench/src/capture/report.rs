//! The tables.

use std::fmt::Write as _;

use super::plan::{Outcome, Row};
use super::programs::Program;
use crate::traces::{Made, Trace};

const BEGIN: &str = "<!-- capture: begin -->";
const END: &str = "<!-- capture: end -->";

/// Puts `tables` in the place of what is between the markers; `None` without markers.
#[must_use]
pub fn between_markers(text: &str, tables: &str) -> Option<String> {
    let (head, rest) = text.split_once(BEGIN)?;
    let (_, tail) = rest.split_once(END)?;
    Some(format!("{head}{BEGIN}\n{tables}{END}{tail}"))
}

fn rate(row: &Row, frames: u64) -> f64 {
    let wall_ns = row.median(|run| run.wall_ns);
    frames as f64 / (wall_ns.max(1)) as f64 * 1e3
}

fn table(text: &mut String, trace: Trace, made: &Made, rows: &[&Row]) {
    let _ = writeln!(
        text,
        "\n{}, {} frames ({}), {} MB:\n\n\
         | program | M frames/s | ns per frame | processor, s | peak memory, MB | runs | ours / theirs |\n\
         |---|---|---|---|---|---|---|",
        trace.description(),
        made.frames,
        match made.captured {
            0 => "synthesised".to_owned(),
            captured => format!("{captured} captured, repeated"),
        },
        made.file_bytes / 1_000_000,
    );
    // The command, where it is; a user has no loop.
    let ours = rows
        .iter()
        .find(|row| row.program == Program::Netsonde)
        .or_else(|| rows.iter().find(|row| row.program.is_ours()))
        .map(|row| rate(row, made.frames));
    for row in rows {
        let own = rate(row, made.frames);
        let ratio = ours
            .filter(|_| !row.program.is_ours())
            .map_or_else(|| "-".to_owned(), |ours| format!("{:.1}", ours / own));
        let _ = writeln!(
            text,
            "| {} | {own:.2} | {:.0} | {:.2} | {:.0} | {} | {ratio} |",
            row.program.name(),
            1e3 / own,
            row.median(|run| run.processor_ns) as f64 / 1e9,
            row.median(|run| run.peak_rss_bytes) as f64 / 1e6,
            row.runs.len(),
        );
    }
}

/// All tables, with where and how they were made.
#[must_use]
pub fn markdown(outcome: &Outcome) -> String {
    let mut text = String::new();
    if !outcome.undisturbed {
        let _ = writeln!(
            text,
            "**From a busy machine: these figures are worth nothing.**\n"
        );
    }
    let machine = &outcome.machine;
    let _ = writeln!(
        text,
        "{}, {} cores{}, {}, kernel {}; one file from the page cache, medians.",
        machine.cpu,
        machine.cores,
        if machine.virtual_machine {
            ", a virtual machine"
        } else {
            ""
        },
        machine.system,
        machine.kernel,
    );
    for (trace, made) in &outcome.traces {
        let rows: Vec<&Row> = outcome
            .rows
            .iter()
            .filter(|row| row.trace == *trace)
            .collect();
        table(&mut text, *trace, made, &rows);
    }
    let _ = writeln!(text, "\nVersions and command lines:\n\n```");
    for (name, version) in &outcome.versions {
        let _ = writeln!(text, "{name} {version}");
    }
    for row in &outcome.rows {
        let _ = writeln!(text, "$ {}", row.command);
    }
    let _ = writeln!(text, "```");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::programs::Taken;

    #[test]
    fn the_readme_has_the_markers() {
        let readme = include_str!("../../README.md");
        assert!(between_markers(readme, "").is_some());
    }

    #[test]
    fn a_ratio_is_ours_over_theirs_by_medians() {
        let row = |program, walls: &[u64]| Row {
            program,
            trace: Trace::Bulk,
            command: String::new(),
            runs: walls
                .iter()
                .map(|ms| Taken {
                    wall_ns: ms * 1_000_000,
                    processor_ns: 500_000_000,
                    peak_rss_bytes: 7_000_000,
                })
                .collect(),
            disturbed: false,
        };
        let made = Made {
            version: 1,
            frames: 10_000_000,
            wire_bytes: 0,
            file_bytes: 1_120_000_000,
            captured: 500_000,
        };
        let rows = [
            row(Program::Netsonde, &[250, 240, 900]),
            row(Program::Softflowd, &[1_000, 1_100, 900]),
        ];
        let mut text = String::new();
        table(
            &mut text,
            Trace::Bulk,
            &made,
            &rows.iter().collect::<Vec<_>>(),
        );
        let shown: Vec<&str> = text.lines().skip(5).collect();
        assert_eq!(
            shown,
            [
                "| netsonde capture | 40.00 | 25 | 0.50 | 7 | 3 | - |",
                "| softflowd | 10.00 | 100 | 0.50 | 7 | 3 | 4.0 |",
            ]
        );
    }
}
