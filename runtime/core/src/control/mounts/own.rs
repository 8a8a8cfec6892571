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

/// What Docker makes for a container, below its own directory. Not among them: config.v2.json, hostconfig.json and the logs.
const DOCKERS: [&str; 5] = ["hostname", "hosts", "mounts/secrets", "mounts/shm", "resolv.conf"];

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
    let own = |id: &str| id == cx.request.id.as_str();
    match userdata(real).or_else(|| dockers(real, cx.request)) {
        Some((id, part)) if own(id) => USERDATA.contains(&part) || DOCKERS.contains(&part),
        Some((id, "shm" | "mounts/shm")) => is_id(id) && joins(id, NsType::Ipc),
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
    let id = request.id.as_str();
    let podmans = userdata(real).is_some_and(|(own, part)| own == id && USERDATA.contains(&part));
    let own = podmans || dockers(real, request).is_some_and(|(own, _)| own == id);
    let plugins = [&settings.containerd_root, &settings.containerd_state].map(|root| root.join(PLUGIN));
    own || real.starts_with(settings.kubelet_root.join("pods")) || plugins.iter().any(|p| real.starts_with(p))
}

/// Where an engine keeps the files of containers, and whose this one is.
pub(super) fn file_of<'a>(real: &'a Path, request: &Request) -> Option<(&'a Path, &'a str)> {
    let (id, _) = userdata(real).or_else(|| dockers(real, request))?;
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

/// `<data-root>/containers/<id>/<part>` of a container that dockerd asks for: the id and the part.
fn dockers<'a>(real: &'a Path, request: &Request) -> Option<(&'a str, &'a str)> {
    if !request.is_dockers() {
        return None;
    }
    let parts: Vec<&str> = names(real).collect();
    let text = real.to_str()?;
    let part = DOCKERS.into_iter().find(|part| text.ends_with(&format!("/{part}")))?;
    let above = parts.get(..parts.len().checked_sub(part.split('/').count())?)?;
    match above {
        [.., "containers", id] if is_id(id) => Some((id, part)),
        _ => None,
    }
}

/// Gives Docker's data-root, by the files that dockerd made in it for this container: nobody else knows its id before.
pub(super) fn dockers_root<'a>(real: &'a Path, request: &Request) -> Option<&'a Path> {
    let (id, _) = dockers(real, request).filter(|(id, _)| *id == request.id.as_str())?;
    let own = real.ancestors().find(|dir| dir.ends_with(id))?;
    own.parent()?.parent()
}

/// A named volume of podman or docker: made to be given to containers.
pub(super) fn is_volume(real: &Path, cx: &Context<'_>) -> bool {
    if let Some(root) = &cx.host.dockers_root {
        let rest = real.strip_prefix(root.join("volumes")).ok();
        let named = rest.map(|rest| names(rest).collect::<Vec<_>>());
        if named.is_some_and(|parts| parts.get(1) == Some(&"_data")) {
            return true;
        }
    }
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
        let mut case = crate::testing::Case::new();
        let is_volume = |case: &crate::testing::Case, path: &str| {
            let request = case.request();
            let cx = Context {
                request: &request,
                policy: &case.policy,
                host: &case.host,
            };
            super::is_volume(Path::new(path), &cx)
        };
        for path in [
            "/var/lib/containers/storage/volumes/v/_data/sub",
            "/var/lib/docker/volumes/v/_data",
        ] {
            assert!(is_volume(&case, path), "{path}");
        }
        for path in [
            "/var/lib/docker/volumes/v",
            "/var/lib/docker/volumes",
            "/var/lib/containers/storage/overlay/x/merged",
            "/x/volumes/v/_data",
        ] {
            assert!(!is_volume(&case, path), "{path}");
        }
        // Docker's root is where its operator chose.
        case.host.dockers_root = Some("/x".into());
        assert!(is_volume(&case, "/x/volumes/v/_data"));
        for path in [
            "/x/volumes/_data",
            "/x/volumes/v",
            "/x/volumes/metadata.db",
            "/x/v/_data",
            "/y/volumes/v/_data",
        ] {
            assert!(!is_volume(&case, path), "{path}");
        }
    }

    #[test]
    fn dockers_files_of_this_container() {
        let (id, other) = ("a".repeat(64), "b".repeat(64));
        let mut request = crate::testing::Case::new().request();
        request.id = id.parse().unwrap();
        let task = |namespace: &str, id: &str| {
            format!("/run/containerd/io.containerd.runtime.v2.task/{namespace}/{id}").into()
        };
        request.bundle = task("moby", &id);
        let path = |id: &str, part: &str| format!("/srv/d/100000.100000/containers/{id}/{part}");
        let see = |request: &Request, id: &str, part: &str| {
            let path = path(id, part);
            dockers(Path::new(&path), request).map(|(id, part)| (id.to_owned(), part.to_owned()))
        };
        for part in DOCKERS {
            assert_eq!(see(&request, &id, part), Some((id.clone(), part.to_owned())));
            assert_eq!(see(&request, &other, part), Some((other.clone(), part.to_owned())));
        }
        for part in [
            "",
            "config.v2.json",
            "hostconfig.json",
            "x/hosts",
            "hosts/x",
            "shm",
            "mounts",
            "a-json.log",
        ] {
            assert_eq!(see(&request, &id, part), None, "{part}");
        }
        assert_eq!(see(&request, "short", "hosts"), None);
        let root = |id: &str| dockers_root(Path::new(&path(id, "hosts")), &request).map(Path::to_owned);
        assert_eq!(root(&id), Some("/srv/d/100000.100000".into()));
        assert_eq!(root(&other), None);
        // Nobody else's call: not a pod's, not another's bundle.
        for bundle in [task("k8s.io", &id), task("moby", &other), "/srv/moby".into()] {
            let another = Request {
                bundle,
                ..request.clone()
            };
            assert_eq!(see(&another, &id, "hosts"), None);
        }
        request.channel = crate::request::Channel::Shim {
            namespace: "k8s.io".to_owned(),
        };
        assert_eq!(see(&request, &id, "hosts"), None);
    }

    #[test]
    fn an_id_is_one_component() {
        for bad in ["", ".", "..", "a/b", "../x"] {
            assert!(!is_name(bad), "{bad}");
        }
        assert!(is_name("b1f7c2d0-1"));
    }
}
