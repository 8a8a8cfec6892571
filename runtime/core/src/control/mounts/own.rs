//! Files that an engine made for this very container or pod.
//!
//! Under CRI the pod's identity comes from annotations that the policy trusts. Under podman nothing vouches for an
//! annotation, so what counts is the path: podman keeps a container's files below its id, and the id is the one that
//! gabion was called with.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use oci_spec::runtime::Spec;

use super::options::{Flag, Options};
use super::target_of;
use crate::control::Context;
use crate::host::{NsPath, SourcePath};
use crate::namespace::{NsId, NsType};
use crate::policy::Policy;
use crate::request::Request;
use crate::request::mount_options::is_bind;

/// Where the kubelet binds the parts of volumes that a pod names.
const SUB_PATHS: &str = "volume-subpaths";

/// What a pod may have under its own directory of the kubelet.
const KUBELET: [&str; 4] = ["volumes", SUB_PATHS, "etc-hosts", "containers"];

/// containerd's CRI plugin, below both its root and its state directory.
const PLUGIN: &str = "io.containerd.grpc.v1.cri";

/// What the sandbox shares with its containers.
const SANDBOX: [&str; 4] = ["hostname", "hosts", "resolv.conf", "shm"];

/// What podman and CRI-O make for a container. Not among them: conmon's control files and the bundle's config.json.
const USERDATA: [&str; 13] = [
    ".containerenv",
    "artifacts",
    "group",
    "hostname",
    "hosts",
    "localtime",
    "notify",
    "passwd",
    "resolv.conf",
    "run",
    "secrets",
    "shm",
    "timezone",
];

/// Whether a path belongs to the pod that the trusted CRI names.
pub(super) fn of_pod(real: &Path, cx: &Context<'_>) -> bool {
    let settings = &cx.policy.policy.mounts;
    let Some(pod) = cx.request.pod(cx.policy.cri) else {
        return false;
    };
    if [pod.uid, pod.sandbox_id].iter().any(|id| !is_name(id)) {
        return false;
    }
    let kubelet = settings.kubelet_root.join("pods").join(pod.uid);
    if KUBELET.iter().any(|part| real.starts_with(kubelet.join(part))) {
        return true;
    }
    let container = cx.request.id.as_str();
    let containerd = [&settings.containerd_root, &settings.containerd_state]
        .into_iter()
        .any(|root| {
            let plugin = root.join(PLUGIN);
            let sandbox = plugin.join("sandboxes").join(pod.sandbox_id);
            SANDBOX.iter().any(|file| real == sandbox.join(file))
                || real.starts_with(plugin.join("containers").join(container).join("volumes"))
                || real.starts_with(plugin.join("image-volumes").join(pod.sandbox_id))
        });
    // CRI-O keeps its files as podman does; the sandbox is a container of that storage.
    containerd
        || match userdata(real) {
            Some((id, part)) if id == container => USERDATA.contains(&part),
            Some((id, part)) if id == pod.sandbox_id => SANDBOX.contains(&part),
            _ => false,
        }
}

/// Gives the directory of the pod whose subPath a path is. What is mounted there says nothing of whose it is: the kubelet binds a
/// part of a hostPath there as it binds a part of an emptyDir.
pub(super) fn pod_of_sub_path<'a>(real: &'a Path, policy: &Policy) -> Option<&'a Path> {
    let pods = policy.mounts.kubelet_root.join("pods");
    let uid = real.strip_prefix(&pods).ok()?.components().next()?;
    let pod = pods.join(uid);
    let own = real.starts_with(pod.join(SUB_PATHS));
    real.ancestors().find(|dir| own && *dir == pod)
}

/// Whether a path is one of podman's files for this container, or one that it shares with the container whose namespaces
/// it joins.
pub(super) fn of_container(real: &Path, cx: &Context<'_>) -> bool {
    // Of another container only what goes with a namespace that is shared with it: with it, not with anybody.
    let joins = |id: &str, typ| {
        let own = cx.host.neighbours.get(id);
        own.is_some_and(|own| joined(cx, typ).is_some_and(|ns| own.contains(&(typ, ns))))
    };
    match userdata(real) {
        Some((id, part)) if id == cx.request.id.as_str() => USERDATA.contains(&part),
        Some((id, "shm")) => is_id(id) && joins(id, NsType::Ipc),
        Some((id, "hosts" | "resolv.conf")) => is_id(id) && joins(id, NsType::Network),
        Some((id, "hostname")) => is_id(id) && joins(id, NsType::Uts),
        _ => false,
    }
}

