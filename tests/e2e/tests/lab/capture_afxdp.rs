//! AF_XDP capture between hosts of a lab: jumbo frames, accounts under overload, times,
//! several queues, other programs, and every way to go.

use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use capture::afxdp::{AfXdpSource, Attach, Options, Queues, Wanted, XdpMode};
use capture::{DropReason, Polled, Source, SourceError};
use lab::traffic::{Blast, blast};
use lab::{Direct, Host, Lab, LinkOptions, Running};
use libtest_mimic::Trial;
use netsonde_e2e::{missing_program, trial};

const DEVICE: &str = "eth0";
const PORT: u16 = 4789;
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn trials() -> Vec<Trial> {
    let needs = lab::cleanup::missing;
    let mut trials = Vec::new();
    for attach in [Attach::Native, Attach::Generic] {
        let name = |what: &str| format!("afxdp::{what}_{attach:?}").to_lowercase();
        trials.extend([
            trial(&name("takes_jumbo_frames"), needs, move || jumbo(attach)),
            trial(&name("accounts_for_overload"), needs, move || {
                overload(attach)
            }),
            trial(&name("leaves_another_program_alone"), needs, move || {
                other(attach)
            }),
            trial(&name("detaches_when_killed"), needs, move || killed(attach)),
            trial(&name("tells_of_a_device_that_goes"), needs, move || {
                gone(attach)
            }),
        ]);
    }
    trials.extend([
        trial("afxdp::spares_the_host", needs, spares),
        trial("afxdp::merges_queues_by_time", needs, queues),
        trial("afxdp::filters_and_counts", needs, filters),
        trial(
            "afxdp::times_fit_the_kernels",
            || needs().or_else(|| missing_program("tcpdump", "tcpdump")),
            times,
        ),
    ]);
    trials
}

/// Two hosts that send nothing by themselves, so that each frame is a test's.
fn pair(lab: &Lab) -> Result<Direct> {
    let net = Direct::new(lab, LinkOptions::default())?;
    for host in [&net.a, &net.b] {
        host.sysctl("net/ipv6/conf/all/disable_ipv6", "1")?;
        host.sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
    }
    Ok(net)
}

fn options(attach: Attach) -> Options {
    Options {
        attach,
        ..Options::new(DEVICE)
    }
}

fn open(host: &Host, options: &Options) -> Result<AfXdpSource> {
    Ok(host.namespace().run(|| AfXdpSource::open(options))??)
}

