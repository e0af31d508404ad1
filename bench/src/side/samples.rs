//! From what tools write to single samples: the same figures for all by the same code.

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// A send within this of its intended time is on time.
pub const ON_TIME_NS: i64 = 50_000;

/// What one run of one tool gave.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Samples {
    /// Sends that were asked for.
    pub intended: u64,
    /// Sends that happened.
    pub sent: u64,
    /// (T4-T1)-(T3-T2), where the tool knows T2 and T3 or answers come from the kernel.
    pub network_ns: Vec<i64>,
    /// T4-T1.
    pub round_trip_ns: Vec<i64>,
    /// Sends no later than [`ON_TIME_NS`], where the tool tells.
    pub on_time: Option<u64>,
}

impl Samples {
    /// Adds a further run of the same tool.
    pub fn add(&mut self, other: &Self) {
        self.intended += other.intended;
        self.sent += other.sent;
        self.network_ns.extend(&other.network_ns);
        self.round_trip_ns.extend(&other.round_trip_ns);
        self.on_time = match (self.on_time, other.on_time) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        };
    }
}

/// The nearest-rank quantile.
#[must_use]
pub fn quantile(values: &[i64], q: f64) -> Option<i64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (q * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get(rank - 1).copied()
}

/// p50 and p99 of a set of samples.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Figures {
    /// How many samples.
    pub count: usize,
    /// Median.
    pub p50: Option<i64>,
    /// 99th percentile.
    pub p99: Option<i64>,
}

impl Figures {
    /// Of these values.
    #[must_use]
    pub fn of(values: &[i64]) -> Self {
        Self {
            count: values.len(),
            p50: quantile(values, 0.5),
            p99: quantile(values, 0.99),
        }
    }
}

/// A line of `netsonde ping --records`.
#[derive(Deserialize)]
struct Record {
    t1_ns: Option<u64>,
    t4_ns: Option<u64>,
    verdict: String,
    rtt_ns: Option<i64>,
    schedule_error_ns: Option<i64>,
}

/// What `netsonde ping --records` wrote.
///
/// # Errors
/// When a line is not one.
pub fn netsonde(records: &str, intended: u64) -> Result<Samples> {
    let mut samples = Samples {
        intended,
        on_time: Some(0),
        ..Samples::default()
    };
    for line in records.lines() {
        let record: Record = serde_json::from_str(line).with_context(|| line.to_owned())?;
        // Further answers of a probe are further lines.
        if record.verdict == "late" || record.verdict == "duplicate" {
            continue;
        }
        samples.sent += 1;
        if record
            .schedule_error_ns
            .is_some_and(|late| late <= ON_TIME_NS)
        {
            *samples.on_time.get_or_insert(0) += 1;
        }
        if record.verdict == "received" {
            samples.network_ns.extend(record.rtt_ns);
            if let (Some(t1), Some(t4)) = (record.t1_ns, record.t4_ns) {
                samples
                    .round_trip_ns
                    .push(t4.wrapping_sub(t1).cast_signed());
            }
        }
    }
    Ok(samples)
}

/// What iputils `ping` printed: microseconds at best.
///
/// # Errors
/// When a time is no number or the summary is missing.
pub fn ping(stdout: &str, intended: u64) -> Result<Samples> {
    let mut samples = Samples {
        intended,
        ..Samples::default()
    };
    for line in stdout.lines() {
        if let Some((_, tail)) = line.split_once(" time=") {
            let number = tail.split(' ').next().unwrap_or_default();
            let ms: f64 = number.parse().with_context(|| line.to_owned())?;
            samples.round_trip_ns.push((ms * 1e6).round() as i64);
        } else if let Some((number, _)) = line.split_once(" packets transmitted") {
            samples.sent = number.trim().parse().with_context(|| line.to_owned())?;
        }
    }
    ensure!(samples.sent > 0, "ping printed no summary: {stdout}");
    // The kernel answers: there is no reflector's time to take out.
    samples.network_ns.clone_from(&samples.round_trip_ns);
    Ok(samples)
}

