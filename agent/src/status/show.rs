//! The status document in words: a line that says healthy or not, why, and a table.
//! What the agent did not measure is shown as `-`.

use std::fmt::Write as _;
use std::net::SocketAddr;

use base::units::format_ns;
use serde_json::Value;

/// Whether nothing is wrong.
pub fn healthy(document: &Value) -> bool {
    document["healthy"] == Value::Bool(true)
}

/// The whole text.
pub fn show(document: &Value, address: SocketAddr) -> String {
    let mut text = String::new();
    let word = if healthy(document) {
        "healthy"
    } else {
        "unhealthy"
    };
    let targets = document["targets"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let down = document["targets_down"].as_u64().unwrap_or(0);
    let _ = writeln!(
        text,
        "{word}: netsonde {} at {address}, {} targets, {down} down, running since {}",
        word_of(&document["netsonde"]),
        targets.len(),
        word_of(&document["started_at"]),
    );
    for problem in document["problems"].as_array().into_iter().flatten() {
        let _ = writeln!(text, "  {}", word_of(problem));
    }
    if let Some(reflector) = document["reflector"].as_object() {
        let number = |key: &str| reflector.get(key).and_then(Value::as_u64).unwrap_or(0);
        let _ = writeln!(
            text,
            "reflector: {} received, {} reflected, {} of {} sessions",
            number("received"),
            number("reflected"),
            number("sessions"),
            number("session_capacity"),
        );
    }
    if let Some(capture) = document["capture"].as_object() {
        let number = |pointer: &str| {
            let value = document["capture"].pointer(pointer);
            value.and_then(Value::as_u64).unwrap_or(0)
        };
        let drops = capture.get("capture_drops").and_then(Value::as_object);
        let dropped: u64 = drops
            .into_iter()
            .flatten()
            .filter(|(reason, _)| *reason != "filtered")
            .filter_map(|(_, count)| count.as_u64())
            .sum();
        let word = |key: &str| capture.get(key).map_or_else(String::new, word_of);
        let _ = writeln!(
            text,
            "capture: {} on {}, {} frames, {} flows, {dropped} frames dropped, {} of {} s degraded",
            word("backend"),
            word("device"),
            number("/frames"),
            number("/flows/active"),
            number("/intervals/degraded"),
            number("/intervals/all"),
        );
    }
    if !targets.is_empty() {
        text.push('\n');
        table(&mut text, targets);
    }
    text
}

fn word_of(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(word) => word.clone(),
        other => other.to_string(),
    }
}

const HEADS: [&str; 10] = [
    "PROBE", "TARGET", "PROTOCOL", "STATE", "SENT", "LOST", "LOSS", "P50", "P99", "MAX",
];

fn table(text: &mut String, targets: &[Value]) {
    let mut rows: Vec<Vec<String>> = vec![HEADS.map(str::to_owned).to_vec()];
    rows.extend(targets.iter().map(row));
    let widths: Vec<usize> = (0..HEADS.len())
        .map(|column| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            // Words to the left, numbers to the right.
            let _ = if column < 4 {
                write!(line, "{cell:<width$}  ")
            } else {
                write!(line, "{cell:>width$}  ")
            };
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

fn row(target: &Value) -> Vec<String> {
    let rtt = |key: &str| {
        target["rtt_ns"][key]
            .as_f64()
            .map_or_else(|| "-".to_owned(), format_ns)
    };
    let state = match (&target["problem"], &target["up"]) {
        (Value::String(_), _) => "problem",
        (_, Value::Bool(true)) => "up",
        (_, Value::Bool(false)) => "down",
        _ => "-",
    };
    let loss = target["loss_ratio"]
        .as_f64()
        .map_or_else(|| "-".to_owned(), |ratio| format!("{:.2}%", 100.0 * ratio));
    vec![
        word_of(&target["probe"]),
        word_of(&target["target"]),
        word_of(&target["protocol"]),
        state.to_owned(),
        word_of(&target["sent"]),
        word_of(&target["lost"]),
        loss,
        rtt("p50"),
        rtt("p99"),
        rtt("max"),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wrong_comes_first_and_what_is_unknown_is_a_dash() {
        let document = json!({
            "netsonde": "0.1.0", "started_at": "2026-01-02T03:04:05.000000Z",
            "healthy": false, "problems": ["publisher is degraded: slow"], "targets_down": 1,
            "reflector": {"received": 10, "reflected": 9, "sessions": 2, "session_capacity": 4096},
            "capture": {"backend": "afpacket", "device": "eth0", "frames": 7, "flows": {"active": 2},
                "capture_drops": {"filtered": 9, "ring_full": 3}, "intervals": {"all": 60, "degraded": 1}},
            "targets": [
                {"probe": "az-b", "target": "10.0.2.10", "protocol": "stamp", "up": true, "problem": null,
                 "sent": 1000, "lost": 5, "loss_ratio": 0.005,
                 "rtt_ns": {"p50": 250_000, "p99": 1_500_000, "max": 12_000_000}},
                {"probe": "az-b", "target": "db.internal", "protocol": null, "up": null,
                 "problem": "does not resolve", "sent": 0, "lost": 0, "loss_ratio": null,
                 "rtt_ns": {"p50": null, "p99": null, "max": null}},
            ],
        });
        let text = show(&document, "127.0.0.1:9862".parse().unwrap());
        assert_eq!(
            text,
            "unhealthy: netsonde 0.1.0 at 127.0.0.1:9862, 2 targets, 1 down, running since 2026-01-02T03:04:05.000000Z\n\
             \x20 publisher is degraded: slow\n\
             reflector: 10 received, 9 reflected, 2 of 4096 sessions\n\
             capture: afpacket on eth0, 7 frames, 2 flows, 3 frames dropped, 1 of 60 s degraded\n\
             \n\
             PROBE  TARGET       PROTOCOL  STATE    SENT  LOST   LOSS    P50     P99     MAX\n\
             az-b   10.0.2.10    stamp     up       1000     5  0.50%  250us  1.50ms  12.0ms\n\
             az-b   db.internal  -         problem     0     0      -      -       -       -\n"
        );
        assert!(!healthy(&document));
    }

    #[test]
    fn a_document_of_another_kind_is_not_healthy() {
        assert!(!healthy(&json!({})));
        assert!(!healthy(&json!(5)));
        assert!(
            show(&json!({}), "127.0.0.1:1".parse().unwrap()).starts_with("unhealthy: netsonde -")
        );
    }
}
