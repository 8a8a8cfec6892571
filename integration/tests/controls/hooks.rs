//! `hooks`: code that runs as root outside the container is the host's own.

use crate::{check, refused};
use integration::{Bundle, Case};
use serde_json::json;
use std::os::unix::fs::PermissionsExt as _;

fn hook(bundle: &mut Bundle, mode: u32, owner: u32) {
    let path = bundle.dir.join("hook");
    std::fs::write(&path, "#!/bin/sh\nexec cat >/dev/null\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    std::os::unix::fs::chown(&path, Some(owner), None).unwrap();
    bundle.config.push("/hooks/createRuntime", json!({ "path": path }));
}

const fn row(name: &'static str, prepare: fn(&mut Bundle)) -> Case {
    Case {
        control: "hooks",
        name,
        prepare,
        act: "cwd",
        expect: refused("hooks."),
        covered_by: &[],
    }
}

pub(crate) const CASES: &[Case] = &[
    row("writable-by-others", |b| hook(b, 0o757, 0)),
    row("writable-by-group", |b| hook(b, 0o775, 0)),
    row("owned-by-another", |b| hook(b, 0o755, 1000)),
];

#[test]
fn each_alone() {
    check(CASES);
}
