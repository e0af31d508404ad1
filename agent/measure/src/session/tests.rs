//! A session against a reflector over a simulated path with a virtual clock: what the
//! session reports is compared with what the path did.

use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};

use base::{LossTotals, Quantity};

use super::*;
use crate::random::Random;
use crate::reflector;

const MS: u64 = 1_000_000;
const US: u64 = 1_000;
/// Wall clock at virtual time 0.
const EPOCH: u64 = 1_800_000_000_000_000_000;

/// What the path does to one direction.
#[derive(Copy, Clone, Default)]
struct Impairment {
    loss: f64,
    duplicate: f64,
    reorder: f64,
}

/// What became of packets of counted probes, by sender's number.
#[derive(Default)]
struct Truth {
    forward_lost: HashSet<u32>,
    forward_duplicates: u64,
    /// Reflector's numbers in order of arrival, and which of their replies came.
    arrivals: Vec<(u32, u32)>,
    delivered: HashSet<u32>,
    reply_order: Vec<(u32, u32)>,
    reverse_duplicates: u64,
    closing_unanswered: u64,
    closing_answered: bool,
}

enum Event {
    Request(Vec<u8>),
    Reply(Vec<u8>),
}

struct World {
    now: u64,
    queue: BinaryHeap<(std::cmp::Reverse<(u64, u64)>, usize)>,
    events: Vec<Option<Event>>,
    random: Random,
    forward: Impairment,
    reverse: Impairment,
    session: Session,
    reflector: reflector::Reflector,
    /// Wall clock of the reflector minus ours.
    offset: i64,
    counts: BTreeMap<Counter, u64>,
    samples: HashMap<Quantity, Vec<i64>>,
    results: Vec<ProbeResult>,
    events_seen: Vec<base::EventKind>,
    loss: LossTotals,
    truth: Truth,
    counted: HashSet<u32>,
    stamps: bool,
    no_stamp_for: HashSet<u32>,
}

fn config(count: u64) -> Config {
    Config {
        interval_ns: MS,
        wait_ns: 100 * MS,
        count: Some(count),
        poisson: false,
        ttl: 255,
        clock: ClockTrust::Assume { error_ns: 1_000 },
        stamped: true,
        opening_first: true,
        first_sequence: 0,
        seed: 1,
        source_port: 40_000,
    }
}

fn codec(private_tlv: bool) -> Codec {
    Codec::Stamp(StampCodec {
        ssid: 77,
        format: wire::stamp::TimestampFormat::Ntp,
        payload: None,
        private_tlv,
        equal_sizes: false,
    })
}

impl World {
    fn new(config: Config, codec: Codec, reflector: reflector::Config, seed: u64) -> Self {
        Self {
            now: 10 * MS,
            queue: BinaryHeap::new(),
            events: Vec::new(),
            random: Random::new(seed),
            forward: Impairment::default(),
            reverse: Impairment::default(),
            session: Session::new(config, codec, MonoNanos(10 * MS)),
            reflector: reflector::Reflector::new(reflector),
            offset: 0,
            counts: BTreeMap::new(),
            samples: HashMap::new(),
            results: Vec::new(),
            events_seen: Vec::new(),
            loss: LossTotals::default(),
            truth: Truth::default(),
            counted: HashSet::new(),
            stamps: true,
            no_stamp_for: HashSet::new(),
        }
    }

    fn push(&mut self, at: u64, event: Event) {
        self.events.push(Some(event));
        let id = self.events.len() - 1;
        self.queue.push((std::cmp::Reverse((at, id as u64)), id));
    }

    /// Puts a packet on one direction; returns how many copies will arrive.
    fn transfer(&mut self, impairment: Impairment, make: impl Fn() -> Event) -> u64 {
        if self.random.chance(impairment.loss) {
            return 0;
        }
        let mut delay = 200 * US + self.random.below(20 * US);
        if self.random.chance(impairment.reorder) {
            delay += MS + self.random.below(3 * MS);
        }
        self.push(self.now + delay, make());
        if self.random.chance(impairment.duplicate) {
            self.push(self.now + delay + 10 * US, make());
            return 2;
        }
        1
    }

    fn collect(&mut self, emissions: Vec<Emission>) {
        for emission in emissions {
            match emission {
                Emission::Output(Output::Count(counter, n)) => {
                    *self.counts.entry(counter).or_default() += n;
                }
                Emission::Output(Output::Sample(sample)) => {
                    self.samples
                        .entry(sample.quantity)
                        .or_default()
                        .push(sample.value);
                }
                Emission::Output(Output::Loss(totals)) => self.loss = totals,
                Emission::Output(Output::Event(event)) => self.events_seen.push(event.kind),
                Emission::Result(result) => self.results.push(result),
                Emission::Output(_) => {}
            }
        }
    }

    fn count(&self, counter: Counter) -> u64 {
        self.counts.get(&counter).copied().unwrap_or(0)
    }

