use clap::Parser as _;

use super::*;
use crate::cli::{Cli, Command};
use crate::exit::Exit;

fn planned(line: &str, terminal: bool) -> Result<Plan, Failure> {
    let words = format!("netsonde capture {line}");
    let cli = Cli::try_parse_from(words.split_whitespace()).expect(line);
    let Command::Capture(args) = cli.command else {
        panic!("not capture");
    };
    plan(&args, terminal)
}

#[test]
fn fingers_that_know_tcpdump_are_at_home() {
    let of = |line| planned(line, false).expect(line);
    let plan = of("-nn -i eth0 -s 0 -c 10 -w out.pcap -C 1 -W 3 -p -l -U tcp port 443 and host db");
    assert_eq!(plan.input, Input::Devices(vec!["eth0".to_owned()]));
    assert_eq!(plan.filter.join(" "), "tcp port 443 and host db");
    assert_eq!(plan.count, Some(10));
    let write = plan.write.expect("writes");
    assert_eq!(
        (write.snaplen, write.file_bytes, write.files),
        (0, Some(1_000_000), Some(3))
    );
    // Headers, not payload, unless told otherwise.
    assert_eq!(of("-r in -w out").write.expect("writes").snaplen, 128);
    assert_eq!(
        of("-C 64M -w f").write.expect("writes").file_bytes,
        Some(64 << 20)
    );
    assert_eq!(of("-r -").input, Input::File("-".into()));
    assert_eq!(
        of("-i eth0,eth1 -i lo").input,
        Input::Devices(["eth0", "eth1", "lo"].map(str::to_owned).to_vec())
    );
    // An option may follow the filter.
    assert_eq!(of("-r f udp --json").show, Show::Json);
}

#[test]
fn what_is_shown_and_when_a_run_ends_by_itself() {
    for (line, terminal, show, duration) in [
        ("-i lo", true, Show::Table, None),
        ("-i lo", false, Show::Lines, None),
        ("-i lo -q", true, Show::Summary, None),
        ("-i lo -w -", true, Show::Lines, None),
        ("-r f", true, Show::Summary, None),
        ("-r f --json", false, Show::Json, None),
        ("-i lo --json", false, Show::Json, Some(10 * S)),
        ("-i lo --json -c 3", false, Show::Json, None),
        ("-i lo --json --duration 3", false, Show::Json, Some(3 * S)),
        ("-i lo --json", true, Show::Json, None),
        ("-i lo --json-stream", false, Show::JsonStream, None),
    ] {
        let plan = planned(line, terminal).expect(line);
        assert_eq!((plan.show, plan.duration_ns), (show, duration), "{line}");
    }
}

#[test]
fn no_file_is_two_things() {
    let says = |line: &str| planned(line, false).expect_err(line).to_string();
    // Cargo runs tests in the package's folder.
    let said = says("-r Cargo.toml -w ./src/../Cargo.toml");
    assert!(said.contains("-r and -w name one file"), "{said}");
    let said = says("-i lo -w new.pcap --flows ./new.pcap");
    assert!(said.contains("-w and --flows name one file"), "{said}");
    let said = says("-r Cargo.toml --flows new --records new");
    assert!(said.contains("--flows and --records"), "{said}");
    for line in [
        "-r - -w -",
        "-i lo --flows /dev/null --records /dev/null",
        "-r Cargo.toml -w new.pcap --flows new.json",
    ] {
        planned(line, false).expect(line);
    }
}

#[test]
fn options_reach_the_analyser() {
    let of = |line| planned(line, false).expect(line).options;
    let plan = of("-r f");
    assert_eq!((plan.flows, plan.segments), (131_072, 262_144));
    assert_eq!(plan.classifier, Classifier::Tshark);
    let plan = of(
        "-r f --classifier tcptrace --duplicates classify --layer outer --max-flows 1000 \
         --group-by 10.0.0.0/8=vpc,192.0.2.1=one --group-by-port 443=https",
    );
    assert_eq!(plan.classifier, Classifier::Tcptrace);
    assert_eq!(plan.duplicates, Duplicates::Classify);
    assert_eq!(plan.layer, Layer::Outermost);
    assert_eq!((plan.flows, plan.segments), (1000, 2000));
    assert_eq!(plan.groups.count(), 6);
    assert_ne!(of("-r f").seed, of("-r f").seed);
}

