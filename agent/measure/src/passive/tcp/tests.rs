//! The short way of plain segments against the general one, on connections in which
//! everything happens that networks and hosts do to segments.

use base::{PlainMemory, WallNanos};
use proptest::prelude::*;

use super::*;
use crate::flow::pool::{Cell, List};

#[derive(Copy, Clone, Debug)]
enum Kind {
    Data,
    /// Sent, and lost before the probe.
    Lost,
    /// Sent, and overtaken.
    Held,
    /// What was overtaken arrives.
    Release,
    /// Something that was sent before, perhaps cut differently.
    Again,
    /// The same segment once more.
    Twice,
    Ack,
    Sack,
    Window,
    Probe,
    KeepAlive,
    Fin,
    Rst,
    Syn,
    /// Not one octet as anybody would expect it.
    Wild,
}

#[derive(Copy, Clone, Debug)]
struct Act {
    near: bool,
    kind: Kind,
    size: u32,
    /// Which of several.
    choice: u16,
    ns: i64,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    use Kind::*;
    let kind = prop_oneof![
        40 => Just(Data), 3 => Just(Lost), 3 => Just(Held), 3 => Just(Release),
        4 => Just(Again), 3 => Just(Twice), 30 => Just(Ack), 3 => Just(Sack),
        2 => Just(Window), 1 => Just(Probe), 1 => Just(KeepAlive),
        1 => Just(Wild),
    ];
    let control = prop_oneof![1 => Just(Fin), 1 => Just(Rst), 1 => Just(Syn)];
    let kind = prop_oneof![60 => kind, 1 => control];
    let size = prop_oneof![
        6 => Just(1448u32), 2 => 1..3000u32, 2 => Just(1u32), 1 => Just(65_160u32),
    ];
    let ns = prop_oneof![
        10 => 0..2_000_000i64, 3 => 0..300_000_000i64, 1 => -5_000_000..0i64,
    ];
    let act =
        (any::<bool>(), kind, size, any::<u16>(), ns).prop_map(|(near, kind, size, choice, ns)| {
            Act {
                near,
                kind,
                size,
                choice,
                ns,
            }
        });
    proptest::collection::vec(act, 1..250)
}

#[derive(Clone)]
struct End {
    next: u32,
    sent: Vec<(u32, u32)>,
    held: Vec<(TcpHeader, u32)>,
    last: Option<(TcpHeader, u32)>,
    acked: u32,
    window: u16,
}

struct Pair {
    ends: [End; 2],
    now: u64,
    stamps: bool,
}

impl Pair {
    fn new(isn: [u32; 2], stamps: bool) -> Self {
        let end = |[isn, peer]: [u32; 2]| End {
            next: isn,
            sent: Vec::new(),
            held: Vec::new(),
            last: None,
            acked: peer,
            window: 500,
        };
        Self {
            ends: [end([isn[0], isn[1]]), end([isn[1], isn[0]])],
            now: 1_700_000_000_000_000_000,
            stamps,
        }
    }

    fn header(&self, s: usize, flags: u8, seq: u32, ack: u32) -> TcpHeader {
        let mut tcp = TcpHeader {
            seq,
            ack,
            flags,
            window: self.ends[s].window,
            ..TcpHeader::default()
        };
        if flags & TcpHeader::SYN != 0 {
            tcp.options = TcpHeader::MSS | TcpHeader::SCALE;
            (tcp.mss, tcp.scale) = (1460, 7);
        }
        if self.stamps {
            tcp.options |= TcpHeader::TIMESTAMPS;
            tcp.tsval = (self.now / 1_000_000) as u32;
            // What the other end sent about two ticks ago.
            tcp.tsecr = tcp.tsval.wrapping_sub(2);
        }
        tcp
    }

    fn handshake(&mut self) -> Vec<(usize, TcpHeader, u32)> {
        const BOTH: u8 = TcpHeader::SYN | TcpHeader::ACK;
        let [a, b] = [self.ends[0].next, self.ends[1].next];
        let syn = self.header(0, TcpHeader::SYN, a, 0);
        let answer = self.header(1, BOTH, b, a.wrapping_add(1));
        self.ends[0].next = a.wrapping_add(1);
        self.ends[1].next = b.wrapping_add(1);
        self.ends[0].acked = self.ends[1].next;
        self.ends[1].acked = self.ends[0].next;
        let ack = self.header(0, TcpHeader::ACK, a.wrapping_add(1), b.wrapping_add(1));
        vec![(0, syn, 0), (1, answer, 0), (0, ack, 0)]
    }

