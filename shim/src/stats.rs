//! Metrics of a container's cgroup in containerd's messages.
//!
//! They are read with cgroups-rs, in a process of its own (this same binary, `-stats PID`): cgroups-rs panics where a cgroup goes
//! away while it is read, and reading allocates more than all the rest of the shim. Neither may touch the process that holds the
//! containers.

mod v1;
mod v2;

use std::collections::HashMap;
use std::io::Write;
use std::process::{Command, Stdio};

use cgroups_rs::cgroup::get_cgroups_relative_paths_by_pid;
use cgroups_rs::hierarchies;
use cgroups_rs::pid::PidController;
use cgroups_rs::{Cgroup, MaxValue};
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{Error, Result};
use crate::exits::Exits;
use crate::pipe::{pipe, read_all};
use crate::reactor::within;
use crate::sync::both;

/// The reader's time.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(10);
/// `USER_HZ`: the unit of `cpuacct.stat` in nanoseconds. It is 100 Hz on every architecture that Rust and containerd share.
const TICK: u64 = 10_000_000;

/// The metrics of the cgroup that the process `pid` is in, as the answer to `Stats`.
pub async fn of(pid: Pid, exits: &Exits) -> Result<Any> {
    let (read, write) = pipe()?;
    let mut command = Command::new("/proc/self/exe");
    command
        .args(["-stats", &pid.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::from(write))
        .stderr(Stdio::null());
    let child = command
        .spawn()
        .map_err(|error| Error::system("running the reader of cgroups", error))?;
    drop(command);
    let reader = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    let exit = exits.child(reader);
    let Some((exit, bytes)) = within(LIMIT, both(exit.wait(), read_all(read))).await else {
        // Not reaped yet, so the number is its own; if it is, it just ended.
        if exit.get().is_none() {
            kill(reader, Signal::SIGKILL).map_err(|errno| Error::system("killing the reader of cgroups", errno))?;
        }
        return Err(Error::Metrics);
    };
    let bytes = bytes?;
    let (version, message) = bytes.split_first().ok_or(Error::Metrics)?;
    let name = match (exit.status, version) {
        (0, 1) => "io.containerd.cgroups.v1.Metrics",
        (0, 2) => "io.containerd.cgroups.v2.Metrics",
        _ => return Err(Error::Metrics),
    };
    Ok(Any {
        type_url: name.to_owned(),
        value: message.to_vec(),
        ..Any::default()
    })
}

/// The reader: writes the version of the cgroups and the message to `out`.
pub fn print(pid: u32, out: &mut impl Write) -> Result<()> {
    let paths = get_cgroups_relative_paths_by_pid(pid).map_err(|_| Error::Metrics)?;
    let hierarchy = hierarchies::auto();
    let (version, message) = if hierarchy.v2() {
        let path = paths.get("").ok_or(Error::Metrics)?;
        let cgroup = Cgroup::load(hierarchy, path.trim_start_matches('/'));
        (2, v2::metrics(&cgroup).write_to_bytes()?)
    } else {
        let cgroup = Cgroup::load_with_relative_paths(hierarchy, ".", paths);
        (1, v1::metrics(&cgroup).write_to_bytes()?)
    };
    let written = out.write_all(&[version]).and_then(|()| out.write_all(&message));
    written.map_err(|error| Error::system("writing metrics", error))
}

/// Current and limit; `unlimited` where there is none.
fn pids_of(pids: &PidController, unlimited: u64) -> (u64, u64) {
    let limit = match pids.get_pid_max() {
        Ok(MaxValue::Value(limit)) => u64::try_from(limit).unwrap_or(unlimited),
        _ => unlimited,
    };
    (pids.get_pid_current().unwrap_or_default(), limit)
}

/// The numbers of a flat-keyed text (`key value` lines).
fn keyed<'a>(text: &'a str) -> HashMap<&'a str, u64> {
    let pair = |line: &'a str| {
        line.split_once(' ')
            .and_then(|(key, value)| Some((key, value.trim().parse().ok()?)))
    };
    text.lines().filter_map(pair).collect()
}

/// The kernel's «unlimited» is the largest number of pages; a negative one never comes, and would be 0.
fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use containerd_shim_protos::{cgroups::metrics as first, cgroups_v2::metrics as second};

    #[test]
    fn flat_keyed_text() {
        assert_eq!(keyed("a 1\nb x\nc 3\n"), HashMap::from([("a", 1), ("c", 3)]));
    }

    #[test]
    fn our_own_cgroup_can_be_read() {
        let mut out = Vec::new();
        print(std::process::id(), &mut out).unwrap();
        let total = match out[0] {
            1 => first::Metrics::parse_from_bytes(&out[1..]).unwrap().cpu.usage.total,
            _ => second::Metrics::parse_from_bytes(&out[1..]).unwrap().cpu.usage_usec,
        };
        assert!(total > 0);
        assert!(matches!(print(u32::MAX, &mut Vec::new()), Err(Error::Metrics)));
    }
}
