//! Where containers may be, for those who ask without `--root`: engines choose roots of their own.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::state;
use gabion_core::request::ContainerId;

/// Folders that hold one root for each of containerd's namespaces: the shim's, and runc's shim with gabion as its binary.
const BY_NAMESPACE: [&str; 2] = ["/run/containerd/gabion", "/run/containerd/runc"];

/// The caller's own root, the system's, the user's, containerd's. Those that are not there are left out.
pub fn all(own: &Path) -> Vec<PathBuf> {
    let mut found = vec![own.to_owned(), PathBuf::from("/run/gabion")];
    if let Some(dir) = std::env::var_os("XDG_RUNTIME_DIR") {
        found.push(Path::new(&dir).join("gabion"));
    }
    for folder in BY_NAMESPACE {
        let below = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut below: Vec<PathBuf> = below.map(|entry| entry.path()).collect();
        below.sort();
        found.extend(below);
    }
    let mut roots: Vec<PathBuf> = Vec::new();
    for root in found.into_iter().filter(|root| root.is_dir()) {
        if !roots.contains(&root) {
            roots.push(root);
        }
    }
    roots
}

/// The container that is meant by an id, or by the beginning of one.
///
/// # Errors
/// There is none, or more than one.
pub fn find(roots: &[PathBuf], text: &str) -> Result<(PathBuf, ContainerId)> {
    let mut matching = Vec::new();
    for root in roots {
        // A root that may not be listed has nothing for this caller.
        for id in state::ids(root).unwrap_or_default() {
            if id.as_str().starts_with(text) {
                matching.push((root.clone(), id));
            }
        }
    }
    // A whole id is meant, also where it is the beginning of others.
    if matching.iter().any(|(_, id)| id.as_str() == text) {
        matching.retain(|(_, id)| id.as_str() == text);
    }
    match matching.as_slice() {
        [] => Err(Error::NotFound { id: text.to_owned() }),
        [one] => Ok(one.clone()),
        many => {
            let shown: Vec<String> = many
                .iter()
                .map(|(root, id)| format!("--root {} {id}", root.display()))
                .collect();
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
