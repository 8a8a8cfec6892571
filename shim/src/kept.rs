//! What the bundle keeps of a container for `delete`, which containerd runs when the shim is dead.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files::{self, Links};
use crate::options::Options;

const FILE: &str = "gabion-shim.json";
/// Options of 64 KiB, and as much again for the rest.
const LIMIT: u64 = 128 * 1024;

/// What a container was made with, written before the runtime makes it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// The options of its runtime.
    pub options: Options,
    /// The runtime's `--root`, which held nothing of the container's id before. Unset: an older shim made it, elsewhere.
    pub root: Option<PathBuf>,
    /// The kernel's numbers of the mounts made for its root file system, in their order.
    pub mounts: Vec<u64>,
}

impl Kept {
    /// Writes it to `bundle`, whole or not at all: without it nobody could clean up.
    pub fn write(&self, bundle: &Path) -> Result<()> {
        let (path, new) = (bundle.join(FILE), bundle.join(format!("{FILE}.new")));
        let json = serde_json::to_vec(self).map_err(|error| Error::at("writing", &path, error))?;
        std::fs::write(&new, json).map_err(|error| Error::at("writing", &new, error))?;
        std::fs::rename(&new, &path).map_err(|error| Error::at("renaming", &new, error))
    }

    /// Reads it from `bundle`. None: `create` was never called, or the container is deleted.
    pub fn read(bundle: &Path) -> Result<Option<Self>> {
        let path = bundle.join(FILE);
        let there = path.symlink_metadata().is_ok();
        if !there {
            return Ok(None);
        }
        let text = files::read_text(&path, Links::Refuse, LIMIT)?;
        if let Ok(kept) = serde_json::from_str(&text) {
            return Ok(Some(kept));
        }
        // Older shims kept the options alone.
        let old = |options| Self {
            options,
            root: None,
            mounts: Vec::new(),
        };
        serde_json::from_str(&text)
            .map(|options| Some(old(options)))
            .map_err(|_| Error::Content {
                path,
                expected: "what the shim keeps of a container",
            })
    }

    /// Takes it away: the runtime knows nothing of the container any more.
    pub fn forget(bundle: &Path) -> Result<()> {
        let path = bundle.join(FILE);
        std::fs::remove_file(&path).map_err(|error| Error::at("removing", &path, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_also_in_an_older_shim_s_words() {
        let bundle = std::env::temp_dir().join(format!("gabion-shim-kept-{}", std::process::id()));
        std::fs::create_dir_all(&bundle).unwrap();
        assert_eq!(Kept::read(&bundle).unwrap(), None);
        let mut kept = Kept {
            options: Options {
                level: Some("restricted".into()),
                ..Options::default()
            },
            root: Some("/run/x/ns@1".into()),
            mounts: vec![7, 8],
        };
        kept.write(&bundle).unwrap();
        assert_eq!(Kept::read(&bundle).unwrap().as_ref(), Some(&kept));
        std::fs::write(bundle.join(FILE), serde_json::to_vec(&kept.options).unwrap()).unwrap();
        (kept.root, kept.mounts) = (None, Vec::new());
        assert_eq!(Kept::read(&bundle).unwrap(), Some(kept));
        for damaged in ["", "{\"options\":", "{\"level\":3}"] {
            std::fs::write(bundle.join(FILE), damaged).unwrap();
            assert!(matches!(Kept::read(&bundle), Err(Error::Content { .. })), "{damaged}");
        }
        Kept::forget(&bundle).unwrap();
        assert_eq!(Kept::read(&bundle).unwrap(), None);
        std::fs::remove_dir_all(&bundle).unwrap();
    }
}
