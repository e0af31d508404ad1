//! The relay does what its log says: every claim is compared with a capture at the receiving
//! host and with the kernel's counters.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base::Direction::{self, Forward, Reverse};
use lab::proxy::Proxy;
use lab::relay::reordering::reordered;
use lab::relay::{
    Corrupt, Delay, Duplicate, Loss, Matching, MtuLimit, Pick, RelayConfig, Reorder, Verdict,
};
use lab::traffic::{Arrival, Blast, Capture, blast};
use lab::{Host, Impairment, Lab, LinkOptions, RelayLog, Relayed};
use libtest_mimic::Trial;
use netsonde_e2e::trial;

type Test = fn() -> Result<()>;

pub(crate) fn trials() -> Vec<Trial> {
    let tests: [(&str, Test); 14] = [
        ("relay::passes_everything_unharmed", passes),
        ("relay::loses_what_it_says", loses),
        ("relay::duplicates_what_it_says", duplicates),
        ("relay::reorders_what_it_says", reorders),
        ("relay::delays_as_it_says", delays),
        ("relay::corrupts_what_it_says", corrupts),
        ("relay::limits_the_size", limits),
        ("relay::pretends_hops", hops),
        ("relay::does_all_at_once_both_ways", all_at_once),
        ("relay::changes_its_plan_on_order", replans),
        ("relay::carries_tcp_in_spite_of_loss", tcp),
        ("relay::finishes_its_log_on_sigterm", sigterm),
        ("relay::survives_a_link_that_goes_down", link_down),
        ("relay::carries_100_000_packets_a_second", throughput),
    ];
    let trials = tests.map(|(name, test)| trial(name, lab::cleanup::missing, test));
    let mut trials = Vec::from(trials);
    if std::env::var_os("NETSONDE_LONG").is_some() {
        trials.push(trial("relay::headroom", lab::cleanup::missing, headroom));
    }
    trials
}

/// What a run showed: the log, and what a capture at the receiver saw.
struct Seen {
    log: RelayLog,
    arrivals: Vec<Arrival>,
}

/// Sends through a relay, forward or reverse, and checks what holds for every run: the
/// relay failed nothing, its totals balance, and the capture saw the log's output, packet
/// by packet and in its order.
fn run(config: &RelayConfig, direction: Direction, what: Blast) -> Result<Seen> {
    let lab = Lab::new()?;
    let mut net = Relayed::new(&lab, LinkOptions::default(), config)?;
    let (from, to) = match direction {
        Forward => (net.a.clone(), net.b.clone()),
        Reverse => (net.b.clone(), net.a.clone()),
    };
    let capture = Capture::start(&to, what.port)?;
    let into_relay = |net: &Relayed| match direction {
        Forward => net.between.device_counter("left", "rx_packets"),
        Reverse => net.between.device_counter("right", "rx_packets"),
    };
    let before = into_relay(&net)?;
    blast(&from, &to, what)?;
    let came = into_relay(&net)? - before;
    let log = net.stop()?;
    let arrivals = capture.stop()?;
    let totals = log.totals(direction);
    ensure!(
        totals.own_failures() == 0,
        "the relay lost packets: {totals:?}"
    );
    ensure!(totals.balance(), "packets in no counter: {totals:?}");
    ensure!(totals.matched == u64::from(what.count), "{totals:?}");
    ensure!(
        came >= totals.matched && totals.received >= came,
        "kernel {came}, {totals:?}"
    );
    let output = log.output(direction);
    ensure!(
        output.len() as u64 == totals.matched + totals.copies - totals.lost - totals.too_big,
        "{totals:?}"
    );
    let logged: Vec<_> = output.iter().map(|record| record.sequence).collect();
    let captured: Vec<_> = arrivals
        .iter()
        .map(|arrival| Some(arrival.number))
        .collect();
    // A corrupted number is another number: `corrupts` looks at those.
    if totals.corrupted == 0 {
        ensure!(logged == captured, "the log's output is not what arrived");
    }
    Ok(Seen { log, arrivals })
}

