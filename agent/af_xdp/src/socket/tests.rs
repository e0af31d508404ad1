//! What needs no program: making sockets, being refused, sending. Each test is in a network
//! namespace of its own thread.

use super::*;
use std::sync::Mutex;

/// The limit on pinned memory is the process's: one test lowers it.
static ALONE: Mutex<()> = Mutex::new(());

/// Moves the thread into a new namespace, whose `lo` is down. `false`: this is not allowed
/// here, said on standard error.
fn alone() -> bool {
    // SAFETY: concerns the calling thread's network namespace only.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0 {
        return true;
    }
    eprintln!("ignored: {}", io::Error::last_os_error());
    false
}

fn small() -> Options {
    Options {
        receive_chunks: 8,
        send_chunks: 4,
        chunk_bytes: 2048,
        ..Options::default()
    }
}

#[test]
fn a_socket_says_what_it_obtained() {
    let _alone = ALONE.lock();
    if !alone() {
        return;
    }
    let mut socket = Socket::open("lo", 0, &small()).expect("a socket");
    let obtained = socket.obtained();
    assert!(!obtained.zero_copy);
    let refused = obtained.refused.as_ref().expect("lo has no zero-copy");
    assert_eq!(refused.raw_os_error(), Some(libc::EOPNOTSUPP));
    assert_eq!(socket.memory_bytes(), 12 * 2048);
    assert_eq!(
        socket.statistics().expect("statistics"),
        Statistics::default()
    );
    assert!(socket.receive(64).is_empty());
    assert!(!socket.wait(Duration::ZERO).expect("poll"));
    assert!(socket.take_error().expect("an answer").is_none());

    let error = Socket::open("lo", 0, &small()).expect_err("taken");
    assert!(matches!(error, Error::Busy { .. }), "{error}");
    assert!(error.to_string().contains("lo queue 0"), "{error}");
    drop(socket);
    Socket::open("lo", 0, &small()).expect("free again");
}

#[test]
fn what_cannot_be_is_refused() {
    let _alone = ALONE.lock();
    if !alone() {
        return;
    }
    for wrong in [
        Options {
            chunk_bytes: 3000,
            ..small()
        },
        Options {
            receive_chunks: 0,
            ..small()
        },
        Options {
            receive_slots: 3,
            ..small()
        },
        Options {
            headroom: 1800,
            ..small()
        },
        Options {
            send_chunks: u32::MAX,
            ..small()
        },
    ] {
        let error = Socket::open("lo", 0, &wrong).expect_err("contradiction");
        assert!(matches!(error, Error::Options(_)), "{error}");
    }
    let error = Socket::open("lo", 7, &small()).expect_err("no such queue");
    assert_eq!(error.errno(), Some(libc::EINVAL), "{error}");
    let only = Options {
        mode: Mode::ZeroCopy,
        ..small()
    };
    let error = Socket::open("lo", 0, &only).expect_err("lo has no zero-copy");
    assert_eq!(error.errno(), Some(libc::EOPNOTSUPP), "{error}");
}

/// Without huge pages on this machine it falls back; with them it uses them. Both work.
#[test]
fn huge_pages_and_busy_polling_are_taken() {
    let _alone = ALONE.lock();
    if !alone() {
        return;
    }
    let options = Options {
        huge_pages: true,
        busy_poll: Some(BusyPoll {
            microseconds: 20,
            budget: 64,
        }),
        ..small()
    };
    let socket = Socket::open("lo", 0, &options).expect("a socket");
    assert!(socket.memory_bytes() >= 12 * 2048);
    let said = |option| {
        get(socket.as_fd(), libc::SOL_SOCKET, option, 0)
            .expect("an option")
            .0
    };
    assert_eq!(said(libc::SO_PREFER_BUSY_POLL), 1);
    assert_eq!(said(libc::SO_BUSY_POLL), 20);
}

/// `struct __user_cap_header_struct` and `__user_cap_data_struct` (linux/capability.h).
#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

