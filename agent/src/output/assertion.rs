//! `--assert EXPR`: conditions over the JSON document of a target.
//!
//! An expression is `KEY(.SUBKEY)* OP VALUE`. Keys are those of the JSON output; a `_ns` at
//! the end of one may be left out. The value has the unit of the key: a duration for `_ns`
//! (a bare number is seconds as everywhere, but nanoseconds when `_ns` was written out), a
//! number or a percentage for `_ratio`, `true`/`false` for a yes or no, a number otherwise.
//! Keys are checked against an empty document before anything is sent. What was not
//! measured makes an assertion false, with that as the reason.

use base::units::format_ns;
use serde_json::{Value, json};

use crate::exit::Failure;

/// How two numbers are compared.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Op {
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Equal,
    NotEqual,
}

/// Longer ones first, so that `<=` is not read as `<`.
const OPS: [(&str, Op); 7] = [
    ("<=", Op::LessEqual),
    (">=", Op::GreaterEqual),
    ("==", Op::Equal),
    ("!=", Op::NotEqual),
    ("<", Op::Less),
    (">", Op::Greater),
    ("=", Op::Equal),
];

impl Op {
    fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Less => left < right,
            Self::LessEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterEqual => left >= right,
            Self::Equal => left == right,
            Self::NotEqual => left != right,
        }
    }
}

/// A parsed condition.
#[derive(Clone, PartialEq, Debug)]
pub struct Assertion {
    expr: String,
    /// JSON pointer of the value.
    pointer: String,
    op: Op,
    value: f64,
    /// The value is a time, and the user did not ask for bare nanoseconds.
    time: bool,
}

/// What became of one condition for one target.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcome {
    /// The condition as typed.
    pub expr: String,
    /// What was measured; `null` if nothing was.
    pub value: Value,
    /// Whether it held.
    pub ok: bool,
    time: bool,
}

impl Outcome {
    /// For the document.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({"expr": self.expr, "value": self.value, "ok": self.ok})
    }

    /// For people; `None` if the condition held.
    #[must_use]
    pub fn complaint(&self, target: &str) -> Option<String> {
        if self.ok {
            return None;
        }
        let why = match &self.value {
            Value::Null => "it was not measured, or by too few samples".to_owned(),
            Value::Number(ns) if self.time => {
                format!("it was {}", format_ns(ns.as_f64().unwrap_or(0.0)))
            }
            value => format!("it was {value}"),
        };
        Some(format!("{target}: assertion {} is false: {why}", self.expr))
    }
}

impl Assertion {
    /// Parses `expr`; `template` is a document that has every key.
    ///
    /// # Errors
    /// One line; an unknown key names the nearest.
    pub fn parse(expr: &str, template: &Value) -> Result<Self, Failure> {
        let wrong = |why: String| Failure::usage(format!("--assert '{expr}': {why}"));
        let (at, symbol, op) = expr
            .char_indices()
            .find_map(|(at, _)| {
                let (symbol, op) = OPS.iter().find(|(s, _)| expr[at..].starts_with(s))?;
                Some((at, *symbol, *op))
            })
            .ok_or_else(|| {
                wrong("no operator; write KEY OP VALUE with one of < <= > >= == !=".to_owned())
            })?;
        let key = expr[..at].trim();
        let text = expr[at + symbol.len()..].trim();
        let found = find(template, key).ok_or_else(|| wrong(unknown(template, key)))?;
        let value = parse_value(text, &found).map_err(wrong)?;
        Ok(Self {
            expr: expr.to_owned(),
            pointer: found.pointer,
            op,
            value,
            time: found.time && !found.time_spelled,
        })
    }

    /// Whether it holds for the document of one target.
    #[must_use]
    pub fn check(&self, document: &Value) -> Outcome {
        let value = document.pointer(&self.pointer).unwrap_or(&Value::Null);
        let number = match value {
            Value::Bool(yes) => Some(f64::from(u8::from(*yes))),
            other => other.as_f64(),
        };
        Outcome {
            expr: self.expr.clone(),
            value: value.clone(),
            ok: number.is_some_and(|number| self.op.holds(number, self.value)),
            time: self.time,
        }
    }
}

/// A key as it stands in the document.
struct Found {
    pointer: String,
    /// The value is a time in nanoseconds.
    time: bool,
    /// The user wrote the unit out.
    time_spelled: bool,
    /// The value is a share of one.
    ratio: bool,
}

