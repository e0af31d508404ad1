//! The list is closed: what is asked for, what is refused, and what the process may do.

use super::*;

const CONFIG: &str = "[[probe]]\ntargets=['10.0.0.1']\nprotocol='icmp'\n\
    [[probe]]\nname='d'\ntargets=['10.0.0.1']\nprotocol='stamp'\ndevice='lo'\n\
    [reflector]\nlisten=['127.0.0.1:0']\n";

fn allowed(text: &str) -> Allowed {
    Allowed::by(&Config::parse("f", text).unwrap())
}

fn udp(device: Option<&str>) -> Request {
    Request::Udp {
        ipv6: false,
        device: device.map(str::to_owned),
    }
}

fn icmp(device: Option<&str>) -> Request {
    Request::Icmp {
        ipv6: true,
        device: device.map(str::to_owned),
    }
}

fn numbered(request: &Request) -> Vec<u8> {
    [&b"\x01\x02\x03\x04"[..], &request.encode()].concat()
}

#[test]
fn requests_read_back_and_nothing_else_does() {
    for request in [
        udp(None),
        udp(Some("eth0")),
        icmp(None),
        icmp(Some("lo")),
        Request::Reflect { index: 517 },
        Request::Capture {
            device: "eth0".to_owned(),
        },
        Request::CaptureNext,
    ] {
        assert_eq!(Request::decode(&request.encode()), Some(request));
    }
    for bytes in [
        &b""[..],
        b"\x01",
        b"\x00\x00",
        b"\x04\x00",
        b"\x04\x01eth0",
        b"\x05\x00x",
        b"\x06\x00",
        b"\x01\x02eth0",
        b"\x03\x00\x01",
        b"\x03\x00\x00\x00\x00",
        b"\x03\x01\x00\x00",
        b"\x01\x00\xff\xfe",
    ] {
        assert_eq!(Request::decode(bytes), None, "{bytes:?}");
    }
}

#[test]
fn only_what_is_configured_is_permitted() {
    let allowed = allowed(CONFIG);
    for fine in [udp(Some("lo")), icmp(None), Request::Reflect { index: 0 }] {
        assert!(allowed.permits(&fine), "{fine:?}");
    }
    for forged in [
        udp(None),
        udp(Some("eth0")),
        icmp(Some("lo")),
        Request::Reflect { index: 1 },
    ] {
        assert!(!allowed.permits(&forged), "{forged:?}");
        let (bytes, fd) = answer(&allowed, &numbered(&forged));
        assert_eq!(
            bytes,
            [&b"\x01\x02\x03\x04"[..], &REFUSED.to_be_bytes()].concat()
        );
        assert!(fd.is_none());
    }
}

#[test]
fn capabilities_follow_from_the_configuration() {
    let names = |text: &str| -> Vec<&str> {
        allowed(text)
            .capabilities()
            .into_iter()
            .map(Capability::as_str)
            .collect()
    };
    assert!(names("").is_empty());
    assert!(names("[[probe]]\ntargets=['a']\nprotocol='stamp'").is_empty());
    assert_eq!(names("[[probe]]\ntargets=['a']"), ["CAP_NET_RAW"]);
    assert_eq!(
        names("[[probe]]\ntargets=['a']\nprotocol='stamp'\ndevice='x'"),
        ["CAP_NET_RAW"]
    );
    assert_eq!(names("[reflector]"), ["CAP_NET_BIND_SERVICE"]);
    assert!(names("[reflector]\nlisten=['0.0.0.0:8620']").is_empty());
    assert_eq!(
        names("[[probe]]\ntargets=['a']\nprotocol='stamp'\ninterval='1ms'"),
        ["CAP_NET_ADMIN"]
    );
}

#[test]
fn it_serves_over_its_channel_until_the_agent_is_gone() {
    // A thread in the child's place: the same loop, in this process.
    let allowed = allowed(
        "[[probe]]\ntargets=['a']\nprotocol='stamp'\n[reflector]\nlisten=['127.0.0.1:0']\n",
    );
    let (ours, theirs) = sys::fdpass::pair().unwrap();
    let served = allowed.clone();
    let server = std::thread::spawn(move || serve(&theirs, &served));
    let opener = Opener {
        allowed: Arc::new(allowed),
        channel: Some(Arc::new(Mutex::new(Channel::new(UnixStream::from(ours))))),
        pid: None,
    };
    let fd = opener.socket(&SocketSpec::udp(false)).unwrap();
    let socket = std::net::UdpSocket::from(fd);
    assert_eq!(socket.local_addr().unwrap().port(), 0);
    let listen = "127.0.0.1:0".parse().unwrap();
    let fd = opener.reflect(listen).unwrap();
    assert_ne!(
        std::net::UdpSocket::from(fd).local_addr().unwrap().port(),
        0
    );

    for forged in [&b"\x02\x00"[..], b"\x01\x00lo", b"garbage", &[0xff; 200]] {
        let error = opener.ask_bytes(forged).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("restart to allow it"), "{error}");
    }
    // Too long for its buffer: the opener ends rather than guess.
    drop(opener);
    server.join().unwrap().unwrap();
}

