//! Which packets arrive, how often, in which order and when: loss, copies, reordering, delay.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use base::Direction::Forward;
use lab::relay::reordering::reordered;
use lab::relay::{Delay, Duplicate, Loss, Pick, RelayConfig, Reorder};
use lab::traffic::{Arrival, Blast, Capture, blast};
use lab::{Impairment, Lab, LinkOptions, Relayed};

use super::{forward, run, settle};

pub(super) fn loses() -> Result<()> {
    let count = 10_000;
    let what = Blast {
        count,
        ..Blast::default()
    };
    let cases: [(Loss, Option<u64>); 4] = [
        (Loss::Pick(Pick::Ratio(0.05)), None),
        (Loss::Pick(Pick::Every(100)), Some(100)),
        (
            Loss::Burst {
                every: 1_000,
                length: 7,
            },
            Some(70),
        ),
        (
            Loss::Gilbert {
                enter: 0.01,
                leave: 0.3,
            },
            None,
        ),
    ];
    for (loss, exactly) in cases {
        let plan = Impairment {
            loss: vec![loss.clone()],
            ..Impairment::default()
        };
        let seen = run(&forward(7, plan.clone()), Forward, what)?;
        let lost: Vec<_> = seen
            .log
            .lost(Forward)
            .filter_map(|record| record.sequence)
            .collect();
        let mut missing: Vec<_> = (0..count).collect();
        for arrival in &seen.arrivals {
            missing.retain(|number| *number != arrival.number);
        }
        ensure!(
            lost == missing,
            "{loss:?}: the log's losses are not what is missing"
        );
        match exactly {
            Some(number) => ensure!(lost.len() as u64 == number, "{loss:?}: {}", lost.len()),
            None => ensure!((200..900).contains(&lost.len()), "{loss:?}: {}", lost.len()),
        }
        let again = run(&forward(7, plan), Forward, what)?;
        let lost_again: Vec<_> = again.log.lost(Forward).filter_map(|r| r.sequence).collect();
        ensure!(
            lost == lost_again,
            "{loss:?}: the same seed loses the same packets"
        );
    }
    Ok(())
}

fn times(arrivals: &[Arrival]) -> BTreeMap<u32, usize> {
    let mut times = BTreeMap::new();
    for arrival in arrivals {
        *times.entry(arrival.number).or_default() += 1;
    }
    times
}

pub(super) fn duplicates() -> Result<()> {
    for delay_ns in [0, 2_000_000] {
        let plan = Impairment {
            duplicate: Some(Duplicate {
                pick: Pick::Every(10),
                copies: 2,
                delay_ns,
            }),
            ..Impairment::default()
        };
        let seen = run(&forward(1, plan), Forward, Blast::default())?;
        for (number, times) in times(&seen.arrivals) {
            let expected = if number % 10 == 9 { 3 } else { 1 };
            ensure!(times == expected, "packet {number} came {times} times");
        }
        ensure!(seen.log.copies(Forward).count() == 200);
        for copy in seen.log.copies(Forward) {
            let held = copy.held_ns().context("it left")?;
            let least = delay_ns * u64::from(copy.copy);
            ensure!(held >= least, "copy {} after {held} ns", copy.copy);
        }
    }
    Ok(())
}