fn find(template: &Value, key: &str) -> Option<Found> {
    let mut found = Found {
        pointer: String::new(),
        time: false,
        time_spelled: false,
        ratio: false,
    };
    let mut value = template;
    for part in key.split('.') {
        let map = value.as_object()?;
        let with_unit = format!("{part}_ns");
        let name = if map.contains_key(part) {
            part
        } else if map.contains_key(&with_unit) {
            &with_unit
        } else {
            return None;
        };
        value = &map[name];
        found.pointer.push('/');
        found.pointer.push_str(name);
        if name.ends_with("_ns") {
            found.time = true;
            found.time_spelled = part == name;
        }
        found.ratio |= name.ends_with("_ratio");
        // The number of samples of a time is no time.
        found.time &= name != "count";
    }
    comparable(key, value).then_some(found)
}

/// Numbers, yes or no, and what is a number once it was measured.
fn comparable(key: &str, template: &Value) -> bool {
    let text_key = [
        "longest_outage_at",
        "protocol",
        "protocol_reason",
        "dscp_at_reflector",
    ];
    match template {
        Value::Number(_) | Value::Bool(_) => true,
        Value::Null => !text_key.contains(&key),
        _ => false,
    }
}

fn parse_value(text: &str, found: &Found) -> Result<f64, String> {
    let yes_or_no = match text {
        "true" => Some(1.0),
        "false" => Some(0.0),
        _ => None,
    };
    if let Some(value) = yes_or_no {
        return Ok(value);
    }
    let bare = text.parse::<f64>().ok().filter(|value| value.is_finite());
    if found.time {
        if let Some(bare) = bare {
            let seconds = || scaled(text, 9).unwrap_or(bare * 1e9);
            return Ok(if found.time_spelled { bare } else { seconds() });
        }
        let (sign, size) = text
            .strip_prefix('-')
            .map_or((1.0, text), |rest| (-1.0, rest));
        return base::units::parse_duration(size)
            .map(|ns| sign * ns as f64)
            .map_err(|error| error.to_string());
    }
    if let (true, Some(percent)) = (found.ratio, text.strip_suffix('%')) {
        return scaled(percent.trim(), -2)
            .ok_or_else(|| format!("'{text}' is no percentage: write 0.1% or 0.001"));
    }
    bare.ok_or_else(|| {
        if found.ratio {
            format!("'{text}' is no ratio: write 0.001 or 0.1%")
        } else {
            format!("'{text}' is no number; this key has no unit")
        }
    })
}

/// A number times a power of ten, rounded once: 0.7 % must be the float nearest to 0.007,
/// which 0.7 / 100.0 is not. `None` if it is no number or has an exponent of its own.
fn scaled(text: &str, power: i8) -> Option<f64> {
    let digit_or_sign = |c: char| c.is_ascii_digit() || "+-.".contains(c);
    if !text.chars().all(digit_or_sign) {
        return None;
    }
    format!("{text}e{power}").parse().ok()
}

/// Every key that can be asserted, short form, in the order of the document.
fn keys(template: &Value) -> Vec<String> {
    fn walk(value: &Value, prefix: &str, out: &mut Vec<String>) {
        for (name, value) in value.as_object().into_iter().flatten() {
            let short = name.strip_suffix("_ns").unwrap_or(name);
            let key = format!("{prefix}{short}");
            if value.is_object() {
                walk(value, &format!("{key}."), out);
            } else if comparable(name, value) {
                out.push(key);
            }
        }
    }
    let mut out = Vec::new();
    walk(template, "", &mut out);
    out
}

fn unknown(template: &Value, key: &str) -> String {
    let all = keys(template);
    // A distribution alone is the most likely mistake: say what to add.
    let median = format!("{}.p50", key.strip_suffix("_ns").unwrap_or(key));
    if all.contains(&median) {
        return format!(
            "'{key}' is a distribution; add .p50, .p90, .p99, .p99_9, .p99_99, .min, .mean, .max or .count"
        );
    }
    if template.get(key).is_some() {
        return format!("'{key}' is no number, and only numbers can be compared");
    }
    let nearest = all
        .iter()
        .max_by(|a, b| strsim::jaro_winkler(a, key).total_cmp(&strsim::jaro_winkler(b, key)));
    match nearest {
        Some(nearest) => format!("unknown key '{key}'; the nearest is '{nearest}'"),
        None => format!("unknown key '{key}'"),
    }
}

