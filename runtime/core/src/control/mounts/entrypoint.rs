//! A program that cannot be executed where it lies is told at create, with the remedy: the kernel would only say EACCES.

use std::path::{Path, PathBuf};

use super::options::{Flag, Options};
use super::target_of;
use crate::control::{Context, remedy};
use crate::decision::Findings;
use crate::hardened::Draft;
use crate::policy::Level;
use crate::request::{Caller, normalize};

pub(super) fn check(draft: &Draft, cx: &Context<'_>, findings: &mut Findings) {
    let Some(program) = program(draft) else { return };
    // The last mount at or above a path is the one that it lies on.
    let mounts = draft.spec.mounts().iter().flatten().enumerate();
    let on = mounts
        .map(|(index, mount)| (target_of(&draft.spec, index, cx), mount))
        .filter(|(target, _)| program.starts_with(target))
        .last();
    let place = match on {
        Some((target, mount)) if Options::of(mount).is(Flag::Noexec) => LiesOn::Mount(target),
        Some(_) => return,
        // Holes lie below the spec's mounts.
        None => match draft.plan.holes.iter().find(|h| program.starts_with(&h.target)) {
            Some(hole) => LiesOn::Hole(hole.path.clone()),
            None => return,
        },
    };
    let (on, remedy) = match place {
        LiesOn::Mount(target) => (format!("the mount at {}", target.display()), of_mount(&target, cx)),
        LiesOn::Hole(path) => (
            format!("the hole at {}", path.display()),
            "keep programs in the image, outside of what is written".to_owned(),
        ),
    };
    let what = format!(
        "{} lies on {on}, where nothing may be executed (noexec)",
        program.display()
    );
    findings.refused("entrypoint-noexec", "process.args.0", what, remedy);
}

enum LiesOn {
    Mount(PathBuf),
    Hole(PathBuf),
}

fn of_mount(target: &Path, cx: &Context<'_>) -> String {
    let image = "put the program into the image";
    let shown = target.display();
    if cx.policy.level == Level::Restricted {
        return format!("{image}, or mount it read-only");
    }
    let policy = remedy::allow(cx, "mounts.exec_paths", &shown.to_string());
    match cx.request.caller() {
        Caller::Cri => format!("{image}, mount it read-only, or {policy}"),
        Caller::Podman => {
            format!("mount it read-only (`-v …:{shown}:ro`) or executable (`-v …:{shown}:exec`), or {policy}")
        }
        // Docker's `-v` has no `exec`; its `--tmpfs` has.
        Caller::Docker => {
            format!("mount it read-only (`-v …:{shown}:ro`), use `--tmpfs {shown}:exec`, or {policy}")
        }
        Caller::Bundle => format!("add `ro` or `exec` to the mount's `options`, or {policy}"),
    }
}

/// The program, where the spec says where it lies. A bare name is looked for in PATH, in the image: that is not for here.
fn program(draft: &Draft) -> Option<PathBuf> {
    let process = draft.spec.process().as_ref()?;
    let name = process.args().as_ref()?.first()?;
    name.contains('/').then(|| normalize(&process.cwd().join(name)))
}
