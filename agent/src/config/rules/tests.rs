//! One table per rule: what is taken, and the words for what is not.

use super::*;
use crate::config::Config;

/// Every text of `bad` is refused with words that contain its second part.
fn refused<T: std::fmt::Debug>(rule: impl Fn(&str) -> Rule<T>, bad: &[(&str, &str)]) {
    for (text, words) in bad {
        let error = rule(text).expect_err(text);
        assert!(error.contains(words), "{text}: {error}");
        assert!(!error.contains('\n'), "{text}: {error}");
    }
}

fn written(text: &str) -> Written {
    Written(text.to_owned())
}

#[test]
fn words() {
    assert_eq!(validate_word("ptp", &["ntp", "ptp"]), Ok(1));
    refused(
        |word| validate_word(word, &["error", "warn"]),
        &[
            ("warning", "did you mean 'warn'?"),
            ("x", "known are: error, warn"),
        ],
    );
}

#[test]
fn sections_of_later_versions() {
    let section = |enabled| Some(Absent { enabled });
    assert!(validate_absent(None).is_ok());
    assert!(validate_absent(section(Some(false)).as_ref()).is_ok());
    for on in [None, Some(true)] {
        let error = validate_absent(section(on).as_ref()).unwrap_err();
        assert!(error.contains("not in this version"), "{error}");
    }
    for text in ["[mtu]", "[history]\nsize='1M'", "[export.cloudwatch]"] {
        let error = Config::parse("f", text).unwrap_err().to_string();
        assert!(error.contains("not in this version"), "{error}");
        let off = format!("{text}\nenabled = false\n");
        assert!(Config::parse("f", &off).is_ok(), "{off}");
    }
}

#[test]
fn addresses() {
    assert!(validate_address("[::1]:9862").is_ok());
    refused(
        validate_address,
        &[
            ("127.0.0.1", "no address with a port"),
            ("localhost:1", "no address with a port"),
            ("1.2.3.4:70000", "no address with a port"),
            ("", "no address with a port"),
        ],
    );
    let listen = "127.0.0.1:1".parse().unwrap();
    assert!(validate_differs("127.0.0.1:2".parse().unwrap(), listen).is_ok());
    let error = validate_differs(listen, listen).unwrap_err();
    assert!(error.contains("same as agent.listen"), "{error}");
}

#[test]
fn users_and_paths_and_levels() {
    assert_eq!(validate_user(""), Ok(None));
    assert_eq!(validate_user("net_sonde-1"), Ok(Some("net_sonde-1".into())));
    refused(
        validate_user,
        &[("a b", "no user name"), ("-x", "no user name")],
    );
    refused(
        validate_absolute,
        &[("state", "no absolute path"), ("", "no absolute path")],
    );
    assert_eq!(validate_level("debug"), Ok(tracing::Level::DEBUG));
    refused(validate_level, &[("warning", "did you mean 'warn'?")]);
}

#[test]
fn labels() {
    let labels = |names: &[&str]| -> BTreeMap<String, String> {
        names
            .iter()
            .map(|name| ((*name).to_owned(), "v".to_owned()))
            .collect()
    };
    let eight = ["a", "b", "c", "d", "e", "f", "g", "h"];
    assert!(validate_labels(&labels(&eight)).is_ok());
    let nine = validate_labels(&labels(&[&eight[..], &["i"]].concat())).unwrap_err();
    assert_eq!(nine, "has 9 labels, at most 8 are taken");
    refused(
        validate_label_name,
        &[
            ("1a", "no label name"),
            ("a-b", "no label name"),
            ("", "no label name"),
            ("__name__", "no label name"),
            ("target", "sets itself"),
            ("le", "sets itself"),
        ],
    );
    refused(
        validate_label_value,
        &[
            ("", "no label value"),
            ("a\nb", "no label value"),
            (&"x".repeat(129), "no label value"),
        ],
    );
    let error = validate_labels(&BTreeMap::from([("zone".into(), String::new())])).unwrap_err();
    assert!(error.starts_with("zone: "), "{error}");
}

