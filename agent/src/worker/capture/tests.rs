use super::*;
use crate::config::Config;

fn of(text: &str) -> Capture {
    let config = Config::parse("f", &format!("[capture]\n{text}\n")).unwrap();
    config.capture.unwrap()
}

#[test]
fn what_only_the_analysis_needs_changes_without_a_restart() {
    let old = of("interface = 'eth0'");
    for (text, same) in [
        ("interface = 'eth0'\ngroup_by = ['10.0.0.0/8=vpc']", true),
        (
            "interface = 'eth0'\nmax_flows = 1000\nclassifier = 'tcptrace'",
            true,
        ),
        (
            "interface = 'eth0'\nduplicates = 'classify'\ndedicated = true",
            true,
        ),
        ("interface = 'eth1'", false),
        ("interface = 'eth0'\nfilter = 'tcp'", false),
        ("interface = 'eth0'\nworkers = 3", false),
        ("interface = 'eth0'\nring = '1M'", false),
        ("interface = 'eth0'\nlayer = 'outer'", false),
        ("interface = 'eth0'\nbackend = 'pcap'", false),
    ] {
        assert_eq!(same_sockets(&old, &of(text)), same, "{text}");
    }
    let xdp = of("interface = 'eth0'\nbackend = 'afxdp'");
    assert!(!same_sockets(&xdp, &xdp.clone()));
}

#[test]
fn a_device_that_comes_later_is_described() {
    let config = of("interface = 'lo'\nworkers = 2");
    let ready = prepare(&config, |_, _| Err(io::Error::from_raw_os_error(100)));
    let bounds = ClassicBounds::default();
    let (mut capturing, mut collector) = Capturing::start(&config, ready, &bounds).unwrap();
    assert_eq!(capturing.news(), None);
    let backend = |collector: &mut Collector| collector.snapshot().backend;
    assert_eq!(backend(&mut collector), "none");
    // A group of no sockets is one that was opened.
    capturing.look(MonoNanos(1), |_, _| Ok(Group::default()));
    let news = capturing.news().expect("it is there");
    assert_eq!((&*news.device, news.backend), ("lo", "afpacket"));
    assert_eq!(capturing.news(), None);
    collector.describe(news);
    assert_eq!(backend(&mut collector), "afpacket");
    assert!(capturing.stop());
}

#[test]
fn other_threads_go_on_with_the_same_devices() {
    let config = of("interface = 'nosuchdevice0'\nworkers = 2\nmax_flows = 1000");
    let gone = |_: &Capture, _: &str| Err(io::Error::from_raw_os_error(19));
    let bounds = ClassicBounds::default();
    let ready = prepare(&config, gone);
    let (capturing, mut collector) = Capturing::start(&config, ready, &bounds).unwrap();
    let before = collector.snapshot();
    let next = of("interface = 'nosuchdevice0'\nworkers = 2\nmax_flows = 64");
    let (mut capturing, mut successor) = capturing.succeed(&next, &bounds).unwrap();
    successor.succeed(collector);
    let after = successor.snapshot();
    assert_eq!((before.flows_capacity, after.flows_capacity), (1000, 64));
    assert_eq!((after.intervals, after.since), (2, before.since));
    assert_eq!(after.device, "nosuchdevice0");
    let (health, _) = capturing.look(MonoNanos(1), gone).expect("it is time");
    assert_eq!(health, Health::Failed, "it is waited for still");
    assert!(capturing.alive());
    assert!(capturing.stop());
}

#[test]
fn a_device_that_is_not_there_is_waited_for() {
    let config = of("interface = 'nosuchdevice0'\nworkers = 2");
    let ready = prepare(&config, |_, _| Err(io::Error::from_raw_os_error(19)));
    let bounds = ClassicBounds::default();
    let (mut capturing, mut collector) = Capturing::start(&config, ready, &bounds).unwrap();
    let look = capturing.look(MonoNanos(1), |_, _| Err(io::Error::from_raw_os_error(19)));
    let (health, detail) = look.expect("it is time");
    assert_eq!(health, Health::Failed);
    assert!(
        detail.contains("nosuchdevice0: No such device (ENODEV)"),
        "{detail}"
    );
    // Not again within the second.
    assert!(
        capturing
            .look(MonoNanos(2), |_, _| unreachable!())
            .is_none()
    );
    let snapshot = collector.snapshot();
    assert_eq!((snapshot.frames, snapshot.intervals), (0, 1));
    assert_eq!(snapshot.interrupted_intervals, 1);
    assert_eq!(snapshot.dropped.len(), capture::DropReason::COUNT);
    assert_eq!(snapshot.groups.len(), 1);
    assert_eq!(
        (&*snapshot.groups[0].group, snapshot.backend),
        ("none", "none")
    );
    assert!(capturing.alive());
    assert!(capturing.stop());
}