fn set_effective(change: impl Fn(u64) -> u64) {
    let mut header = CapHeader {
        version: 0x2008_0522,
        pid: 0,
    };
    let mut data = [[0u32; 3]; 2];
    // SAFETY: version 3 fills two structs of three words.
    let got = unsafe {
        libc::syscall(
            libc::SYS_capget,
            &raw mut header,
            (&raw mut data).cast::<u32>(),
        )
    };
    assert_eq!(got, 0, "capget");
    let effective = change(u64::from(data[1][0]) << 32 | u64::from(data[0][0]));
    data[0][0] = effective as u32;
    data[1][0] = (effective >> 32) as u32;
    // SAFETY: version 3 reads two structs of three words.
    let set = unsafe {
        libc::syscall(
            libc::SYS_capset,
            &raw mut header,
            (&raw mut data).cast::<u32>(),
        )
    };
    assert_eq!(set, 0, "capset");
}

#[test]
fn a_small_memlock_limit_is_named() {
    const CAP_IPC_LOCK: u64 = 1 << 14;
    let _alone = ALONE.lock();
    if !alone() {
        return;
    }
    let mut before = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `before` is writable.
    unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut before) };
    let low = libc::rlimit {
        rlim_cur: 8192,
        ..before
    };
    // SAFETY: `low` is readable.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const low) };
    // Of this thread alone.
    set_effective(|bits| bits & !CAP_IPC_LOCK);
    let made = Socket::open("lo", 0, &small());
    set_effective(|bits| bits | CAP_IPC_LOCK);
    // SAFETY: `before` is readable.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const before) };
    let error = made.expect_err("24 KiB of 8 allowed");
    assert!(
        matches!(
            error,
            Error::MemoryLock {
                wanted_bytes: 24_576,
                limit_bytes: 8192
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("LimitMEMLOCK"), "{error}");
    Socket::open("lo", 0, &small()).expect("with the privilege there is no limit");
}

/// What is sent on `lo` comes back to the host's stack, where a plain packet socket sees it.
#[test]
fn frames_are_sent_and_their_chunks_come_back() {
    let _alone = ALONE.lock();
    if !alone() {
        return;
    }
    let up = std::process::Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    if !up.is_ok_and(|status| status.success()) {
        eprintln!("ignored: no ip command");
        return;
    }
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let all = i32::from((libc::ETH_P_ALL as u16).to_be());
    // SAFETY: plain integers.
    let witness = check(unsafe { libc::socket(libc::AF_PACKET, kind, all) }).expect("a witness");
    // SAFETY: just opened.
    let witness = unsafe { OwnedFd::from_raw_fd(witness) };

    let mut socket = Socket::open("lo", 0, &small()).expect("a socket");
    assert_eq!(socket.send(&[]), Err(crate::SendError::Length));
    assert_eq!(socket.send(&[0; 5 * 2048]), Err(crate::SendError::Length));
    let frame = |n: u8| {
        let mut frame = vec![n; 5000];
        // An EtherType for experiments (IEEE 802), which no stack answers.
        frame[12..14].copy_from_slice(&[0x88, 0xb5]);
        frame
    };
    let mut sent = 0;
    // Far more than there are chunks: each comes back.
    for n in 0..16u8 {
        let long = frame(n);
        let bytes = if n % 2 == 0 { &long[..100] } else { &long };
        while socket.send(bytes) == Err(crate::SendError::Full) {
            socket.flush().expect("lo is up");
            sent += socket.complete();
        }
    }
    while socket.flush().expect("lo is up") > 0 {}
    sent += socket.complete();
    assert_eq!(sent, 8 + 8 * 3, "descriptors");
    assert_eq!(socket.free.len(), 4);
    assert_eq!(socket.invalid(), 0);

    let mut lengths = [0; 16];
    let mut room = vec![0u8; 9000];
    loop {
        // SAFETY: `room` is writable for its length.
        let got =
            unsafe { libc::recv(witness.as_raw_fd(), room.as_mut_ptr().cast(), room.len(), 0) };
        let Ok(got) = usize::try_from(got) else { break };
        if room[12..14] == [0x88, 0xb5] {
            assert!(room[14..got].iter().all(|byte| *byte == room[0]));
            lengths[usize::from(room[0])] = got;
        }
    }
    for (n, length) in lengths.iter().enumerate() {
        assert_eq!(*length, if n % 2 == 0 { 100 } else { 5000 }, "frame {n}");
    }
}