/// Polls until the rings have been found empty once after `enough` frames were lent or
/// nothing more came for a while.
fn drain(
    source: &mut AfXdpSource,
    enough: usize,
    mut see: impl FnMut(&base::Frame<'_>),
) -> Result<usize> {
    let mut lent = 0;
    let limit = Instant::now() + LIMIT;
    let mut quiet = 0;
    while quiet < 2 {
        ensure!(Instant::now() < limit, "{lent} of {enough} frames");
        let wait = Duration::from_millis(if lent < enough { 100 } else { 0 });
        match source.poll(wait, |frames| {
            assert!(!frames.is_empty() && frames.len() <= capture::BATCH);
            frames.iter().for_each(&mut see);
        })? {
            Polled::Frames(frames) => {
                lent += frames;
                quiet = 0;
            }
            Polled::Quiet => quiet += 1,
            Polled::End => bail!("a live source has no end"),
        }
    }
    Ok(lent)
}

/// What the device gave to XDP, as the kernel counts: the driver's own counters in native
/// mode, received packets in generic mode.
fn seen(host: &Host, mode: XdpMode) -> Result<u64> {
    if mode == XdpMode::Generic {
        return host.device_counter(DEVICE, "rx_packets");
    }
    let text = host.run("ethtool", &["-S", DEVICE])?;
    let mut sum = 0;
    for line in text.lines() {
        if let Some((name, value)) = line.trim().split_once(": ")
            && name.starts_with("rx_queue_")
            && name.ends_with("_xdp_packets")
        {
            sum += value.parse::<u64>()?;
        }
    }
    Ok(sum)
}

/// Number of the datagram, from its payload; the frame is IPv4 without options.
fn number(frame: &base::Frame<'_>) -> u32 {
    let word = frame
        .bytes
        .get(42..46)
        .and_then(|word| word.try_into().ok());
    word.map_or(u32::MAX, u32::from_be_bytes)
}

/// E6: frames from the smallest to the largest of the link, all of them, once, in order,
/// with their length; whole where that was asked for.
fn jumbo(attach: Attach) -> Result<()> {
    let lab = Lab::new()?;
    let net = pair(&lab)?;
    for whole_frames in [false, true] {
        let options = Options {
            whole_frames,
            ..options(attach)
        };
        let mut source = open(&net.b, &options)?;
        let before = seen(&net.b, source.mode())?;
        let mut sent = 0;
        for frame_bytes in [60, 1514, 1792, 1793, 4014, 8514, 9015] {
            let what = Blast {
                count: 100,
                payload: frame_bytes - 42,
                port: PORT,
                ..Blast::default()
            };
            let mut numbers = Vec::new();
            let began = SystemTime::now();
            blast(&net.a, &net.b, what)?;
            let mut bad = Vec::new();
            drain(&mut source, 100, |frame| {
                numbers.push(number(frame));
                let single = frame_bytes <= 1792;
                let expected = if whole_frames || single {
                    frame_bytes
                } else {
                    1792
                };
                let filler = frame.bytes.get(46..).unwrap_or_default();
                if frame.original_len as usize != frame_bytes
                    || frame.bytes.len() != expected
                    || filler.iter().any(|byte| *byte != 0xa5)
                {
                    bad.push((frame.original_len, frame.bytes.len()));
                }
                let since = |at: SystemTime| {
                    let since = at.duration_since(SystemTime::UNIX_EPOCH);
                    since.map_or(0, |since| since.as_nanos())
                };
                let at = u128::from(frame.at.0);
                // The offset between the clocks may be off by what reading it took.
                if at + 100_000 < since(began) || at > since(SystemTime::now()) + 100_000 {
                    bad.push((0, 0));
                }
            })?;
            ensure!(bad.is_empty(), "{frame_bytes} bytes: {bad:?}");
            ensure!(
                numbers == (0..100).collect::<Vec<_>>(),
                "{frame_bytes}: {numbers:?}"
            );
            sent += 100;
        }
        let drops = source.drops()?;
        ensure!(drops.lost() == 0, "{drops:?}");
        let all = seen(&net.b, source.mode())? - before;
        ensure!(
            all == sent + drops.get(DropReason::Filtered),
            "{all}: {drops:?}"
        );
    }
    Ok(())
}

/// Rings that overflow at once: every frame is lent or in a counter.
fn overload(attach: Attach) -> Result<()> {
    let lab = Lab::new()?;
    let net = pair(&lab)?;
    for (frames, receive_slots, reason) in [
        (64, 0, DropReason::FillRingEmpty),
        (256, 16, DropReason::ReceiveRingFull),
    ] {
        let options = Options {
            frames,
            receive_slots,
            ..options(attach)
        };
        let mut source = open(&net.b, &options)?;
        let start = seen(&net.b, source.mode())?;
        let mut lent = 0;
        for payload in [44, 5_000] {
            let what = Blast {
                count: 5_000,
                rate: 1_000_000,
                payload,
                port: PORT,
                ..Blast::default()
            };
            // Nobody reads meanwhile, but for a look between.
            blast(&net.a, &net.b, what)?;
            lent += drain(&mut source, 1, |_| {})?;
        }
        blast(&net.a, &net.b, Blast::default())?;
        source.arm(false)?;
        lent += drain(&mut source, 0, |_| {})?;
        let drops = source.drops()?;
        let all = seen(&net.b, source.mode())? - start;
        let lost = drops.lost();
        ensure!(lost > 5_000, "no overload: {drops:?}");
        ensure!(drops.get(reason) > 0, "{reason:?} of {drops:?}");
        ensure!(drops.get(DropReason::InvalidDescriptor) == 0, "{drops:?}");
        let counted = lent as u64 + drops.get(DropReason::Filtered) + lost;
        ensure!(counted == all, "{all} seen, {lent} lent, {drops:?}");
        ensure!(drops.get(DropReason::Filtered) >= 1_000, "{drops:?}");
        // And it goes on as if nothing had been.
        source.arm(true)?;
        let what = Blast {
            count: 16,
            port: PORT,
            ..Blast::default()
        };
        blast(&net.a, &net.b, what)?;
        ensure!(drain(&mut source, 16, |_| {})? == 16, "after an overload");
    }
    Ok(())
}

/// The program on the device by the words of `ip`; independent of ours.
fn program_on(host: &Host) -> Result<Option<u32>> {
    let text = host.run("ip", &["-j", "-d", "link", "show", "dev", DEVICE])?;
    let links: serde_json::Value = serde_json::from_str(&text)?;
    let id = links[0]["xdp"]["prog"]["id"].as_u64();
    Ok(id.map(u32::try_from).transpose()?)
}

/// Both orders: a program attached by a link, and one attached by `ip`.
fn other(attach: Attach) -> Result<()> {
    let lab = Lab::new()?;
    let net = pair(&lab)?;
    let object = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../ebpf/objects/xdp_capture.bpf.o"
    );
    let refused = |id: u32| -> Result<()> {
        for second in [Attach::Native, Attach::Generic, Attach::Auto] {
            let Err(error) = open(&net.b, &options(second)) else {
                bail!("{second:?}: two programs on one device");
            };
            let text = format!("{error:#}");
            ensure!(
                text.contains(&format!("program id {id}")) && text.contains("left alone"),
                "{second:?}: {text}"
            );
            ensure!(program_on(&net.b)? == Some(id), "{second:?} changed it");
        }
        Ok(())
    };
    let mut first = open(&net.b, &options(attach))?;
    let id = program_on(&net.b)?.context("ours is on the device")?;
    refused(id)?;
    let what = Blast {
        count: 10,
        port: PORT,
        ..Blast::default()
    };
    blast(&net.a, &net.b, what)?;
    ensure!(
        drain(&mut first, 10, |_| {})? == 10,
        "the first one works on"
    );
    drop(first);
    ensure!(program_on(&net.b)?.is_none(), "gone with its owner");

    let mode = match attach {
        Attach::Native => "xdpdrv",
        _ => "xdpgeneric",
    };
    let section = "xdp.frags";
    let args = [
        "link", "set", "dev", DEVICE, mode, "object", object, "section", section,
    ];
    net.b.run("ip", &args)?;
    let id = program_on(&net.b)?.context("that of ip")?;
    refused(id)?;
    net.b
        .run("ip", &["link", "set", "dev", DEVICE, mode, "off"])?;
    open(&net.b, &options(attach)).map(drop)
}

