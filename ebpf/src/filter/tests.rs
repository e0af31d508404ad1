//! The oracle is the kernel's own classic machine: the same program and the same octets on
//! two datagram sockets, one with the classic filter, one with the translation.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;

use super::*;

fn attach<T>(socket: &UnixDatagram, option: libc::c_int, value: &T) -> io::Result<()> {
    let size = size_of::<T>() as libc::socklen_t;
    let value = std::ptr::from_ref(value).cast();
    // SAFETY: `value` points at a T of `size` bytes that outlives the call; what a filter
    // program points at does too (callers).
    match unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, value, size) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A pair whose second end has the filter.
struct Filtered([UnixDatagram; 2]);

impl Filtered {
    fn new() -> Self {
        let (one, other) = UnixDatagram::pair().expect("a pair");
        other.set_nonblocking(true).expect("set");
        Self([one, other])
    }

    fn classic(program: &[Classic]) -> io::Result<Self> {
        let pair = Self::new();
        let mut instructions: Vec<libc::sock_filter> = program
            .iter()
            .map(|one| libc::sock_filter {
                code: one.code,
                jt: one.jt,
                jf: one.jf,
                k: one.k,
            })
            .collect();
        let program = libc::sock_fprog {
            len: instructions.len() as u16,
            filter: instructions.as_mut_ptr(),
        };
        attach(&pair.0[1], libc::SO_ATTACH_FILTER, &program)?;
        Ok(pair)
    }

    fn translated(filter: &Filter) -> Self {
        let pair = Self::new();
        attach(
            &pair.0[1],
            libc::SO_ATTACH_BPF,
            &filter.program().as_raw_fd(),
        )
        .expect("attached");
        pair
    }

    /// Octets kept of it; `None`: rejected.
    fn pass(&self, octets: &[u8]) -> Option<usize> {
        self.0[0].send(octets).expect("sent");
        self.0[1].recv(&mut [0; 4096]).ok()
    }
}

fn privileged() -> bool {
    // SAFETY: no arguments, cannot fail.
    let root = unsafe { libc::geteuid() } == 0;
    if !root && std::env::var_os("CI").is_none() {
        eprintln!("ignored: needs root");
        return false;
    }
    true
}

const fn op(code: u16, jt: u8, jf: u8, k: u32) -> Classic {
    Classic { code, jt, jf, k }
}

fn options(snaplen: u32) -> FilterOptions {
    FilterOptions {
        snaplen,
        loopback_once: false,
    }
}

/// `tcpdump -dd 'tcp port 443'` for Ethernet (libpcap 1.10).
const TCP_PORT_443: [Classic; 20] = [
    op(0x28, 0, 0, 0x0000000c),
    op(0x15, 0, 6, 0x000086dd),
    op(0x30, 0, 0, 0x00000014),
    op(0x15, 0, 15, 0x00000006),
    op(0x28, 0, 0, 0x00000036),
    op(0x15, 12, 0, 0x000001bb),
    op(0x28, 0, 0, 0x00000038),
    op(0x15, 10, 11, 0x000001bb),
    op(0x15, 0, 10, 0x00000800),
    op(0x30, 0, 0, 0x00000017),
    op(0x15, 0, 8, 0x00000006),
    op(0x28, 0, 0, 0x00000014),
    op(0x45, 6, 0, 0x00001fff),
    op(0xb1, 0, 0, 0x0000000e),
    op(0x48, 0, 0, 0x0000000e),
    op(0x15, 2, 0, 0x000001bb),
    op(0x48, 0, 0, 0x00000010),
    op(0x15, 0, 1, 0x000001bb),
    op(0x6, 0, 0, 0x00040000),
    op(0x6, 0, 0, 0x00000000),
];

