//! `bench shim`: containerd's shims against each other on one containerd, in one run: how long `ctr run --rm` takes, what it costs,
//! and how much memory a pod's shim holds, at once, at rest, and after many execs.

mod accounting;
mod node;

use crate::dice::Dice;
use crate::table::{median, range};
use accounting::{Cgroup, Memory};
use node::{Node, Shim};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a shim has had nothing to do when it counts as at rest.
const REST: Duration = Duration::from_secs(3);

/// What the command line asks.
struct Asked {
    rounds: usize,
    execs: usize,
    shims: Vec<PathBuf>,
}

/// One `ctr run --rm`, in milliseconds.
struct Run {
    wall: f64,
    cpu: f64,
}

/// A pod of three sleeping containers.
struct Pod {
    at_once: Memory,
    at_rest: Memory,
    after_execs: Memory,
    /// Also at rest, but for the pages of its program: what could leak.
    private: [u64; 2],
}

pub(crate) fn main(words: impl Iterator<Item = String>) {
    let asked = arguments(words);
    let cgroup = Cgroup::enter();
    let node = Node::start(&cgroup.name);
    let shims: Vec<Shim> = asked.shims.iter().map(|path| Shim::new(path, &node)).collect();
    let mut runs: Vec<Vec<Run>> = shims.iter().map(|_| Vec::new()).collect();
    let mut dice = Dice::new();
    for round in 0..=asked.rounds {
        for which in dice.shuffled(shims.len()) {
            let run = once(&node, &shims[which], &cgroup, &format!("r{round}-{which}"));
            // The first round fills the page cache and the runtimes' own caches.
            if round > 0 {
                runs[which].push(run);
            }
        }
    }
    println!(
        "{} rounds, shuffled: `ctr run --rm IMAGE true`, in ms, all of containerd's files in memory;\n\
         CPU of ctr, containerd, shim, runtime and container",
        asked.rounds
    );
    print_runs(&shims, &runs);
    println!("\na pod of three sleeping containers, in KiB");
    for shim in &shims {
        print_pod(shim, &pod(&node, shim, asked.execs), asked.execs);
    }
}

fn arguments(mut words: impl Iterator<Item = String>) -> Asked {
    let mut asked = Asked {
        rounds: 20,
        execs: 1000,
        shims: Vec::new(),
    };
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|n| n.parse().ok()).expect("a number");
        match word.as_str() {
            "--rounds" => asked.rounds = number(),
            "--execs" => asked.execs = number(),
            _ => asked.shims.push(word.into()),
        }
    }
    assert!(
        !asked.shims.is_empty() && asked.rounds > 0,
        "bench shim [--rounds N] [--execs N] SHIM…"
    );
    asked
}

fn once(node: &Node, shim: &Shim, cgroup: &Cgroup, id: &str) -> Run {
    let (cpu, begin) = (cgroup.cpu(), Instant::now());
    node.run(shim, &["--rm"], id, &["true"]);
    let wall = begin.elapsed().as_secs_f64() * 1e3;
    // What containerd does behind its answer belongs to it, too.
    std::thread::sleep(Duration::from_millis(100));
    Run {
        wall,
        cpu: cgroup.cpu() - cpu,
    }
}

fn print_runs(shims: &[Shim], runs: &[Vec<Run>]) {
    let first = &shims[0].name;
    println!("{:<34} {:>24} {:>24}   {first} / this: CPU, wall", "", "CPU", "wall");
    for (shim, own) in shims.iter().zip(runs) {
        let column = |runs: &[Run], of: fn(&Run) -> f64| -> Vec<f64> { runs.iter().map(of).collect() };
        let ratio = |of: fn(&Run) -> f64| {
            let pairs = column(&runs[0], of).into_iter().zip(column(own, of));
            median(pairs.map(|(base, this)| base / this).collect())
        };
        println!(
            "{:<34} {:>24} {:>24}   {:.2}, {:.2}",
            shim.name,
            range(column(own, |run| run.cpu)),
            range(column(own, |run| run.wall)),
            ratio(|run| run.cpu),
            ratio(|run| run.wall),
        );
    }
}

fn pod(node: &Node, shim: &Shim, execs: usize) -> Pod {
    let ids = ["a", "b", "c"].map(|name| format!("{name}-{}", shim.number));
    let group = format!("io.kubernetes.cri.sandbox-id={}", ids[0]);
    for id in &ids {
        node.run(shim, &["-d", "--annotation", &group], id, &["sleep", "100000"]);
    }
    let pid = node.shim_of(&ids[0]);
    let at_once = Memory::of(pid);
    std::thread::sleep(REST);
    let at_rest = Memory::of(pid);
    // The first ones grow what is kept for all later ones.
    let few = (execs / 10).max(1);
    node.execs(&ids[1], 0..few);
    std::thread::sleep(REST);
    let before = Memory::of(pid).private;
    node.execs(&ids[1], few..execs);
    std::thread::sleep(REST);
    let after_execs = Memory::of(pid);
    for id in &ids {
        node.remove(id);
    }
    Pod {
        private: [before, after_execs.private],
        at_once,
        at_rest,
        after_execs,
    }
}

fn print_pod(shim: &Shim, pod: &Pod, execs: usize) {
    println!("{}", shim.name);
    let line = |when: &str, memory: &Memory| {
        println!(
            "  {when:<28} PSS {:>6}   RSS {:>6}   threads {}",
            memory.pss, memory.rss, memory.threads
        );
    };
    line("at once", &pod.at_once);
    line("at rest", &pod.at_rest);
    line(&format!("at rest after {execs} execs"), &pod.after_execs);
    println!(
        "  private and written to: {} after {} execs, {} after {execs}",
        pod.private[0],
        (execs / 10).max(1),
        pod.private[1]
    );
}
