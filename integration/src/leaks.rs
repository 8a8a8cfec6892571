//! What a container may leave behind: mounts, cgroups, processes, state. Everything of a test carries its unique name.

use crate::Bundle;
use crate::command::{limit, until};
use std::fs;
use std::path::{Path, PathBuf};

/// What is still there of a test, in words; empty is good. Waits: the kernel removes some of it late.
pub fn of(bundle: &Bundle) -> Vec<String> {
    let mut found = Vec::new();
    until(limit(3), || {
        found = look(bundle);
        found.is_empty()
    });
    found
}

fn look(bundle: &Bundle) -> Vec<String> {
    let mut found: Vec<String> = mounts_below(&bundle.dir);
    found.extend(
        cgroups(&bundle.name)
            .iter()
            .map(|path| format!("cgroup {}", path.display())),
    );
    found.extend(processes(bundle));
    found.extend(state(bundle));
    found
}

/// Mounts at, from or below a directory, in this mount namespace: bind mounts of namespaces are among them.
pub fn mounts_below(dir: &Path) -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let dir = dir.to_string_lossy();
    text.lines()
        .filter(|line| line.contains(&*dir))
        .map(|line| format!("mount {line}"))
        .collect()
}

/// Directories of that name in every hierarchy, at any depth.
pub fn cgroups(name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![(PathBuf::from("/sys/fs/cgroup"), 0)];
    while let Some((dir, depth)) = todo.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            // Only directories: a hierarchy's own links (`cpu` for `cpu,cpuacct`) would be counted twice.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy().contains(name) {
                    found.push(entry.path());
                } else if depth < 6 {
                    todo.push((entry.path(), depth + 1));
                }
            }
        }
    }
    found
}

/// Living processes of the test: by cgroup, or by a command line that names the test.
/// A zombie is dead; on machines whose PID 1 reaps late it stays for a while.
pub fn processes(bundle: &Bundle) -> Vec<String> {
    let me = std::process::id();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let read = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
        let names_test = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).contains(&bundle.name);
        if pid != me && is_alive(pid) && (names_test(read("cgroup")) || names_test(read("cmdline"))) {
            let line = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
            found.push(format!("process {pid}: {line}"));
        }
    }
    found
}

pub fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// After a test that failed: ends what is left in its cgroups and removes them, so that the next test starts clean.
pub fn scrub(bundle: &Bundle) {
    for cgroup in cgroups(&bundle.name) {
        // A frozen process cannot die on v1; on v2 all in it and below go at once.
        drop(fs::write(cgroup.join("freezer.state"), "THAWED"));
        drop(fs::write(cgroup.join("cgroup.kill"), "1"));
        let pids = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
        for pid in pids.lines().filter_map(|line| line.parse().ok()) {
            // It may have died meanwhile.
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).ok();
        }
        until(limit(2), || fs::remove_dir(&cgroup).is_ok());
    }
}

/// Whatever in the runtime's state directory is called like the container. Caches by content may stay.
fn state(bundle: &Bundle) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![bundle.state()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().contains(&bundle.name) {
                found.push(format!("state {}", entry.path().display()));
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                todo.push(entry.path());
            }
        }
    }
    found
}
