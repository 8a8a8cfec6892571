//! The ids of a new user namespace (user_namespaces(7)): written by root itself, for a user by newuidmap(1) and newgidmap(1).

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::unistd::{Pid, getegid, geteuid};
use oci_spec::runtime::{LinuxIdMapping, Spec};

use crate::faults;
use gabion_see::error::{Error, Result, Step};

/// Whose ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ids {
    Users,
    Groups,
}

impl Ids {
    const fn file(self) -> &'static str {
        match self {
            Self::Users => "uid_map",
            Self::Groups => "gid_map",
        }
    }

    /// Setuid programs that know what /etc/subuid and /etc/subgid give to whom.
    const fn helper(self) -> &'static str {
        match self {
            Self::Users => "newuidmap",
            Self::Groups => "newgidmap",
        }
    }

    fn own(self) -> u32 {
        match self {
            Self::Users => geteuid().as_raw(),
            Self::Groups => getegid().as_raw(),
        }
    }
}

/// Maps the ids of the process's user namespace.
///
/// # Errors
/// There are none, or they are not the caller's to map.
pub(crate) fn write(spec: &Spec, pid: Pid) -> Result<()> {
    faults::at(Step::UserNamespace)?;
    let linux = spec.linux().as_ref();
    let users = linux.and_then(|l| l.uid_mappings().as_deref()).unwrap_or_default();
    let groups = linux.and_then(|l| l.gid_mappings().as_deref()).unwrap_or_default();
    map(Ids::Users, users, pid)?;
    map(Ids::Groups, groups, pid)
}

fn map(ids: Ids, mappings: &[LinuxIdMapping], pid: Pid) -> Result<()> {
    if mappings.is_empty() {
        let why = "a new user namespace needs linux.uidMappings and linux.gidMappings";
        return Err(Error::failed(Step::UserNamespace, why));
    }
    if !geteuid().is_root() {
        if !only(ids.own(), mappings) {
            return by_helper(ids, mappings, pid);
        }
        if ids == Ids::Groups {
            // Whoever could set groups could leave one that keeps others out of a file.
            let path = format!("/proc/{pid}/setgroups");
            fs::write(&path, "deny").map_err(Error::file("write", path))?;
        }
    }
    let path = format!("/proc/{pid}/{}", ids.file());
    // One write, or none is valid.
    fs::write(&path, lines(mappings)).map_err(Error::file("write", path))
}

/// A user may map themselves, and nobody else.
fn only(own: u32, mappings: &[LinuxIdMapping]) -> bool {
    matches!(mappings, [one] if one.host_id() == own && one.size() == 1)
}

fn lines(mappings: &[LinuxIdMapping]) -> String {
    let line = |m: &LinuxIdMapping| format!("{} {} {}\n", m.container_id(), m.host_id(), m.size());
    mappings.iter().map(line).collect()
}

fn by_helper(ids: Ids, mappings: &[LinuxIdMapping], pid: Pid) -> Result<()> {
    let name = ids.helper();
    let failed = |why: String| Error::failed(Step::UserNamespace, why);
    let program = find(name).ok_or_else(|| {
        failed(format!(
            "ids other than the caller's own are asked for in linux.uidMappings, and there is no {name}: install it (package \
             uidmap or shadow-utils), or map the caller's alone"
        ))
    })?;
    let numbers = lines(mappings);
    let done = Command::new(&program)
        .arg(pid.to_string())
        .args(numbers.split_whitespace())
        .stdin(Stdio::null())
        .output()
        .map_err(Error::file("run", &program))?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    let said: Vec<&str> = said.split_whitespace().collect();
    Err(failed(format!(
        "{}; remedy: ids that /etc/subuid and /etc/subgid give to the user",
        said.join(" ")
    )))
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|program| program.is_file())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn mapping(inside: u32, outside: u32, size: u32) -> LinuxIdMapping {
        let json = serde_json::json!({ "containerID": inside, "hostID": outside, "size": size });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_user_maps_themselves_and_nobody_else() {
        assert!(only(1000, &[mapping(0, 1000, 1)]));
        assert!(!only(1000, &[mapping(0, 1000, 2)]));
        assert!(!only(1000, &[mapping(0, 1001, 1)]));
        assert!(!only(1000, &[mapping(0, 1000, 1), mapping(1, 100_000, 65536)]));
        assert!(!only(1000, &[]));
    }

    #[test]
    fn a_line_each() {
        let two = [mapping(0, 1000, 1), mapping(1, 100_000, 65536)];
        assert_eq!(lines(&two), "0 1000 1\n1 100000 65536\n");
    }
}
