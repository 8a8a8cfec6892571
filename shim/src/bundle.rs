//! What the shim itself needs of a bundle's `config.json`; the rest is the runtime's business.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::files::{self, Links};

/// The runtime bounds it too; here it bounds what is read into the shim.
const LIMIT: u64 = 16 << 20;
/// What containerd's CRI and CRI-O call the pod's sandbox.
const SANDBOX_ID: [&str; 2] = ["io.kubernetes.cri.sandbox-id", "io.kubernetes.cri-o.SandboxID"];

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    annotations: Option<HashMap<String, String>>,
    #[serde(default)]
    linux: Option<Linux>,
}

#[derive(Deserialize)]
struct Linux {
    #[serde(default)]
    namespaces: Option<Vec<Namespace>>,
}

#[derive(Deserialize)]
struct Namespace {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    path: Option<PathBuf>,
}

fn read(bundle: &Path) -> Result<Config> {
    let path = bundle.join("config.json");
    let text = files::read(&path, Links::Refuse, LIMIT)?;
    serde_json::from_slice(&text).map_err(|_| Error::Content {
        path,
        expected: "an OCI configuration",
    })
}

/// The sandbox whose shim the container shares; `None` outside of pods.
pub fn sandbox(bundle: &Path) -> Result<Option<String>> {
    let mut annotations = read(bundle)?.annotations.unwrap_or_default();
    Ok(SANDBOX_ID.iter().find_map(|key| annotations.remove(*key)))
}

/// Whether the kernel itself ends all other processes with the first one: only in a pid namespace of the container's own.
pub fn has_own_pids(bundle: &Path) -> Result<bool> {
    let namespaces = read(bundle)?
        .linux
        .and_then(|linux| linux.namespaces)
        .unwrap_or_default();
    let own = |namespace: &Namespace| {
        namespace.kind == "pid" && namespace.path.as_ref().is_none_or(|path| path.as_os_str().is_empty())
    };
    Ok(namespaces.iter().any(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(config: &str, test: impl Fn(&Path)) {
        let name = format!("gabion-shim-bundle-{}-{:p}", std::process::id(), config);
        let bundle = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&bundle).unwrap();
        std::fs::write(bundle.join("config.json"), config).unwrap();
        test(&bundle);
        std::fs::remove_dir_all(&bundle).unwrap();
    }

    #[test]
    fn pid_namespaces() {
        with(r#"{"linux":{"namespaces":[{"type":"pid"}]}}"#, |bundle| {
            assert!(has_own_pids(bundle).unwrap());
        });
        with(
            r#"{"linux":{"namespaces":[{"type":"pid","path":"/proc/7/ns/pid"},{"type":"ipc"}]}}"#,
            |bundle| {
                assert!(!has_own_pids(bundle).unwrap());
            },
        );
        with(r#"{"linux":null}"#, |bundle| assert!(!has_own_pids(bundle).unwrap()));
        with("[", |bundle| {
            assert!(matches!(has_own_pids(bundle), Err(Error::Content { .. })));
        });
    }

    #[test]
    fn sandboxes() {
        with(r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"pod"}}"#, |bundle| {
            assert_eq!(sandbox(bundle).unwrap().as_deref(), Some("pod"));
        });
        with(r#"{"annotations":null}"#, |bundle| {
            assert_eq!(sandbox(bundle).unwrap(), None);
        });
    }
}
