//! One module per control. Each holds rows of the table (`Case`) and whatever shows only otherwise.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code: a panic is how a test fails"
)]

mod capabilities;
mod cdi;
mod cgroup;
mod denials;
mod devices;
mod exec;
mod fds;
mod holes;
mod hooks;
mod kernel;
mod landlock;
mod lsm;
mod masked_paths;
mod memory;
mod mounts;
mod namespaces;
mod no_new_privs;
mod notify;
mod pairs;
mod rlimits;
mod rootfs;
mod seccomp;
mod sockets;
mod sysctl;
mod user;

use integration::{Case, Expect, Runtime};

/// Every row of every control, so that `cargo test table` names what there is.
#[test]
fn the_table_has_a_row_for_every_control_that_forbids_an_act() {
    let rows = [
        capabilities::CASES,
        cgroup::CASES,
        devices::CASES,
        hooks::CASES,
        landlock::CASES,
        lsm::CASES,
        masked_paths::CASES,
        mounts::CASES,
        namespaces::CASES,
        no_new_privs::CASES,
        rlimits::CASES,
        rootfs::CASES,
        seccomp::CASES,
        sysctl::CASES,
    ];
    for cases in rows {
        assert!(!cases.is_empty());
        let mut names: Vec<&str> = cases.iter().map(|case| case.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(
            names.len(),
            cases.len(),
            "two rows of {} have one name",
            cases[0].control
        );
        assert!(
            cases.iter().all(|case| case.control == cases[0].control),
            "{} holds another's row",
            cases[0].control
        );
    }
}

/// All rows of a control; a failing row does not hide the others.
#[track_caller]
fn check(cases: &[Case]) {
    let failed: Vec<&str> = cases
        .iter()
        .filter(|case| std::panic::catch_unwind(|| case.check()).is_err())
        .map(|case| case.name)
        .collect();
    assert!(failed.is_empty(), "rows that failed: {failed:?}");
}

/// Tests of what only gabion does are left out under a stand-in, aloud.
fn hardens() -> bool {
    let hardens = Runtime::under_test().hardens;
    if !hardens {
        let program = Runtime::under_test().program.display();
        integration::left_out(&format!("{program} knows no hardening"));
    }
    hardens
}

const fn errno(name: &'static str) -> Expect {
    Expect::Errno(name)
}

const fn refused(code: &'static str) -> Expect {
    Expect::Refused(code)
}