#[test]
fn nothing_twice_nothing_none_nothing_too_often() {
    let mut seen = BTreeSet::new();
    assert!(validate_unique(&mut seen, "a").is_ok());
    assert_eq!(
        validate_unique(&mut seen, "a"),
        Err("'a' is there twice".into())
    );
    assert!(validate_some(1, "x").is_ok());
    assert_eq!(validate_some(0, "x"), Err("names no x".into()));
    assert!(validate_target_count(MAX_TARGETS).is_ok());
    assert!(validate_target_count(MAX_TARGETS + 1).is_err());
    for (text, key) in [
        (
            "[[probe]]\nname='a'\ntargets=['x']\n[[probe]]\nname='a'\ntargets=['x']",
            "probe[1].name",
        ),
        ("[[probe]]\ntargets=['x','y','x']", "probe[0].targets[2]"),
        (
            "[reflector]\nlisten=['0.0.0.0:1','0.0.0.0:1']",
            "reflector.listen[1]",
        ),
    ] {
        let error = Config::parse("f", text).unwrap_err().to_string();
        assert!(
            error.contains(key) && error.contains("there twice"),
            "{error}"
        );
    }
}

#[test]
fn protocols_and_ports() {
    assert_eq!(validate_protocol("icmp"), Ok(Choice::Icmp));
    refused(
        validate_protocol,
        &[
            ("tcp", "not in this version"),
            ("stmp", "did you mean 'stamp'?"),
        ],
    );
    assert!(validate_port(1).is_ok());
    assert!(validate_port(0).unwrap_err().contains("no port"));
}

#[test]
fn targets() {
    let target = |text: &str| validate_target(text, 862, Choice::Stamp);
    let address = |text: &str, port| {
        let found = target(text).expect(text);
        assert_eq!(found.text, text);
        assert_eq!(found.port, port);
        match found.host {
            Host::Address(address) => address.to_string(),
            Host::Name(name) => format!("name {name}"),
        }
    };
    assert_eq!(address("10.0.2.10", 862), "10.0.2.10");
    assert_eq!(address("10.0.2.10:99", 99), "10.0.2.10");
    assert_eq!(address("2001:db8::1", 862), "2001:db8::1");
    assert_eq!(address("[2001:db8::1]:99", 99), "2001:db8::1");
    assert_eq!(address("db.internal", 862), "name db.internal");
    assert_eq!(address("db_1.internal.:99", 99), "name db_1.internal.");
    assert_eq!(address("fe80::1%eth0", 862), "name fe80::1%eth0");
    refused(
        target,
        &[
            ("10.0.0.300", "neither an address nor a host name"),
            ("a b", "neither an address nor a host name"),
            ("-a.example", "neither an address nor a host name"),
            ("a..b", "neither an address nor a host name"),
            ("host:0", "is no target"),
            ("host:x", "is no target"),
            ("2001:db8::zz:1", "neither an address nor a host name"),
            ("224.0.0.1", "no address of one host"),
            ("0.0.0.0", "no address of one host"),
            ("255.255.255.255", "no address of one host"),
            ("", "no label value"),
        ],
    );
    refused(
        |text| validate_target(text, 862, Choice::Icmp),
        &[("h:1", "ICMP echo has none")],
    );
    refused(
        |text| validate_target(text, 862, Choice::Auto),
        &[("h:1", "means TCP")],
    );
}

#[test]
fn durations_in_range() {
    assert_eq!(validate_interval(&written("100us")), Ok(100_000));
    assert_eq!(validate_interval(&written("0.5")), Ok(500_000_000));
    refused(
        |text| validate_interval(&written(text)),
        &[
            ("99us", "not within 100us to 1h"),
            ("2h", "not within"),
            ("x", "no duration"),
        ],
    );
    refused(
        |text| validate_wait(&written(text)),
        &[("61s", "not within 1ms to 60s")],
    );
    refused(
        |text| validate_idle(&written(text)),
        &[("1ms", "not within 1s to 1d")],
    );
}

#[test]
fn numbers_in_range() {
    assert!(validate_source_ports(64).is_ok());
    assert!(validate_source_ports(0).unwrap_err().contains("1 to 64"));
    assert!(validate_source_ports(65).is_err());
    assert_eq!(validate_dscp(46), Ok(184));
    assert!(validate_dscp(64).unwrap_err().contains("0 to 63"));
    assert!(validate_ttl(0).unwrap_err().contains("1 to 255"));
    assert!(validate_sessions(0).unwrap_err().contains("1 to 1000000"));
    assert_eq!(validate_min_request(None, true), Ok(14));
    assert_eq!(validate_min_request(None, false), Ok(44));
    assert!(
        validate_min_request(Some(43), false)
            .unwrap_err()
            .contains("twamp_light = true")
    );
    assert!(
        validate_min_request(Some(13), true)
            .unwrap_err()
            .contains("14 to 9000")
    );
}

