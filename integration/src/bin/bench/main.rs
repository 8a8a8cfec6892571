//! Times runtimes against each other on the same bundle: run, create, start, delete, in shuffled rounds.
//! `bench [--rounds N] [--seccomp FILE] RUNTIME…`; the first runtime is compared with the others. Needs root.
//! `bench shim …` does it for containerd's shims (shim.rs).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a tool for developers: a panic tells enough"
)]

mod measure;
mod memory;
mod shim;
mod table;

use integration::Bundle;
use measure::{OPS, Round};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What the command line asks.
struct Asked {
    rounds: usize,
    seccomp: Option<PathBuf>,
    runtimes: Vec<PathBuf>,
}

fn main() {
    let mut words = std::env::args().skip(1).peekable();
    if words.next_if_eq("shim").is_some() {
        return shim::main(words);
    }
    let asked = arguments();
    nix::sys::prctl::set_child_subreaper(true).expect("subreaper");
    let bundle = bundle(asked.seccomp.as_deref());
    let mut rounds: BTreeMap<usize, Vec<Round>> = BTreeMap::new();
    let mut dice = Dice::new();
    for round in 0..=asked.rounds {
        for which in dice.shuffled(asked.runtimes.len()) {
            let measured = measure::round(&asked.runtimes[which], &bundle);
            // The first round fills caches: the page cache, and the runtimes' own.
            if round > 0 {
                rounds.entry(which).or_default().push(measured);
            }
        }
    }
    let peaks: Vec<Option<[u64; 4]>> = asked.runtimes.iter().map(|path| memory::peaks(path, &bundle)).collect();
    println!(
        "{} rounds, shuffled; CPU (user+sys, all processes of the operation) and wall in ms",
        asked.rounds
    );
    println!(
        "seccomp profile in the spec: {}",
        asked
            .seccomp
            .as_deref()
            .map_or("none".into(), |p| p.display().to_string())
    );
    for (index, op) in OPS.iter().enumerate() {
        table::print(op, index, &asked.runtimes, &rounds, &peaks);
    }
}

fn arguments() -> Asked {
    let mut asked = Asked {
        rounds: 20,
        seccomp: None,
        runtimes: Vec::new(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--rounds" => asked.rounds = words.next().and_then(|n| n.parse().ok()).expect("--rounds N"),
            "--seccomp" => asked.seccomp = Some(words.next().expect("--seccomp FILE").into()),
            _ => asked.runtimes.push(word.into()),
        }
    }
    assert!(
        !asked.runtimes.is_empty() && asked.rounds > 0,
        "bench [--rounds N] [--seccomp FILE] RUNTIME…"
    );
    asked
}

/// What an engine sends for an ordinary image; `linux.seccomp` as an engine sends it, where a file is given.
fn bundle(seccomp: Option<&std::path::Path>) -> Bundle {
    let mut bundle = Bundle::new("bench");
    if let Some(path) = seccomp {
        let text = std::fs::read_to_string(path).expect("the seccomp profile");
        bundle
            .config
            .set("/linux/seccomp", serde_json::from_str(&text).expect("JSON"));
        // Without it, a runtime needs CAP_SYS_ADMIN for the filter and does its steps in another order.
        bundle.config.set("/process/noNewPrivileges", true.into());
    }
    bundle
}

/// xorshift: shuffling needs no more, and no crate.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("a clock");
        Self(u64::from(now.subsec_nanos()) | 1)
    }

    fn shuffled(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            let bound = u64::try_from(last).expect("small") + 1;
            order.swap(last, usize::try_from(self.0 % bound).expect("small"));
        }
        order
    }
}