/// Another process of this very program: attaches inside a host, says so and waits to be
/// killed.
pub(crate) fn victim(attach: &str) -> ! {
    let attach = match attach {
        "Native" => Attach::Native,
        _ => Attach::Generic,
    };
    let mut source = AfXdpSource::open(&options(attach)).expect("opens");
    println!("attached");
    std::io::stdout().flush().expect("flush");
    loop {
        let _ = source.poll(Duration::from_secs(60), |_| {});
    }
}

fn killed(attach: Attach) -> Result<()> {
    let lab = Lab::new()?;
    let net = pair(&lab)?;
    let mut command: Command = net.b.command(std::env::current_exe()?);
    command.env("NETSONDE_AFXDP_VICTIM", format!("{attach:?}"));
    let mut victim = Running::start(&mut command)?;
    victim.wait_line("attached", LIMIT)?;
    ensure!(program_on(&net.b)?.is_some(), "it said so");
    victim.signal("KILL")?;
    let _ = victim.finish(LIMIT);
    let limit = Instant::now() + LIMIT;
    // The kernel closes its descriptors after the parent was told.
    while program_on(&net.b)?.is_some() {
        ensure!(Instant::now() < limit, "the program outlives its process");
    }
    open(&net.b, &options(attach)).map(drop)
}

