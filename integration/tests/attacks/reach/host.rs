//! What the host has: a small tree, and mounts.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

static SERIAL: AtomicU32 = AtomicU32::new(0);

/// A mount of the host, as an administrator makes it; gone with the test.
pub(crate) struct HostMount(PathBuf);

impl HostMount {
    pub(crate) fn new(args: &[&str], at: &Path) -> Self {
        fs::create_dir_all(at).unwrap();
        let done = Command::new("mount").args(args).arg(at).status().unwrap();
        assert!(done.success(), "mount {args:?} {}", at.display());
        let mount = Self(at.to_owned());
        // What the test mounts is nobody else's.
        let private = Command::new("mount").arg("--make-private").arg(at).status().unwrap();
        assert!(private.success());
        mount
    }

    pub(crate) fn bind(source: &Path, at: &Path) -> Self {
        Self::new(&["--bind", source.to_str().unwrap()], at)
    }
}

impl Drop for HostMount {
    fn drop(&mut self) {
        let done = Command::new("umount").arg(&self.0).status();
        let good = done.is_ok_and(|status| status.success());
        assert!(good || std::thread::panicking(), "umount {}", self.0.display());
    }
}

/// Directories, files, links and aliases, not in any bundle:
///
/// `a/f`, `a/b/f`, `c/f`; `l` is a link to `a`, `c/l` to `a/b`; `c/h` is `a/f` by a second name; `alias` and `c/alias` are mounts of `a/b`.
pub(crate) struct Tree {
    top: PathBuf,
    mounts: Vec<HostMount>,
}

impl Tree {
    pub(crate) fn new() -> Self {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let top = std::env::temp_dir().join(format!("reach-tree-{}-{serial}", std::process::id()));
        let mut tree = Self {
            top,
            mounts: Vec::new(),
        };
        for dir in ["", "a", "a/b", "c"] {
            fs::create_dir_all(tree.path(dir)).unwrap();
            fs::set_permissions(tree.path(dir), Permissions::from_mode(0o777)).unwrap();
        }
        for file in ["a/f", "a/b/f", "c/f"] {
            fs::write(tree.path(file), "#!/bin/sh\necho ORIGINAL\n").unwrap();
            fs::set_permissions(tree.path(file), Permissions::from_mode(0o777)).unwrap();
            std::os::unix::fs::chown(tree.path(file), Some(1000), None).unwrap();
        }
        symlink(tree.path("a"), tree.path("l")).unwrap();
        symlink(tree.path("a/b"), tree.path("c/l")).unwrap();
        fs::hard_link(tree.path("a/f"), tree.path("c/h")).unwrap();
        for at in ["alias", "c/alias"] {
            let mount = HostMount::bind(&tree.path("a/b"), &tree.path(at));
            tree.mounts.push(mount);
        }
        tree
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.top.join(below)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.mounts.clear();
        let still = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        // Whatever a test left mounted below is not to be removed through.
        let name = self.top.display().to_string();
        if still
            .lines()
            .any(|line| line.split(' ').nth(4).is_some_and(|at| at.starts_with(&name)))
        {
            assert!(std::thread::panicking(), "mounts are left below {name}");
            return;
        }
        let gone = fs::remove_dir_all(&self.top);
        assert!(gone.is_ok() || std::thread::panicking(), "{gone:?}");
    }
}
