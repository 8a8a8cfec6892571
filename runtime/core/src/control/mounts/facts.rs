//! The mounts of the spec beside mountinfo.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;

use super::super::reached::Model;
use super::options::{Flag, Options};
use crate::fact::{Fact, Holds};
use crate::hardened::Hardened;
use crate::id::ControlId;
use crate::observed::{MountPoint, Observed};
use crate::request::{idmap, normalize};

pub(super) fn facts(hardened: &Hardened, seen: &Observed) -> Vec<Fact> {
    let mounts = hardened.spec().mounts().as_deref().unwrap_or_default();
    let targets: Vec<PathBuf> = mounts
        .iter()
        .enumerate()
        .map(|(i, m)| {
            hardened
                .plan()
                .targets
                .get(&i)
                .cloned()
                .unwrap_or_else(|| normalize(m.destination()))
        })
        .collect();
    let mut facts = Vec::new();
    for (index, mount) in mounts.iter().enumerate() {
        let Some(target) = targets.get(index) else { continue };
        // Of two mounts at one place only the last can be seen.
        if targets.iter().skip(index + 1).any(|later| target.starts_with(later)) {
            continue;
        }
        facts.push(fact(mount, target, seen));
        facts.extend(terminals(mount, target, seen));
    }
    let model = Model::new(hardened, seen);
    facts.extend(model.brought_by_binds());
    facts.extend(model.writable_and_executable());
    facts.extend(model.writable_layers());
    facts.extend(model.kernel_file_systems(ControlId::Mounts));
    facts
}

/// As mountinfo writes them.
fn wanted(mount: &Mount) -> Vec<&'static str> {
    let options = Options::of(mount);
    Flag::ALL
        .into_iter()
        .filter(|f| options.is(*f))
        .map(Flag::name)
        .collect()
}

/// Beside the flags, which mounts that came along below share: whether its files have other owners.
fn wanted_here(mount: &Mount) -> Vec<&'static str> {
    let mapped = idmap::is_idmapped(mount).then_some("idmapped");
    wanted(mount).into_iter().chain(mapped).collect()
}

fn fact(mount: &Mount, target: &Path, seen: &Observed) -> Fact {
    let flags = wanted_here(mount);
    let path = target.display();
    let expected = format!("{path} {}", flags.join(" "));
    match seen.mount_at(target) {
        Some(point) => judge(expected, target, &flags, point),
        // Nothing else could be: what is mounted goes to where it was judged, by no symlink (gabion, `build/target.rs`).
        None => Fact::judged(
            ControlId::Mounts,
            expected,
            format!("{path} is not a mount point"),
            Holds::No,
        ),
    }
}

/// How many terminals a devpts has; the kernel shows what is less than all that there can be.
fn terminals(mount: &Mount, target: &Path, seen: &Observed) -> Option<Fact> {
    let max = Options::of(mount).number("max")?;
    if mount.typ().as_deref() != Some("devpts") {
        return None;
    }
    let option = format!("max={max}");
    let shown = seen
        .mount_at(target)?
        .super_options
        .iter()
        .find(|o| o.starts_with("max="));
    let path = target.display();
    let holds = if shown == Some(&option) { Holds::Yes } else { Holds::No };
    let shown = shown.map_or("no bound on terminals", String::as_str);
    Some(Fact::judged(
        ControlId::Mounts,
        format!("{path} {option}"),
        format!("{path} {shown}"),
        holds,
    ))
}

fn judge(expected: String, target: &Path, flags: &[&'static str], point: &MountPoint) -> Fact {
    let held: Vec<&str> = flags.iter().copied().filter(|f| point.has(f)).collect();
    let holds = if held.len() == flags.len() {
        Holds::Yes
    } else {
        Holds::No
    };
    Fact::judged(
        ControlId::Mounts,
        expected,
        format!("{} {}", target.display(), held.join(" ")),
        holds,
    )
}
