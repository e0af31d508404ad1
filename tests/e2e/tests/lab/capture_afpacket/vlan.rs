//! Frames with VLAN tags, of which the kernel takes the outermost out: the same octets,
//! lengths and matches as tcpdump has on the same device. On a bridge, where frames arrive with
//! a tag beside them on one device and leave so on the other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use capture::FileSource;
use lab::{Finished, Running};
use netsonde_e2e::{missing, missing_program, netsonde};
use serde_json::Value;

use super::*;
use crate::commands::{PATIENCE, number};

pub(super) fn trials() -> Vec<Trial> {
    let missing = || missing().or_else(|| missing_program("tcpdump", "tcpdump"));
    vec![
        trial("afpacket::has_vlan_tags_in_place", missing, octets),
        trial("afpacket::filters_vlans_in_the_kernel", missing, || {
            filters(None)
        }),
        trial("afpacket::filters_vlans_in_user_space", missing, || {
            filters(Some(Capability::NetRaw))
        }),
        trial("afpacket::writes_and_counts_vlan_tags", missing, written),
    ]
}

/// More than any frame has.
const WHOLE: u32 = 262_144;

/// Octets and length of frames, and how often each was there.
type Seen = BTreeMap<(Vec<u8>, u32), u32>;

/// tcpdump on a host.
struct Tcpdump {
    running: Running,
    path: PathBuf,
}

impl Tcpdump {
    fn start(host: &Host, device: &str, snaplen: u32, filter: &str) -> Result<Self> {
        let name =
            format!("{device} {snaplen} {filter}").replace(|one: char| !one.is_alphanumeric(), "-");
        let path = host.file(&format!("tcpdump-{name}.pcap"))?;
        let (snaplen, file) = (snaplen.to_string(), path.to_string_lossy());
        let mut args = vec!["-i", device, "-s", &snaplen, "-w", &file, "-Z", "root"];
        args.extend(["-n", "-U", "-B", "4096", "-p"]);
        args.extend(Some(filter).filter(|filter| !filter.is_empty()));
        let running = host.spawn("tcpdump", &args)?;
        running.wait_error_line("listening on", PATIENCE)?;
        Ok(Self { running, path })
    }

    /// What it captured: when it has so many frames, or has had time for them.
    fn stop(self, frames: u64) -> Result<Seen> {
        let limit = Instant::now() + Duration::from_secs(5);
        while count(&read(&self.path)?) < frames && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(20));
        }
        let finished = self.running.stop("INT", PATIENCE)?;
        let lost = !finished.stderr.contains("0 packets dropped by kernel");
        ensure!(finished.code() == 0 && !lost, "{}", finished.stderr);
        read(&self.path)
    }
}

fn add(seen: &mut Seen, frame: &base::Frame<'_>) {
    let key = (frame.bytes.to_vec(), frame.original_len);
    *seen.entry(key).or_default() += 1;
}

fn count(seen: &Seen) -> u64 {
    seen.values().map(|count| u64::from(*count)).sum()
}