#[test]
fn names_may_be_shared_and_be_like_others() {
    for line in [
        "-r f --group-by 10.0.0.0/8=a,192.0.2.0/24=a,10.0.0.0/8=a",
        "-r f --group-by-port 80=web,443=web,80=web",
        "-r f --group-by 10.0.0.0/8=None --group-by-port 80=others",
        "-r f --flows ./- --records ./other",
        "-i lo --backend pcap --workers 1",
    ] {
        planned(line, false).expect(line);
    }
    assert!(
        Cli::try_parse_from(["netsonde", "capture", "-r", "f", "-s", "0"]).is_err(),
        "-s without -w is of no use"
    );
}

#[test]
fn each_rule_has_its_line() {
    for (line, wanted) in [
        ("-r f -c 0", "-c 0 takes nothing"),
        ("-r f -c -1", "-c -1 takes nothing"),
        ("-r f -w o -s -1", "-s -1 is out of range"),
        ("-r f -w o -s 600000", "from 0 to 524288"),
        ("-r f -w o -C 0", "-C 0 is out of range"),
        ("-r f -w o -C x", "-C: 'x' is no size"),
        ("-r f -w o -C 1 -W 0", "-W 0 is out of range"),
        ("-r f --max-flows 1", "from 16 to 16777216"),
        ("-r f --top 1001", "from 0 to 1000"),
        ("-r f --duration 0", "from 1ms to 30d"),
        ("-r f --group-by vpc", "write 10.0.0.0/16=NAME"),
        (
            "-r f --group-by 10.0.0.0/33=x",
            "'10.0.0.0/33' is no network",
        ),
        ("-r f --group-by 10.0.0.0/8=", "write 10.0.0.0/16=NAME"),
        ("-r f --group-by-port 0=x", "'0' is no port"),
        ("-r f --group-by-port https=443", "'https' is no port"),
        ("--backend afxdp", "name the devices"),
        ("-i any --backend afxdp", "name the devices"),
        ("-i eth* --backend afxdp", "without any or globs"),
        ("-i lo --ring 1K", "from 256K to 1G"),
        ("-i lo -w f --workers 2", "one thread takes all frames"),
        ("-i lo --netns= ", "--netns: no namespace is named"),
        ("-i lo --xdp-take ip", "--xdp-take is for --backend afxdp"),
        (
            "-r f --xdp-mode native",
            "--xdp-mode is for --backend afxdp",
        ),
        ("-r f -w - --json", "both want standard output"),
        ("-r f --flows -", "--flows -: standard output has"),
        (
            "-r f --records - --json",
            "--records -: standard output has",
        ),
        (
            "-i lo --backend pcap --workers 2",
            "with --backend pcap one",
        ),
        (
            "-i eth0 --backend afxdp --workers 2",
            "with --backend afxdp one",
        ),
        ("-r f --group-by 10.0.0.0/8=none", "'none' is what metrics"),
        ("-r f --group-by-port 80=none", "'none' is what metrics"),
        (
            "-r f --group-by-port 80=__other__",
            "'__other__' is what metrics",
        ),
        (
            "-r f --group-by 10.0.0.1/8=a",
            "'10.0.0.1/8' has bits behind its prefix; write 10.0.0.0/8=a",
        ),
        (
            "-r f --group-by 10.0.0.0/8=a,10.0.0.0/8=b",
            "10.0.0.0/8 is 'a' already",
        ),
        (
            "-r f --group-by 192.0.2.1=a,192.0.2.1/32=b",
            "192.0.2.1/32 is 'a' already",
        ),
        ("-r f --group-by-port 80=a,443=b,80=c", "80 is 'a' already"),
    ] {
        let failure = planned(line, false).expect_err(line);
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message.contains(wanted), "{line}: {failure}");
    }
}
