//! What tshark says of each frame, as the line that [`crate::show`] makes of ours.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

const FIELDS: &[&str] = &[
    "frame.protocols",
    "ip.src",
    "ip.dst",
    "ip.proto",
    "ip.ttl",
    "ip.len",
    "ip.hdr_len",
    "ip.id",
    "ip.flags.df",
    "ip.flags.mf",
    "ip.frag_offset",
    "ipv6.src",
    "ipv6.dst",
    "ipv6.hlim",
    "ipv6.plen",
    "ipv6.opt.jumbo",
    "ipv6.fraghdr.offset",
    "ipv6.fraghdr.more",
    "ipv6.fraghdr.ident",
    "ipv6.fraghdr.nxt",
    "tcp.srcport",
    "tcp.dstport",
    "tcp.seq_raw",
    "tcp.ack_raw",
    "tcp.len",
    "tcp.hdr_len",
    "tcp.flags",
    "tcp.window_size_value",
    "tcp.options.timestamp.tsval",
    "tcp.options.timestamp.tsecr",
    "tcp.options.mss_val",
    "tcp.options.wscale.shift",
    "tcp.options.sack_le",
    "tcp.options.sack_re",
    "udp.srcport",
    "udp.dstport",
    "udp.length",
    "icmp.type",
    "icmp.code",
    "icmp.ident",
    "icmp.seq",
    "icmp.mtu",
    "icmpv6.type",
    "icmpv6.code",
    "icmpv6.echo.identifier",
    "icmpv6.echo.sequence_number",
    "icmpv6.mtu",
    "vxlan.vni",
    "geneve.vni",
    "gre.key",
    "erspan.spanid",
];

/// Whether it is installed.
pub(crate) fn installed() -> bool {
    Command::new("tshark")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
}

/// One line per frame.
pub(crate) fn lines(path: &Path) -> Vec<String> {
    let mut command = Command::new("tshark");
    command.args([
        "-n",
        "-T",
        "fields",
        "-E",
        "separator=|",
        "-E",
        "occurrence=a",
    ]);
    // Each frame for itself.
    for off in [
        "ip.defragment",
        "ipv6.defragment",
        "tcp.desegment_tcp_streams",
        "tcp.analyze_sequence_numbers",
    ] {
        command.args(["-o", &format!("{off}:FALSE")]);
    }
    for field in FIELDS {
        command.args(["-e", field]);
    }
    let output = command.arg("-r").arg(path).output().expect("tshark runs");
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().map(line).collect()
}

/// One frame's fields, each with one value per occurrence.
struct Fields<'a>(HashMap<&'a str, Vec<&'a str>>);

impl Fields<'_> {
    fn text(&self, name: &str, occurrence: usize) -> &str {
        self.0[name].get(occurrence).copied().unwrap_or("")
    }

    fn has(&self, name: &str) -> bool {
        !self.0[name].is_empty()
    }

    fn number(&self, name: &str, occurrence: usize) -> u64 {
        let text = self.text(name, occurrence);
        match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).expect("a number"),
            None => text
                .parse()
                // What a frame lacks is in no line of ours.
                .unwrap_or(u64::MAX),
        }
    }

    /// The identification of the tunnel.
    fn tunnel(&self) -> u64 {
        for name in ["erspan.spanid", "vxlan.vni", "geneve.vni", "gre.key"] {
            if self.has(name) {
                return self.number(name, 0);
            }
        }
        0
    }
}

/// Which layer a name in the path means, and how many of its kind there were before.
#[derive(Copy, Clone)]
struct Ip {
    v6: bool,
    index: usize,
}