/// The namespace of this kind that the container joins, as it was opened.
fn joined(cx: &Context<'_>, typ: NsType) -> Option<NsId> {
    let linux = cx.request.spec.linux().as_ref()?;
    let mut named = linux.namespaces().iter().flatten();
    let path = named.find(|ns| NsType::from(ns.typ()) == typ)?.path().as_ref()?;
    match cx.host.ns_paths.get(path) {
        Some(NsPath::Namespace { typ: seen, id }) if *seen == typ => Some(*id),
        _ => None,
    }
}

/// Whether a path is where an engine keeps what it makes for containers: nothing there is let in but what is this container's, so that no
/// other place of the host needs to be known to judge it.
pub(super) fn is_engines(real: &Path, request: &Request, policy: &Policy) -> bool {
    let settings = &policy.mounts;
    let own = userdata(real).is_some_and(|(id, part)| id == request.id.as_str() && USERDATA.contains(&part));
    let plugins = [&settings.containerd_root, &settings.containerd_state].map(|root| root.join(PLUGIN));
    own || real.starts_with(settings.kubelet_root.join("pods")) || plugins.iter().any(|p| real.starts_with(p))
}

/// Where podman and CRI-O keep the files of containers, and whose this one is.
pub(super) fn file_of(real: &Path) -> Option<(&Path, &str)> {
    let (id, _) = userdata(real)?;
    let dir = real
        .ancestors()
        .find(|dir| dir.file_name().is_some_and(|name| name == id))?;
    Some((dir.parent()?, id))
}

/// Read-only directories of the engine's own for this container into which a later mount goes: `podman run --read-only --secret`
/// mounts /run/secrets, and each secret into it. Anywhere else a mount point that is missing in a read-only volume stays missing:
/// making it would write to what is somebody's.
pub(super) fn mounted_into(spec: &Spec, cx: &Context<'_>) -> BTreeSet<usize> {
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    let of_engine = |index: usize| match cx.host.sources.get(&index) {
        Some(SourcePath::Open(source)) => of_container(&source.real, cx),
        _ => false,
    };
    let late = mounts.iter().enumerate().filter(|(index, mount)| {
        let top = target_of(spec, *index, cx);
        let below = |other: usize| target_of(spec, other, cx) != top && target_of(spec, other, cx).starts_with(&top);
        is_bind(mount) && Options::of(mount).is(Flag::Ro) && of_engine(*index) && (index + 1..mounts.len()).any(below)
    });
    late.map(|(index, _)| index).collect()
}

/// A named volume of podman or docker: made to be given to containers.
pub(super) fn is_volume(real: &Path) -> bool {
    let parts: Vec<&str> = names(real).collect();
    parts
        .windows(4)
        .any(|w| (w[0] == "storage" || w[0] == "docker") && w[1] == "volumes" && is_name(w[2]) && w[3] == "_data")
}

/// `…/<driver>-containers/<id>/userdata/<part>/…`: the id and the part.
fn userdata(real: &Path) -> Option<(&str, &str)> {
    let parts: Vec<&str> = names(real).collect();
    let at = parts
        .windows(4)
        .find(|w| w[0].ends_with("-containers") && w[2] == "userdata")?;
    Some((at[1], at[3]))
}

fn names(path: &Path) -> impl Iterator<Item = &str> {
    path.components().filter_map(|c| match c {
        Component::Normal(name) => name.to_str(),
        _ => None,
    })
}

/// A single component: an annotation must not climb.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text != "." && text != ".." && !text.contains('/')
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn podman_paths() {
        let path = Path::new("/run/containers/storage/overlay-containers/abc/userdata/run/secrets/x");
        assert_eq!(userdata(path), Some(("abc", "run")));
        assert_eq!(
            userdata(Path::new("/run/containers/storage/overlay-containers/abc/userdata")),
            None
        );
        assert_eq!(userdata(Path::new("/a/overlay-containers/abc/other/hosts")), None);
    }

    #[test]
    fn named_volumes() {
        assert!(is_volume(Path::new("/var/lib/containers/storage/volumes/v/_data/sub")));
        assert!(is_volume(Path::new("/var/lib/docker/volumes/v/_data")));
        assert!(!is_volume(Path::new("/var/lib/docker/volumes/v")));
        assert!(!is_volume(Path::new("/var/lib/docker/volumes")));
        assert!(!is_volume(Path::new("/var/lib/containers/storage/overlay/x/merged")));
    }

    #[test]
    fn an_id_is_one_component() {
        for bad in ["", ".", "..", "a/b", "../x"] {
            assert!(!is_name(bad), "{bad}");
        }
        assert!(is_name("b1f7c2d0-1"));
    }
}
