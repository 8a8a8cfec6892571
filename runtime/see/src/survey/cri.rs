//! What containerd's CRI plugin has on this host for the ids of a request: by it, and by no annotation, a pod is known.
//!
//! The plugin makes `sandboxes/<id>` and `containers/<id>` below both its root and its state directory before it asks for a task
//! (containerd 1.6 to 2.x, all below the plugin's first name), and containerd itself makes the bundle.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use gabion_core::caller::{OwnUserNs, Reader};
use gabion_core::host::{CriFiles, MadeByCri};
use gabion_core::policy::Policy;
use gabion_core::request::{CRI_NAMESPACE, Channel, ContainerId, Request};

use crate::vetted::{self, Kind, Links, Owner, Rules};

/// Where containerd has the bundles of its tasks, below its state.
const TASKS: &str = "io.containerd.runtime.v2.task";

/// The CRI plugin's directory, below containerd's root and its state. containerd 2 has kept the name.
const PLUGIN: &str = "io.containerd.grpc.v1.cri";

/// Root's, and nobody else's to write to. The caller is root: another one's call is looked at by nobody.
const RULES: Rules = Rules {
    kind: Kind::Directory,
    owner: Owner::Caller,
    forbidden: 0o022,
    largest: 0,
    links: Links::Refuse,
};

/// Looks, where the call came by the shim for the plugin's namespace, and the caller is the host's root: who is root in a user namespace alone may
/// have laid directories of their own over these.
pub(super) fn files(request: &Request, policy: &Policy, caller: Reader) -> CriFiles {
    let root = caller.euid == 0 && caller.user_ns == OwnUserNs::Initial;
    match &request.channel {
        Channel::Shim { namespace } if namespace == CRI_NAMESPACE && root => {}
        _ => return CriFiles::default(),
    }
    let settings = &policy.mounts;
    let bundle = settings.containerd_state.join(TASKS).join(CRI_NAMESPACE);
    let plugin = |kind: &str, id: &str| {
        let mut roots = [&settings.containerd_state, &settings.containerd_root].into_iter();
        made(roots.any(|root| directory(&root.join(PLUGIN).join(kind), id).is_some()))
    };
    // What is no id of a container is no name of a directory: it might climb.
    let sandbox = request
        .claimed_sandbox()
        .and_then(|id| id.parse::<ContainerId>().ok())
        .map_or(MadeByCri::No, |id| plugin("sandboxes", id.as_str()));
    CriFiles {
        bundle: made(is_bundle(&bundle, request)),
        sandbox,
        container: plugin("containers", request.id.as_str()),
    }
}

/// Tells through which door a bundle came to where it lies: what containerd made for its CRI plugin came by the shim.
pub fn door_of_bundle(request: &Request, policy: &Policy) -> Channel {
    let tasks = policy.mounts.containerd_state.join(TASKS).join(CRI_NAMESPACE);
    if is_bundle(&tasks, request) {
        let namespace = CRI_NAMESPACE.to_owned();
        return Channel::Shim { namespace };
    }
    Channel::Direct
}

fn made(there: bool) -> MadeByCri {
    if there { MadeByCri::Yes } else { MadeByCri::No }
}

/// Opens `name` in `dir`, where both are root's alone and neither is a link.
fn directory(dir: &Path, name: &str) -> Option<File> {
    let above = vetted::open(dir, &RULES).ok()?;
    vetted::open_with(
        Some(std::os::fd::AsFd::as_fd(&above)),
        Path::new(name),
        nix::fcntl::OFlag::O_RDONLY,
        &RULES,
    )
    .ok()
}