    /// Runs until the session is done, or until `end`.
    fn run(&mut self, end: u64) {
        loop {
            let mut emissions = Vec::new();
            let mut out = |emission| emissions.push(emission);
            let action = self.session.poll(MonoNanos(self.now), &mut out);
            self.collect(emissions);
            match action {
                Action::Done => return,
                Action::Send(transmit) => self.send(&transmit),
                Action::Wait(until) => {
                    let next = self.queue.peek().map(|(key, _)| key.0.0);
                    let until = until.0.max(self.now + 1);
                    match next {
                        Some(at) if at <= until => {
                            self.now = self.now.max(at);
                            let (_, id) = self.queue.pop().expect("peeked");
                            let event = self.events[id].take().expect("once");
                            self.deliver(event);
                        }
                        _ => self.now = until,
                    }
                }
            }
            if self.now >= end {
                return;
            }
        }
    }

    fn send(&mut self, transmit: &Transmit) {
        let mut buf = [0; MAX_PAYLOAD];
        let wall = WallNanos(EPOCH + self.now);
        let clock = ClockState {
            synchronised: false,
            error_ns: 16_000_000_000,
            tai_offset: 0,
        };
        let (len, echo) = self.session.emit(transmit, &mut buf, wall, clock);
        let mut emissions = Vec::new();
        let mut out = |emission| emissions.push(emission);
        self.session
            .sent(transmit, MonoNanos(self.now), wall, len, echo, &mut out);
        if self.stamps && !self.no_stamp_for.contains(&transmit.sequence) {
            let kernel = Some(wall.offset(2_000));
            self.session
                .tx_stamp(transmit.sequence, kernel, None, &mut out);
        }
        self.collect(emissions);
        let counted = transmit.kind.is_counted();
        if counted {
            self.counted.insert(transmit.sequence);
        }
        if transmit.kind == Kind::Closing && !self.truth.closing_answered {
            self.truth.closing_unanswered += 1;
        }
        for _ in 0..transmit.copies {
            if self.no_stamp_for.contains(&transmit.sequence) {
                continue;
            }
            let packet = buf[..len].to_vec();
            match self.transfer(self.forward, || Event::Request(packet.clone())) {
                0 if counted => {
                    self.truth.forward_lost.insert(transmit.sequence);
                }
                2 if counted => self.truth.forward_duplicates += 1,
                _ => {}
            }
        }
    }

    fn deliver(&mut self, event: Event) {
        match event {
            Event::Request(packet) => self.reflect(&packet),
            Event::Reply(packet) => self.reply(&packet),
        }
    }

    fn reflect(&mut self, packet: &[u8]) {
        let at = WallNanos(EPOCH + self.now).offset(self.offset);
        let arrival = reflector::Arrival {
            peer: SocketAddr::from((Ipv4Addr::new(10, 0, 0, 1), 40_000)),
            local: SocketAddr::from((Ipv4Addr::new(10, 0, 0, 2), 862)),
            ttl: Some(253),
            at,
            now: MonoNanos(self.now),
            overflow: 0,
        };
        let clock = reflector::Clock {
            synchronised: false,
            error_ns: 1,
            tai_offset: 0,
        };
        let mut buf = [0; MAX_PAYLOAD];
        buf[..packet.len()].copy_from_slice(packet);
        let prepared = self
            .reflector
            .answer(&mut buf, packet.len(), &arrival, clock);
        let prepared = prepared.expect("a good request is answered");
        assert_eq!(
            prepared.len,
            packet.len(),
            "the reply has the request's size"
        );
        prepared.stamp(&mut buf, at.offset(5_000));
        let reply = buf[..prepared.len].to_vec();
        let parsed = wire::stamp::Reply::parse(&reply).expect("a whole reply");
        let (number, sender) = (parsed.sequence(), parsed.sender_sequence());
        if self.counted.contains(&sender) {
            self.truth.arrivals.push((number, sender));
        }
        let copies = self.transfer(self.reverse, || Event::Reply(reply.clone()));
        if self.counted.contains(&sender) {
            if copies > 0 {
                self.truth.delivered.insert(number);
            }
            self.truth.reverse_duplicates += copies.saturating_sub(1);
        }
    }

    fn reply(&mut self, packet: &[u8]) {
        let parsed = wire::stamp::Reply::parse(packet).expect("a whole reply");
        let sender = parsed.sender_sequence();
        if self.counted.contains(&sender) {
            self.truth.reply_order.push((parsed.sequence(), sender));
        } else if self.count(Counter::Sent) > 0 {
            self.truth.closing_answered = true;
            self.truth.closing_unanswered = self.truth.closing_unanswered.saturating_sub(1);
        }
        let wall = WallNanos(EPOCH + self.now);
        let datagram = Datagram {
            payload: packet,
            kernel: Some(wall),
            hardware: None,
            user: wall.offset(9_000),
            ttl: Some(252),
        };
        let mut emissions = Vec::new();
        let now = MonoNanos(self.now);
        self.session
            .receive(&datagram, now, &mut |emission| emissions.push(emission));
        self.collect(emissions);
    }

