//! gabion's own: its policies, its log, and the file system of the volumes that it mounts.

use std::fs::File;
use std::path::{Path, PathBuf};

use gabion_core::caller::Reader;
use gabion_core::doctor::node::{Executes, Keeps, Log, PolicyFile, Seen};
use libc::{O_DIRECTORY, O_RDONLY};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use nix::sys::statvfs::{FsFlags, fstatvfs};

use super::root::Root;
use crate::audit::place;
use crate::error::{Error, Result};
use crate::policy;

/// The machine's policy and those of second names, and where its log is.
pub(super) fn policies(root: &Root, reader: Reader) -> (Vec<PolicyFile>, Log) {
    let mut found = Vec::new();
    let mut audit = None;
    match policy::read_in(&root.dir, policy::SYSTEM, reader) {
        Ok(Some(loaded)) => {
            audit = Some(loaded.policy.audit.clone());
            found.push(of_policy(policy::SYSTEM.to_owned(), Ok(loaded)));
        }
        Ok(None) => {
            let built_in = policy::Loaded::built_in();
            audit = Some(built_in.policy.audit.clone());
            found.push(of_policy("built-in".to_owned(), Ok(built_in)));
        }
        Err(error) => found.push(of_policy(policy::SYSTEM.to_owned(), Err(error))),
    }
    let names = match root.names(policy::RUNTIMES) {
        Seen::Is(names) => names,
        Seen::Absent => Vec::new(),
        Seen::Unknown(why) => {
            found.push(PolicyFile {
                source: policy::RUNTIMES.to_owned(),
                policy: Err(why),
                expired: Vec::new(),
            });
            Vec::new()
        }
    };
    let toml = |name: &String| Path::new(name).extension().is_some_and(|extension| extension == "toml");
    for name in names.into_iter().filter(toml) {
        let path = format!("{}/{name}", policy::RUNTIMES);
        match policy::read_in(&root.dir, &path, reader) {
            Ok(Some(loaded)) => found.push(of_policy(path, Ok(loaded))),
            Ok(None) => {}
            Err(error) => found.push(of_policy(path, Err(error))),
        }
    }
    let log = match audit.as_ref().and_then(|audit| place::file(audit, reader)) {
        Some(file) => log(root, file, reader),
        None => Log::default(),
    };
    (found, log)
}

fn of_policy(source: String, loaded: Result<policy::Loaded>) -> PolicyFile {
    match loaded {
        Ok(loaded) => PolicyFile {
            source,
            policy: Ok(loaded.policy),
            expired: loaded.expired.into_iter().map(|exception| exception.reason).collect(),
        },
        Err(Error::Policy { why, .. }) => PolicyFile {
            source,
            policy: Err(why),
            expired: Vec::new(),
        },
        Err(error) => PolicyFile {
            source,
            policy: Err(error.to_string()),
            expired: Vec::new(),
        },
    }
}

fn log(root: &Root, file: PathBuf, reader: Reader) -> Log {
    let path = file.to_string_lossy().into_owned();
    let directory = place::parent(&file).to_string_lossy().into_owned();
    let opened = || root.at(&directory, O_RDONLY | O_DIRECTORY).map(File::from);
    let free = opened()
        .and_then(|dir| fstatvfs(&dir))
        .map(|fs| fs.blocks_available().saturating_mul(fs.fragment_size()));
    let keeps = opened().and_then(|dir| fstatfs(&dir)).map(|fs| {
        if fs.filesystem_type() == TMPFS_MAGIC {
            Keeps::UntilBoot
        } else {
            Keeps::Yes
        }
    });
    Log {
        reader: reader.euid,
        directory: root.owned(&directory, reader),
        log: root.owned(&path, reader),
        free: Root::seen(&directory, free),
        keeps: Root::seen(&directory, keeps),
        file,
    }
}

pub(super) fn kubelet(root: &Root, policies: &[PolicyFile]) -> Seen<Executes> {
    let usual = gabion_core::policy::Policy::default().mounts.kubelet_root;
    let policy = policies.first().and_then(|file| file.policy.as_ref().ok());
    let place = policy.map_or(usual, |policy| policy.mounts.kubelet_root.clone());
    let path = place.join("pods").to_string_lossy().into_owned();
    let flags = root
        .at(&path, O_RDONLY | O_DIRECTORY)
        .and_then(|dir| fstatvfs(File::from(dir)))
        .map(|fs| fs.flags().contains(FsFlags::ST_NOEXEC));
    match Root::seen(&path, flags) {
        Seen::Is(true) => Seen::Is(Executes::No),
        Seen::Is(false) => Seen::Is(Executes::Yes),
        Seen::Absent => Seen::Absent,
        Seen::Unknown(why) => Seen::Unknown(why),
    }
}