fn line(text: &str) -> String {
    let fields = Fields(
        FIELDS
            .iter()
            .zip(text.split('|'))
            .map(|(name, values)| (*name, values.split(',').filter(|v| !v.is_empty()).collect()))
            .collect(),
    );
    let protocols = fields.text("frame.protocols", 0).to_owned();
    let path: Vec<&str> = protocols.split(':').collect();
    let count = |upto: usize, name: &str| path[..upto].iter().filter(|p| **p == name).count();
    let ip_at = |at: usize| Ip {
        v6: path[at] == "ipv6",
        index: count(at, path[at]),
    };
    let is_ip = |name: &str| name == "ip" || name == "ipv6";
    // The innermost IP that no error quotes.
    let quoting = (1..path.len())
        .find(|&at| is_ip(path[at]) && path[at - 1].starts_with("icmp"))
        .unwrap_or(path.len());
    let Some(last) = (0..quoting).rev().find(|&at| is_ip(path[at])) else {
        let reason = match path.last() {
            Some(&"ndp") => "llc",
            Some(last) => last,
            None => "nothing",
        };
        return format!("- {reason}");
    };
    // What is inside a tunnel and has no IP.
    if let Some(inside) = path[last..]
        .iter()
        .position(|name| *name == "eth")
        .map(|eth| &path[last + eth..])
    {
        let reason = inside
            .iter()
            .find_map(|name| match *name {
                "arp" => Some("arp"),
                "stp" => Some("stp"),
                "ndp" | "cdp" => Some("llc"),
                _ => None,
            })
            .unwrap_or("unknown");
        return format!("- {reason}");
    }
    let ip = ip_at(last);
    let above = path[last + 1..]
        .iter()
        .find(|name| !name.starts_with("ipv6."))
        .copied()
        .unwrap_or("");
    let mut line = network(&fields, ip);
    let fragment = fragment(&fields, ip, &mut line);
    if fragment == Some(true) {
        return line + " fragment";
    }
    match above {
        "tcp" => {
            let payload = if fragment.is_some() {
                // It gives no length of a part.
                ip_payload(&fields, ip) - fields.number("tcp.hdr_len", 0)
            } else {
                fields.number("tcp.len", 0)
            };
            tcp(&fields, payload, &mut line);
        }
        "udp" => {
            let index = count(last, "udp");
            let [source, destination] =
                ["udp.srcport", "udp.dstport"].map(|name| fields.number(name, index));
            let mut payload = fields.number("udp.length", index).saturating_sub(8);
            if fragment.is_some() {
                // Its length is the datagram's.
                payload = ip_payload(&fields, ip) - 8;
            }
            write!(line, " udp {source} {destination} payload={payload}").expect("text");
        }
        "icmp" | "icmpv6" => {
            let quoted = (quoting < path.len()).then(|| {
                let ip = ip_at(quoting);
                let (source, destination) = addresses(&fields, ip);
                let ports = match path.get(quoting + 1) {
                    Some(name @ (&"udp" | &"tcp")) => {
                        let index = count(quoting, name);
                        let port = |end| fields.text(&format!("{name}.{end}"), index);
                        format!("{} {}", port("srcport"), port("dstport"))
                    }
                    _ => "0 0".to_owned(),
                };
                format!("{source} {destination} {ports}")
            });
            icmp(&fields, ip, quoted.as_deref(), &mut line);
        }
        _ => line += " other",
    }
    line
}

fn addresses<'a>(fields: &'a Fields<'_>, ip: Ip) -> (&'a str, &'a str) {
    let [source, destination] = if ip.v6 {
        ["ipv6.src", "ipv6.dst"]
    } else {
        ["ip.src", "ip.dst"]
    };
    (
        fields.text(source, ip.index),
        fields.text(destination, ip.index),
    )
}

fn ip_payload(fields: &Fields<'_>, ip: Ip) -> u64 {
    if ip.v6 {
        // The only extension header of the fragments in the captures.
        fields.number("ipv6.plen", ip.index) - 8
    } else {
        fields.number("ip.len", ip.index) - fields.number("ip.hdr_len", ip.index)
    }
}

