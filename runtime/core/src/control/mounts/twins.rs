//! Mounts beside each other: what one lets be written, no other lets be executed; and nothing lets the image be written.
//!
//! Each mount alone may be writable or executable. Two of one file, of a directory and a part of it, or of one directory under two names are
//! the same files, so the rule is asked of objects (`reach`), of everything that a mount brings along.

use std::path::PathBuf;

use super::options::{Flag, Options};
use super::source::below_any;
use super::target_of;
use crate::control::Context;
use crate::decision::Findings;
use crate::hardened::Draft;
use crate::host::{FileKind, Source, SourcePath};
use crate::id::ControlId;
use crate::policy::Level;
use crate::reach::Spot;
use crate::request::mount_options::is_bind;

/// A bind of files that are data, not devices.
struct Bind<'a> {
    index: usize,
    /// As the spec writes it, and where that leads.
    written: PathBuf,
    target: PathBuf,
    source: &'a Source,
    options: Options,
}

impl Bind<'_> {
    fn places(&self) -> impl Iterator<Item = &Spot> {
        let along = self.source.along.iter().map(|a| &a.spot);
        std::iter::once(&self.source.spot)
            .chain(along)
            .chain(&self.source.layers)
    }

    fn meets(&self, other: &Self) -> bool {
        let same = self.places().any(|own| other.places().any(|spot| own.meets(spot)));
        same || self.linked(other) || other.linked(self)
    }

    /// A file with more names than one may lie in any directory of its file system.
    fn linked(&self, other: &Self) -> bool {
        let file = self.source.kind == FileKind::Regular && self.source.links > 1;
        let fs = |spot: &Spot| spot.on.as_ref().map(|on| on.fs);
        file && other
            .places()
            .any(|spot| fs(spot).is_some() && fs(spot) == fs(&self.source.spot))
    }

    fn is_writable(&self) -> bool {
        !self.options.is(Flag::Ro)
    }
}

pub(super) fn check(draft: &mut Draft, cx: &Context<'_>, findings: &mut Findings) {
    let binds = binds(draft, cx);
    draft.plan.layers = cx.host.layers.iter().filter_map(|spot| spot.on.clone()).collect();
    refuse_image(&binds, cx, findings);
    let mut close = Vec::new();
    for reader in binds.iter().filter(|b| !b.is_writable()) {
        let Some(writer) = binds.iter().find(|b| b.is_writable() && b.meets(reader)) else {
            continue;
        };
        let place = format!("mounts.{}", reader.written.display());
        if reader.options.is(Flag::Noexec) {
            draft.plan.twins.insert(reader.index);
            continue;
        }
        let restricted = cx.policy.level == Level::Restricted;
        let asked = reader.options.asks_against(Flag::Noexec);
        let excepted = asked || below_any(&reader.target, &cx.policy.policy.mounts.exec_paths);
        let (shown, other) = (reader.target.display(), writer.target.display());
        if restricted && asked {
            let what = format!(
                "{shown} is to be executable, and its files are writable at {other}; this level has no exception"
            );
            let remedy = "mount it noexec, or run it at the level `hardened`";
            findings.refused("exec", place, what, remedy);
        } else if excepted && !restricted {
            draft.plan.twins_excepted.insert(reader.index);
            let by = if asked {
                "its option `exec`"
            } else {
                "the policy's mounts.exec_paths"
            };
            let by = format!("{shown}: executable, and its files are writable at {other}, by {by}");
            draft.plan.lets_off(ControlId::Mounts, by);
            findings.warned(
                place,
                format!("executable, and its files are writable at {other}: excepted"),
            );
        } else {
            let why = format!("its files are writable at {other}: what may be written is not executed");
            findings.tightened(place, "-", "noexec", why);
            close.push(reader.index);
        }
    }
    for index in close {
        draft.plan.twins.insert(index);
        if let Some(mount) = draft.spec.mounts_mut().as_mut().and_then(|m| m.get_mut(index)) {
            let mut options = Options::of(mount);
            options.set(Flag::Noexec);
            mount.set_options(Some(options.into_vec()));
        }
    }
}

fn binds<'a>(draft: &Draft, cx: &Context<'a>) -> Vec<Bind<'a>> {
    let mounts = draft
        .spec
        .mounts()
        .iter()
        .flatten()
        .enumerate()
        .filter(|(_, m)| is_bind(m));
    let open = mounts.filter_map(|(index, mount)| match cx.host.sources.get(&index) {
        Some(SourcePath::Open(source)) if matches!(source.kind, FileKind::Directory | FileKind::Regular) => {
            Some(Bind {
                index,
                written: mount.destination().clone(),
                target: target_of(&draft.spec, index, cx),
                source,
                options: Options::of(mount),
            })
        }
        _ => None,
    });
    open.collect()
}

/// The image is executed: it is not written, from no place and by no layer. No option and no policy excepts it.
fn refuse_image(binds: &[Bind<'_>], cx: &Context<'_>, findings: &mut Findings) {
    let image = || std::iter::once(&cx.host.root).chain(&cx.host.layers);
    for bind in binds.iter().filter(|b| b.is_writable()) {
        let place = format!("mounts.{}", bind.written.display());
        if findings.refuses(&place) || !bind.places().any(|spot| image().any(|part| part.meets(spot))) {
            continue;
        }
        let what = format!(
            "{} is a part of the image, or holds it, and is to be writable: programs of the image could be replaced",
            bind.source.real.display()
        );
        let remedy = cx.request.caller().word(
            "set `readOnly: true` on the volume mount, or use a directory outside of the image",
            "add `:ro` to `--volume`, or use a directory outside of the image's storage",
            "add `ro` to the mount's `options`, or use a directory outside of root.path",
        );
        findings.refused("image", place, what, remedy);
    }
}
