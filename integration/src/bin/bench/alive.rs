//! Many containers alive at once: what the next one costs, and what each takes of the machine's memory.

use crate::cases::Profile;
use crate::measure::{Cost, command, pid_of, reap_all, timed, with_acts};
use crate::room::Room;
use crate::table::{median, name};
use nix::sys::signal::{Signal, kill};
use std::path::{Path, PathBuf};

/// Figures are medians over this many containers.
const WINDOW: usize = 50;

pub(crate) fn compare(count: usize, runtimes: &[PathBuf]) {
    let window = WINDOW.min(count);
    println!("{count} containers alive at once; create and delete are medians of {window}, CPU and wall in ms");
    println!(
        "{:<10} {:>16} {:>16} {:>16} {:>16} {:>14}",
        "", "first creates", "last creates", "first deletes", "last deletes", "each takes"
    );
    for runtime in runtimes {
        let life = life(count, runtime);
        println!(
            "{:<10} {:>16} {:>16} {:>16} {:>16} {:>10} KiB",
            name(runtime),
            both(&life.creates[..window]),
            both(&life.creates[count - window..]),
            both(&life.deletes[..window]),
            both(&life.deletes[count - window..]),
            life.each,
        );
    }
}

struct Life {
    creates: Vec<Cost>,
    deletes: Vec<Cost>,
    /// KiB that the machine cannot have back while it lives, by container: the sleeping workload, its namespaces, mounts,
    /// cgroups, and what a runtime leaves behind.
    each: u64,
}

fn life(count: usize, runtime: &Path) -> Life {
    let mut bundle = Room::new("alive", Profile::RuntimeDefault);
    let cgroup = format!("/{}", bundle.name);
    let names: Vec<String> = (0..count).map(|number| format!("{}-{number}", bundle.name)).collect();
    let pid_file = bundle.dir.join("pid");
    let mut pids = Vec::new();
    let mut creates = Vec::new();
    let before = held();
    for name in &names {
        bundle
            .config
            .set("/linux/cgroupsPath", format!("{cgroup}/{name}").into());
        let path = with_acts(&bundle, &["sleep"]);
        let words = [
            "create",
            "--bundle",
            &path,
            "--pid-file",
            &pid_file.display().to_string(),
            name,
        ];
        creates.push(timed(&mut command(runtime, &bundle.state(), &words), false));
        pids.push(pid_of(&pid_file));
        timed(&mut command(runtime, &bundle.state(), &["start", name]), false);
    }
    let each = held().saturating_sub(before) / u64::try_from(count).expect("a count");
    let mut deletes = Vec::new();
    for (name, pid) in names.iter().zip(&pids) {
        kill(*pid, Signal::SIGKILL).expect("the workload");
        nix::sys::wait::waitpid(*pid, None).expect("the workload is this program's to reap");
        deletes.push(timed(&mut command(runtime, &bundle.state(), &["delete", name]), false));
    }
    reap_all();
    // The directory above the containers' own cgroups.
    for top in std::fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten() {
        let parent = top.path().join(&bundle.name);
        if parent.is_dir() {
            std::fs::remove_dir(&parent).expect("an empty cgroup");
        }
    }
    let unified = Path::new("/sys/fs/cgroup").join(&bundle.name);
    if unified.is_dir() {
        std::fs::remove_dir(unified).expect("an empty cgroup");
    }
    Life { creates, deletes, each }
}

/// KiB in use that only an end gives back (proc_meminfo(5)). What is free or available will not do: caches of files grow meanwhile, and whoever
/// runs first fills those that all use.
fn held() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").expect("/proc/meminfo");
    let of = |name: &str| -> u64 {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .and_then(|rest| rest.split_ascii_whitespace().next())
            .and_then(|number| number.parse().ok())
            .expect("a figure of /proc/meminfo")
    };
    // Kernel stacks are among what is had by vmalloc.
    let kinds = [
        "AnonPages",
        "Shmem",
        "SUnreclaim",
        "PageTables",
        "VmallocUsed",
        "Percpu",
    ];
    kinds.map(of).iter().sum()
}

fn both(costs: &[Cost]) -> String {
    let of = |of: fn(&Cost) -> f64| median(costs.iter().map(of).collect());
    format!("{:.2}, {:.2}", of(|cost| cost.cpu), of(|cost| cost.wall))
}