fn network(fields: &Fields<'_>, ip: Ip) -> String {
    let (source, destination) = addresses(fields, ip);
    let (ttl, len, id, df) = if ip.v6 {
        let mut len = fields.number("ipv6.plen", ip.index);
        if len == 0 && fields.has("ipv6.opt.jumbo") {
            len = fields.number("ipv6.opt.jumbo", 0);
        }
        (fields.number("ipv6.hlim", ip.index), len + 40, 0, 1)
    } else {
        let number = |name| fields.number(name, ip.index);
        (
            number("ip.ttl"),
            number("ip.len"),
            number("ip.id"),
            number("ip.flags.df"),
        )
    };
    let tunnel = fields.tunnel();
    format!("{source} {destination} ttl={ttl} len={len} id={id} df={df} tunnel={tunnel}")
}

/// Whether it is a later fragment; `None`: none at all.
fn fragment(fields: &Fields<'_>, ip: Ip, line: &mut String) -> Option<bool> {
    let (offset, more, id) = if ip.v6 {
        if !fields.has("ipv6.fraghdr.offset") {
            return None;
        }
        (
            // In units of eight octets.
            fields.number("ipv6.fraghdr.offset", 0) * 8,
            fields.number("ipv6.fraghdr.more", 0),
            fields.number("ipv6.fraghdr.ident", 0),
        )
    } else {
        (
            fields.number("ip.frag_offset", ip.index) * 8,
            fields.number("ip.flags.mf", ip.index),
            fields.number("ip.id", ip.index),
        )
    };
    if offset == 0 && more == 0 {
        return None;
    }
    write!(line, " part={id:x}").expect("text");
    if offset != 0 {
        write!(line, "@{offset}{}", if more == 0 { "" } else { "+" }).expect("text");
    }
    Some(offset != 0)
}

fn tcp(fields: &Fields<'_>, payload: u64, line: &mut String) {
    let n = |name| fields.number(name, 0);
    write!(
        line,
        " tcp {} {} payload={payload} seq={} ack={} flags={:x} window={}",
        n("tcp.srcport"),
        n("tcp.dstport"),
        n("tcp.seq_raw"),
        n("tcp.ack_raw"),
        n("tcp.flags") & 0xff,
        n("tcp.window_size_value"),
    )
    .expect("text");
    for (name, fields_of_it) in [
        (
            "ts",
            ["tcp.options.timestamp.tsval", "tcp.options.timestamp.tsecr"].as_slice(),
        ),
        ("mss", &["tcp.options.mss_val"]),
        ("scale", &["tcp.options.wscale.shift"]),
        ("sack", &["tcp.options.sack_le", "tcp.options.sack_re"]),
    ] {
        if fields.has(fields_of_it[0]) {
            let values: Vec<_> = fields_of_it.iter().map(|f| fields.text(f, 0)).collect();
            write!(line, " {name}={}", values.join(",")).expect("text");
        }
    }
}

fn icmp(fields: &Fields<'_>, ip: Ip, quoted: Option<&str>, line: &mut String) {
    let name = |field: &str| format!("icmp{}.{field}", if ip.v6 { "v6" } else { "" });
    let kind = fields.number(&name("type"), 0);
    let (echo, identifier, sequence) = if ip.v6 {
        (
            [128, 129],
            "icmpv6.echo.identifier",
            "icmpv6.echo.sequence_number",
        )
    } else {
        ([8, 0], "icmp.ident", "icmp.seq")
    };
    if echo.contains(&kind) {
        write!(
            line,
            " echo reply={} identifier={} sequence={}",
            kind == echo[1],
            fields.number(identifier, 0),
            fields.number(sequence, 0)
        )
        .expect("text");
    } else if let Some(quoted) = quoted {
        let code = fields.number(&name("code"), 0);
        write!(line, " error {kind}/{code} [{quoted}]").expect("text");
        if fields.has(&name("mtu")) {
            write!(line, " mtu={}", fields.number(&name("mtu"), 0)).expect("text");
        }
    } else {
        *line += " other";
    }
}