#[test]
fn sizes_hold_at_least_their_headers() {
    for (size, protocol, ipv6, fine) in [
        ("72", Choice::Stamp, false, true),
        ("71", Choice::Stamp, false, false),
        ("91", Choice::Auto, true, false),
        ("92", Choice::Auto, true, true),
        ("48", Choice::Icmp, false, true),
        ("47", Choice::Icmp, false, false),
        ("65535", Choice::Stamp, false, true),
        ("64K", Choice::Stamp, false, false),
        ("big", Choice::Stamp, false, false),
    ] {
        let result = validate_size(&written(size), protocol, ipv6);
        assert_eq!(result.is_ok(), fine, "{size} {result:?}");
    }
}

#[test]
fn devices() {
    assert_eq!(validate_device(""), Ok(None));
    assert_eq!(validate_device("eth0.100"), Ok(Some("eth0.100".into())));
    refused(
        validate_device,
        &[
            ("a/b", "no device name"),
            ("sixteen-letters-", "no device name"),
            ("..", "no device name"),
        ],
    );
}

#[test]
fn clocks() {
    let rule = |text: &str, assume| validate_clock_error(&written(text), assume);
    assert_eq!(rule("", false), Ok(Clocks::Kernel));
    assert_eq!(
        rule("", true),
        Ok(Clocks::Agree {
            error_ns: 1_000_000
        })
    );
    assert_eq!(rule("10us", false), Ok(Clocks::Agree { error_ns: 10_000 }));
    assert!(
        rule("0", false)
            .unwrap_err()
            .contains("not within 1ns to 10s")
    );
}

#[test]
fn ranges() {
    assert_eq!(validate_range("10.1.0.0/16").unwrap().len(), 1);
    assert_eq!(
        validate_range("10.1.2.3").unwrap()[0].to_string(),
        "10.1.2.3/32"
    );
    assert_eq!(validate_range("any").unwrap().len(), 2);
    let private = validate_range("vpc").unwrap();
    let inside = |text: &str| {
        let address: IpAddr = text.parse().unwrap();
        private.iter().any(|range| range.contains(&address))
    };
    for address in [
        "10.255.0.1",
        "172.31.0.1",
        "192.168.9.9",
        "127.0.0.1",
        "fd00::1",
        "fe80::1",
        "::1",
    ] {
        assert!(inside(address), "{address}");
    }
    for address in ["172.32.0.1", "11.0.0.1", "8.8.8.8", "2001:db8::1"] {
        assert!(!inside(address), "{address}");
    }
    refused(
        validate_range,
        &[
            ("10.0.0.1/8", "write 10.0.0.0/8"),
            ("10.0.0.0/33", "is no range"),
            ("vpn", "is no range"),
        ],
    );
}

#[test]
fn prometheus_families() {
    assert!(validate_family("flow_rtt").is_ok());
    refused(
        validate_family,
        &[("probe_rt", "did you mean 'probe_rtt'?")],
    );
    let error = Config::parse("f", "[export.prometheus]\nclassic=[]\nnative=false").unwrap_err();
    assert!(
        error.to_string().contains("no histogram would be left"),
        "{error}"
    );
    assert!(
        validate_no_xdp("auto")
            .unwrap_err()
            .contains("not in this version")
    );
}

#[test]
fn what_is_odd_is_said() {
    let warnings = |text: &str| Config::parse("f", text).unwrap().warnings;
    assert!(warnings("[[probe]]\ntargets=['a']").is_empty());
    let ttl = warnings("[[probe]]\ntargets=['a']\nttl=64");
    assert!(ttl[0].contains("hops cannot be told"), "{ttl:?}");
    let rate = warnings("[[probe]]\ntargets=['a','b']\ninterval='1ms'");
    assert!(
        rate[0].contains("want 2000 packets/s and 1000 are allowed"),
        "{rate:?}"
    );
    assert!(
        warnings("[limits]\npackets_per_second=0\n[[probe]]\ntargets=['a']\ninterval='100us'")
            .is_empty()
    );
    let vpc = warnings("[reflector]");
    assert!(vpc[0].contains("private ranges 10.0.0.0/8"), "{vpc:?}");
}