    /// Probes that reached the reflector and got no answer, of the counted ones.
    fn truly_lost(&self) -> (u64, u64) {
        let answered: HashSet<u32> = self
            .truth
            .reply_order
            .iter()
            .map(|(_, sender)| *sender)
            .collect();
        let arrived: HashSet<u32> = self
            .truth
            .arrivals
            .iter()
            .map(|(_, sender)| *sender)
            .collect();
        let forward = self.counted.len() - arrived.len();
        (forward as u64, arrived.difference(&answered).count() as u64)
    }

    /// Replies of doubled probes whose other copy was delivered, or both lost but one.
    fn hidden_duplicates(&self) -> u64 {
        let mut by_probe: HashMap<u32, (u64, u64)> = HashMap::new();
        for (number, sender) in &self.truth.arrivals {
            let entry = by_probe.entry(*sender).or_default();
            entry.0 += 1;
            entry.1 += u64::from(self.truth.delivered.contains(number));
        }
        by_probe
            .values()
            .map(|(arrived, delivered)| (arrived - 1).min(arrived - delivered))
            .sum()
    }
}

/// RFC 4737 section 3.3: items below the highest before them; repeated ones are no items.
fn reordered(items: impl Iterator<Item = u32>) -> u64 {
    let (mut next, mut seen, mut count) = (0u32, HashSet::new(), 0);
    for item in items {
        if !seen.insert(item) {
            continue;
        }
        if item < next {
            count += 1;
        } else {
            next = item + 1;
        }
    }
    count
}

fn impaired(seed: u64, count: u64, private_tlv: bool) -> World {
    let reflector = reflector::Config {
        private_tlv,
        ..reflector::Config::default()
    };
    let mut world = World::new(config(count), codec(true), reflector, seed);
    world.forward = Impairment {
        loss: 0.05,
        duplicate: 0.01,
        reorder: 0.01,
    };
    world.reverse = Impairment {
        loss: 0.02,
        duplicate: 0.01,
        reorder: 0.01,
    };
    world.run(u64::MAX);
    world
}

fn check_sums(world: &World) {
    let discarded: u64 = Counter::DISCARDED
        .iter()
        .map(|counter| world.count(*counter))
        .sum();
    assert_eq!(
        world.count(Counter::Sent),
        world.count(Counter::Received) + world.count(Counter::Lost) + discarded
    );
    let loss = world.loss;
    assert_eq!(
        loss.lost,
        loss.local + loss.forward + loss.reverse + loss.unattributed
    );
    assert_eq!(loss.lost, world.count(Counter::Lost));
    assert_eq!(world.count(Counter::Sent), world.counted.len() as u64);
}

fn check_reordering(world: &World) {
    let truth = &world.truth;
    let mut arrivals: Vec<(u32, u32)> = truth
        .arrivals
        .iter()
        .filter(|(number, _)| truth.delivered.contains(number))
        .copied()
        .collect();
    arrivals.sort_unstable();
    let forward = reordered(arrivals.into_iter().map(|(_, sender)| sender));
    assert_eq!(world.count(Counter::ReorderedForward), forward);
    let replies = truth.reply_order.iter();
    assert_eq!(
        world.count(Counter::ReorderedReverse),
        reordered(replies.map(|(number, _)| *number))
    );
}

#[test]
fn with_our_reflector_every_direction_is_exact() {
    for seed in 1..=40 {
        let world = impaired(seed, 10_000, true);
        check_sums(&world);
        let (forward, reverse) = world.truly_lost();
        assert!(
            forward > 400 && reverse > 100,
            "the path does lose: {forward} {reverse}"
        );
        let loss = world.loss;
        assert!(loss.directed);
        assert_eq!(
            (loss.forward, loss.reverse, loss.unattributed),
            (forward, reverse, 0),
            "{seed}"
        );
        assert_eq!(
            world.count(Counter::DuplicatesForward),
            world.truth.forward_duplicates,
            "{seed}"
        );
        assert_eq!(
            world.count(Counter::DuplicatesReverse),
            world.truth.reverse_duplicates,
            "{seed}"
        );
        check_reordering(&world);
    }
}

#[test]
fn with_a_plain_reflector_directions_are_exact_but_for_hidden_duplicates() {
    let mut within = 0;
    const SEEDS: u64 = 100;
    for seed in 1..=SEEDS {
        let world = impaired(seed, 10_000, false);
        check_sums(&world);
        let (forward, reverse) = world.truly_lost();
        let loss = world.loss;
        assert!(loss.directed);
        assert_eq!(loss.lost, forward + reverse, "total loss is exact");
        let bound = world.hidden_duplicates() + world.truth.closing_unanswered;
        let distance = loss.forward.abs_diff(forward);
        let holds = distance <= loss.unattributed && loss.unattributed <= bound;
        within += u64::from(holds);
        if !holds {
            println!(
                "{seed}: off by {distance}, unattributed {}, bound {bound}",
                loss.unattributed
            );
        }
        check_reordering(&world);
    }
    // No algorithm is exact here: a hidden duplicate right beside a forward loss looks like a
    // reverse loss. Measured: 94 of these 100 seeds.
    println!("{within} of {SEEDS}");
    assert!(within >= SEEDS * 9 / 10);
}