/// SplitMix64: enough to try programs with.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, limit: u64) -> u32 {
        (self.next() % limit) as u32
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }

    /// A program that means something: jumps go forward and not too far, loads mostly hit.
    fn program(&mut self) -> Vec<Classic> {
        let length = 3 + self.below(24) as usize;
        let mut program = Vec::new();
        // The kernel refuses to read scratch words that were not written.
        for word in 0..16 {
            program.push(op(0x02, 0, 0, word));
        }
        for at in 0..length {
            let left = (length - at - 1) as u64;
            let code = self.of(&[
                0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0xb1, 0x00, 0x01, 0x80, 0x81, 0x60, 0x61, 0x02,
                0x03, 0x07, 0x87, 0x04, 0x0c, 0x14, 0x1c, 0x24, 0x2c, 0x34, 0x3c, 0x44, 0x4c, 0x54,
                0x5c, 0x64, 0x6c, 0x74, 0x7c, 0x84, 0x94, 0x9c, 0xa4, 0xac, 0x05, 0x15, 0x1d, 0x25,
                0x2d, 0x35, 0x3d, 0x45, 0x4d, 0x16,
            ]);
            let k = match code {
                0x20 | 0x28 | 0x30 | 0x40 | 0x48 | 0x50 | 0xb1 => self.below(70),
                0x60 | 0x61 | 0x02 | 0x03 => self.below(16),
                0x64 | 0x74 => self.below(32),
                0x05 => self.below(left.min(3) + 1),
                _ => [self.below(8), self.next() as u32, u32::MAX, 1 << 31][self.below(4) as usize]
                    .max(1),
            };
            let code = if code == 0x05 && left == 0 {
                0x87
            } else {
                code
            };
            let (jt, jf) = if code & 7 == 5 && code != 5 {
                (
                    self.below(left.min(4) + 1) as u8,
                    self.below(left.min(4) + 1) as u8,
                )
            } else {
                (0, 0)
            };
            program.push(op(code, jt, jf, k));
        }
        program.push(op(
            self.of(&[0x06, 0x16, 0x16]),
            0,
            0,
            self.next() as u32 % 90,
        ));
        // A jump of the last one may point past the end by one: give it something.
        program.push(op(0x06, 0, 0, 33));
        program
    }
}

#[test]
fn random_programs_do_what_the_kernels_classic_machine_does() {
    if !privileged() {
        return;
    }
    let mut random = Random(7);
    let (mut accepted, mut rejected) = (0, 0);
    for round in 0..600 {
        let program = random.program();
        let classic =
            Filtered::classic(&program).unwrap_or_else(|error| panic!("{error}: {program:?}"));
        let snaplen = 1 + random.below(200);
        let filter = Filter::load(Programs::One(&program), options(snaplen));
        let filter = filter.unwrap_or_else(|error| panic!("{error}: {program:?}"));
        let translated = Filtered::translated(&filter);
        let mut refused = 0;
        for _ in 0..8 {
            let octets: Vec<u8> = (0..1 + random.below(80))
                .map(|_| random.next() as u8)
                .collect();
            let expected = classic.pass(&octets).map(|kept| kept.min(snaplen as usize));
            assert_eq!(
                translated.pass(&octets),
                expected,
                "{round}: {program:?} {octets:?}"
            );
            refused += u64::from(expected.is_none());
            accepted += u32::from(expected.is_some());
        }
        rejected += refused;
        let counter = filter.into_parts().1.expect("a counter");
        assert_eq!(counter.count(), refused, "{program:?}");
    }
    assert!(accepted > 500 && rejected > 500, "{accepted} {rejected}");
}

