//! A session, a reflector and the path between them, with a virtual clock, and a record of
//! what the path did: the truth that the session's numbers are held to.

use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};

use base::{Counter, EventKind, Gauge, LossTotals, Protocol, Quantity, SessionEvent};

use super::super::*;
use crate::random::Random;
use crate::reflector;

pub(super) const MS: u64 = 1_000_000;
pub(super) const US: u64 = 1_000;
/// Wall clock at virtual time 0.
pub(super) const EPOCH: u64 = 1_800_000_000_000_000_000;
/// When a world begins.
pub(super) const START: u64 = 100_000 * MS;

/// What the path does to one direction.
#[derive(Copy, Clone, Default)]
pub(super) struct Impairment {
    pub(super) loss: f64,
    pub(super) duplicate: f64,
    pub(super) reorder: f64,
    /// Share that takes up to four waits.
    pub(super) late: f64,
}

/// What becomes of one packet: the delays of its copies, none if it is lost.
pub(super) type Script = Box<dyn FnMut(Packet) -> Option<Vec<u64>>>;

/// What a script is told of a packet.
#[derive(Copy, Clone, Debug)]
pub(super) struct Packet {
    /// Number of the probe that it is, or answers.
    pub(super) sequence: u32,
    pub(super) counted: bool,
    /// How many of this direction went before.
    pub(super) nth: u64,
}

#[derive(Default)]
pub(super) struct Way {
    pub(super) impairment: Impairment,
    /// Decides before the impairment does.
    pub(super) script: Option<Script>,
    packets: u64,
}

/// What becomes of an attempt to send.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Attempt {
    Sent,
    /// Sent, but its TX stamp gets lost, without a sign.
    StampLost,
    /// Sent, but its TX stamp gets lost, and the session is told that this may be.
    StampLostInOverflow,
    /// Taken by `send()`, dropped before the device: no stamp, nothing on the path.
    DroppedHere,
    Refused,
    Skipped,
}

/// What became of packets of counted probes, by sender's number.
#[derive(Default)]
pub(super) struct Truth {
    pub(super) forward_duplicates: u64,
    /// Reflector's numbers in order of arrival, with the probe.
    pub(super) arrivals: Vec<(u64, u32)>,
    pub(super) delivered: HashSet<u64>,
    pub(super) reply_order: Vec<(u64, u32)>,
    pub(super) reverse_duplicates: u64,
    pub(super) closing_sent: u64,
    pub(super) closing_unanswered: u64,
    pub(super) closing_answered: bool,
    pub(super) opening_sent: u64,
    /// By probe: T1 to T4 as the kernels stamped them.
    pub(super) t1: HashMap<u32, u64>,
    pub(super) reflected: HashMap<u32, (u64, u64)>,
    pub(super) t4: HashMap<u32, u64>,
    pub(super) intended: HashMap<u32, u64>,
}

/// Changes a reply on its way.
pub(super) type Mangle = Box<dyn FnMut(&mut Vec<u8>)>;
/// Decides what becomes of an attempt to send.
pub(super) type Try = Box<dyn FnMut(&Transmit) -> Attempt>;
pub(super) type Deed = Box<dyn FnOnce(&mut World)>;

enum Happening {
    Request(Vec<u8>),
    Reply(Vec<u8>),
    Stamp(u32, WallNanos),
    Deed(Deed),
}

