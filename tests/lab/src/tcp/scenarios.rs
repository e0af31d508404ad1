//! The runs that passive measurement is held against.

use std::time::Duration;

use super::{Place, Scenario, Stack, Traffic};
use crate::relay::{Delay, Impairment, RelayConfig};

const MS: u64 = 1_000_000;
const ENDS: [Place; 2] = [Place::Client, Place::Server];

fn scenario(name: &str, seed: u64, forward: Impairment, reverse: Impairment) -> Scenario {
    Scenario {
        name: name.to_owned(),
        stack: Stack::default(),
        relay: Some(RelayConfig {
            forward,
            reverse,
            ..RelayConfig::new(seed)
        }),
        second: None,
        mtu: 1_500,
        traffic: Traffic::Bulk {
            flows: 2,
            bytes: 12_000_000,
            reverse_bytes: 0,
        },
        places: ENDS.to_vec(),
        snaplen: 128,
    }
}

fn delay(ms: u64) -> Impairment {
    Impairment::default().with_delay(Delay::Fixed(ms * MS))
}

/// Loss, reordering, duplication, old stacks, closed windows, and frames larger than the
/// wire's; some ten thousand frames each.
#[must_use]
pub fn all(seed: u64) -> Vec<Scenario> {
    let with = |scenario: Scenario, stack: Stack| Scenario { stack, ..scenario };
    let base = Stack::default();
    let reno = Stack {
        congestion: "reno",
        ..base
    };
    let plain = Stack {
        congestion: "reno",
        timestamps: false,
        sack: false,
        ..base
    };
    let lossy = || delay(2).with_loss(0.01);
    let mut all = vec![
        scenario("loss", seed, lossy(), delay(2)),
        scenario("loss-both", seed + 1, lossy(), lossy()),
        with(scenario("loss-plain", seed + 2, lossy(), delay(1)), plain),
        with(
            scenario("loss-no-timestamps", seed + 3, lossy(), delay(2)),
            Stack {
                timestamps: false,
                ..reno
            },
        ),
        with(
            scenario("loss-bbr", seed + 4, lossy(), delay(2)),
            Stack {
                congestion: "bbr",
                ..base
            },
        ),
        scenario(
            "reordering",
            seed + 5,
            delay(2).with_reordering(0.01, 3),
            delay(2),
        ),
        with(
            scenario(
                "reordering-plain",
                seed + 6,
                delay(1).with_reordering(0.01, 8),
                delay(1),
            ),
            plain,
        ),
        scenario(
            "duplicates",
            seed + 7,
            delay(2).with_duplicates(0.01),
            delay(2),
        ),
        scenario(
            "everything",
            seed + 8,
            lossy().with_reordering(0.005, 4).with_duplicates(0.005),
            lossy().with_reordering(0.005, 4).with_duplicates(0.005),
        ),
        // Without delay: round trips below the 3 ms of tshark's rules.
        scenario(
            "near",
            seed + 9,
            Impairment::default().with_loss(0.005),
            Impairment::default(),
        ),
        scenario("clean", seed + 10, delay(1), delay(1)),
    ];
    all.push(Scenario {
        traffic: Traffic::Bulk {
            flows: 2,
            bytes: 8_000_000,
            reverse_bytes: 8_000_000,
        },
        ..scenario("both-ways", seed + 11, lossy(), lossy())
    });
    all.push(Scenario {
        traffic: Traffic::Short {
            connections: 1_500,
            at_once: 32,
            request: 300,
            response: 2_000,
        },
        ..scenario("short", seed + 12, lossy(), lossy())
    });
    all.push(Scenario {
        traffic: Traffic::SlowReader {
            bytes: 3_000_000,
            chunk: 4_096,
            pause: Duration::from_millis(3),
        },
        stack: Stack {
            receive_buffer: Some(8_192),
            ..base
        },
        ..scenario("small-window", seed + 13, delay(1), delay(1))
    });
    all.push(Scenario {
        traffic: Traffic::StopAndIdle {
            bytes: 400_000,
            closed: Duration::from_millis(3_500),
            idle: Duration::from_millis(3_500),
        },
        stack: Stack {
            receive_buffer: Some(65_536),
            ..base
        },
        ..scenario("zero-window", seed + 14, delay(1), delay(1))
    });
    all.push(Scenario {
        second: Some(RelayConfig {
            forward: lossy(),
            reverse: lossy(),
            ..RelayConfig::new(seed + 17)
        }),
        places: vec![Place::Client, Place::Middle, Place::Server],
        ..scenario("middle", seed + 16, lossy(), lossy())
    });
    all.push(Scenario {
        relay: None,
        places: vec![Place::Client, Place::Server],
        traffic: Traffic::Bulk {
            flows: 2,
            bytes: 100_000_000,
            reverse_bytes: 0,
        },
        ..scenario(
            "offloads",
            seed + 15,
            Impairment::default(),
            Impairment::default(),
        )
    });
    all
}