fn gone(attach: Attach) -> Result<()> {
    let lab = Lab::new()?;
    let net = pair(&lab)?;
    let mut source = open(&net.b, &options(attach))?;
    // Down and up again is no reason to end.
    net.b.ip("link set eth0 down\nlink set eth0 up\n")?;
    let what = Blast {
        count: 10,
        port: PORT,
        ..Blast::default()
    };
    blast(&net.a, &net.b, what)?;
    ensure!(drain(&mut source, 10, |_| {})? == 10, "down and up");
    let before = source.drops()?;

    net.b.ip("link delete eth0\n")?;
    let limit = Instant::now() + LIMIT;
    let error = loop {
        match source.poll(Duration::from_millis(100), |_| {}) {
            Err(error) => break error,
            Ok(_) => ensure!(Instant::now() < limit, "nobody says that it is gone"),
        }
    };
    ensure!(
        matches!(&error, SourceError::System { object, error, .. }
            if object == DEVICE && error.raw_os_error() == Some(100)),
        "ENETDOWN of eth0: {error}"
    );
    ensure!(source.poll(Duration::ZERO, |_| {}).is_err(), "it stays so");
    ensure!(source.drops()? == before, "the counters stay");
    drop(source);
    let error = open(&net.b, &options(attach)).expect_err("no device");
    ensure!(format!("{error:#}").contains(DEVICE), "{error:#}");
    lab::topology::join((&net.a, DEVICE, 1), (&net.b, DEVICE, 2), 9_001)?;
    let mut source = open(&net.b, &options(attach))?;
    blast(&net.a, &net.b, what)?;
    ensure!(drain(&mut source, 10, |_| {})? == 10, "it came back");
    Ok(())
}

/// The mirror's port is taken, the rest of the host works; with `All` nothing reaches it,
/// but for the port that is spared.
fn spares() -> Result<()> {
    let lab = Lab::new()?;
    let net = pair(&lab)?;
    let to = net.b.ipv4().to_string();
    let ping = || {
        net.a
            .run("ping", &["-c", "2", "-i", "0.01", "-W", "1", &to])
    };
    let connect = |port: u16| {
        let listener = net
            .b
            .namespace()
            .run(|| std::net::TcpListener::bind(("0.0.0.0", port)))??;
        let to = SocketAddr::from((net.b.ipv4(), port));
        let tried = net.a.namespace().run(|| {
            std::net::TcpStream::connect_timeout(&to, Duration::from_millis(300)).is_ok()
        })?;
        drop(listener);
        Ok::<bool, anyhow::Error>(tried)
    };
    let source = open(&net.b, &options(Attach::Auto))?;
    ensure!(source.mode() == XdpMode::Native, "{:?}", source.notes());
    ensure!(!source.zero_copy(), "veth has none");
    let notes = source.notes().join("\n");
    for part in ["eth0 (veth): native XDP", "copied, since", "not supported"] {
        ensure!(notes.contains(part), "{part}: {notes}");
    }
    ping().context("a mirror's receiver answers")?;
    drop(source);
    let all = Options {
        wanted: Wanted::All,
        spare_tcp_ports: vec![22],
        ..options(Attach::Auto)
    };
    let mut source = open(&net.b, &all)?;
    ensure!(ping().is_err(), "everything is taken");
    ensure!(connect(22)?, "but not ssh");
    ensure!(!connect(23)?, "and nothing else");
    ensure!(drain(&mut source, 3, |_| {})? >= 3, "pings and the SYN");
    source.arm(false)?;
    ping().context("not any more")?;
    drop(source);
    ping().context("nor after it")?;
    Ok(())
}