    fn act(&mut self, act: Act) -> Option<(usize, TcpHeader, u32)> {
        let s = usize::from(!act.near);
        self.now = self.now.wrapping_add_signed(act.ns);
        let peer_next = self.ends[1 - s].next;
        let ack = match act.choice % 16 {
            0..9 => peer_next,
            9..14 => self.ends[s].acked,
            14 => self.ends[1 - s]
                .sent
                .last()
                .map_or(peer_next, |last| last.0),
            _ => peer_next.wrapping_add(1000),
        };
        let next = self.ends[s].next;
        let data = |pair: &Self, flags, seq| pair.header(s, flags | TcpHeader::ACK, seq, ack);
        let (tcp, len) = match act.kind {
            Kind::Data | Kind::Lost | Kind::Held => {
                let tcp = data(self, 0, next);
                let end = &mut self.ends[s];
                end.next = next.wrapping_add(act.size);
                end.sent.push((next, act.size));
                match act.kind {
                    Kind::Lost => return None,
                    Kind::Held => {
                        end.held.push((tcp, act.size));
                        return None;
                    }
                    _ => (tcp, act.size),
                }
            }
            Kind::Release => self.ends[s].held.pop()?,
            Kind::Again => {
                let sent = &self.ends[s].sent;
                let back = usize::from(act.choice) % sent.len().clamp(1, 6);
                let (seq, len) = *sent.iter().rev().nth(back)?;
                let cut = if act.choice.is_multiple_of(5) {
                    len / 2
                } else {
                    0
                };
                (
                    data(self, 0, seq.wrapping_add(cut)),
                    (len - cut).max(act.size / 2),
                )
            }
            Kind::Twice => self.ends[s].last?,
            Kind::Ack => (data(self, 0, next), 0),
            Kind::Sack => {
                let mut tcp = data(self, 0, next);
                tcp.options |= TcpHeader::SACK;
                if act.choice.is_multiple_of(3) {
                    tcp.options |= TcpHeader::DSACK;
                }
                tcp.sack = (peer_next.wrapping_sub(1448), peer_next);
                (tcp, 0)
            }
            Kind::Window => {
                self.ends[s].window = if act.choice.is_multiple_of(3) {
                    0
                } else {
                    act.choice
                };
                (data(self, 0, next), 0)
            }
            Kind::Probe => (data(self, 0, next), 1),
            Kind::KeepAlive => (
                data(self, 0, next.wrapping_sub(1)),
                u32::from(act.choice % 2),
            ),
            Kind::Fin => {
                self.ends[s].next = next.wrapping_add(1);
                (data(self, TcpHeader::FIN, next), 0)
            }
            Kind::Rst => (data(self, TcpHeader::RST, next), 0),
            Kind::Syn => (self.header(s, TcpHeader::SYN, next, 0), 0),
            Kind::Wild => {
                let seq = next.wrapping_add(act.size << 16);
                (
                    self.header(s, act.choice as u8, seq, ack.rotate_left(5)),
                    act.size,
                )
            }
        };
        if act.choice.is_multiple_of(97) {
            // A segment without the option where all others have it.
            let mut tcp = tcp;
            tcp.options &= !TcpHeader::TIMESTAMPS;
            return Some((s, tcp, len));
        }
        self.ends[s].acked = tcp.ack;
        self.ends[s].last = Some((tcp, len));
        Some((s, tcp, len))
    }
}

/// One analyser's part of TCP: a connection and what it shares.
struct Side {
    flow: TcpFlow,
    shared: Shared,
    initial_rtt_ns: u32,
    short: bool,
    plain: u32,
}

impl Side {
    fn new(short: bool, classifier: Classifier) -> Self {
        Self {
            flow: TcpFlow::NEW,
            shared: Shared {
                pool: Pool::new(1000, &PlainMemory),
                classifier,
                no_sample: [0; NoSample::COUNT],
                repeats: Repeats::new(),
                details: Some(vec![Detail::default(); 4].into()),
            },
            initial_rtt_ns: 0,
            short,
            plain: 0,
        }
    }