fn forward(seed: u64, plan: Impairment) -> RelayConfig {
    RelayConfig {
        forward: plan,
        ..RelayConfig::new(seed)
    }
}

fn passes() -> Result<()> {
    for v6 in [false, true] {
        for direction in Direction::ALL {
            let what = Blast {
                v6,
                payload: if v6 { 8_953 } else { 8_973 },
                ..Blast::default()
            };
            let seen = run(&RelayConfig::new(1), direction, what)?;
            ensure!(seen.arrivals.len() == 1_000);
            ensure!(
                seen.arrivals
                    .iter()
                    .all(|a| a.intact && a.ip_len == 9_001 && a.ttl == 255)
            );
            for record in &seen.log.records {
                ensure!(
                    record.in_ns <= record.out_ns && record.ttl == 255,
                    "{record:?}"
                );
                ensure!(
                    record.ports == (40_000, 862) && record.ip_len == 9_001,
                    "{record:?}"
                );
                ensure!(record.source.is_ipv6() == v6, "{record:?}");
            }
        }
    }
    Ok(())
}

fn loses() -> Result<()> {
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

fn duplicates() -> Result<()> {
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

fn reorders() -> Result<()> {
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

fn delays() -> Result<()> {
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

fn corrupts() -> Result<()> {
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

fn limits() -> Result<()> {
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

fn hops() -> Result<()> {
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

fn all_at_once() -> Result<()> {
    let plan = Impairment::default()
        .with_loss(0.05)
        .with_duplicates(0.01)
        .with_reordering(0.01, 2)
        .with_delay(Delay::Uniform(100_000, 300_000));
    let what = Blast {
        count: 10_000,
        rate: 10_000,
        ..Blast::default()
    };
    for direction in Direction::ALL {
        let seen = run(&RelayConfig::both(11, &plan), direction, what)?;
        let expected: usize = seen
            .log
            .of(direction)
            .filter(|record| record.verdict == Verdict::Forwarded)
            .count();
        ensure!(seen.arrivals.len() == expected);
        let arrived = reordered(seen.arrivals.iter().map(|arrival| arrival.number.into()));
        let logged = reordered(seen.log.output(direction).iter().map(|record| record.index));
        ensure!(arrived == logged && logged > 50, "{arrived} and {logged}");
    }
    Ok(())
}

fn replans() -> Result<()> {
    let lab = Lab::new()?;
    let mut net = Relayed::new(&lab, LinkOptions::default(), &RelayConfig::new(1))?;
    let capture = Capture::start(&net.b, 862)?;
    let before = net.between.device_counter("right", "tx_packets")?;
    blast(&net.a, &net.b, Blast::default())?;
    let plan = Impairment {
        loss: vec![Loss::Pick(Pick::List(vec![0, 2]))],
        ..Impairment::default()
    };
    // Everything sent so far has to be through before the plan changes.
    settle(&net, before + 1_000)?;
    net.configure(&forward(1, plan))?;
    blast(&net.a, &net.b, Blast::default())?;
    settle(&net, before + 1_998)?;
    net.configure(&RelayConfig::new(1))?;
    blast(&net.a, &net.b, Blast::default())?;
    let log = net.stop()?;
    let lost: Vec<_> = log.lost(Forward).map(|record| record.index).collect();
    ensure!(lost == [1_000, 1_002], "{lost:?}");
    ensure!(capture.stop()?.len() == 2_998);
    Ok(())
}

/// Waits until the kernel has seen so many packets leave the relay, and then no more for
/// 200 ms: neighbour discovery is among them, so that the last one of ours may still be held.
fn settle(net: &Relayed, packets: u64) -> Result<()> {
    let limit = Instant::now() + Duration::from_secs(10);
    let (mut seen, mut since) = (0, std::time::Instant::now());
    while seen < packets || since.elapsed() < Duration::from_millis(200) {
        let now = net.between.device_counter("right", "tx_packets")?;
        if now != seen {
            (seen, since) = (now, std::time::Instant::now());
        }
        ensure!(
            std::time::Instant::now() < limit,
            "the relay does not forward"
        );
    }
    Ok(())
}

/// Through a proxy into the one host, over the relay to the other, every byte.
fn tcp() -> Result<()> {
    let lab = Lab::new()?;
    let plan = Impairment::default()
        .with_loss(0.01)
        .with_reordering(0.01, 3);
    let config = RelayConfig {
        matching: Matching::Ip,
        ..RelayConfig::both(2, &plan)
    };
    let mut net = Relayed::new(&lab, LinkOptions::default(), &config)?;
    let listener = net
        .b
        .namespace()
        .run(|| TcpListener::bind((net.b.ipv4(), 0)))??;
    let proxy = Proxy::start(&net.a, listener.local_addr()?, 0)?;
    let echo = std::thread::spawn(move || -> std::io::Result<u64> {
        let (mut stream, _) = listener.accept()?;
        let mut back = stream.try_clone()?;
        std::io::copy(&mut stream, &mut back)
    });
    let content: Vec<u8> = (0..2_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut client = TcpStream::connect(proxy.address())?;
    client.set_read_timeout(Some(Duration::from_secs(30)))?;
    let (mut upward, sent) = (client.try_clone()?, content.clone());
    let writer = std::thread::spawn(move || {
        upward.write_all(&sent)?;
        upward.shutdown(Shutdown::Write)
    });
    let mut returned = Vec::new();
    client.read_to_end(&mut returned)?;
    ensure!(
        returned == content,
        "{} of {} bytes came back",
        returned.len(),
        content.len()
    );
    ensure!(echo.join().is_ok() && writer.join().is_ok());
    drop(proxy);
    let log = net.stop()?;
    for direction in Direction::ALL {
        let totals = log.totals(direction);
        ensure!(
            totals.lost > 0 && totals.balance() && totals.own_failures() == 0,
            "{totals:?}"
        );
    }
    Ok(())
}

fn sigterm() -> Result<()> {
    let lab = Lab::new()?;
    // Held for longer than the test: the end must send them.
    let plan = Impairment::default().with_delay(Delay::Fixed(600_000_000_000));
    let mut net = Relayed::new(&lab, LinkOptions::default(), &forward(1, plan))?;
    let capture = Capture::start(&net.b, 862)?;
    let before = net.between.device_counter("left", "rx_packets")?;
    blast(&net.a, &net.b, Blast::default())?;
    ensure!(net.between.device_counter("left", "rx_packets")? >= before + 1_000);
    let relay = net.relay.take().context("a relay")?;
    let path = relay.log_path().to_owned();
    let finished = relay.terminate()?;
    ensure!(finished.code() == 0, "{finished:?}");
    let log = RelayLog::read(&path)?;
    ensure!(log.output(Forward).len() == 1_000 && log.totals(Forward).balance());
    ensure!(capture.stop()?.len() == 1_000);
    Ok(())
}

fn link_down() -> Result<()> {
    let lab = Lab::new()?;
    let mut net = Relayed::new(&lab, LinkOptions::default(), &RelayConfig::new(1))?;
    let to = net.b.ipv4().to_string();
    let ping = |net: &Relayed| net.a.run("ping", &["-c", "1", "-w", "5", "-W", "1", &to]);
    ping(&net)?;
    for (host, device) in [(net.a.clone(), "eth0"), (net.between.clone(), "left")] {
        host.ip(&format!("link set {device} down\n"))?;
        ensure!(ping(&net).is_err(), "{device} is down");
        host.ip(&format!("link set {device} up\n"))?;
        // The kernel looks at carriers once a second or so, of all namespaces together; until
        // then ARP gives up, and ping with it.
        for (host, device) in [(&net.a, "eth0"), (&net.between, "left")] {
            until_up(host, device)?;
        }
        // Its neighbours went with the link: found again by ARP, through the relay.
        ping(&net).context(device)?;
    }
    // `ping -w` sends again until it is answered, so how many there were is the kernel's to say:
    // what the far host took in and gave out is what the relay passed, and no more.
    let counted = [
        net.b.stack_counter("IcmpInEchos")?,
        net.b.stack_counter("IcmpOutEchoReps")?,
    ];
    let log = net.stop()?;
    for (direction, echoes) in Direction::ALL.into_iter().zip(counted) {
        let totals = log.totals(direction);
        ensure!(
            totals.balance() && totals.matched == echoes && echoes >= 3,
            "the kernel had {echoes} echoes: {totals:?}"
        );
    }
    Ok(())
}

/// Waits for a device that has its carrier again.
fn until_up(host: &Host, device: &str) -> Result<()> {
    let path = format!("/sys/class/net/{device}/operstate");
    let deadline = Instant::now() + Duration::from_secs(20);
    while host.run("cat", &[&path])?.trim() != "up" {
        ensure!(Instant::now() < deadline, "{device} stays down");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// How far one relay goes, for whoever has to choose between it and the kernel's means.
fn headroom() -> Result<()> {
    for rate in [150_000u32, 200_000, 300_000, 400_000] {
        let what = Blast {
            count: rate * 3,
            rate: rate.into(),
            ..Blast::default()
        };
        match run(&RelayConfig::new(1), Forward, what) {
            Ok(_) => println!("relay: {rate} packets/s for 3 s, none lost"),
            Err(error) => {
                println!("relay: {rate} packets/s: {error:#}");
                break;
            }
        }
    }
    Ok(())
}

fn throughput() -> Result<()> {
    let what = Blast {
        count: 1_000_000,
        rate: 100_000,
        ..Blast::default()
    };
    let started = std::time::Instant::now();
    let seen = run(&RelayConfig::new(1), Forward, what)?;
    ensure!(
        seen.arrivals.len() == 1_000_000,
        "{} arrived",
        seen.arrivals.len()
    );
    // When each came in is the sender's doing: how fast it really was on this machine.
    let mut offered: Vec<u64> = seen.log.of(Forward).map(|record| record.in_ns).collect();
    offered.sort_unstable();
    let mut carried: Vec<u64> = seen.arrivals.iter().map(|arrival| arrival.at_ns).collect();
    carried.sort_unstable();
    let (rate_in, rate_out) = (per_second(&offered)?, per_second(&carried)?);
    let busiest = busiest_second(&offered);
    println!(
        "relay: offered {rate_in:.0} packets/s, {busiest} in the busiest second; carried \
         {rate_out:.0}, none lost, in {:?}",
        started.elapsed()
    );
    ensure!(
        rate_out > 0.99 * rate_in,
        "carried {rate_out:.0} packets/s of {rate_in:.0} offered"
    );
    // A sender that was held up catches up, so that some second has its rate in full.
    ensure!(busiest >= 99_000, "only {busiest} in the busiest second");
    Ok(())
}

/// The mean rate over sorted times.
fn per_second(times_ns: &[u64]) -> Result<f64> {
    let (first, last) = times_ns
        .first()
        .zip(times_ns.last())
        .context("no packets")?;
    Ok((times_ns.len() - 1) as f64 / ((last - first) as f64 / 1e9))
}

/// The most packets within any second, of sorted times.
fn busiest_second(times_ns: &[u64]) -> usize {
    let mut begin = 0;
    let mut most = 0;
    for (end, at) in times_ns.iter().enumerate() {
        while at - times_ns[begin] >= 1_000_000_000 {
            begin += 1;
        }
        most = most.max(end + 1 - begin);
    }
    most
}