/// Whether the request's bundle is containerd's own of this id, by identity.
fn is_bundle(tasks: &Path, request: &Request) -> bool {
    let identity = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
    let own = directory(tasks, request.id.as_str()).and_then(|dir| dir.metadata().ok());
    let given = std::fs::symlink_metadata(&request.bundle).ok();
    own.is_some() && own.map(identity) == given.map(identity)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    use super::*;

    const ID: &str = "c1";

    struct Node(PathBuf, OwnUserNs);

    impl Node {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("gabion-cri-{}-{name}", std::process::id()));
            let node = Self(dir, OwnUserNs::Initial);
            for part in [
                "run/io.containerd.runtime.v2.task/k8s.io/c1",
                "run/io.containerd.grpc.v1.cri/sandboxes/pod",
                "lib/io.containerd.grpc.v1.cri/containers/c1",
                "elsewhere",
            ] {
                let mut path = node.0.clone();
                for part in Path::new(part).components() {
                    path.push(part);
                    fs::create_dir_all(&path).unwrap();
                    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
                }
            }
            node
        }

        fn bundle(&self) -> PathBuf {
            self.0.join("run/io.containerd.runtime.v2.task/k8s.io/c1")
        }

        fn see(&self, namespace: Option<&str>, bundle: &Path, sandbox: &str) -> CriFiles {
            let text = format!(
                r#"{{"ociVersion":"1.0.2","process":{{"user":{{"uid":0,"gid":0}},"args":["sh"],"cwd":"/"}},"root":{{"path":"r"}},
                    "annotations":{{"io.kubernetes.cri.sandbox-id":"{sandbox}"}}}}"#
            );
            let path = Path::new("config.json");
            let mut request = Request::parse(ID.parse().unwrap(), bundle.into(), text.as_bytes(), path).unwrap();
            if let Some(namespace) = namespace {
                request.channel = Channel::Shim {
                    namespace: namespace.to_owned(),
                };
            }
            let mut policy = Policy::default();
            policy.mounts.containerd_state = self.0.join("run");
            policy.mounts.containerd_root = self.0.join("lib");
            // The rules ask for the caller's: whoever runs the tests stands for root.
            let user_ns = self.1;
            files(&request, &policy, Reader { euid: 0, user_ns })
        }
    }

    impl Drop for Node {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn what_the_plugin_made_is_seen_by_the_shim_s_calls_alone() {
        let node = Node::new("made");
        let all = CriFiles {
            bundle: MadeByCri::Yes,
            sandbox: MadeByCri::Yes,
            container: MadeByCri::Yes,
        };
        assert_eq!(node.see(Some("k8s.io"), &node.bundle(), "pod"), all);
        let mut nested = node;
        nested.1 = OwnUserNs::Nested;
        assert_eq!(nested.see(Some("k8s.io"), &nested.bundle(), "pod"), CriFiles::default());
        nested.1 = OwnUserNs::Initial;
        let node = nested;
        for namespace in [None, Some("moby"), Some("default"), Some("")] {
            assert_eq!(
                node.see(namespace, &node.bundle(), "pod"),
                CriFiles::default(),
                "{namespace:?}"
            );
        }
        // Another bundle, and names that the plugin has not made or that climb.
        let elsewhere = node.see(Some("k8s.io"), &node.0.join("elsewhere"), "pod");
        let policy = |node: &Node| {
            let mut policy = Policy::default();
            policy.mounts.containerd_state = node.0.join("run");
            policy
        };
        let request = |bundle: PathBuf| Request {
            id: ID.parse().unwrap(),
            bundle,
            spec: oci_spec::runtime::Spec::default(),
            channel: Channel::Direct,
            leave: gabion_core::request::Leave::default(),
            odd: Vec::new(),
        };
        let door = |bundle: PathBuf| door_of_bundle(&request(bundle), &policy(&node));
        assert!(matches!(door(node.bundle()), Channel::Shim { .. }));
        assert_eq!(door(node.0.join("elsewhere")), Channel::Direct);
        assert_eq!((elsewhere.bundle, elsewhere.sandbox), (MadeByCri::No, MadeByCri::Yes));
        for sandbox in ["other", "", ".", "..", "../sandboxes/pod"] {
            let seen = node.see(Some("k8s.io"), &node.bundle(), sandbox);
            assert_eq!(seen.sandbox, MadeByCri::No, "{sandbox}");
        }
    }

    #[test]
    fn what_others_could_have_put_there_is_not_the_plugin_s() {
        let node = Node::new("others");
        let sandboxes = node.0.join("run/io.containerd.grpc.v1.cri/sandboxes");
        symlink("pod", sandboxes.join("link")).unwrap();
        assert_eq!(node.see(Some("k8s.io"), &node.bundle(), "link").sandbox, MadeByCri::No);
        for path in [sandboxes.clone(), sandboxes.join("pod")] {
            fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
            assert_eq!(node.see(Some("k8s.io"), &node.bundle(), "pod").sandbox, MadeByCri::No);
            fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        }
        assert_eq!(node.see(Some("k8s.io"), &node.bundle(), "pod").sandbox, MadeByCri::Yes);
    }
}