/// A pair of veths with two receive queues each; the sender's hash chooses.
fn two_queues(lab: &Lab) -> Result<Direct> {
    let net = pair(lab)?;
    net.a.ip("link delete eth0\n")?;
    let namespace = net.b.namespace().name();
    let several = "numrxqueues 2 numtxqueues 2";
    net.a.ip(&format!(
        "link add eth0 address 02:00:00:00:00:01 {several} type veth peer name eth0 address 02:00:00:00:00:02 {several} netns {namespace}\n\
         link set eth0 up\naddress add 10.0.0.1/24 dev eth0\n"
    ))?;
    net.b
        .ip("link set eth0 up\naddress add 10.0.0.2/24 dev eth0\n")?;
    let neighbour = "neighbour replace 10.0.0.2 lladdr 02:00:00:00:00:02 dev eth0 nud permanent\n";
    net.a.ip(neighbour)?;
    Ok(net)
}

fn queues() -> Result<()> {
    let lab = Lab::new()?;
    let net = two_queues(&lab)?;
    let sockets = net.a.namespace().run(|| {
        (0..16)
            .map(|_| UdpSocket::bind("0.0.0.0:0"))
            .collect::<Result<Vec<_>, _>>()
    })??;
    let to = SocketAddr::from((net.b.ipv4(), PORT));
    // Neither evenly nor in turn: runs of one queue longer than a batch are among them.
    let send = |count: u32| -> Result<()> {
        let mut state = 1u32;
        let mut socket = 0;
        for number in 0..count {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if state >> 24 < 16 || number % 200 < 60 {
                socket = (state >> 8) as usize % sockets.len();
            }
            // With the space of the Ethernet, IP and UDP headers the number is at 42.
            sockets[socket].send_to(&number.to_be_bytes(), to)?;
        }
        Ok(())
    };

    let mut source = open(&net.b, &options(Attach::Native))?;
    ensure!(source.queues().eq([0, 1]), "{source:?}");
    // All wait in the rings before the first poll.
    send(2_000)?;
    let mut numbers = Vec::new();
    let mut times = Vec::new();
    drain(&mut source, 2_000, |frame| {
        numbers.push(number(frame));
        times.push(frame.at);
    })?;
    ensure!(times.is_sorted(), "not in order of time");
    ensure!(numbers == (0..2_000).collect::<Vec<_>>(), "{numbers:?}");
    let said = net.b.run("ethtool", &["-S", DEVICE])?;
    for queue in 0..2 {
        let counter = format!("rx_queue_{queue}_xdp_packets: 0\n");
        ensure!(!said.contains(&counter), "only one queue was used: {said}");
    }
    ensure!(source.drops()?.lost() == 0);
    drop(source);

    // One source a queue: together all, once.
    let each = net
        .b
        .namespace()
        .run(|| AfXdpSource::open_each(&options(Attach::Native)))??;
    ensure!(each.len() == 2);
    send(1_000)?;
    let mut numbers = Vec::new();
    let (mut filtered, mut lent) = (0, 0);
    for mut source in each {
        let some = drain(&mut source, 0, |frame| numbers.push(number(frame)))?;
        ensure!(some > 0, "a queue without frames");
        lent += some;
        filtered += source.drops()?.get(DropReason::Filtered);
        ensure!(source.drops()?.lost() == 0);
    }
    numbers.sort_unstable();
    ensure!(lent == 1_000 && numbers == (0..1_000).collect::<Vec<_>>());
    ensure!(filtered < 100, "counted by one of them: {filtered}");

    // One queue of the two: the other's frames stay with the host, and are counted.
    let one = Options {
        queues: Queues::List(vec![1]),
        ..options(Attach::Native)
    };
    let mut source = open(&net.b, &one)?;
    send(1_000)?;
    let lent = drain(&mut source, 1, |_| {})? as u64;
    let drops = source.drops()?;
    let missed = drops.get(DropReason::RedirectFailed);
    ensure!(missed > 0 && lent + missed == 1_000, "{lent}: {drops:?}");
    let none = Options {
        queues: Queues::List(vec![2]),
        ..options(Attach::Native)
    };
    let error = open(&net.b, &none).expect_err("no such queue");
    ensure!(error.to_string().contains("has no queue 2"), "{error:#}");
    Ok(())
}