#[test]
fn an_answer_that_came_too_late_is_not_the_next_ones() {
    let text = "[[probe]]\ntargets=['a']\nprotocol='stamp'\n[reflector]\nlisten=['127.0.0.1:0']\n";
    let allowed = allowed(text);
    let (ours, theirs) = sys::fdpass::pair().unwrap();
    let ours = UnixStream::from(ours);
    let patience = ours.try_clone().unwrap();
    patience
        .set_read_timeout(Some(Duration::from_millis(1)))
        .unwrap();
    let opener = Opener {
        allowed: Arc::new(allowed.clone()),
        channel: Some(Arc::new(Mutex::new(Channel::new(ours)))),
        pid: None,
    };
    // Nobody serves yet: given up, and answered below before the next is asked.
    let given_up = opener.reflect("127.0.0.1:0".parse().unwrap()).unwrap_err();
    assert_eq!(given_up.kind(), io::ErrorKind::WouldBlock);
    patience.set_read_timeout(None).unwrap();
    let server = std::thread::spawn(move || serve(&theirs, &allowed));
    for _ in 0..3 {
        let fd = opener.socket(&SocketSpec::udp(false)).unwrap();
        let port = std::net::UdpSocket::from(fd).local_addr().unwrap().port();
        assert_eq!(port, 0, "the reflector's socket, which is bound");
    }
    drop((opener, patience));
    server.join().unwrap().unwrap();
}

#[test]
fn errors_keep_their_number() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let text = format!("[reflector]\nlisten=['{}']\n", taken.local_addr().unwrap());
    let request = numbered(&Request::Reflect { index: 0 });
    let (bytes, fd) = answer(&allowed(&text), &request);
    assert!(fd.is_none());
    let errno = i32::from_be_bytes(bytes[NUMBER..].try_into().unwrap());
    let error = io::Error::from_raw_os_error(errno);
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn without_a_process_the_agent_opens_by_itself() {
    let opener = Opener {
        allowed: Arc::new(allowed(CONFIG)),
        channel: None,
        pid: None,
    };
    assert!(opener.socket(&SocketSpec::udp(false)).is_ok());
    assert_eq!(
        opener.missing(CapSet::default()),
        ["CAP_NET_RAW"],
        "port 0 needs no capability"
    );
}

#[test]
fn only_devices_that_are_captured_can_be_asked_for() {
    let capture = |device: &str| Request::Capture {
        device: device.to_owned(),
    };
    assert!(!allowed(CONFIG).permits(&capture("lo")));
    assert!(!allowed(CONFIG).permits(&Request::CaptureNext));
    let of = |interface: &str| allowed(&format!("[capture]\ninterface = '{interface}'\n"));
    assert!(of("lo").permits(&capture("lo")));
    assert!(!of("lo").permits(&capture("eth0")));
    assert!(of("e*").permits(&capture("eth0")));
    // A pattern does not fit what lies inside of this host.
    assert!(!of("any").permits(&capture("veth1")));
    assert!(of("veth1").permits(&capture("veth1")));
    assert_eq!(
        of("lo").capabilities(),
        [Capability::NetRaw, Capability::Bpf]
    );
    // Nothing was opened, so nothing is next.
    let (bytes, fd) = Pending::default()
        .answer(&of("lo"), &numbered(&Request::CaptureNext))
        .expect("an answer");
    assert_eq!(
        bytes,
        [&b"\x01\x02\x03\x04"[..], &NOTHING.to_be_bytes()].concat()
    );
    assert!(fd.is_none());
    let other = Pending::default().answer(&of("lo"), &numbered(&capture("eth0")));
    assert!(other.is_none(), "a refusal is the others' business");
}

#[test]
fn what_is_not_as_it_should_be_comes_with_the_first_socket() {
    let allowed = allowed("[capture]\ninterface = 'lo'\nworkers = 2\n");
    let config = allowed.capture.clone().expect("it is on");
    let (ours, theirs) = sys::fdpass::pair().unwrap();
    let server = std::thread::spawn(move || {
        let mut buffer = [0; MESSAGE];
        for at in 0..capturing::descriptors(&config) {
            let (len, _) = sys::fdpass::recv(&theirs, &mut buffer).unwrap();
            let number = &buffer[..len.min(NUMBER)];
            let words: &[u8] = if at == 0 { b"one note\nanother" } else { b"" };
            let errno = if at % 3 == 0 { 0 } else { NOTHING };
            let bytes = [number, &errno.to_be_bytes(), words].concat();
            let fd = (errno == 0).then_some(theirs.as_fd());
            sys::fdpass::send(&theirs, &bytes, fd).unwrap();
        }
    });
    let config = allowed.capture.clone().expect("it is on");
    let opener = Opener {
        allowed: Arc::new(allowed),
        channel: Some(Arc::new(Mutex::new(Channel::new(UnixStream::from(ours))))),
        pid: None,
    };
    let group = opener.capture(&config, "lo").unwrap();
    assert_eq!(group.notes, ["one note", "another"]);
    let there: Vec<bool> = group.descriptors.iter().map(Option::is_some).collect();
    assert_eq!(there, [true, false, false, true, false, false]);
    server.join().unwrap();
}