#[test]
fn labels_of_a_probe_lie_over_those_of_the_agent() {
    let config = Config::parse(
        "f",
        "[agent.labels]\na='1'\nb='1'\n[[probe]]\ntargets=['x']\nlabels={b='2'}\n",
    )
    .unwrap();
    let labels: Vec<_> = config.probes[0]
        .labels
        .iter()
        .map(|(k, v)| format!("{k}{v}"))
        .collect();
    assert_eq!(labels, ["a1", "b2"]);
    assert_eq!(config.probes[0].name, "probe-1");
}

#[test]
fn the_capture_section() {
    let of = |text: &str| {
        let config = Config::parse("f", &format!("[capture]\n{text}\n"));
        config.map(|config| config.capture.expect("is on"))
    };
    let capture = of("").unwrap();
    assert!(capture.interface.is_empty());
    assert_eq!(capture.workers, None);
    assert_eq!(capture.ring_bytes, 32 << 20);
    let capture = of("interface = 'eth0, eth*'\nfilter = 'tcp port 443'\nworkers = 2").unwrap();
    assert_eq!(capture.interface, ["eth0", "eth*"]);
    assert_eq!(capture.filter, ["tcp", "port", "443"]);
    assert_eq!(capture.workers, Some(2));
    assert_eq!(of("interface = ['lo', 'auto']").unwrap().interface, ["lo"]);
    let groups = "group_by = ['10.0.0.0/8=vpc']\ngroup_by_port = ['443=https', '80=https']";
    assert_eq!(of(groups).unwrap().groups().count(), 4);
    assert_eq!(
        Config::parse("f", "[capture]\nenabled = false")
            .unwrap()
            .capture,
        None
    );
    let many: Vec<String> = (0..20).map(|n| format!("'{n}.0.0.0/8=n{n}'")).collect();
    let ports: Vec<String> = (1..20).map(|n| format!("'{n}=p{n}'")).collect();
    let many = format!(
        "group_by = [{}]\ngroup_by_port = [{}]",
        many.join(","),
        ports.join(",")
    );
    for (text, wanted) in [
        ("backend = 'afpakcet'", "did you mean 'afpacket'"),
        (
            "group_by = ['vpc']",
            "capture.group_by: 'vpc': write 10.0.0.0/16=NAME",
        ),
        (
            "group_by_port = ['0=x']",
            "capture.group_by_port: '0=x': '0' is no port",
        ),
        (many.as_str(), "makes 420 pairs of groups"),
        ("filter = 'host'", "filter \"host\""),
        (
            "interface = 'a-name-that-is-too-long'",
            "capture.interface[0]",
        ),
        ("interface = ''", "names no device; write auto, any"),
        ("interface = ' '", "names no device"),
        ("interface = []", "names no device"),
        ("interface = ['eth0', '']", "names no device"),
        ("ring = '1G'", "1G is not within 256K to 64M"),
        ("max_flows = 1", "1 is not within 16 to"),
        ("workers = 65", "65 is not within 0 to 64"),
        ("xdp_take = 'some'", "known are: mirror, ip, all"),
        (
            "xdp_mode = 'native'",
            "capture.xdp_mode: 'native' is for backend = \"afxdp\" alone",
        ),
        (
            "backend = 'pcap'\nxdp_take = 'all'",
            "capture.xdp_take: 'all' is for backend = \"afxdp\" alone",
        ),
        (
            "group_by = ['10.0.0.0/8=none']",
            "capture.group_by: '10.0.0.0/8=none': 'none' is what metrics",
        ),
        (
            "group_by = ['10.1.0.0/8=a']",
            "has bits behind its prefix; write 10.0.0.0/8=a",
        ),
        (
            "group_by_port = ['80=a', '80=b']",
            "capture.group_by_port: '80=b': 80 is 'a' already",
        ),
        (
            "backend = 'afxdp'",
            "capture.interface: afxdp takes frames away",
        ),
        (
            "backend = 'afxdp'\ninterface = 'eth*'",
            "without any or globs",
        ),
    ] {
        let error = of(text).unwrap_err().to_string();
        assert!(error.contains(wanted), "{text}: {error}");
    }
    let warned = Config::parse(
        "f",
        "[capture]\ninterface='eth1'\nbackend='afxdp'\nxdp_mode='native'",
    )
    .unwrap();
    assert_eq!(warned.warnings.len(), 2, "{:?}", warned.warnings);
}
