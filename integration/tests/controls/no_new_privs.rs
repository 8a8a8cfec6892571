//! `no_new_privs`: a setuid program of the image gives nothing.

use crate::{check, errno};
use integration::Case;

pub(crate) const CASES: &[Case] = &[Case {
    control: "no_new_privs",
    name: "setuid-root",
    prepare: |b| {
        b.add_setuid_probe();
        b.config.user(1000);
    },
    act: "suid-exec=/usr/bin/probe-suid",
    expect: errno("EPERM"),
    covered_by: &[],
}];

#[test]
fn each_alone() {
    check(CASES);
}