#[derive(Deserialize)]
struct Irtt {
    stats: IrttStats,
    round_trips: Vec<IrttRoundTrip>,
}

#[derive(Deserialize)]
struct IrttStats {
    packets_sent: u64,
}

#[derive(Deserialize)]
struct IrttRoundTrip {
    timestamps: IrttStamps,
    delay: IrttDelay,
}

#[derive(Deserialize, Default)]
struct IrttDelay {
    rtt: Option<i64>,
}

#[derive(Deserialize)]
struct IrttStamps {
    client: IrttClient,
}

#[derive(Deserialize)]
struct IrttClient {
    send: IrttTime,
    receive: Option<IrttTime>,
}

#[derive(Deserialize)]
struct IrttTime {
    monotonic: Option<i64>,
}

/// irtt's JSON. Its `rtt` is (T4-T1)-(T3-T2). A send is on time when it is within
/// [`ON_TIME_NS`] after a multiple of the interval from the first one; a send that never
/// happened is not. Sends at no particular time are on time with the probability
/// 50 us / interval.
///
/// # Errors
/// When it is not irtt's document.
pub fn irtt(json: &str, intended: u64, interval_ns: u64) -> Result<Samples> {
    let document: Irtt = serde_json::from_str(json).context("irtt's JSON")?;
    let trips = &document.round_trips;
    let sent_at = |trip: &IrttRoundTrip| trip.timestamps.client.send.monotonic;
    let first = trips
        .iter()
        .find_map(sent_at)
        .context("irtt sent nothing")?;
    let interval = i64::try_from(interval_ns)?;
    let on_time = trips
        .iter()
        .filter_map(sent_at)
        .filter(|at| (at - first) % interval <= ON_TIME_NS)
        .count();
    Ok(Samples {
        intended,
        sent: document.stats.packets_sent,
        network_ns: trips.iter().filter_map(|trip| trip.delay.rtt).collect(),
        round_trip_ns: trips
            .iter()
            .filter_map(|trip| {
                let received = trip.timestamps.client.receive.as_ref()?.monotonic?;
                // Lost ones have the time 0.
                (received > 0).then_some(received - sent_at(trip)?)
            })
            .collect(),
        on_time: Some(on_time as u64),
    })
}

/// sockperf's `--full-log`, the first `intended` lines of it: it has warmed up by then and
/// leaves out its own first and last part. Whether a send was on time is told as for irtt.
///
/// # Errors
/// When the file is not such a log.
pub fn sockperf(log: &str, intended: u64, interval_ns: u64) -> Result<Samples> {
    let mut samples = Samples {
        intended,
        on_time: Some(0),
        ..Samples::default()
    };
    let rows = log
        .lines()
        .skip_while(|line| !line.starts_with("packet, txTime"));
    let mut first = None;
    for line in rows.skip(1).take_while(|line| !line.starts_with("---")) {
        if samples.sent == intended {
            break;
        }
        let fields: Vec<&str> = line.split(", ").collect();
        let time = |field: usize| {
            let text = fields.get(field).copied().unwrap_or_default();
            nanoseconds(text).with_context(|| format!("sockperf's log: {line}"))
        };
        let (sent, received) = (time(1)?, time(2)?);
        samples.sent += 1;
        samples.round_trip_ns.push(received - sent);
        let since = sent - *first.get_or_insert(sent);
        if since % i64::try_from(interval_ns)? <= ON_TIME_NS {
            *samples.on_time.get_or_insert(0) += 1;
        }
    }
    ensure!(samples.sent > 0, "sockperf's log is empty");
    Ok(samples)
}

/// `2.402185856`, seconds with nine decimals, without a way through floating point.
fn nanoseconds(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.')?;
    if fraction.len() != 9 {
        return None;
    }
    let (whole, fraction): (i64, i64) = (whole.parse().ok()?, fraction.parse().ok()?);
    Some(whole * 1_000_000_000 + fraction)
}

#[cfg(test)]
mod tests;
