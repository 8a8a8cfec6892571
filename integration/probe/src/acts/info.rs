//! What the kernel says of this process: tests compare the details.

use super::Answer;
use crate::sys::{Fail, from_io};
use std::fs;

const ABSENT: Fail = Fail {
    errno: libc::ENOENT,
    at: "look",
};

fn read(path: &str) -> Result<String, Fail> {
    fs::read_to_string(path).map_err(|e| from_io(&e, "read"))
}

fn status_of(keys: &[&str]) -> Answer {
    let text = read("/proc/self/status")?;
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        format!(
            "{key}={}",
            line.unwrap_or("absent")
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(",")
        )
    };
    Ok(keys.iter().map(|key| value(key)).collect::<Vec<_>>().join(" "))
}

pub(super) fn caps(_: &str) -> Answer {
    status_of(&["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"])
}

pub(super) fn nnp(_: &str) -> Answer {
    status_of(&["NoNewPrivs"])
}

pub(super) fn seccomp(_: &str) -> Answer {
    status_of(&["Seccomp", "Seccomp_filters"])
}

pub(super) fn id(_: &str) -> Answer {
    status_of(&["Uid", "Gid", "Groups"])
}

pub(super) fn status(arg: &str) -> Answer {
    status_of(&[arg])
}

pub(super) fn limits(_: &str) -> Answer {
    let text = read("/proc/self/limits")?;
    let one = |title: &str, name: &str| {
        let values = text
            .lines()
            .find_map(|line| line.strip_prefix(title))
            .unwrap_or("absent");
        let mut words = values.split_whitespace();
        format!("{name}={}:{}", words.next().unwrap_or("?"), words.next().unwrap_or("?"))
    };
    Ok([
        one("Max core file size", "core"),
        one("Max open files", "nofile"),
        one("Max processes", "nproc"),
    ]
    .join(" "))
}

/// Flags and type of what is mounted at a path; the last line counts, it is the one on top.
pub(super) fn mountinfo(arg: &str) -> Answer {
    let text = read("/proc/self/mountinfo")?;
    let found = text
        .lines()
        .rfind(|line| line.split(' ').nth(4) == Some(arg))
        .ok_or(ABSENT)?;
    let (left, right) = found.split_once(" - ").unwrap_or((found, ""));
    let words: Vec<&str> = left.split(' ').collect();
    let propagation = words.get(6..).map(|tags| tags.join(",")).unwrap_or_default();
    let kind = right.split(' ').next().unwrap_or("?");
    let options = right.split(' ').nth(2).unwrap_or("");
    Ok(format!(
        "flags={} propagation={propagation} type={kind} super={options}",
        words.get(5).unwrap_or(&"")
    ))
}

/// Every open descriptor from 3 on and what it is; the one that lists is left out.
pub(super) fn list_fds(_: &str) -> Answer {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")
        .map_err(|e| from_io(&e, "open"))?
        .flatten()
    {
        let number: u32 = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
            .unwrap_or(0);
        let target = fs::read_link(entry.path())
            .map(|path| path.display().to_string())
            .unwrap_or_default();
        if number >= 3 && !(target.starts_with("/proc/") && target.ends_with("/fd")) {
            found.push(format!("{number}={target}"));
        }
    }
    found.sort();
    Ok(found.join(" "))
}

pub(super) fn cwd(_: &str) -> Answer {
    std::env::current_dir()
        .map(|path| path.display().to_string())
        .map_err(|e| from_io(&e, "getcwd"))
}

pub(super) fn env(_: &str) -> Answer {
    Ok(std::env::vars()
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join(" "))
}

/// Whether the host's path of this cgroup can be read from inside: ENOENT where a cgroup namespace hides it.
pub(super) fn see_cgroup(arg: &str) -> Answer {
    if read("/proc/self/cgroup")?.contains(arg) {
        Ok(String::new())
    } else {
        Err(ABSENT)
    }
}

pub(super) fn namespace(arg: &str) -> Answer {
    let link = fs::read_link(format!("/proc/self/ns/{arg}")).map_err(|e| from_io(&e, "readlink"))?;
    Ok(link.display().to_string())
}

pub(super) fn label(_: &str) -> Answer {
    read("/proc/self/attr/current").map(|text| text.trim_end_matches(['\0', '\n']).to_owned())
}
