//! Everything is tried in forked children: what is dropped does not come back.

use std::io;
use std::process::Command;

use super::verify::check;
use super::*;
use crate::call::errno_of;
use crate::process::{Exit, fork_child, wait};
use crate::socket::{ProbeSocket, SocketKind, SocketSpec};

const NOBODY: u32 = 65_534;

/// Runs `body` in a child; a failed step is its exit code, so that the parent can name it.
fn in_child(body: impl FnOnce() -> Result<(), i32>) {
    let child = fork_child(|| body().err().unwrap_or(0)).expect("fork");
    assert_eq!(wait(child).expect("wait"), Exit::Code(0), "failing step");
}

fn step(number: i32, holds: bool) -> Result<(), i32> {
    if holds { Ok(()) } else { Err(number) }
}

fn open_raw() -> io::Result<ProbeSocket> {
    ProbeSocket::open(&SocketSpec {
        ipv6: false,
        kind: SocketKind::IcmpRaw,
        device: None,
    })
}

fn bind_low_port() -> io::Result<()> {
    let socket = ProbeSocket::open(&SocketSpec::udp(false))?;
    socket.bind(([127, 0, 0, 1], 862).into())
}

/// Whether the kernel guards port 862 here; containers often do not.
fn low_ports_guarded() -> bool {
    fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .ok()
        .and_then(|text| text.trim().parse::<u32>().ok())
        .is_none_or(|start| start > 862)
}

fn privileged() -> bool {
    let needed = [Capability::SetUid, Capability::SetGid, Capability::NetRaw];
    let held = effective().expect("capget");
    let all = needed.iter().all(|capability| held.has(*capability));
    if !all {
        assert!(std::env::var_os("CI").is_none(), "CI runs this as root");
        eprintln!("not tried: needs {needed:?}");
    }
    all
}

#[test]
fn after_the_drop_forbidden_things_are_forbidden() {
    in_child(|| {
        let bounding = drop_all().map_err(|_| 1)?;
        step(2, verify_dropped(bounding).is_ok())?;
        step(3, effective().is_ok_and(CapSet::is_empty))?;
        step(4, permitted().is_ok_and(CapSet::is_empty))?;
        let raw = open_raw().err().and_then(|error| errno_of(&error));
        step(5, raw == Some(libc::EPERM))?;
        if low_ports_guarded() {
            let low = bind_low_port().err().and_then(|error| errno_of(&error));
            step(6, low == Some(libc::EACCES))?;
        }
        // Not even as user 0: setting any other user is refused.
        step(7, become_user(NOBODY, NOBODY).is_err())?;
        // No way back: by capset, nor by exec of anything as this user.
        step(8, set(CapSet(1 << 13), CapSet(1 << 13)).is_err())?;
        let output = Command::new("cat").arg("/proc/self/status").output();
        let status = output.map_err(|_| 9)?.stdout;
        let status = String::from_utf8(status).map_err(|_| 10)?;
        step(11, check(&status, CapSet::default(), bounding).is_ok())?;
        // What is started later inherits the empty sets.
        let thread = std::thread::spawn(move || verify_dropped(bounding).is_ok());
        step(12, thread.join().is_ok_and(|dropped| dropped))?;
        // Dropping again is no error.
        step(13, drop_all().is_ok())
    });
}

#[test]
fn before_the_drop_the_verdict_is_no() {
    if privileged() {
        let error = verify_dropped(false).expect_err("this process is privileged");
        assert!(matches!(error, VerifyError::NotEmpty { set: "CapPrm", .. }));
    }
}

#[test]
fn another_user_with_one_capability_can_do_that_one_thing() {
    if !privileged() {
        return;
    }
    in_child(|| {
        // Groups that must be gone afterwards.
        let groups: [libc::gid_t; 2] = [1, 4];
        // SAFETY: `groups` is readable for its two entries.
        let set = unsafe { libc::setgroups(groups.len(), groups.as_ptr()) };
        step(14, set == 0)?;
        let keep = [Capability::NetRaw];
        let bounding = become_user_keeping(NOBODY, NOBODY, &keep).map_err(|_| 1)?;
        step(2, verify_only(&keep, bounding).is_ok())?;
        step(3, verify_dropped(bounding).is_err())?;
        step(4, open_raw().is_ok())?;
        step(5, !low_ports_guarded() || bind_low_port().is_err())?;
        let status = fs::read_to_string("/proc/thread-self/status").map_err(|_| 6)?;
        let has = |line: &str| status.lines().any(|found| found.trim_end() == line);
        step(7, has("Uid:\t65534\t65534\t65534\t65534"))?;
        step(8, has("Gid:\t65534\t65534\t65534\t65534"))?;
        step(9, has("Groups:"))?;
        // Nor back to user 0.
        step(10, become_user(0, 0).is_err())?;
        step(11, drop_all().is_ok())?;
        step(12, open_raw().is_err())?;
        step(13, verify_dropped(false).is_ok())
    });
}

#[test]
fn another_user_without_capabilities_has_none() {
    if !privileged() {
        return;
    }
    in_child(|| {
        become_user(NOBODY, NOBODY).map_err(|_| 1)?;
        step(2, effective().is_ok_and(CapSet::is_empty))?;
        step(3, open_raw().is_err())?;
        // no_new_privs is not set by becoming another user alone.
        step(
            4,
            matches!(verify_dropped(false), Err(VerifyError::NewPrivileges)),
        )
    });
}

#[test]
fn a_user_is_found_by_name() {
    assert_eq!(lookup_user("root"), Some((0, 0)));
    assert_eq!(lookup_user("no-such-user-here"), None);
    assert_eq!(lookup_user("a\0b"), None);
    // The oracle is the file itself.
    let passwd = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    for line in passwd.lines() {
        let fields: Vec<_> = line.split(':').collect();
        if let [name, _, uid, gid, ..] = fields[..] {
            let ids = uid.parse().ok().zip(gid.parse().ok());
            assert_eq!(lookup_user(name), ids, "{name}");
        }
    }
}

#[test]
fn each_set_that_is_not_empty_is_named() {
    let status = |full: &str, privileges: &str| {
        let sets = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(|set| {
            let bits = if set == full { "2000" } else { "0" };
            format!("{set}:\t{bits:0>16}\n")
        });
        format!("Name:\tx\n{}NoNewPrivs:\t{privileges}\n", sets.concat())
    };
    assert!(check(&status("", "1"), CapSet::default(), true).is_ok());
    for full in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let error = check(&status(full, "1"), CapSet::default(), true).expect_err(full);
        assert_eq!(
            error.to_string(),
            format!("{full} still holds 0x0000000000002000")
        );
    }
    let kept = CapSet::of(&[Capability::NetRaw]);
    assert!(check(&status("CapEff", "1"), kept, true).is_ok());
    assert!(check(&status("CapAmb", "1"), kept, true).is_err());
    assert!(check(&status("CapBnd", "1"), CapSet::default(), false).is_ok());
    assert!(matches!(
        check(&status("", "0"), CapSet::default(), true),
        Err(VerifyError::NewPrivileges)
    ));
    assert!(matches!(
        check("CapPrm:\tx", CapSet::default(), true),
        Err(VerifyError::Missing("CapPrm"))
    ));
}
