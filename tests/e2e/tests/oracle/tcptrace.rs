//! tcptrace's word on a capture: counts per connection and direction.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::Running;
use netsonde_e2e::missing_program;

const PATIENCE: Duration = Duration::from_secs(120);

/// What it counts for the end whose data are acknowledged, and we for the end that sends.
const OF_THE_OTHER_END: [&str; 2] = ["duplicate acks", "triple dupacks"];

/// What is compared: tcptrace's line, and the key in our `--flows`.
pub(crate) const COMPARED: [(&str, &str); 8] = [
    ("rexmt data pkts", "retransmitted_frames"),
    ("rexmt data bytes", "retransmitted_bytes"),
    ("outoforder pkts", "out_of_order"),
    ("duplicate acks", "duplicate_acks"),
    ("triple dupacks", "triple_duplicate_acks"),
    ("zero win adv", "zero_windows"),
    ("zwnd probe pkts", "zero_window_probes"),
    ("RTT samples", "rtt_samples"),
];

/// What it needs.
pub(crate) fn missing() -> Option<String> {
    missing_program("tcptrace", "tcptrace")
}

/// What one end of a connection did, by tcptrace's own words.
pub(crate) type Side = BTreeMap<String, u64>;

/// One connection: `a` sent the first packet.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Connection {
    /// Address and port of both, as `10.0.0.1:5001`.
    pub(crate) ends: [String; 2],
    /// What each sent.
    pub(crate) sides: [Side; 2],
}

impl Connection {
    /// A line of the long output, of either end.
    pub(crate) fn pair(&self, name: &str) -> (u64, u64) {
        let [a, b] = &self.sides;
        let get = |side: &Side| side.get(name).copied().unwrap_or(0);
        (get(a), get(b))
    }
}

/// Asks tcptrace for all connections.
pub(crate) fn connections(capture: &Path) -> Result<Vec<Connection>> {
    let mut command = Command::new("tcptrace");
    // No names looked up, the long form, round trips.
    command.args(["-n", "-l", "-r"]).arg(capture);
    let finished = Running::start(&mut command)?.finish(PATIENCE)?;
    ensure!(finished.code() == 0, "tcptrace: {}", finished.stderr);
    parse(&finished.stdout)
}

/// Address and port as others write them: it fills groups of IPv6 with zeros.
fn end(text: &str) -> Result<String> {
    let (address, port) = text.rsplit_once(':').context("no port")?;
    let address: IpAddr = address.parse().with_context(|| text.to_owned())?;
    Ok(format!("{address}:{port}"))
}

fn parse(text: &str) -> Result<Vec<Connection>> {
    let mut all: Vec<Connection> = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with("TCP connection ") && line.ends_with(':') && !line.contains("info") {
            all.push(Connection::default());
            continue;
        }
        let Some((connection, (key, rest))) = all.last_mut().zip(line.split_once(':')) else {
            continue;
        };
        if key.starts_with("host ") {
            let free = usize::from(!connection.ends[0].is_empty());
            connection.ends[free] = end(rest.trim())?;
            continue;
        }
        // Both columns repeat the key: `rexmt data pkts:  91   rexmt data pkts:  0`.
        let Some((left, right)) = rest.split_once(&format!("{key}:")) else {
            continue;
        };
        for (side, column) in connection.sides.iter_mut().zip([left, right]) {
            let first = column.split_whitespace().next().unwrap_or_default();
            if let Ok(number) = first.parse() {
                // A second line of the same name (initial window, in packets) counts less.
                side.entry(key.to_owned()).or_insert(number);
            }
        }
    }
    for connection in &all {
        ensure!(
            connection.ends.iter().all(|end| end.contains(':')),
            "no ends: {connection:?}"
        );
    }
    Ok(all)
}

/// Sums by pair of ends, lower first: tcptrace and we may cut a stream of connections on the
/// same ports at different places.
pub(crate) fn by_ends(all: &[Connection]) -> Result<BTreeMap<[String; 2], [Side; 2]>> {
    let mut sums: BTreeMap<[String; 2], [Side; 2]> = BTreeMap::new();
    for connection in all {
        let [a, b] = &connection.ends;
        let swapped = b < a;
        let mut ends = connection.ends.clone();
        let mut sides = connection.sides.clone();
        if swapped {
            ends.reverse();
            sides.reverse();
        }
        let known = sums.entry(ends).or_default();
        for (at, known) in known.iter_mut().enumerate() {
            for (name, _) in COMPARED {
                let other = usize::from(OF_THE_OTHER_END.contains(&name));
                let side = &sides[at ^ other];
                let more = side.get(name).with_context(|| format!("no {name}"));
                // A connection without an RTT section has no samples.
                *known.entry(name.to_owned()).or_default() += more.copied().unwrap_or(0);
            }
        }
    }
    Ok(sums)
}
