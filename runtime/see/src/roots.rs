//! Where containers may be, for those who ask without `--root`: engines choose roots of their own.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::named::{self, Named, Names};
use crate::state::{self, StateView};
use gabion_core::request::ContainerId;

/// Folders that hold one root for each of containerd's namespaces: the shim's, and runc's shim with gabion as its binary.
const BY_NAMESPACE: [&str; 2] = ["/run/containerd/gabion", "/run/containerd/runc"];

/// Where dockerd has what it runs, unless its configuration says otherwise: a folder `runtime-NAME` for each runtime, with one root for each
/// of its namespaces.
const DOCKERS: &str = "/run/docker";

/// The caller's own root, the system's, the user's, containerd's, Docker's. Those that are not there are left out.
pub fn all(own: &Path) -> Vec<PathBuf> {
    let mut found = vec![own.to_owned(), PathBuf::from("/run/gabion")];
    let user = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    found.extend(user.iter().map(|dir| dir.join("gabion")));
    let dockers = named::dockers_places().into_iter().chain([DOCKERS.into()]);
    let dockers: Vec<PathBuf> = dockers.chain(user.iter().map(|dir| dir.join("docker"))).collect();
    let folders = BY_NAMESPACE.into_iter().map(PathBuf::from).chain(of_docker(&dockers));
    found.extend(folders.flat_map(|folder| below(&folder)));
    let mut roots: Vec<PathBuf> = Vec::new();
    for root in found.into_iter().filter(|root| root.is_dir()) {
        if !roots.contains(&root) {
            roots.push(root);
        }
    }
    roots
}

/// What lies in a folder, by its names. One that may not be listed has nothing for this caller.
fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut below: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    below.sort();
    below
}

/// The folders of Docker's runtimes: each has one root for each of Docker's namespaces.
fn of_docker(places: &[PathBuf]) -> impl Iterator<Item = PathBuf> {
    let of_runtime = |dir: &PathBuf| {
        let name = dir.file_name().and_then(std::ffi::OsStr::to_str);
        name.is_some_and(|name| name.starts_with("runtime-"))
    };
    places.iter().flat_map(|place| below(place)).filter(of_runtime)
}

/// One container that a text may mean.
#[derive(Debug)]
struct Meant {
    root: PathBuf,
    id: ContainerId,
    named: Option<Named>,
}

impl std::fmt::Display for Meant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "--root {} {}", self.root.display(), self.id)?;
        match self.named.as_ref() {
            Some(Named {
                engine,
                name: Some(name),
                ..
            }) => write!(f, " ({} {name})", engine.as_str()),
            _ => Ok(()),
        }
    }
}

/// Finds the container that is meant by an id, by the name that its engine gave it, or by the beginning of an id; in this order, so that nobody
/// takes the place of an id by a name.
///
/// # Errors
/// There is none, or more than one.
pub fn find(roots: &[PathBuf], text: &str) -> Result<(PathBuf, ContainerId)> {
    match called(roots, text) {
        Err(Error::NotFound { .. }) => one(meant(&every(roots), |id| id.starts_with(text)), text),
        found => found,
    }
}

/// Finds it by a whole id or a name alone.
///
/// # Errors
/// There is none, or more than one.
pub fn called(roots: &[PathBuf], text: &str) -> Result<(PathBuf, ContainerId)> {
    let all = every(roots);
    let whole = meant(&all, |id| id == text);
    if whole.is_empty() {
        return one(of_name(&all, text), text);
    }
    one(whole, text)
}

/// Every container below these roots. A root that may not be listed has nothing for this caller.
fn every(roots: &[PathBuf]) -> Vec<(PathBuf, ContainerId)> {
    let ids = |root: &PathBuf| -> Vec<(PathBuf, ContainerId)> {
        let ids = state::ids(root).unwrap_or_default();
        ids.into_iter().map(|id| (root.clone(), id)).collect()
    };
    roots.iter().flat_map(ids).collect()
}

fn meant(all: &[(PathBuf, ContainerId)], means: impl Fn(&str) -> bool) -> Vec<Meant> {
    let matching = all.iter().filter(|(_, id)| means(id.as_str())).cloned();
    matching.map(|(root, id)| Meant { root, id, named: None }).collect()
}

/// The containers of that name. One whose state cannot be read has none.
fn of_name(all: &[(PathBuf, ContainerId)], text: &str) -> Vec<Meant> {
    let mut names = Names::default();
    let mut found = Vec::new();
    for (root, id) in all {
        let Ok(dir) = StateView::open(root, id) else { continue };
        let Ok(record) = dir.record() else { continue };
        let named = names.of_record(record);
        if named.as_ref().is_some_and(|named| named.is_called(text)) {
            let (root, id) = (root.clone(), id.clone());
            found.push(Meant { root, id, named });
        }
    }
    found
}

fn one(meant: Vec<Meant>, text: &str) -> Result<(PathBuf, ContainerId)> {
    match <[Meant; 1]>::try_from(meant) {
        Ok([one]) => Ok((one.root, one.id)),
        Err(none) if none.is_empty() => Err(Error::NotFound { id: text.to_owned() }),
        Err(many) => {
            let shown: Vec<String> = many.iter().map(ToString::to_string).collect();
            Err(Error::Usage(format!(
                "{text} is more than one container: {}",
                shown.join(", ")
            )))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn dockers_runtimes_are_folders_of_roots() {
        let dir = std::env::temp_dir().join(format!("gabion-roots-docker-{}", std::process::id()));
        for path in [
            "x/runtime-gabion/moby",
            "x/runtime-runc/moby",
            "x/containerd/moby",
            "d/runtimes/moby",
        ] {
            std::fs::create_dir_all(dir.join(path)).unwrap();
        }
        let found: Vec<PathBuf> = of_docker(&[dir.join("x"), dir.join("d"), dir.join("none")]).collect();
        assert_eq!(found, ["x/runtime-gabion", "x/runtime-runc"].map(|path| dir.join(path)));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn prefixes_must_be_of_one() {
        let dir = std::env::temp_dir().join(format!("gabion-roots-{}", std::process::id()));
        let (a, b) = (dir.join("a"), dir.join("b"));
        for path in [a.join("web1"), a.join("web12"), b.join("db"), b.join("web1x")] {
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join("state.json"), "").unwrap();
        }
        std::fs::create_dir_all(b.join("dump")).unwrap();
        let roots = [a.clone(), b.clone()];
        let found = |text: &str| find(&roots, text).map(|(root, id)| (root, id.to_string()));
        assert_eq!(found("d").unwrap(), (b.clone(), "db".to_owned()));
        assert_eq!(found("web12").unwrap(), (a.clone(), "web12".to_owned()));
        // Whole, and the beginning of two others.
        assert_eq!(found("web1").unwrap(), (a, "web1".to_owned()));
        assert!(
            found("web")
                .unwrap_err()
                .to_string()
                .contains("more than one container")
        );
        assert!(matches!(found("x").unwrap_err(), Error::NotFound { .. }));
        std::fs::remove_dir_all(dir).unwrap();
    }
}
