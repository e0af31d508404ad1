//! What is in the packets that arrive, and which are too large to: flipped bits, a limit to the
//! size with its ICMP answers, hops that there are not.

use anyhow::{Result, ensure};
use base::Direction::Forward;
use lab::relay::{Corrupt, MtuLimit, Pick};
use lab::traffic::{Blast, Capture, blast};
use lab::{Impairment, Lab, LinkOptions, Relayed};

use super::{forward, run};

pub(super) fn corrupts() -> Result<()> {
    for fix_checksum in [false, true] {
        let plan = Impairment {
            corrupt: Some(Corrupt {
                pick: Pick::Every(10),
                fix_checksum,
                byte: None,
            }),
            ..Impairment::default()
        };
        let seen = run(&forward(1, plan), Forward, Blast::default())?;
        let broken = seen
            .arrivals
            .iter()
            .filter(|arrival| !arrival.intact)
            .count();
        ensure!(
            broken == if fix_checksum { 0 } else { 100 },
            "{broken} broken"
        );
        let marked = seen
            .log
            .of(Forward)
            .filter(|record| record.corrupted)
            .count();
        ensure!(
            marked == 100 && seen.arrivals.len() == 1_000,
            "{marked} marked"
        );
    }
    // A chosen byte, seen in the content: the second of the number.
    let plan = Impairment {
        corrupt: Some(Corrupt {
            pick: Pick::List(vec![5]),
            fix_checksum: true,
            byte: Some(1),
        }),
        ..Impairment::default()
    };
    let seen = run(&forward(1, plan), Forward, Blast::default())?;
    for (number, arrival) in (0u32..).zip(&seen.arrivals) {
        let flipped = (arrival.number ^ number).count_ones();
        ensure!(flipped == u32::from(number == 5), "{number}: {arrival:?}");
        ensure!(number != 5 || (arrival.number ^ number) & 0x00ff_0000 != 0);
    }
    Ok(())
}

pub(super) fn limits() -> Result<()> {
    for v6 in [false, true] {
        for (size, answered) in [(1_500, true), (1_501, true), (1_501, false)] {
            let lab = Lab::new()?;
            let plan = Impairment {
                mtu: Some(MtuLimit {
                    bytes: 1_500,
                    icmp_v4: answered.then_some([10, 0, 0, 254].into()),
                    icmp_v6: answered.then_some("fd00::fe".parse()?),
                }),
                ..Impairment::default()
            };
            let mut net = Relayed::new(&lab, LinkOptions::default(), &forward(1, plan))?;
            let capture = Capture::start(&net.b, 862)?;
            let counter = if v6 {
                "Icmp6InPktTooBigs"
            } else {
                "IcmpInDestUnreachs"
            };
            let what = Blast {
                v6,
                count: 10,
                payload: size - if v6 { 48 } else { 28 },
                ..Blast::default()
            };
            blast(&net.a, &net.b, what)?;
            let log = net.stop()?;
            let totals = log.totals(Forward);
            let over = size > 1_500;
            let arrived = capture.stop()?.len();
            ensure!(
                arrived == if over { 0 } else { 10 },
                "v6 {v6}, {size}: {arrived}"
            );
            ensure!(totals.too_big == if over { 10 } else { 0 } && totals.balance());
            let told = if over && answered { 10 } else { 0 };
            ensure!(totals.icmp_sent == told, "{totals:?}");
            // The host's own stack checked and accepted each answer.
            let understood = net.a.stack_counter(counter)?;
            ensure!(
                understood == told,
                "v6 {v6}, {size}: {understood} understood of {told}"
            );
        }
    }
    Ok(())
}

pub(super) fn hops() -> Result<()> {
    for v6 in [false, true] {
        let plan = Impairment {
            hops: 5,
            ..Impairment::default()
        };
        let what = Blast {
            v6,
            ..Blast::default()
        };
        let seen = run(&forward(1, plan), Forward, what)?;
        ensure!(
            seen.arrivals
                .iter()
                .all(|arrival| arrival.ttl == 250 && arrival.intact)
        );
        ensure!(seen.log.of(Forward).all(|record| record.ttl == 255));
    }
    Ok(())
}
