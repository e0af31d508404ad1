//! Two hosts and a bridge between them, and frames over it: with VLANs of the kernel's and with tags
//! that were put in by hand.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};

use anyhow::{Context, Result, ensure};
use lab::traffic::{send_frames, udp_frame};
use lab::{Host, Lab};

use crate::capture_afpacket::DEVICE;
use crate::commands::PATIENCE;

/// The devices of the bridge.
pub(super) const DEVICES: [&str; 2] = ["eth0", "eth1"];

/// The hosts' hardware addresses, as [`lab::topology::join`] gives them.
const ENDS: ([u8; 6], [u8; 6]) = ([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 4]);

/// Two hosts and a bridge between them that has no address.
pub(super) struct Bridged {
    pub(super) a: Host,
    pub(super) b: Host,
    pub(super) bridge: Host,
    /// Networks of the two hosts: 0 has no tag; VLANs only if this kernel has them.
    networks: Vec<u8>,
}

impl Bridged {
    /// What passed a device of the bridge, in and out.
    pub(super) fn passed(&self, device: &str) -> Result<u64> {
        let count = |counter| self.bridge.device_counter(device, counter);
        Ok(count("rx_packets")? + count("tx_packets")?)
    }
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

pub(super) fn bridged(lab: &Lab) -> Result<Bridged> {
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

pub(super) fn traffic(net: &Bridged) -> Result<()> {
    talk(net)?;
    send_frames(&net.a, DEVICE, &frames(ENDS))?;
    send_frames(&net.b, DEVICE, &frames((ENDS.1, ENDS.0)))
}
