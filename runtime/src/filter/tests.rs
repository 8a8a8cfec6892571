#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)]

mod caching;
mod live;

use gabion_see::seccomp::{CacheFault, Flags, Program, SeccompError, compile};
use oci_spec::runtime::LinuxSeccomp;

use super::*;

fn profile(json: &str) -> LinuxSeccomp {
    serde_json::from_str(json).unwrap()
}

fn podman() -> LinuxSeccomp {
    profile(include_str!("../../see/src/seccomp/testdata/podman.json"))
}