pub(super) struct World {
    pub(super) now: u64,
    queue: BinaryHeap<(std::cmp::Reverse<(u64, u64)>, usize)>,
    happenings: Vec<Option<Happening>>,
    pub(super) random: Random,
    pub(super) forward: Way,
    pub(super) reverse: Way,
    pub(super) session: Session,
    pub(super) reflector: reflector::Reflector,
    pub(super) reflector_config: reflector::Config,
    /// `None`: nobody listens.
    pub(super) listening: bool,
    generation: u64,
    /// Wall clock of the reflector minus the true one; ours minus the true one.
    pub(super) offset: i64,
    pub(super) own_offset: i64,
    pub(super) dwell: u64,
    pub(super) request_ttl: u8,
    pub(super) reply_ttl: u8,
    pub(super) overflow: u32,
    /// Called for each reply before it goes back.
    pub(super) mangle: Option<Mangle>,
    /// Called for each attempt to send.
    pub(super) attempt: Option<Try>,
    /// Whether the kernel stamps what it sends, and how much later the stamp is read.
    pub(super) stamps: bool,
    pub(super) stamp_delay: u64,
    pub(super) counts: BTreeMap<Counter, u64>,
    pub(super) samples: HashMap<Quantity, Vec<i64>>,
    pub(super) gauges: HashMap<Gauge, f64>,
    pub(super) stamped: HashMap<(StampPoint, StampSource), u64>,
    pub(super) results: Vec<ProbeResult>,
    pub(super) events: Vec<SessionEvent>,
    pub(super) loss: LossTotals,
    pub(super) losses: Vec<LossTotals>,
    pub(super) finished: u64,
    pub(super) truth: Truth,
    pub(super) counted: HashSet<u32>,
    pub(super) dropped_here: HashSet<u32>,
    pub(super) replies_seen: u64,
    pub(super) clock: base::ClockState,
    pub(super) reflector_synchronised: bool,
}

