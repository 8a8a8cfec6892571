//! What is used: CPU by a cgroup of the bench's own, memory by the kernel's accounts of a process.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process;

/// A cgroup with this program, and so everything that it starts, in it; containers lie below it. It weighs more than all the
/// rest of the machine, since wall time is compared.
pub(crate) struct Cgroup {
    pub name: String,
    dir: PathBuf,
    /// Where this program was before.
    homes: Vec<PathBuf>,
}

impl Cgroup {
    /// In v1's hierarchies of CPU accounting and weights, or in the only one of v2.
    pub(crate) fn enter() -> Self {
        let name = format!("gabion-bench-{}", process::id());
        let v1 = Path::new("/sys/fs/cgroup/cpuacct");
        let mut homes = Vec::new();
        let dir = if v1.exists() {
            for (key, weight) in [("cpuacct", None), ("cpu", Some(("cpu.shares", "262144")))] {
                homes.push(enter(
                    Path::new("/sys/fs/cgroup").join(key).as_path(),
                    key,
                    &name,
                    weight,
                ));
            }
            v1.join(&name)
        } else {
            let root = Path::new("/sys/fs/cgroup");
            fs::write(root.join("cgroup.subtree_control"), "+cpu").expect("the cpu controller");
            homes.push(enter(root, "", &name, Some(("cpu.weight", "10000"))));
            root.join(&name)
        };
        Self { name, dir, homes }
    }

    /// Milliseconds so far, of all that ever was in it.
    pub(crate) fn cpu(&self) -> f64 {
        let nanoseconds = fs::read_to_string(self.dir.join("cpuacct.usage")).map(|text| number(&text) * 1e3);
        nanoseconds.unwrap_or_else(|_| {
            let stat = fs::read_to_string(self.dir.join("cpu.stat")).expect("cpu.stat");
            let usage = stat.lines().find_map(|line| line.strip_prefix("usage_usec "));
            number(usage.expect("usage_usec")) * 1e6
        }) / 1e9
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        self.homes.iter().for_each(|home| join(home));
        // Runtimes made its directory in every hierarchy of v1. On v2 what lies there are files, and other people's groups.
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        let below = hierarchies.map(|entry| entry.path().join(&self.name));
        let dirs = below.flat_map(|dir| [dir.join("node"), dir]);
        for dir in dirs.chain([self.dir.join("node"), self.dir.clone()]) {
            match fs::remove_dir(&dir) {
                Err(error) if ![ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind()) => {
                    eprintln!("{} stays: {error}", dir.display());
                }
                _ => {}
            }
        }
    }
}

/// Enters `name` in one hierarchy; gives where we were there.
fn enter(root: &Path, key: &str, name: &str, weight: Option<(&str, &str)>) -> PathBuf {
    let text = fs::read_to_string("/proc/self/cgroup").expect("our cgroups");
    let own = text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (keys, path) = (fields.next()?, fields.next()?);
        keys.split(',').any(|one| one == key).then_some(path)
    });
    // Below, since on v2 processes are in leaves only.
    let node = root.join(name).join("node");
    fs::create_dir_all(&node).expect("a cgroup");
    if let Some((file, value)) = weight {
        fs::write(root.join(name).join(file), value).expect(file);
    }
    join(&node);
    root.join(own.expect("a cgroup").trim_start_matches('/'))
}

fn join(dir: &Path) {
    fs::write(dir.join("cgroup.procs"), process::id().to_string()).expect("moving to a cgroup");
}

fn number(text: &str) -> f64 {
    text.trim().parse().expect("a number")
}

/// Of one process, in KiB.
pub(crate) struct Memory {
    pub pss: u64,
    pub rss: u64,
    pub private: u64,
    pub threads: u64,
}

impl Memory {
    pub(crate) fn of(pid: i32) -> Self {
        let smaps = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the shim's memory");
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the shim's status");
        let field = |text: &str, key: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(key)).expect(key);
            line.split_whitespace().next().expect(key).parse().expect("a number")
        };
        Self {
            pss: field(&smaps, "Pss:"),
            rss: field(&smaps, "Rss:"),
            private: field(&smaps, "Private_Dirty:"),
            threads: field(&status, "Threads:"),
        }
    }
}