#[cfg(test)]
mod tests {
    use record::TargetStats;

    use super::super::json;
    use super::super::report::sample;
    use super::*;

    fn template() -> Value {
        json::target(&sample::report(&TargetStats::new()), &[])
    }

    fn outcome(expr: &str) -> Outcome {
        let stats = sample::stamp();
        let document = json::target(&sample::report(&stats), &[]);
        Assertion::parse(expr, &template())
            .expect(expr)
            .check(&document)
    }

    #[test]
    fn conditions_hold_or_not() {
        // sample::stamp: 7 of 1000 lost, rtt 100 000 to 109 910 ns.
        for (expr, ok) in [
            ("loss_ratio<0.001", false),
            ("loss_ratio<0.0071", true),
            ("loss_ratio <= 0.7%", true),
            ("loss_ratio<0.6%", false),
            ("rtt.p99<2ms", true),
            ("rtt.p99<100us", false),
            ("rtt_ns.p99<2ms", true),
            ("rtt_ns.max==109910", true),
            ("rtt.max<0.00011", true),
            ("rtt.max<0.0001", false),
            ("rtt.max==0.00010991", true),
            ("rtt.count==992", true),
            ("duplicates_forward==3", true),
            ("duplicates_forward!=3", false),
            ("duplicates_reverse=1", true),
            ("lost>=7", true),
            ("lost>7", false),
            ("discarded.tx_stamp_lost<=1", true),
            ("ipdv.forward.min==-1ns", true),
            ("ipdv.forward.min<-2ns", false),
            ("jitter_rfc3550.forward<2us", true),
            ("timestamps.t1.user==0", true),
            ("clock.synchronised==true", false),
            ("clock.synchronised==false", true),
            ("longest_outage<50ms", true),
        ] {
            assert_eq!(outcome(expr).ok, ok, "{expr}");
        }
    }

    #[test]
    fn what_was_not_measured_is_false_with_the_reason() {
        for expr in [
            "rtt.p99_9<1s",
            "clock.error<1s",
            "clock.error>0",
            "clock.error!=7",
        ] {
            let outcome = outcome(expr);
            assert!(!outcome.ok, "{expr}");
            assert_eq!(outcome.value, Value::Null);
            assert!(
                outcome.complaint("db").is_some_and(
                    |text| text.ends_with("it was not measured, or by too few samples")
                )
            );
        }
        assert_eq!(
            outcome("lost==0").complaint("db").as_deref(),
            Some("db: assertion lost==0 is false: it was 7")
        );
        assert_eq!(outcome("lost==7").complaint("db"), None);
        for (expr, was) in [("rtt.min<1us", "100us"), ("rtt_ns.min<1", "100000")] {
            let complaint = outcome(expr).complaint("db").expect("false");
            assert!(complaint.ends_with(&format!("it was {was}")), "{complaint}");
        }
    }

    #[test]
    fn mistakes_are_refused_before_anything_is_sent() {
        for (expr, wanted) in [
            (
                "loss_ration<1",
                "unknown key 'loss_ration'; the nearest is 'loss_ratio'",
            ),
            (
                "rtt.p98<1ms",
                "unknown key 'rtt.p98'; the nearest is 'rtt.p9",
            ),
            ("rtt<1ms", "'rtt' is a distribution; add .p50"),
            ("rtt_ns<1ms", "'rtt_ns' is a distribution; add .p50"),
            ("lost", "no operator"),
            ("lost==", "'' is no number"),
            ("lost==1ms", "this key has no unit"),
            ("rtt.p99<fast", "'fast' is no duration"),
            ("rtt.p99<inf", "'inf' is no duration"),
            ("loss_ratio<x", "'x' is no ratio"),
            ("loss_ratio<x%", "'x%' is no percentage"),
            ("target==3", "'target' is no number"),
            ("protocol==stamp", "'protocol' is no number"),
            ("longest_outage_at<3", "is no number"),
            ("<3", "unknown key ''"),
            ("é<3", "unknown key 'é'"),
        ] {
            let error = Assertion::parse(expr, &template()).expect_err(expr);
            assert_eq!(error.exit, crate::exit::Exit::Usage);
            assert!(error.message.contains(wanted), "{expr}: {error}");
        }
    }
}