#[test]
fn a_filter_of_tcpdump() {
    if !privileged() {
        return;
    }
    let filter = Filter::load(Programs::One(&TCP_PORT_443), options(64)).expect("loads");
    let translated = Filtered::translated(&filter);
    let mut frame = vec![0; 100];
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14] = 0x46;
    frame[23] = 6;
    frame[40..42].copy_from_slice(&443_u16.to_be_bytes());
    assert_eq!(
        translated.pass(&frame),
        Some(64),
        "behind IPv4 options; cut"
    );
    frame[20] = 1;
    assert_eq!(translated.pass(&frame), None, "a later fragment");
    frame[20] = 0;
    assert_eq!(translated.pass(&frame[..41]), None, "its port is cut off");
    frame[41] = 80;
    assert_eq!(translated.pass(&frame), None, "another port");
    let counter = filter.into_parts().1.expect("a counter");
    assert_eq!(counter.count(), 3);
    // As the process does that got the descriptor from another one.
    let passed = counter.to_fd().expect("cloned");
    assert_eq!(Rejected::from_fd(passed).expect("mapped").count(), 3);
}

#[test]
fn without_a_filter_frames_are_cut_and_nothing_is_counted() {
    if !privileged() {
        return;
    }
    let filter = Filter::load(Programs::All, options(20)).expect("loads");
    assert_eq!(Filtered::translated(&filter).pass(&[1; 50]), Some(20));
    assert!(filter.into_parts().1.is_none());
}

#[test]
fn programs_that_mean_nothing_are_refused() {
    let cases: [(&[Classic], TranslateError); 9] = [
        (&[], TranslateError::Length(0)),
        (&[op(0x00, 0, 0, 1)], TranslateError::Outside(0)),
        (
            &[op(0x05, 0, 0, 1), op(6, 0, 0, 1)],
            TranslateError::Outside(0),
        ),
        (
            &[op(0x05, 0, 0, u32::MAX), op(6, 0, 0, 1)],
            TranslateError::Outside(0),
        ),
        (
            &[op(0x15, 0, 7, 1), op(6, 0, 0, 1)],
            TranslateError::Outside(0),
        ),
        (
            &[op(0x34, 0, 0, 0), op(6, 0, 0, 1)],
            TranslateError::Constant { at: 0, k: 0 },
        ),
        (
            &[op(0x64, 0, 0, 32), op(6, 0, 0, 1)],
            TranslateError::Constant { at: 0, k: 32 },
        ),
        (
            &[op(0x60, 0, 0, 16), op(6, 0, 0, 1)],
            TranslateError::Constant { at: 0, k: 16 },
        ),
        (
            &[op(0xff, 0, 0, 0), op(6, 0, 0, 1)],
            TranslateError::Unknown { at: 0, code: 0xff },
        ),
    ];
    for (program, error) in cases {
        let translated = translate::translate(Programs::One(program), options(1), None);
        assert_eq!(translated.expect_err("refused"), error);
    }
}

#[test]
fn the_highest_cpu_of_a_list() {
    for (list, expected) in [
        ("0-1\n", Some(1)),
        ("0", Some(0)),
        ("0-3,8-11\n", Some(11)),
        ("", None),
    ] {
        assert_eq!(highest(list), expected, "{list}");
    }
}

#[test]
fn a_program_for_each_way_a_frame_may_begin() {
    if !privileged() {
        return;
    }
    // A datagram of this family begins with its network header; the lab has the other kind.
    let raw = [
        op(0x30, 0, 0, 0),
        op(0x54, 0, 0, 0xf0),
        op(0x15, 0, 1, 0x40),
        op(6, 0, 0, 99),
        op(6, 0, 0, 0),
    ];
    for (ethernet, raw, expected) in [
        (None, Some(&raw[..]), [Some(40), None]),
        (Some(&TCP_PORT_443[..]), Some(&raw[..]), [Some(40), None]),
        (Some(&raw[..]), None, [None, None]),
    ] {
        let programs = Programs::Either { ethernet, raw };
        let filter = Filter::load(programs, options(64)).expect("loads");
        let translated = Filtered::translated(&filter);
        let seen = [[0x45; 40], [0x60; 40]].map(|octets| translated.pass(&octets));
        assert_eq!(seen, expected);
    }
}
