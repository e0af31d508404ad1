//! The live table: a line per target, redrawn in place.
//!
//! A frame is one write, moves the cursor up over the frame before it, and never draws a
//! line wider than the terminal (a wrapped line would break the way up). Lines that do not
//! fit the height are counted in the last one. [`Screen::leave`] shows the cursor again
//! and leaves the last frame standing.

use std::fmt::Write as _;
use std::io::{self, Write};

use base::units::format_ns;
use base::{Counter, Quantity};
use record::TargetStats;

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const NAME_LEAST: usize = 8;
const NAME_MOST: usize = 40;
/// Columns are left out before a name gets less than it needs, or than an IPv4 address does.
const NAME_FAIR: usize = 15;
const HISTOGRAM_MOST: usize = 24;

/// One target's line.
#[derive(Copy, Clone, Debug)]
pub struct Row<'a> {
    /// As typed.
    pub name: &'a str,
    /// The numbers so far.
    pub stats: &'a TargetStats,
}

/// A column of numbers.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Column {
    Sent,
    /// With its share, or alone.
    LostShare,
    Lost,
    P50,
    P99,
    Max,
}

impl Column {
    const fn head(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::LostShare | Self::Lost => "lost",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::Max => "max",
        }
    }

    fn cell(self, stats: &TargetStats) -> String {
        let rtt = stats.distribution(Quantity::Rtt);
        let time = |ns: Option<i64>| ns.map_or_else(|| "-".to_owned(), |ns| format_ns(ns as f64));
        let lost = stats.counter(Counter::Lost);
        match self {
            Self::Sent => stats.counter(Counter::Sent).to_string(),
            Self::LostShare => match stats.loss_ratio() {
                Some(ratio) if lost > 0 => {
                    format!("{lost} ({}%)", super::summary::percent(ratio))
                }
                _ => lost.to_string(),
            },
            Self::Lost => lost.to_string(),
            Self::P50 => time(rtt.summary().p50),
            Self::P99 => time(rtt.summary().p99),
            Self::Max => time(rtt.summary().max),
        }
    }
}

/// Columns with their widths, gaps included.
type Columns = &'static [(Column, usize)];

/// What is shown, the fullest first.
const LAYOUTS: [Columns; 5] = [
    &[
        (Column::Sent, 10),
        (Column::LostShare, 16),
        (Column::P50, 9),
        (Column::P99, 9),
        (Column::Max, 9),
    ],
    &[
        (Column::Sent, 9),
        (Column::Lost, 8),
        (Column::P50, 8),
        (Column::P99, 8),
        (Column::Max, 8),
    ],
    &[
        (Column::Sent, 9),
        (Column::Lost, 8),
        (Column::P50, 8),
        (Column::P99, 8),
    ],
    &[(Column::Sent, 9), (Column::Lost, 8), (Column::P99, 8)],
    &[(Column::Sent, 8), (Column::Lost, 7)],
];

/// What fits the terminal.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
struct Layout {
    columns: Columns,
    name: usize,
    histogram: usize,
    total: usize,
}

fn layout(columns: usize, longest_name: usize) -> Layout {
    // The last column stays free: some terminals wrap as soon as it is written.
    let total = columns.saturating_sub(1);
    let wanted = longest_name.clamp(NAME_LEAST, NAME_MOST);
    let numbers = |columns: Columns| columns.iter().map(|(_, width)| width).sum::<usize>();
    let columns = LAYOUTS
        .into_iter()
        .find(|columns| total >= numbers(columns) + wanted.min(NAME_FAIR))
        .unwrap_or(LAYOUTS[LAYOUTS.len() - 1]);
    let numbers = numbers(columns);
    let name = wanted.min(total.saturating_sub(numbers)).max(NAME_LEAST);
    let room = total.saturating_sub(name + numbers + 2);
    let histogram = if room < 6 {
        0
    } else {
        room.min(HISTOGRAM_MOST)
    };
    Layout {
        columns,
        name,
        histogram,
        total,
    }
}