/// The frames of a file that may still be written to.
fn read(path: &Path) -> Result<Seen> {
    let mut seen = Seen::new();
    let mut source = FileSource::open(path)?;
    loop {
        let polled = source.poll(Duration::ZERO, |frames| {
            frames.iter().for_each(|frame| add(&mut seen, frame));
        });
        match polled {
            Ok(Polled::End) | Err(SourceError::Corrupt { .. }) => return Ok(seen),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// What one has and the other has not, for messages.
fn difference(ours: &Seen, theirs: &Seen) -> String {
    let only = |one: &Seen, other: &Seen| {
        let lacking = one
            .iter()
            .filter(|(frame, count)| other.get(*frame) != Some(*count));
        let shown: Vec<_> = lacking
            .clone()
            .take(3)
            .map(|((bytes, length), count)| {
                format!("{count} x {length}: {:02x?}", &bytes[..bytes.len().min(50)])
            })
            .collect();
        format!("{} of {}: {shown:?}", lacking.count(), count(one))
    };
    let (ours, theirs) = (only(ours, theirs), only(theirs, ours));
    format!("only ours {ours}; only tcpdump's {theirs}")
}

/// The devices of the bridge.
const DEVICES: [&str; 2] = ["eth0", "eth1"];

/// The hosts' hardware addresses, as [`lab::topology::join`] gives them.
const ENDS: ([u8; 6], [u8; 6]) = ([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 4]);

/// Two hosts and a bridge between them that has no address.
struct Bridged {
    a: Host,
    b: Host,
    bridge: Host,
    /// Networks of the two hosts: 0 has no tag; VLANs only if this kernel has them.
    networks: Vec<u8>,
}

/// The other host is known: nobody asks for it later, when frames are counted.
fn neighbour(end: u8, network: u8, device: &str) -> String {
    let other = 3 - end;
    let hardware = 2 * other;
    format!(
        "neighbour replace 10.{network}.0.{other} lladdr 02:00:00:00:00:0{hardware} dev {device} nud permanent\n"
    )
}

/// VLANs 7 and 8, and VLAN 5 within service VLAN 9.
fn vlans(end: u8) -> String {
    let neighbours = [(7, "v7"), (8, "v8"), (9, "s9"), (5, "s9.5")];
    let known = neighbours.map(|(network, device)| neighbour(end, network, device));
    let made = format!(
        "link add link {DEVICE} name v7 type vlan id 7\n\
         link add link {DEVICE} name v8 type vlan id 8 egress-qos-map 0:5\n\
         link add link {DEVICE} name s9 type vlan proto 802.1ad id 9\n\
         link set s9 up\n\
         link add link s9 name s9.5 type vlan id 5\n\
         address add 10.7.0.{end}/24 dev v7\n\
         address add 10.8.0.{end}/24 dev v8\n\
         address add 10.9.0.{end}/24 dev s9\n\
         address add 10.5.0.{end}/24 dev s9.5\n\
         link set v7 up\n\
         link set v8 up\n\
         link set s9.5 up\n"
    );
    made + &known.concat()
}

fn bridged(lab: &Lab) -> Result<Bridged> {
    let [a, b, bridge] = [lab.host("a")?, lab.host("b")?, lab.host("bridge")?];
    for host in [&a, &b, &bridge] {
        host.silence()?;
    }
    bridge.ip("link add br0 type bridge mcast_snooping 0\nlink set br0 up\n")?;
    let mut networks = vec![0];
    for (end, (host, device)) in [1, 2].into_iter().zip([&a, &b].into_iter().zip(DEVICES)) {
        lab::topology::join(
            (host, DEVICE, 2 * end),
            (&bridge, device, 2 * end + 1),
            9_001,
        )?;
        bridge.ip(&format!("link set {device} master br0\n"))?;
        host.ip(&format!(
            "address add 10.0.0.{end}/24 dev {DEVICE}\n{}",
            neighbour(end, 0, DEVICE)
        ))?;
        match host.ip(&vlans(end)) {
            Ok(_) if networks.len() == 1 && end == 1 => networks.extend([7, 8, 9, 5]),
            Ok(_) => {}
            Err(error) => {
                let error = format!("{error:#}");
                ensure!(error.contains("Unknown device type"), "{error}");
                eprintln!("without VLAN devices, which this kernel lacks");
            }
        }
    }
    Ok(Bridged {
        a,
        b,
        bridge,
        networks,
    })
}

impl Bridged {
    /// What passed a device of the bridge, in and out.
    fn passed(&self, device: &str) -> Result<u64> {
        let count = |counter| self.bridge.device_counter(device, counter);
        Ok(count("rx_packets")? + count("tx_packets")?)
    }
}

/// Each network's packets in both directions: UDP, ICMP errors, and TCP in frames that
/// are cut later.
fn talk(net: &Bridged) -> Result<()> {
    for network in &net.networks {
        let [a, b] = [1, 2].map(|end| std::net::Ipv4Addr::new(10, *network, 0, end));
        let bind = |host: &Host, address| -> Result<UdpSocket> {
            let socket = host
                .namespace()
                .run(|| UdpSocket::bind((address, 5_000)))??;
            socket.set_read_timeout(Some(PATIENCE))?;
            Ok(socket)
        };
        let (near, far) = (bind(&net.a, a)?, bind(&net.b, b)?);
        for length in 0..40 {
            near.send_to(&[0xa5; 64][..length], (b, 5_000))?;
            let (got, from) = far.recv_from(&mut [0; 64])?;
            far.send_to(&[0x5a; 64][..got], from)?;
            near.recv_from(&mut [0; 64])?;
        }
        near.send_to(b"nobody there", (b, 9))?;
        let listener = net.b.namespace().run(|| TcpListener::bind((b, 80)))??;
        let mut stream = net.a.namespace().run(|| TcpStream::connect((b, 80)))??;
        let (mut accepted, _) = listener.accept()?;
        let sender = std::thread::spawn(move || -> std::io::Result<()> {
            stream.write_all(&[7; 100_000])?;
            stream.shutdown(std::net::Shutdown::Write)?;
            stream.read(&mut [0]).map(drop)
        });
        let mut all = Vec::new();
        accepted.read_to_end(&mut all)?;
        drop(accepted);
        sender.join().ok().context("the sender panicked")??;
        ensure!(all.len() == 100_000);
    }
    Ok(())
}

/// Frames with tags in them, in all of these ways.
fn frames(mac: ([u8; 6], [u8; 6])) -> Vec<Vec<u8>> {
    let tags: [&[u8]; 12] = [
        &[],
        &[0x81, 0, 0, 7],
        &[0x81, 0, 0xe0, 7],
        &[0x81, 0, 0x10, 8],
        // A priority alone.
        &[0x81, 0, 0xa0, 0],
        &[0x81, 0, 0x0f, 0xff],
        &[0x88, 0xa8, 0, 7],
        &[0x88, 0xa8, 0, 9, 0x81, 0, 0, 5],
        &[0x81, 0, 0, 7, 0x81, 0, 0, 8],
        &[0x81, 0, 0, 8, 0x81, 0, 0, 7, 0x81, 0, 0, 6],
        // The kernel leaves this type alone.
        &[0x91, 0, 0, 7],
        &[0x91, 0, 0, 7, 0x81, 0, 0, 8],
    ];
    let mut plain: Vec<Vec<u8>> = (0..24)
        .map(|i| {
            let [from, to] = [1, 2].map(|end| std::net::Ipv4Addr::new(10, i % 2 * 7, 0, end));
            let ports = (20_000 + u16::from(i), 80 + u16::from(i % 3));
            let length = 8 * usize::from(i);
            udp_frame(mac, (from.into(), to.into()), ports, &[0xa5; 200][..length])
        })
        .collect();
    // Some are TCP's and ICMP's, as far as a filter looks.
    for (frame, protocol) in plain.iter_mut().skip(12).zip([6, 6, 6, 6, 6, 6, 1, 1]) {
        frame[23] = protocol;
    }
    let arp = [0, 1, 8, 0, 6, 4, 0, 1];
    let ends = [&[2; 6][..], &[10, 7, 0, 1], &[0; 6], &[10, 7, 0, 2]].concat();
    plain.push([&plain[0][..12], &[8, 6], &arp, &ends].concat());
    let mut frames = Vec::new();
    for tag in tags {
        let with_tag = |frame: &Vec<u8>| [&frame[..12], tag, &frame[12..]].concat();
        frames.extend(plain.iter().map(with_tag));
        // Cut within and behind the tags; of less than 20 octets the kernel takes none out and
        // shows the frame to nobody.
        for length in [20, 21, 24, 30] {
            let frame = with_tag(&plain[0]);
            frames.push(frame[..length.max(12 + tag.len() + 4)].to_vec());
        }
    }
    frames
}

fn traffic(net: &Bridged) -> Result<()> {
    talk(net)?;
    send_frames(&net.a, DEVICE, &frames(ENDS))?;
    send_frames(&net.b, DEVICE, &frames((ENDS.1, ENDS.0)))
}

/// A ring that holds all of the traffic until somebody reads.
fn patient(device: &str, snaplen: u32, filter: &str) -> Result<AfPacketOptions> {
    let words = [filter.to_owned()];
    Ok(AfPacketOptions {
        device: Some(device.to_owned()),
        ring_bytes: 8 << 20,
        block_bytes: 128 << 10,
        retire_ms: 50,
        snaplen,
        filter: (!filter.is_empty())
            .then(|| Filter::compile(&words, &[]))
            .transpose()?,
        ..on_device()
    })
}

/// All that comes of what passes the device, and what became of it.
fn all_of(
    net: &Bridged,
    sources: &mut [AfPacketSource],
    device: &str,
    before: u64,
) -> Result<(Seen, Tally)> {
    let (mut seen, mut tally) = (Seen::new(), Tally::default());
    let each = |_, frame: &base::Frame<'_>| add(&mut seen, frame);
    read_until(sources, &mut tally, each, |tally| {
        Ok(tally.all() >= net.passed(device)? - before)
    })?;
    Ok((seen, tally))
}

fn octets() -> Result<()> {
    let lab = Lab::new()?;
    let net = bridged(&lab)?;
    let mut running = Vec::new();
    for device in DEVICES {
        for snaplen in [WHOLE, 128, 61, 18, 17, 16, 14] {
            let workers = if snaplen == WHOLE { 3 } else { 1 };
            let dump = Tcpdump::start(&net.bridge, device, snaplen, "")?;
            let mut options = patient(device, snaplen, "")?;
            options.vnet_header = snaplen != 18;
            options.ring_bytes *= workers;
            let sources = sources_on(&net.bridge, &options, workers)?;
            running.push((device, snaplen, dump, sources, net.passed(device)?));
        }
    }
    traffic(&net)?;
    for (device, snaplen, dump, mut sources, before) in running {
        let (ours, tally) = all_of(&net, &mut sources, device, before)?;
        let theirs = dump.stop(tally.lent)?;
        let offered = net.passed(device)? - before;
        ensure!(
            (tally.lent, tally.drops) == (offered, [0; 3]),
            "{snaplen} on {device}: {tally:?} of {offered}"
        );
        ensure!(
            ours == theirs,
            "{snaplen} on {device}: {}",
            difference(&ours, &theirs)
        );
        if snaplen == WHOLE {
            let of_kind = |kind: [u8; 2]| {
                let of_kind =
                    |((bytes, _), _): &(&(Vec<u8>, u32), &u32)| bytes.get(12..14) == Some(&kind);
                ours.iter().filter(of_kind).map(|(_, count)| count).sum()
            };
            let kinds: [u32; 4] = [[0x81, 0], [0x88, 0xa8], [0x91, 0], [8, 0]].map(of_kind);
            ensure!(kinds.iter().all(|count| *count > 90), "{kinds:?}");
            let longest = ours.keys().map(|(_, length)| *length).max();
            ensure!(longest > Some(9_100), "none is cut later: {longest:?}");
        }
    }
    Ok(())
}

/// `with`: all that the capturing thread may do; `None`: everything.
fn filters(with: Option<Capability>) -> Result<()> {
    let lab = Lab::new()?;
    let net = bridged(&lab)?;
    let texts = [
        "vlan",
        "vlan 7",
        "vlan 8",
        "vlan 9",
        "not vlan",
        "not vlan 7",
        "vlan and host 10.7.0.1",
        "vlan 7 and tcp port 80",
        "vlan 8 and (icmp or arp)",
        "vlan 9 and vlan 5 and udp",
        "vlan 7 or vlan 8",
        "udp",
        "host 10.0.0.1 and not vlan",
        "vlan and greater 200",
        "vlan and dst host 10.7.0.2",
    ];
    let mut running = Vec::new();
    for device in DEVICES {
        for text in texts {
            let dump = Tcpdump::start(&net.bridge, device, WHOLE, text)?;
            let options = patient(device, WHOLE, text)?;
            let sources = match with {
                None => sources_on(&net.bridge, &options, 1)?,
                Some(capability) => {
                    let opened = net.bridge.run_with_only(&[capability], || {
                        AfPacketSource::open_group(&options, 1)
                    })??;
                    opened.sources
                }
            };
            let in_kernel = sources.iter().all(AfPacketSource::filters_in_kernel);
            ensure!(in_kernel == with.is_none());
            running.push((device, text, dump, sources, net.passed(device)?));
        }
    }
    traffic(&net)?;
    for (device, text, dump, mut sources, before) in running {
        let (ours, tally) = all_of(&net, &mut sources, device, before)?;
        let theirs = dump.stop(tally.lent)?;
        let offered = net.passed(device)? - before;
        ensure!(
            tally.all() == offered && tally.drops[1..] == [0, 0],
            "{text} on {device}: {tally:?} of {offered}"
        );
        ensure!(
            ours == theirs && tally.lent == count(&theirs),
            "{text} on {device}: {}",
            difference(&ours, &theirs)
        );
        ensure!((1..offered).contains(&tally.lent), "{text}: {tally:?}");
    }
    Ok(())
}

/// The document of `netsonde capture`.
fn document(finished: &Finished) -> Result<Value> {
    ensure!(finished.code() == 0, "{finished:?}");
    let line = finished.stdout.lines().last().context("no document")?;
    Ok(serde_json::from_str(line)?)
}

/// The command: its file is tcpdump's, and what it says of live frames is what it says of
/// tcpdump's file.
fn written() -> Result<()> {
    let lab = Lab::new()?;
    let net = bridged(&lab)?;
    let device = DEVICES[1];
    for filter in ["", "vlan 7", "vlan and not tcp"] {
        let dump = Tcpdump::start(&net.bridge, device, WHOLE, filter)?;
        let theirs_at = dump.path.clone();
        let ours_at = net.bridge.file("ours.pcapng")?;
        let file = ours_at.to_string_lossy();
        let snaplen = WHOLE.to_string();
        let mut args = vec!["capture", "-i", device, "--backend", "afpacket", "--json"];
        args.extend(["--ring", "32MiB", "-s", &snaplen, "-w", &file]);
        args.extend(filter.split_whitespace());
        let running = net.bridge.spawn(netsonde()?, &args)?;
        running.wait_error_line("backend afpacket", PATIENCE)?;
        let before = net.passed(device)?;
        traffic(&net)?;
        // Its blocks stay open for a second at most.
        let limit = Instant::now() + PATIENCE;
        let mut found = (0, Instant::now());
        while found.1.elapsed() < Duration::from_millis(1_500) && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(50));
            let now = count(&read(&theirs_at)?);
            if now > found.0 {
                found = (now, Instant::now());
            }
        }
        let theirs = dump.stop(found.0)?;
        let live = document(&running.stop("INT", PATIENCE)?)?;
        let ours = read(&ours_at)?;
        ensure!(ours == theirs, "{filter}: {}", difference(&ours, &theirs));
        let octets: u64 = theirs
            .iter()
            .map(|((_, length), count)| u64::from(*length) * u64::from(*count))
            .sum();
        ensure!(
            number(&live, "frames")? == count(&theirs) && number(&live, "bytes")? == octets,
            "{filter}: {} frames of {octets} octets: {live}",
            count(&theirs)
        );
        let filtered = net.passed(device)? - before - count(&theirs);
        ensure!(
            live["capture_drops"]["filtered"].as_u64() == Some(filtered),
            "{filtered}: {live}"
        );
        let path = theirs_at.to_string_lossy();
        let args = ["capture", "-r", &path, "--json"];
        let of_file = document(&net.bridge.spawn(netsonde()?, &args)?.finish(PATIENCE)?)?;
        for key in [
            "frames",
            "bytes",
            "decoded",
            "measured",
            "decode",
            "unmeasured",
        ] {
            ensure!(
                live[key] == of_file[key],
                "{filter}: {key}: live {}, of tcpdump's file {}",
                live[key],
                of_file[key]
            );
        }
    }
    Ok(())
}
