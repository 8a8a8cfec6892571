//! Times runtimes against each other on the same bundle, in shuffled rounds; the first is compared with the others. Needs root.
//!
//! - `bench life [--rounds N] [--case N] [--floor PROGRAM] [--most RATIO] RUNTIME…`: run, create, start, exec, delete. With `--most`, fails
//!   where the first runtime's CPU is more than that multiple of another's: a guard against what is far out, not a budget.
//! - `bench alive [--count N] RUNTIME…`: what one more container costs while more and more are alive.
//! - `bench syscalls [--rounds N] RUNTIME…`: what system calls cost inside.
//! - `bench shim …`: containerd's shims (shim.rs).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a tool for developers: a panic tells enough"
)]

mod alive;
mod cases;
mod dice;
mod life;
mod measure;
mod memory;
mod room;
mod shim;
mod syscalls;
mod table;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::path::PathBuf;
use std::process::ExitCode;

/// What the command line asks.
struct Asked {
    rounds: usize,
    count: usize,
    case: Option<usize>,
    floor: Option<PathBuf>,
    most: Option<f64>,
    runtimes: Vec<PathBuf>,
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    if words.next_if_eq("shim").is_some() {
        shim::main(words);
        return ExitCode::SUCCESS;
    }
    let what = words.next().unwrap_or_default();
    let asked = arguments(words);
    nix::sys::prctl::set_child_subreaper(true).expect("subreaper");
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("private mounts");
    match what.as_str() {
        "life" => return life::compare(asked),
        "alive" => alive::compare(asked.count, &asked.runtimes),
        "syscalls" => syscalls::compare(asked.rounds, &asked.runtimes),
        other => panic!("bench life | alive | syscalls, not {other}"),
    }
    ExitCode::SUCCESS
}

fn arguments(mut words: impl Iterator<Item = String>) -> Asked {
    let mut asked = Asked {
        rounds: 30,
        count: 500,
        case: None,
        floor: None,
        most: None,
        runtimes: Vec::new(),
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{word} wants a value"));
        match word.as_str() {
            "--rounds" => asked.rounds = value().parse().expect("--rounds N"),
            "--count" => asked.count = value().parse().expect("--count N"),
            "--case" => asked.case = Some(value().parse().expect("--case N")),
            "--floor" => asked.floor = Some(value().into()),
            "--most" => asked.most = Some(value().parse().expect("--most RATIO")),
            _ => asked.runtimes.push(word.into()),
        }
    }
    assert!(
        !asked.runtimes.is_empty() && asked.rounds > 0,
        "no runtime, or no rounds"
    );
    asked
}