pub(super) fn reorders() -> Result<()> {
    // Held until 3 later ones have passed: RFC 4737 counts each held one, none else.
    let plan = Impairment::default().with_reordering(0.02, 3);
    let what = Blast {
        count: 5_000,
        ..Blast::default()
    };
    let seen = run(&forward(5, plan), Forward, what)?;
    let held = seen.log.totals(Forward).reordered;
    ensure!((50..200).contains(&held), "{held} of about 100");
    let arrived = reordered(seen.arrivals.iter().map(|arrival| arrival.number.into()));
    let logged = reordered(seen.log.output(Forward).iter().map(|record| record.index));
    ensure!(arrived == logged, "capture {arrived}, log {logged}");
    ensure!(arrived == held, "captured {arrived}, held {held}");

    // The last packet has nobody to pass it: the flush sends it.
    let plan = Impairment {
        reorder: Some(Reorder {
            pick: Pick::List(vec![10, 999]),
            packets: 3,
            flush_ns: 50_000_000,
            extra_delay_ns: 0,
        }),
        ..Impairment::default()
    };
    let lab = Lab::new()?;
    let mut net = Relayed::new(&lab, LinkOptions::default(), &forward(1, plan))?;
    let capture = Capture::start(&net.b, 862)?;
    let before = net.between.device_counter("right", "tx_packets")?;
    blast(&net.a, &net.b, Blast::default())?;
    // Until the last one is through, which waits for the flush.
    settle(&net, before + 1_000)?;
    let arrivals = capture.stop()?;
    let log = net.stop()?;
    let order: Vec<_> = arrivals.iter().map(|arrival| arrival.number).collect();
    ensure!(
        order[8..15] == [8, 9, 11, 12, 13, 10, 14],
        "{:?}",
        &order[8..15]
    );
    ensure!(
        order.last() == Some(&999) && order.len() == 1_000,
        "{:?}",
        order.last()
    );
    let last = log
        .output(Forward)
        .last()
        .and_then(|record| record.held_ns());
    ensure!(last.is_some_and(|held| held >= 50_000_000), "{last:?}");

    // By more delay alone.
    let plan = Impairment {
        reorder: Some(Reorder {
            pick: Pick::Every(100),
            packets: 0,
            flush_ns: 0,
            extra_delay_ns: 3_000_000,
        }),
        ..Impairment::default()
    };
    let seen = run(&forward(1, plan), Forward, Blast::default())?;
    let arrived = reordered(seen.arrivals.iter().map(|arrival| arrival.number.into()));
    // Of the ten the very last is late, but nobody is behind it; on a busy machine another
    // may have nobody within its 3 ms.
    let logged = reordered(seen.log.output(Forward).iter().map(|record| record.index));
    ensure!(arrived == logged, "captured {arrived}, log {logged}");
    ensure!((5..=9).contains(&arrived), "{arrived} of 9");
    Ok(())
}

pub(super) fn delays() -> Result<()> {
    for (delay, realtime) in [
        (Delay::Fixed(1_000_000), None),
        (Delay::Fixed(1_000_000), Some(20)),
        (Delay::Uniform(500_000, 2_000_000), Some(20)),
        (Delay::List(vec![300_000, 900_000, 600_000]), Some(20)),
    ] {
        let plan = Impairment::default().with_delay(delay.clone());
        let what = Blast {
            count: 2_000,
            rate: 1_000,
            ..Blast::default()
        };
        let config = RelayConfig {
            realtime,
            ..forward(3, plan)
        };
        let seen = run(&config, Forward, what)?;
        let mut late = Vec::new();
        let mut after = Vec::new();
        let output = seen.log.output(Forward);
        for (record, arrival) in output.iter().zip(&seen.arrivals) {
            let held = record.held_ns().context("it left")?;
            let (least, most) = match &delay {
                Delay::Fixed(ns) => (*ns, *ns),
                Delay::Uniform(least, most) => (*least, *most),
                Delay::List(_) => (300_000, 900_000),
            };
            ensure!(held >= least, "{delay:?}: held {held}");
            late.push(record.out_ns - record.due_ns);
            ensure!(
                record.due_ns - record.in_ns <= most,
                "{delay:?}: {record:?}"
            );
            after.push(arrival.at_ns.saturating_sub(record.out_ns));
        }
        late.sort_unstable();
        after.sort_unstable();
        let at = |sorted: &[u64], share: f64| sorted[(sorted.len() as f64 * share) as usize];
        println!(
            "{delay:?}, priority {realtime:?}: out late by p50 {} p99 {} ns; log to receiver's stamp p50 {} p99 {} ns",
            at(&late, 0.5),
            at(&late, 0.99),
            at(&after, 0.5),
            at(&after, 0.99)
        );
        // Without priority it is as late as the others on the machine make it.
        ensure!(
            realtime.is_none() || at(&late, 0.5) < 20_000,
            "{delay:?}: median {} ns late",
            at(&late, 0.5)
        );
        ensure!(
            at(&after, 0.5) < 50_000,
            "{delay:?}: the log's out times are not true"
        );
    }
    Ok(())
}
