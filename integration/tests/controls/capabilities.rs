//! `capabilities`: eight of the fourteen are left, no others are to be had.

use crate::{check, errno, hardens, refused};
use integration::{Bundle, Case, Container, Policy};

pub(crate) const CASES: &[Case] = &[
    Case {
        control: "capabilities",
        name: "chroot",
        prepare: |_| {},
        act: "chroot=/",
        expect: errno("EPERM"),
        covered_by: &[],
    },
    Case {
        control: "capabilities",
        name: "raw-socket",
        prepare: |_| {},
        act: "raw-socket",
        expect: errno("EPERM"),
        covered_by: &[],
    },
    Case {
        control: "capabilities",
        name: "packet-socket",
        prepare: |_| {},
        act: "packet-socket",
        expect: errno("EPERM"),
        covered_by: &[],
    },
    Case {
        control: "capabilities",
        name: "net-admin",
        prepare: |b| {
            b.config.add_capability("CAP_NET_ADMIN");
        },
        act: "cwd",
        expect: refused("capabilities."),
        covered_by: &[],
    },
    Case {
        control: "capabilities",
        name: "sys-time",
        prepare: |b| {
            b.config.add_capability("CAP_SYS_TIME");
        },
        act: "settime",
        expect: refused("capabilities."),
        covered_by: &["seccomp"],
    },
];

#[test]
fn each_alone() {
    check(CASES);
}

/// CHOWN 0, `DAC_OVERRIDE` 1, FOWNER 3, FSETID 4, KILL 5, SETGID 6, SETUID 7, `NET_BIND_SERVICE` 10
const EIGHT: &str = "00000000000004fb";

#[test]
fn the_eight_are_left_and_work() {
    if !hardens() {
        return;
    }
    let acts = ["caps", "chown=/tmp,33", "setuid=33", "setgid-groups", "bind-port=80"];
    let outcome = Container::new(Bundle::new("caps-eight"))
        .policy(&Policy::hardened())
        .acts(&acts);
    let zero = "0000000000000000";
    assert_eq!(
        outcome.ok("caps"),
        format!("CapInh={zero} CapPrm={EIGHT} CapEff={EIGHT} CapBnd={EIGHT} CapAmb={zero}")
    );
    outcome.all_ok(&acts[1..]);
}