    /// Everything that a segment shows, and the state after it.
    fn segment(&mut self, s: usize, tcp: &TcpHeader, len: u32, at: u64) -> String {
        let sender = Sender::ALL[s];
        let packet = len + 52;
        self.flow.count(sender, packet, 1, packet);
        let segment = Segment {
            tcp,
            len,
            at: WallNanos(at),
        };
        let mut shown = Vec::new();
        let mut show = |one| shown.push(one);
        let (shared, flow) = (&mut self.shared, &mut self.flow);
        let plain = if self.short {
            flow.plain(shared, 3, sender, &segment)
        } else {
            None
        };
        self.plain += u32::from(plain.is_some());
        let classes = match plain {
            None => {
                let initial = &mut self.initial_rtt_ns;
                flow.segment(shared, initial, 3, sender, &segment, &mut show)
            }
            Some(None) => TcpClasses::NONE,
            Some(Some(ack)) => {
                flow.plain_ack(shared, 3, sender, ack, &mut show);
                TcpClasses::NONE
            }
        };
        // Which cell of the pool is taken is all that may differ.
        let lists = self.lists();
        let mut flow = self.flow;
        for side in &mut flow.sides {
            side.outstanding = List::EMPTY;
        }
        format!(
            "{classes:?} {shown:?} {flow:?} {} {:?} {:?} {lists}",
            self.initial_rtt_ns,
            self.shared.no_sample,
            self.counts()
        )
    }

    /// Details are kept up lazily; what is counted is the same.
    fn counts(&self) -> Option<[base::TcpDetail; 2]> {
        let details = self.shared.details.as_ref()?;
        Some(details[3].sides.map(|side| side.counts))
    }

    fn lists(&mut self) -> String {
        let mut cells = Vec::new();
        for side in &self.flow.sides {
            cells.push(String::from("/"));
            self.shared.pool.walk(side.outstanding, |cell| {
                let Cell {
                    first,
                    end,
                    tsval,
                    at,
                    repeats,
                    flags,
                    ..
                } = cell;
                cells.push(format!("{first} {end} {tsval} {at:?} {repeats} {flags}"));
            });
        }
        assert_eq!(self.shared.pool.exhausted, 0);
        format!("{} {cells:?}", self.shared.pool.used())
    }
}

fn same(acts: &[Act], isn: [u32; 2], stamps: bool, handshake: bool, classifier: Classifier) -> u32 {
    let mut pair = Pair::new(isn, stamps);
    let mut ways = [true, false].map(|short| Side::new(short, classifier));
    let mut segments = Vec::new();
    if handshake {
        let now = pair.now;
        segments.extend(pair.handshake().into_iter().map(|it| (it, now)));
    }
    for act in acts {
        if let Some(segment) = pair.act(*act) {
            segments.push((segment, pair.now));
        }
    }
    for (n, ((s, tcp, len), at)) in segments.iter().enumerate() {
        let [short, general] = ways.each_mut().map(|way| way.segment(*s, tcp, *len, *at));
        assert_eq!(
            short, general,
            "segment {n} of {s}: {tcp:?} with {len} octets"
        );
    }
    // Both ways were gone.
    ways[0].plain
}

/// Beginnings near the end of the sequence space, where numbers wrap.
fn isn() -> impl Strategy<Value = u32> {
    prop_oneof![
        any::<u32>(),
        (u32::MAX - 20_000..=u32::MAX),
        0x7fff_0000u32..0x8000_1000
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_short_way_says_what_the_general_one_says(
        acts in acts(),
        isn in [isn(), isn()],
        stamps in any::<bool>(),
        handshake in any::<bool>(),
        tcptrace in any::<bool>(),
    ) {
        let classifier = if tcptrace { Classifier::Tcptrace } else { Classifier::Tshark };
        same(&acts, isn, stamps, handshake, classifier);
    }
}

#[test]
fn most_segments_go_the_short_way() {
    let act = |near, kind| Act {
        near,
        kind,
        size: 1448,
        choice: 0,
        ns: 1_000_000,
    };
    let round = [
        act(true, Kind::Data),
        act(true, Kind::Data),
        act(false, Kind::Ack),
    ];
    let plain = same(&round.repeat(100), [7, 9], true, true, Classifier::Tshark);
    // All but what comes right after a SYN's window.
    assert!(plain > 295, "{plain}");
}