pub(super) fn config(count: u64) -> Config {
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

pub(super) fn stamp_codec(private_tlv: bool) -> StampCodec {
    StampCodec {
        ssid: 77,
        format: wire::stamp::TimestampFormat::Ntp,
        payload: None,
        private_tlv,
        equal_sizes: false,
    }
}

pub(super) fn icmp_codec(v6: bool) -> Codec {
    Codec::Icmp(IcmpCodec {
        v6,
        ident: 99,
        nonce: 0xfeed_beef,
        payload: None,
    })
}

/// With our own reflector, or with one that has no private TLV.
pub(super) fn world(config: Config, private_tlv: bool, seed: u64) -> World {
    let reflector = reflector::Config {
        private_tlv,
        ..reflector::Config::default()
    };
    World::new(config, Codec::Stamp(stamp_codec(true)), reflector, seed)
}

impl World {
    pub(super) fn new(
        config: Config,
        codec: Codec,
        reflector_config: reflector::Config,
        seed: u64,
    ) -> Self {
        Self {
            now: START,
            queue: BinaryHeap::new(),
            happenings: Vec::new(),
            random: Random::new(seed),
            forward: Way::default(),
            reverse: Way::default(),
            session: Session::new(config, codec, MonoNanos(START)),
            reflector: reflector::Reflector::new(reflector_config.clone()),
            reflector_config,
            listening: true,
            generation: 0,
            offset: 0,
            own_offset: 0,
            dwell: 5 * US,
            request_ttl: 253,
            reply_ttl: 252,
            overflow: 0,
            mangle: None,
            attempt: None,
            stamps: true,
            stamp_delay: 0,
            counts: BTreeMap::new(),
            samples: HashMap::new(),
            gauges: HashMap::new(),
            stamped: HashMap::new(),
            results: Vec::new(),
            events: Vec::new(),
            loss: LossTotals::default(),
            losses: Vec::new(),
            finished: 0,
            truth: Truth::default(),
            counted: HashSet::new(),
            dropped_here: HashSet::new(),
            replies_seen: 0,
            clock: base::ClockState {
                synchronised: false,
                error_ns: 16_000_000_000,
                tai_offset_s: 0,
            },
            reflector_synchronised: false,
        }
    }

    fn push(&mut self, at: u64, happening: Happening) {
        self.happenings.push(Some(happening));
        let id = self.happenings.len() - 1;
        self.queue.push((std::cmp::Reverse((at, id as u64)), id));
    }

    /// Does something `after` ns from the world's beginning.
    pub(super) fn at(&mut self, after: u64, deed: impl FnOnce(&mut Self) + 'static) {
        self.push(START + after, Happening::Deed(Box::new(deed)));
    }

    pub(super) fn wall(&self) -> WallNanos {
        WallNanos(EPOCH + self.now).offset(self.own_offset)
    }

    pub(super) fn emit(&mut self, act: impl FnOnce(&mut Session, &mut dyn FnMut(Emission))) {
        let mut emissions = Vec::new();
        act(&mut self.session, &mut |emission| emissions.push(emission));
        self.collect(emissions);
    }

    /// The wall clock of this host is set, and the session learns of it.
    pub(super) fn step_clock(&mut self, by: i64) {
        self.own_offset += by;
        self.emit(|session, mut out| session.clock_stepped(&mut out));
    }

    pub(super) fn restart_reflector(&mut self) {
        self.generation += 1;
        self.reflector_config.seed += 1_000;
        self.reflector = reflector::Reflector::new(self.reflector_config.clone());
    }

    /// Delays of the copies that will arrive.
    fn transfer(&mut self, forward: bool, sequence: u32) -> Vec<u64> {
        let counted = self.counted.contains(&sequence);
        let way = if forward {
            &mut self.forward
        } else {
            &mut self.reverse
        };
        let packet = Packet {
            sequence,
            counted,
            nth: way.packets,
        };
        way.packets += 1;
        if let Some(delays) = way.script.as_mut().and_then(|script| script(packet)) {
            return delays;
        }
        let impairment = way.impairment;
        if self.random.chance(impairment.loss) {
            return Vec::new();
        }
        let mut delay = 200 * US + self.random.below(20 * US);
        if self.random.chance(impairment.reorder) {
            delay += MS + self.random.below(3 * MS);
        }
        if self.random.chance(impairment.late) {
            delay += self.random.below(4 * self.session.config().wait_ns);
        }
        let mut delays = vec![delay];
        if self.random.chance(impairment.duplicate) {
            delays.push(delay + 10 * US);
        }
        delays
    }

    fn collect(&mut self, emissions: Vec<Emission>) {
        for emission in emissions {
            match emission {
                Emission::Output(Output::Count(counter, n)) => {
                    assert!(n > 0 && n < 1 << 40, "{counter:?} rose by {n}");
                    *self.counts.entry(counter).or_default() += n;
                }
                Emission::Output(Output::Sample(sample)) => {
                    self.samples
                        .entry(sample.quantity)
                        .or_default()
                        .push(sample.value);
                }
                Emission::Output(Output::Loss(totals)) => {
                    self.loss = totals;
                    self.losses.push(totals);
                }
                Emission::Output(Output::Event(event)) => self.events.push(event),
                Emission::Output(Output::Gauge(gauge, value)) => {
                    self.gauges.insert(gauge, value);
                }
                Emission::Output(Output::Stamped(point, source)) => {
                    *self.stamped.entry((point, source)).or_default() += 1;
                }
                Emission::Output(Output::Finished) => self.finished += 1,
                Emission::Output(Output::Protocol(protocol, _)) => {
                    panic!("a session does not choose {}", Protocol::as_str(protocol))
                }
                Emission::Output(Output::Errno(_) | Output::Icmp { .. }) => {}
                Emission::Result(result) => self.results.push(result),
            }
        }
        let (sent, decided) = (self.count(Counter::Sent), self.decided());
        assert!(decided <= sent, "{decided} verdicts for {sent} probes");
    }

    pub(super) fn count(&self, counter: Counter) -> u64 {
        self.counts.get(&counter).copied().unwrap_or(0)
    }

    pub(super) fn discarded(&self) -> u64 {
        Counter::DISCARDED.iter().map(|c| self.count(*c)).sum()
    }

    pub(super) fn decided(&self) -> u64 {
        self.count(Counter::Received) + self.count(Counter::Lost) + self.discarded()
    }

    pub(super) fn sampled(&self, quantity: Quantity) -> &[i64] {
        self.samples.get(&quantity).map_or(&[], Vec::as_slice)
    }

    pub(super) fn happened(&self, kind: EventKind) -> usize {
        self.events
            .iter()
            .filter(|event| event.kind == kind)
            .count()
    }

    /// Runs until the session is done.
    pub(super) fn run(&mut self) {
        self.run_until(u64::MAX);
        assert_eq!(self.finished, 1, "says once that it is done");
    }

    /// Runs until the session is done, or until `end`.
    pub(super) fn run_until(&mut self, end: u64) {
        let mut steps = 0u64;
        while self.now < end {
            steps += 1;
            assert!(steps < 20_000_000, "no end");
            let mut action = Action::Done;
            let now = MonoNanos(self.now);
            self.emit(|session, mut out| action = session.poll(now, &mut out));
            match action {
                Action::Done => return,
                Action::Send(transmit) => self.send(&transmit),
                Action::Wait(until) => {
                    let next = self.queue.peek().map(|(key, _)| key.0.0);
                    let until = until.0.max(self.now + 1);
                    match next {
                        Some(at) if at <= until => self.next_happening(),
                        _ => self.now = until,
                    }
                }
            }
        }
    }

    fn next_happening(&mut self) {
        let Some((std::cmp::Reverse((at, _)), id)) = self.queue.pop() else {
            return;
        };
        self.now = self.now.max(at);
        let happening = self.happenings[id].take().expect("happens once");
        match happening {
            Happening::Request(packet) => self.reflect(&packet),
            Happening::Reply(packet) => self.reply(&packet),
            Happening::Stamp(sequence, at) => {
                self.emit(|session, mut out| session.tx_stamp(sequence, Some(at), None, &mut out));
            }
            Happening::Deed(deed) => deed(self),
        }
    }

    /// After the end: what is still on its way arrives, and nothing comes of it.
    pub(super) fn deliver_the_rest(&mut self) {
        while !self.queue.is_empty() {
            self.next_happening();
            let now = MonoNanos(self.now);
            let mut action = Action::Done;
            self.emit(|session, mut out| action = session.poll(now, &mut out));
            assert_eq!(action, Action::Done, "stays done");
        }
    }

    fn send(&mut self, transmit: &Transmit) {
        let attempt = self
            .attempt
            .as_mut()
            .map_or(Attempt::Sent, |attempt| attempt(transmit));
        let now = MonoNanos(self.now);
        match attempt {
            Attempt::Refused => {
                return self.emit(|session, mut out| session.failed(transmit, now, 105, &mut out));
            }
            Attempt::Skipped => {
                return self.emit(|session, mut out| session.skipped(transmit, now, &mut out));
            }
            _ => {}
        }
        let mut buf = [0; MAX_PAYLOAD];
        let wall = self.wall();
        let (len, echo) = self.session.emit(transmit, &mut buf, wall, self.clock);
        self.emit(|session, mut out| session.sent(transmit, now, wall, len, echo, &mut out));
        let sequence = transmit.sequence;
        match transmit.kind {
            Kind::Counted => {
                self.counted.insert(sequence);
                self.truth.intended.insert(sequence, transmit.intended.0);
            }
            Kind::Opening => self.truth.opening_sent += 1,
            Kind::Closing => {
                self.truth.closing_sent += 1;
                self.truth.closing_unanswered += u64::from(!self.truth.closing_answered);
            }
        }
        let kernel = wall.offset(2_000);
        self.truth.t1.insert(sequence, kernel.0);
        if attempt == Attempt::StampLostInOverflow {
            self.session.stamps_doubtful();
        }
        if self.stamps && attempt == Attempt::Sent {
            if self.stamp_delay == 0 {
                self.emit(|session, mut out| {
                    session.tx_stamp(sequence, Some(kernel), None, &mut out);
                });
            } else {
                self.push(
                    self.now + self.stamp_delay,
                    Happening::Stamp(sequence, kernel),
                );
            }
        }
        if attempt == Attempt::DroppedHere {
            self.dropped_here.insert(sequence);
            return;
        }
        for _ in 0..transmit.copies {
            let delays = self.transfer(true, sequence);
            if transmit.kind.is_counted() {
                self.truth.forward_duplicates += (delays.len() as u64).saturating_sub(1);
            }
            for delay in delays {
                self.push(self.now + delay, Happening::Request(buf[..len].to_vec()));
            }
        }
    }

    fn reflect(&mut self, packet: &[u8]) {
        if !self.listening {
            return;
        }
        if matches!(self.session.codec(), Codec::Icmp(_)) {
            return self.echo(packet);
        }
        let at = WallNanos(EPOCH + self.now).offset(self.offset);
        let arrival = reflector::Arrival {
            peer: SocketAddr::from((Ipv4Addr::new(10, 0, 0, 1), 40_000)),
            local: SocketAddr::from((Ipv4Addr::new(10, 0, 0, 2), 862)),
            ttl: Some(self.request_ttl),
            at,
            now: MonoNanos(self.now),
            overflow: self.overflow,
        };
        let clock = base::ClockState {
            synchronised: self.reflector_synchronised,
            error_ns: 1_000,
            tai_offset_s: 0,
        };
        let mut buf = [0; MAX_PAYLOAD];
        buf[..packet.len()].copy_from_slice(packet);
        let prepared = self
            .reflector
            .answer(&mut buf, packet.len(), &arrival, clock);
        let sender = u32::from_be_bytes([packet[0], packet[1], packet[2], packet[3]]);
        let Ok(prepared) = prepared else { return };
        assert_eq!(prepared.len, packet.len(), "as long as the request");
        let t3 = at.offset(self.dwell.cast_signed());
        prepared.stamp(&mut buf, t3);
        let mut reply = buf[..prepared.len].to_vec();
        let number = u32::from_be_bytes([reply[0], reply[1], reply[2], reply[3]]);
        let number = (self.generation << 32) | u64::from(number);
        let counted = self.counted.contains(&sender);
        if counted {
            self.truth.arrivals.push((number, sender));
        }
        self.truth.reflected.entry(sender).or_insert((at.0, t3.0));
        if let Some(mangle) = &mut self.mangle {
            mangle(&mut reply);
        }
        let delays = self.transfer(false, sender);
        if counted && !delays.is_empty() {
            self.truth.delivered.insert(number);
            self.truth.reverse_duplicates += delays.len() as u64 - 1;
        }
        for delay in delays {
            self.push(
                self.now + self.dwell + delay,
                Happening::Reply(reply.clone()),
            );
        }
    }

    /// An echo responder, from RFC 792 (type 0, the rest as it came) and RFC 4443 section 4.2
    /// (type 129; the checksum is the kernels' affair).
    fn echo(&mut self, packet: &[u8]) {
        let sequence = u32::from_be_bytes([packet[16], packet[17], packet[18], packet[19]]);
        let v6 = matches!(self.session.codec(), Codec::Icmp(codec) if codec.v6);
        assert_eq!(packet[0], if v6 { 128 } else { 8 });
        let mut reply = packet.to_vec();
        reply[0] = if v6 { 129 } else { 0 };
        (reply[2], reply[3]) = (0, 0);
        let sum: u32 = reply
            .chunks(2)
            .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
            .sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        let check = !((folded & 0xffff) + (folded >> 16)) & 0xffff;
        (reply[2], reply[3]) = ((check >> 8) as u8, (check & 0xff) as u8);
        if self.counted.contains(&sequence) {
            self.truth.arrivals.push((u64::from(sequence), sequence));
        }
        for delay in self.transfer(false, sequence) {
            self.push(self.now + delay, Happening::Reply(reply.clone()));
        }
    }

    fn reply(&mut self, packet: &[u8]) {
        self.replies_seen += 1;
        let icmp = matches!(self.session.codec(), Codec::Icmp(_));
        let at = if icmp { 16 } else { 24 };
        let sender =
            u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]]);
        let number = u32::from_be_bytes([packet[0], packet[1], packet[2], packet[3]]);
        if self.counted.contains(&sender) {
            let number = (self.generation << 32) | u64::from(number);
            self.truth.reply_order.push((number, sender));
        } else if self.truth.closing_sent > 0 && !self.truth.closing_answered {
            self.truth.closing_answered = true;
            self.truth.closing_unanswered = self.truth.closing_unanswered.saturating_sub(1);
        }
        let wall = self.wall();
        self.truth.t4.entry(sender).or_insert(wall.0);
        self.datagram(packet);
    }

    /// Something arrives at the session's socket.
    pub(super) fn datagram(&mut self, packet: &[u8]) -> bool {
        let wall = self.wall();
        let datagram = Datagram {
            payload: packet,
            kernel: Some(wall),
            hardware: None,
            user: wall.offset(9_000),
            ttl: Some(self.reply_ttl),
        };
        let now = MonoNanos(self.now);
        let mut ours = false;
        self.emit(|session, mut out| ours = session.receive(&datagram, now, &mut out));
        ours
    }
}
