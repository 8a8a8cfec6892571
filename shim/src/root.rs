//! The directory in which the runtime keeps the state of containers: one for each containerd and namespace.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::files::{self, Links};
use crate::options::Options;
use crate::socket::name_of;

/// Where the directories lie by default.
const DEFAULT: &str = "/run/containerd/gabion";
/// How many digits of the hash tell one containerd from another.
const DIGITS: usize = 12;
/// The most that is read of a container's state: its whole configuration stands in it.
const STATE_LIMIT: u64 = 64 << 20;

/// The directory for `namespace` of the containerd at `address`. Two that run on one machine use the same namespaces, and often the
/// same ids; a namespace holds no `@`.
pub fn directory(options: &Options, address: &str, namespace: &str) -> PathBuf {
    let mut hash = name_of(&["root", address.strip_prefix("unix://").unwrap_or(address)]);
    hash.truncate(DIGITS);
    parent(options).join(format!("{namespace}@{hash}"))
}

/// The directory of shims before the address was part of its name.
pub fn older(options: &Options, namespace: &str) -> PathBuf {
    parent(options).join(namespace)
}

fn parent(options: &Options) -> PathBuf {
    options.root.clone().unwrap_or_else(|| PathBuf::from(DEFAULT))
}

/// Refuses an id whose place is taken, by whatever: what is there is not ours to delete later.
pub fn refuse_existing(root: &Path, id: &str) -> Result<()> {
    let place = root.join(id);
    match place.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::at("looking for", &place, error)),
        Ok(_) => Err(Error::ContainerExists(id.to_owned())),
    }
}

/// The one word of a container's state that the shim reads.
#[derive(Deserialize)]
struct State {
    bundle: Option<PathBuf>,
}

/// Whether what stands at `id` below `root` is the container of `bundle`. `fresh` says that the shim saw the place empty before it made
/// the container: then it is ours also where the runtime died before it wrote any state.
pub fn holds(root: &Path, id: &str, bundle: &Path, fresh: bool) -> bool {
    let place = root.join(id);
    if !place.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
        return false;
    }
    let file = place.join("state.json");
    if !file.symlink_metadata().is_ok_and(|meta| meta.is_file()) {
        return fresh;
    }
    let text = files::read(&file, Links::Refuse, STATE_LIMIT).unwrap_or_default();
    let state: Option<State> = serde_json::from_slice(&text).ok();
    match state.and_then(|state| state.bundle) {
        Some(other) => other == bundle || files::real(&other) == files::real(bundle),
        // Damaged, or of a runtime that keeps it elsewhere: the file's name is the sign.
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn every_containerd_has_its_own_and_always_the_same() {
        let options = Options {
            root: Some("/r".into()),
            ..Options::default()
        };
        let of = |address: &str, namespace: &str| directory(&options, address, namespace);
        let one = of("/run/containerd/containerd.sock", "k8s.io");
        assert_eq!(one, of("unix:///run/containerd/containerd.sock", "k8s.io"));
        // As long as this does not change, containers are found after an update.
        assert_eq!(one, Path::new("/r/k8s.io@516b3267fc38"));
        assert_ne!(one, of("/run/k3s/containerd/containerd.sock", "k8s.io"));
        assert_ne!(one, of("/run/containerd/containerd.sock", "default"));
        assert_eq!(older(&options, "k8s.io"), Path::new("/r/k8s.io"));
    }

    #[test]
    fn only_our_own_is_taken_for_ours() {
        let root = std::env::temp_dir().join(format!("gabion-shim-root-{}", std::process::id()));
        let bundle = root.join("bundle");
        fs::create_dir_all(&bundle).unwrap();
        let make = |id: &str, state: Option<&str>| {
            fs::create_dir(root.join(id)).unwrap();
            if let Some(state) = state {
                fs::write(root.join(id).join("state.json"), state).unwrap();
            }
        };
        let of = |bundle: &Path| format!("{{\"version\":1,\"bundle\":{bundle:?}}}");
        make("ours", Some(&of(&bundle)));
        make("theirs", Some(&of(Path::new("/other"))));
        make("damaged", Some("{"));
        make("bare", None);
        std::os::unix::fs::symlink("ours", root.join("link")).unwrap();
        fs::write(root.join("file"), "").unwrap();
        let held = |id: &str| [false, true].map(|fresh| holds(&root, id, &bundle, fresh));
        assert_eq!(held("ours"), [true, true]);
        assert_eq!(held("theirs"), [false, false]);
        assert_eq!(held("damaged"), [true, true]);
        assert_eq!(held("bare"), [false, true]);
        for no in ["link", "file", "none"] {
            assert_eq!(held(no), [false, false], "{no}");
        }
        for taken in ["ours", "bare", "link", "file"] {
            assert!(
                matches!(refuse_existing(&root, taken), Err(Error::ContainerExists(_))),
                "{taken}"
            );
        }
        assert!(refuse_existing(&root, "none").is_ok());
        fs::remove_dir_all(root).unwrap();
    }
}
