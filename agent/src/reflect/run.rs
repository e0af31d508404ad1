//! The only place where `reflect` meets the answering thread, the clock and the signals.

use std::io::{self, Write};

use base::StampSource;
use measure::reflector::{Config, Drop};
use probe::reflector::{Options, ReflectorStats};
use serde_json::{Map, Value, json};
use sys::clock::wall_now;
use sys::poll::{Events, Interest, Poller};
use sys::signal::{Signal, SignalFd};

use super::Plan;
use crate::cli::ReflectArgs;
use crate::exit::{Exit, Failure};
use crate::output::json::{self, Source};

const SIGNALS: [Signal; 4] = [Signal::Int, Signal::Term, Signal::Hup, Signal::Usr1];
/// How often it is looked whether the answering thread still lives.
const PERIOD_NS: u64 = 200_000_000;

/// Runs the command until a signal ends it.
///
/// # Errors
/// With a [`Failure`] when it cannot listen or its thread dies.
pub fn reflect(args: &ReflectArgs) -> anyhow::Result<Exit> {
    sys::signal::block(&SIGNALS)?;
    let plan = super::plan(args)?;
    let listen = super::listen(&plan, &mut io::stderr())?;
    let source = Source {
        address: listen
            .first()
            .map(|(address, _)| address.ip())
            .filter(|ip| !ip.is_unspecified())
            .map(|ip| ip.to_string()),
        device: None,
    };
    let addresses: Vec<String> = listen
        .iter()
        .map(|(address, _)| address.to_string())
        .collect();
    let started = wall_now();
    let reflector = probe::reflector::spawn(Options {
        listen,
        config: config(&plan, started.0),
    })?;
    let stats = reflector.stats();
    say(
        args.json,
        &format!("reflecting STAMP on {}", addresses.join(", ")),
    )?;

    let signals = SignalFd::new(&SIGNALS)?;
    let poller = Poller::new()?;
    poller.add(&signals, 0, Interest::Read)?;
    let mut events = Events::new(1);
    let mut stopping = false;
    while !stopping && !reflector.is_finished() {
        poller.wait(&mut events, Some(PERIOD_NS))?;
        while let Some(signal) = signals.read()? {
            if signal == Signal::Usr1 {
                say(args.json, &status(&stats))?;
            } else {
                stopping = true;
            }
        }
    }
    reflector.stop();
    let ended = reflector.join();
    if args.json {
        let mut body = Map::new();
        body.insert("reflector".to_owned(), counters(&addresses, &stats));
        let document = json::document(&crate::command_line(), started, wall_now(), &source, body);
        writeln!(io::stdout(), "{document}")?;
    } else {
        say(false, &status(&stats))?;
    }
    if ended.is_err() || !stopping {
        return Err(Failure::incomplete("the reflect thread died").into());
    }
    Ok(Exit::Measured)
}

/// A line for people: on standard error where standard output is a JSON document.
fn say(json: bool, line: &str) -> io::Result<()> {
    if json {
        // That nobody reads notes is no reason to stop answering.
        let _ = writeln!(io::stderr(), "{line}");
        return Ok(());
    }
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

fn config(plan: &Plan, seed: u64) -> Config {
    Config {
        allow: plan.allow.clone(),
        twamp_light: plan.twamp_light,
        min_request: usize::from(plan.min_request),
        max_sessions: plan.max_sessions,
        idle_ns: plan.idle_ns,
        rate: plan.packets_per_second,
        stateless: plan.stateless,
        private_tlv: plan.private_tlv,
        seed,
    }
}

/// `requests 10, replies 9, dropped 1 (too_short 1), sessions 2 (3 begun, 1 expired)`
fn status(stats: &ReflectorStats) -> String {
    let dropped: Vec<String> = Drop::ALL
        .iter()
        .filter(|reason| stats.dropped(**reason) > 0)
        .map(|reason| format!("{} {}", reason.as_str(), stats.dropped(*reason)))
        .collect();
    let total: u64 = Drop::ALL.iter().map(|reason| stats.dropped(*reason)).sum();
    let mut line = format!(
        "requests {}, replies {}, dropped {total}",
        stats.requests(),
        stats.replies()
    );
    if !dropped.is_empty() {
        line.push_str(&format!(" ({})", dropped.join(", ")));
    }
    line.push_str(&format!(
        ", sessions {} ({} begun, {} expired)",
        stats.sessions(),
        stats.sessions_begun(),
        stats.sessions_expired()
    ));
    for (count, what) in [
        (stats.overflows(), "dropped for want of receive buffer"),
        (stats.malformed_tlvs(), "with malformed TLVs"),
        (stats.sender_restarts(), "senders restarted"),
        (
            stats.receive_stamps(StampSource::User),
            "without a kernel stamp",
        ),
    ] {
        if count > 0 {
            line.push_str(&format!(", {count} {what}"));
        }
    }
    line
}

fn counters(addresses: &[String], stats: &ReflectorStats) -> Value {
    let dropped: Map<String, Value> = Drop::ALL
        .iter()
        .map(|reason| (reason.as_str().to_owned(), stats.dropped(*reason).into()))
        .collect();
    let stamps: Map<String, Value> = StampSource::ALL
        .iter()
        .map(|source| {
            (
                source.as_str().to_owned(),
                stats.receive_stamps(*source).into(),
            )
        })
        .collect();
    json!({
        "listen": addresses,
        "requests": stats.requests(),
        "replies": stats.replies(),
        "dropped": dropped,
        "sessions": stats.sessions(),
        "sessions_begun": stats.sessions_begun(),
        "sessions_expired": stats.sessions_expired(),
        "malformed_tlvs": stats.malformed_tlvs(),
        "sender_restarts": stats.sender_restarts(),
        "receive_overflows": stats.overflows(),
        "timestamps": {"t2": stamps},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_exist_at_zero() {
        let stats = ReflectorStats::default();
        let value = counters(&["0.0.0.0:862".to_owned()], &stats);
        for reason in Drop::ALL {
            assert_eq!(value["dropped"][reason.as_str()], 0);
        }
        assert_eq!(value["timestamps"]["t2"]["kernel"], 0);
        assert_eq!(
            status(&stats),
            "requests 0, replies 0, dropped 0, sessions 0 (0 begun, 0 expired)"
        );
    }
}
