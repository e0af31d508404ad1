//! Sizes and fragments, on a loopback device with a small MTU in a namespace of its own.

use std::process::Command;

use super::*;
use crate::netns::{Namespace, unique_name};

/// By iproute2, as an independent hand. The child is started from this thread's namespace.
pub(super) fn loopback_up(mtu: u32) {
    let status = Command::new("ip")
        .args(["link", "set", "lo", "up", "mtu", &mtu.to_string()])
        .status();
    assert!(status.expect("iproute2").success());
}

fn in_namespace(work: impl FnOnce()) {
    match Namespace::create(&unique_name()) {
        Ok(namespace) => namespace
            .run(|| {
                loopback_up(1500);
                work();
            })
            .expect("enter"),
        Err(error) => assert!(unprivileged(&error), "{error}"),
    }
}

#[test]
fn too_large_a_packet_is_refused_with_the_mtu_and_costs_only_itself() {
    in_namespace(|| {
        assert_eq!(crate::device::mtu("lo").expect("mtu"), 1500);
        for (address, headers) in [(V4, 28), (V6, 48)] {
            for pmtu in [Pmtu::Do, Pmtu::Probe] {
                let (sender, receiver) = connected_pair(address);
                receiver.receive_ttl_tos_pktinfo().expect("options");
                sender.set_pmtu(pmtu).expect("pmtu");
                sender.receive_errors_on().expect("errors on");
                let largest = vec![1; 1500 - headers];
                sender.send(&largest, None).expect("just fits");
                one(&receiver, |received| {
                    assert_eq!(received.payload.len(), largest.len());
                    assert_eq!(received.fragment_bytes, None);
                });
                let error = sender
                    .send(&vec![1; 1501 - headers], None)
                    .expect_err("one too many");
                assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
                let mut errors = ErrorBatch::new(4, 64);
                until(&sender, || {
                    sender.receive_errors(&mut errors).expect("errors") > 0
                });
                for item in errors.iter() {
                    assert!(
                        matches!(
                            item,
                            ErrorItem::Local {
                                errno: libc::EMSGSIZE,
                                info: 1500,
                                ..
                            }
                        ),
                        "{address} {pmtu:?}: {item:?}"
                    );
                }
                sender.send(b"small", None).expect("still good");
                one(&receiver, |received| assert_eq!(received.payload, b"small"));
            }
        }
    });
}

#[test]
fn a_packet_that_came_in_fragments_says_so() {
    in_namespace(|| {
        for address in [V4, V6] {
            let (sender, receiver) = connected_pair(address);
            receiver.receive_ttl_tos_pktinfo().expect("options");
            sender.set_pmtu(Pmtu::Dont).expect("pmtu");
            sender.send(&[3; 2000], None).expect("send");
            one(&receiver, |received| {
                assert_eq!(received.payload, [3; 2000]);
                // Fragment payloads are multiples of 8: at most 1500, at least 1493.
                let largest = received.fragment_bytes.expect("it was fragmented");
                assert!((1493..=1500).contains(&largest), "{largest}");
            });
        }
    });
}

#[test]
fn ids_by_count_and_own_ids_after_a_refusal() {
    in_namespace(|| {
        let (sender, _receiver) = connected_pair(V4);
        sender.set_pmtu(Pmtu::Do).expect("pmtu");
        let mode = sender.enable_stamps(false).expect("stamps");
        let own = |id| mode.own_ids.then_some(id);
        sender.send(&[0; 8], own(70)).expect("send");
        assert!(sender.send(&[0; 4000], own(71)).is_err());
        sender.send(&[0; 8], own(72)).expect("send");
        let mut errors = ErrorBatch::new(8, 64);
        let mut ids = Vec::new();
        until(&sender, || {
            sender.receive_errors(&mut errors).expect("errors");
            ids.extend(errors.iter().filter_map(|item| match item {
                ErrorItem::Stamp { id, .. } => Some(id),
                _ => None,
            }));
            ids.len() == 2
        });
        if mode.own_ids {
            assert_eq!(ids, [70, 72]);
        } else {
            assert_eq!(ids[0], 0);
        }
    });
}
