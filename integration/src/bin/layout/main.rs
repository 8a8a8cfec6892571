//! Writes `runtime/layout.ld` and `shim/layout.ld`: which functions a container's life runs through, so that the linker puts them
//! side by side. `layout MAP PROGRAM OUT`, where MAP is the linker's map of that PROGRAM, which is gabion; with `shim GABION` after
//! it, it is the shim. `hack/layout` calls it. Needs root.
//!
//! The kernel maps a binary's pages in blocks around the one that is touched. Strewn over the binary, a quarter of its code makes all
//! of it resident.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a tool for developers: a panic tells enough"
)]

mod map;
mod script;
mod shim;
mod trace;

use integration::Bundle;
use map::Map;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use trace::Tracer;

fn main() {
    let words: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    match words.as_slice() {
        [calls, dir, id] if calls.as_os_str() == "calls" => shim::client(dir, id.to_str().expect("UTF-8")),
        [map, gabion, out] => {
            let profile = concat!(env!("CARGO_MANIFEST_DIR"), "/data/podman-seccomp.json");
            write(map, out, "gabion", |tracer| {
                for seccomp in [None, Some(profile)] {
                    life(tracer, gabion, seccomp);
                }
            });
        }
        [map, program, out, shim, gabion] if shim.as_os_str() == "shim" => {
            write(map, out, "containerd_shim_gabion", |tracer| {
                shim::life(tracer, program, gabion);
            });
        }
        _ => panic!("layout MAP PROGRAM OUT [shim GABION]"),
    }
}

/// `krate` is the program's own, in symbols.
fn write(map: &Path, out: &Path, krate: &str, watch: impl FnOnce(&mut Tracer)) {
    let map = Map::read(map);
    let mut tracer = Tracer::new(&map);
    watch(&mut tracer);
    let mut seen = BTreeSet::new();
    let sections: Vec<&str> = tracer
        .hits()
        .into_iter()
        .map(|at| map.section_of(at))
        .filter(|section| seen.insert(*section))
        .collect();
    assert!(
        sections.len() > 500,
        "only {} functions were seen to run",
        sections.len()
    );
    std::fs::write(out, script::linker(&sections, krate)).expect("the linker script");
    println!("{}: {} functions", out.display(), sections.len());
}

/// What engines call. The first container of a profile has it compiled, the next get it out of the cache: what only that one runs
/// through lies behind all else.
fn life(tracer: &mut Tracer, gabion: &Path, seccomp: Option<&str>) {
    let mut bundle = Bundle::new("layout");
    if let Some(path) = seccomp {
        let text = std::fs::read_to_string(path).expect("the seccomp profile");
        bundle
            .config
            .set("/linux/seccomp", serde_json::from_str(&text).expect("JSON"));
        bundle.config.set("/process/noNewPrivileges", true.into());
    }
    let dir = bundle.bundle().display().to_string();
    let (name, state) = (bundle.name.clone(), bundle.state());
    let words = |words: &[&str]| {
        let own = [gabion.into(), "--root".into(), state.clone().into()];
        own.into_iter()
            .chain(words.iter().map(OsString::from))
            .collect::<Vec<OsString>>()
    };
    let run = words(&["run", "--bundle", &dir, &name]);
    bundle.config.acts(&["exit=0"]);
    bundle.write_config();
    tracer.run(7, &run);
    tracer.run(0, &run);
    bundle.config.acts(&["sleep"]);
    bundle.write_config();
    tracer.run(1, &words(&["create", "--bundle", &dir, &name]));
    tracer.run(2, &words(&["state", &name]));
    tracer.run(3, &words(&["start", &name]));
    tracer.run(4, &words(&["exec", &name, "/usr/bin/probe", "exit=0"]));
    tracer.run(5, &words(&["kill", &name, "KILL"]));
    tracer.run(6, &words(&["delete", "--force", &name]));
}