/// The lines of a frame, none wider than `columns - 1`, none more than `lines - 1`.
#[must_use]
pub fn frame(rows: &[Row<'_>], columns: usize, lines: usize) -> Vec<String> {
    let longest = rows.iter().map(|row| row.name.chars().count()).max();
    let layout = layout(columns, longest.unwrap_or(0));
    let mut head = format!("{:<name$}", "target", name = layout.name);
    for (column, width) in layout.columns {
        let _ = write!(head, "{:>width$}", column.head());
    }
    let mut out = vec![cut(&head, layout.total)];
    let room = lines.saturating_sub(2).max(1);
    let shown = if rows.len() > room {
        room.saturating_sub(1)
    } else {
        rows.len()
    };
    out.extend(rows[..shown].iter().map(|row| line(row, layout)));
    if shown < rows.len() {
        out.push(cut(
            &format!("… and {} more", rows.len() - shown),
            layout.total,
        ));
    }
    out
}

fn line(row: &Row<'_>, layout: Layout) -> String {
    let name = fit(row.name, layout.name);
    let mut text = format!("{name:<width$}", width = layout.name);
    for (column, width) in layout.columns {
        let _ = write!(text, "{:>width$}", column.cell(row.stats));
    }
    if layout.histogram > 0 {
        text.push_str("  ");
        let rtt = row.stats.distribution(Quantity::Rtt);
        text.push_str(&histogram(rtt, layout.histogram));
    }
    cut(&text, layout.total)
}

/// Bars from the smallest to the largest value; a bar that holds anything is never blank.
fn histogram(distribution: &record::Distribution, width: usize) -> String {
    let mut counts = vec![0; width];
    if distribution.small_histogram(&mut counts).is_none() {
        return String::new();
    }
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    counts
        .iter()
        .map(|count| match count {
            0 => ' ',
            count => {
                let step = (count * (BARS.len() as u64 - 1)).div_ceil(most);
                BARS[usize::try_from(step).unwrap_or(0).min(BARS.len() - 1)]
            }
        })
        .collect()
}

/// A name in its column: shortened in the middle, where names differ least.
fn fit(name: &str, width: usize) -> String {
    let count = name.chars().count();
    if count <= width {
        return name.to_owned();
    }
    let head = width.saturating_sub(1) / 2;
    let tail = width.saturating_sub(1) - head;
    let mut text: String = name.chars().take(head).collect();
    text.push('…');
    text.extend(name.chars().skip(count - tail));
    text
}

fn cut(text: &str, width: usize) -> String {
    text.chars().take(width).collect()
}

/// The place on the terminal where frames are drawn.
#[derive(Debug, Default)]
pub struct Screen {
    /// The lines of the last frame, in characters.
    drawn: Vec<usize>,
    hidden: bool,
}

impl Screen {
    /// Draws a frame over the one before.
    ///
    /// # Errors
    /// When the terminal cannot be written.
    pub fn draw(
        &mut self,
        out: &mut impl Write,
        lines: &[String],
        columns: usize,
    ) -> io::Result<()> {
        let mut text = String::new();
        if !self.hidden {
            text.push_str("\x1b[?25l");
            self.hidden = true;
        }
        self.back(&mut text, columns);
        for line in lines {
            let _ = write!(text, "{line}\x1b[K\r\n");
        }
        // Whatever a longer frame left, and what a key press echoed.
        text.push_str("\x1b[J");
        self.drawn.clear();
        self.drawn
            .extend(lines.iter().map(|line| line.chars().count()));
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// Writes lines that stay above the table; the next frame is drawn below them.
    ///
    /// # Errors
    /// When the terminal cannot be written.
    pub fn above(&mut self, out: &mut impl Write, lines: &str, columns: usize) -> io::Result<()> {
        let mut text = String::new();
        self.back(&mut text, columns);
        text.push_str("\x1b[J");
        text.push_str(&lines.replace('\n', "\r\n"));
        self.drawn.clear();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// Shows the cursor again; the last frame stays.
    ///
    /// # Errors
    /// When the terminal cannot be written.
    pub fn leave(&mut self, out: &mut impl Write) -> io::Result<()> {
        if self.hidden {
            self.hidden = false;
            self.drawn.clear();
            out.write_all(b"\r\x1b[J\x1b[?25h")?;
            out.flush()?;
        }
        Ok(())
    }

    /// Up over the last frame. A terminal that became narrower since has wrapped its lines.
    fn back(&self, text: &mut String, columns: usize) {
        text.push('\r');
        let rows = |width: &usize| width.div_ceil(columns.max(1)).max(1);
        let up: usize = self.drawn.iter().map(rows).sum();
        if up > 0 {
            let _ = write!(text, "\x1b[{up}A");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::sample;
    use super::*;

    fn width(line: &str) -> usize {
        line.chars().count()
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_no_frame_higher() {
        let stats = sample::stamp();
        let long = "a-very-long-name.with.many.labels.eu-central-1.compute.internal";
        let rows: Vec<Row<'_>> = (0..30)
            .map(|index| Row {
                name: if index % 2 == 0 { long } else { "b" },
                stats: &stats,
            })
            .collect();
        for columns in [1, 2, 10, 20, 61, 62, 70, 79, 80, 100, 200, 500] {
            for lines in [1, 2, 3, 4, 10, 25, 100] {
                let frame = frame(&rows, columns, lines);
                assert!(frame.iter().all(|line| width(line) < columns.max(1)));
                assert!(frame.len() < lines.max(3), "{columns}x{lines}");
            }
        }
    }

    #[test]
    fn the_rest_is_counted() {
        let stats = TargetStats::new();
        let rows = [Row {
            name: "a",
            stats: &stats,
        }; 9];
        let lines = frame(&rows, 80, 7);
        assert_eq!(lines.len(), 6);
        assert_eq!(lines[5], "… and 5 more");
        assert_eq!(frame(&rows, 80, 11).len(), 10);
    }

    #[test]
    fn a_frame_of_known_numbers() {
        let stats = sample::stamp();
        let empty = TargetStats::new();
        let rows = [
            Row {
                name: "10.0.0.2",
                stats: &stats,
            },
            Row {
                name: "db",
                stats: &empty,
            },
        ];
        let lines = frame(&rows, 80, 24);
        assert_eq!(
            lines[0],
            "target        sent            lost      p50      p99      max"
        );
        assert!(
            lines[1].starts_with("10.0.0.2      1000        7 (0.7%)    105us    110us    110us  "),
            "{}",
            lines[1]
        );
        assert!(lines[1].ends_with(|c: char| BARS.contains(&c)));
        assert_eq!(
            lines[2].trim_end(),
            "db               0               0        -        -        -"
        );
        // Too narrow for bars: they go first, names last.
        let narrow = frame(&rows, 64, 24);
        assert!(!narrow[1].contains(&BARS[..]));
        assert!(narrow[1].ends_with("110us"));
        // Then whole columns, never a part of a number.
        for (columns, head, line) in [
            (
                50,
                "target       sent    lost     p50     p99     max",
                "10.0.0.2     1000       7   105us   110us   110us",
            ),
            (
                42,
                "target       sent    lost     p50     p99",
                "10.0.0.2     1000       7   105us   110us",
            ),
            (
                40,
                "target       sent    lost     p99",
                "10.0.0.2     1000       7   110us",
            ),
            (24, "target      sent   lost", "10.0.0.2    1000      7"),
        ] {
            let frame = frame(&rows, columns, 24);
            assert_eq!((frame[0].as_str(), frame[1].as_str()), (head, line));
        }
    }

    #[test]
    fn names_are_shortened_in_the_middle() {
        assert_eq!(fit("abcdefghij", 7), "abc…hij");
        assert_eq!(fit("abc", 7), "abc");
        assert_eq!(fit("äöüäöüäöü", 5), "äö…öü");
    }

    #[test]
    fn frames_are_drawn_over_one_another_in_one_write() {
        struct Once(Vec<Vec<u8>>);
        impl Write for Once {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.push(bytes.to_vec());
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut out = Once(Vec::new());
        let mut screen = Screen::default();
        let lines = ["one".to_owned(), "two".to_owned()];
        screen.draw(&mut out, &lines, 80).expect("draws");
        screen.draw(&mut out, &lines[..1], 80).expect("draws");
        // Three columns fill one row, two need a second one for the third letter.
        screen.draw(&mut out, &lines, 3).expect("draws");
        screen.draw(&mut out, &lines[..1], 2).expect("draws");
        screen.leave(&mut out).expect("leaves");
        screen.leave(&mut out).expect("leaves once");
        let texts: Vec<String> = out
            .0
            .iter()
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .collect();
        assert_eq!(
            texts,
            [
                "\x1b[?25l\rone\x1b[K\r\ntwo\x1b[K\r\n\x1b[J",
                "\r\x1b[2Aone\x1b[K\r\n\x1b[J",
                "\r\x1b[1Aone\x1b[K\r\ntwo\x1b[K\r\n\x1b[J",
                "\r\x1b[4Aone\x1b[K\r\n\x1b[J",
                "\r\x1b[J\x1b[?25h",
            ]
        );
    }
}
