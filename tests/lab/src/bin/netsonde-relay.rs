//! The relay as a program: `netsonde-relay --log FILE [--left DEV] [--right DEV]`.
//!
//! The first line of standard input is the configuration (JSON, see `relay::config`),
//! each further line replaces it. Prints `ready`, then `ok` per further line. Ends in order
//! (what waits is sent, the log is written) on SIGTERM, SIGINT or the end of standard input.
#![forbid(unsafe_code)]

use std::io::BufRead;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{Sender, channel};

use anyhow::{Context, Result, bail};
use netsonde_lab::relay::config::RelayConfig;
use netsonde_lab::relay::engine::{Engine, Order};
use netsonde_lab::relay::frame::{LEFT, RIGHT};
use netsonde_lab::relay::log::LogWriter;
use sys::signal::{Signal, SignalFd};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("netsonde-relay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let (mut left, mut right, mut log) = (LEFT.to_owned(), RIGHT.to_owned(), None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words
            .next()
            .with_context(|| format!("{word} needs a value"))?;
        match word.as_str() {
            "--left" => left = value,
            "--right" => right = value,
            "--log" => log = Some(PathBuf::from(value)),
            _ => bail!("unknown option {word}: --log FILE, --left DEV, --right DEV"),
        }
    }
    let log = log.context("--log FILE is missing")?;
    let mut lines = std::io::stdin().lock().lines();
    let first = lines
        .next()
        .context("no configuration on standard input")??;
    let config: RelayConfig = serde_json::from_str(&first).context("configuration")?;
    drop(lines);

    // Blocked before the first thread, so that only the descriptor sees them.
    let signals = [Signal::Int, Signal::Term];
    sys::signal::block(&signals)?;
    let signals = SignalFd::new(&signals)?;
    let engine = Engine::open([&left, &right], &config, LogWriter::create(&log)?)?;
    let (orders, take) = channel();
    let input = orders.clone();
    std::thread::Builder::new()
        .name("orders".into())
        .spawn(move || read_orders(&input))?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || wait_for(&signals, &orders))?;
    // After the other threads, which must not inherit it.
    if let Some(priority) = config.realtime {
        sys::sched::set_fifo(priority.into())?;
    }
    sys::sched::set_timer_slack(1)?;
    println!("ready");
    engine.run(&take, || println!("ok"))
}

/// Ends with the input: that is the order to stop.
fn read_orders(orders: &Sender<Order>) {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match serde_json::from_str(&line) {
            Ok(config) => {
                let _ = orders.send(Order::Configure(Box::new(config)));
            }
            Err(error) => println!("refused: {error}"),
        }
    }
    let _ = orders.send(Order::Stop);
}

fn wait_for(signals: &SignalFd, orders: &Sender<Order>) {
    // Read errors cannot be told from a stop by anybody who could act on them.
    while !matches!(
        sys::packet::wait(&[signals.as_fd()], 60_000_000_000),
        Ok(true)
    ) {}
    let _ = signals.read();
    let _ = orders.send(Order::Stop);
}