/// The source's own filter: what it refuses is counted and not lent, with frames in several
/// chunks and assembly too.
fn filters() -> Result<()> {
    let lab = Lab::new()?;
    let net = pair(&lab)?;
    let options = Options {
        whole_frames: true,
        ..options(Attach::Native)
    };
    let mut source = open(&net.b, &options)?;
    let before = source.drops()?.get(DropReason::Filtered);
    // Every third, by the last octet of the number; the length is that on the wire.
    source.set_filter(Box::new(|bytes, len| {
        assert_eq!(len, 9_015);
        bytes.get(45).is_some_and(|octet| octet % 3 == 0)
    }));
    let what = Blast {
        count: 200,
        payload: 8_973,
        port: PORT,
        ..Blast::default()
    };
    blast(&net.a, &net.b, what)?;
    let mut numbers = Vec::new();
    let mut whole = true;
    let lent = drain(&mut source, 67, |frame| {
        numbers.push(number(frame));
        whole &= frame.bytes.len() == 9_015;
    })?;
    let expected: Vec<u32> = (0..200).filter(|number| number % 3 == 0).collect();
    ensure!(whole && lent == 67 && numbers == expected, "{numbers:?}");
    let filtered = source.drops()?.get(DropReason::Filtered) - before;
    ensure!((133..150).contains(&filtered), "{filtered}");
    Ok(())
}

/// A packet socket on the sender stamps each datagram as it leaves, by the wall clock; XDP
/// on the other end sees it a moment later.
fn times() -> Result<()> {
    let lab = Lab::new()?;
    let net = pair(&lab)?;
    let mut source = open(&net.b, &options(Attach::Native))?;
    let args = [
        "-i",
        DEVICE,
        "-Q",
        "out",
        "-n",
        "-tt",
        "--immediate-mode",
        "-l",
        "-c",
        "300",
        "--time-stamp-precision=nano",
        "udp and dst port 4789",
    ];
    let witness = net.a.spawn("tcpdump", &args)?;
    witness.wait_error_line("listening", LIMIT)?;
    let socket = net.a.namespace().run(|| UdpSocket::bind("0.0.0.0:0"))??;
    let to = SocketAddr::from((net.b.ipv4(), PORT));
    let mut taken = Vec::new();
    for number in 0..300u32 {
        socket.send_to(&number.to_be_bytes(), to)?;
        // Half a second in all: many readings of the offset between the clocks.
        std::thread::sleep(Duration::from_micros(1_500));
        source.poll(Duration::ZERO, |frames| {
            taken.extend(frames.iter().map(|frame| frame.at.0));
        })?;
    }
    drain(&mut source, 1, |frame| taken.push(frame.at.0))?;
    let said = witness.finish(LIMIT)?;
    let left: Vec<u64> = said
        .stdout
        .lines()
        .filter_map(|line| {
            let (secs, nanos) = line.split(' ').next()?.split_once('.')?;
            Some(secs.parse::<u64>().ok()? * 1_000_000_000 + nanos.parse::<u64>().ok()?)
        })
        .collect();
    ensure!(
        left.len() == 300 && taken.len() == 300,
        "{} {}",
        left.len(),
        taken.len()
    );
    let mut delays: Vec<i64> = (taken.iter().zip(&left))
        .map(|(taken, left)| taken.wrapping_sub(*left).cast_signed())
        .collect();
    delays.sort_unstable();
    // Never before it left, but for the error of the offset; and at once, mostly.
    ensure!(delays[0] > -2_000, "{delays:?}");
    ensure!(delays[150] < 200_000, "{delays:?}");
    Ok(())
}
