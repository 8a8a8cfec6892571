//! Where a run takes place: mounts that only this process and its children see, so that nothing is left whatever ends us.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use gabion_see::error::{Error, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// A tmpfs of our own, with the image below it.
#[derive(Debug)]
pub(crate) struct Stage {
    dir: PathBuf,
    rounds: u32,
}

/// One run's root: the image below, what is written above.
#[derive(Debug)]
pub(crate) struct Round {
    dir: PathBuf,
    lower: PathBuf,
}

const NONE: Option<&str> = None;

fn at(doing: &'static str, path: &Path) -> impl Fn(nix::errno::Errno) -> Error {
    move |errno| Error::file(doing, path)(errno.into())
}

impl Stage {
    /// Leaves the mount namespace of our caller, and puts the image where overlayfs can name it.
    ///
    /// # Errors
    /// We are not root, or cannot mount.
    pub(crate) fn new(rootfs: &Path) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::Usage(
                "learn needs root: it mounts a writable layer and reads the memory of what it watches".to_owned(),
            ));
        }
        let root = Path::new("/");
        unshare(CloneFlags::CLONE_NEWNS).map_err(at("leave the mount namespace of", root))?;
        mount(NONE, root, NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE)
            .map_err(at("keep to ourselves mounts below", root))?;
        let dir = PathBuf::from(format!("/run/gabion-learn-{}", std::process::id()));
        fs::create_dir(&dir).map_err(Error::file("make", &dir))?;
        let stage = Self { dir, rounds: 0 };
        mount(
            Some("tmpfs"),
            &stage.dir,
            Some("tmpfs"),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            Some("mode=0755"),
        )
        .map_err(at("mount a tmpfs at", &stage.dir))?;
        let lower = stage.dir.join("image");
        fs::create_dir(&lower).map_err(Error::file("make", &lower))?;
        // Without what is mounted in it: that is the spec's own affair.
        mount(Some(rootfs), &lower, NONE, MsFlags::MS_BIND, NONE).map_err(at("bind the root file system", rootfs))?;
        Ok(stage)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Begins a run on the image as it is.
    pub(crate) fn round(&mut self) -> Result<Round> {
        self.rounds += 1;
        let dir = self.dir.join(format!("run-{}", self.rounds));
        let lower = self.dir.join("image");
        for name in ["", "upper", "work", "root", "bundle"] {
            let path = dir.join(name);
            fs::create_dir(&path).map_err(Error::file("make", &path))?;
        }
        // The root directory has the image's owner and mode.
        let like = fs::metadata(&lower).map_err(Error::file("look at", &lower))?;
        let round = Round { dir, lower };
        let upper = round.upper();
        std::os::unix::fs::chown(
            &upper,
            Some(std::os::unix::fs::MetadataExt::uid(&like)),
            Some(std::os::unix::fs::MetadataExt::gid(&like)),
        )
        .and_then(|()| fs::set_permissions(&upper, Permissions::from_mode(like.permissions().mode())))
        .map_err(Error::file("set the mode of", &upper))?;
        let name = |path: &Path| path.display().to_string();
        let options = format!(
            "lowerdir={},upperdir={},workdir={},metacopy=off,redirect_dir=off,index=off",
            name(&round.lower),
            name(&upper),
            name(&round.dir.join("work"))
        );
        mount(
            Some("overlay"),
            &round.root(),
            Some("overlay"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .map_err(at("mount a writable layer (overlayfs) at", &round.root()))?;
        Ok(round)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // The mount goes with our namespace; the directory is the host's.
        let gone = umount2(&self.dir, MntFlags::MNT_DETACH)
            .map_err(std::io::Error::from)
            .and_then(|()| fs::remove_dir(&self.dir));
        if let Err(error) = gone {
            tracing::warn!(%error, dir = %self.dir.display(), "an empty directory is left");
        }
    }
}

impl Round {
    /// What the container gets as its root.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    pub(crate) fn upper(&self) -> PathBuf {
        self.dir.join("upper")
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        self.dir.join("bundle")
    }

    pub(crate) fn lower(&self) -> &Path {
        &self.lower
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        let root = self.root();
        let gone = umount2(&root, MntFlags::MNT_DETACH)
            .map_err(std::io::Error::from)
            .and_then(|()| fs::remove_dir_all(&self.dir));
        if let Err(error) = gone {
            tracing::warn!(%error, dir = %self.dir.display(), "what the run wrote stays until gabionctl has ended");
        }
    }
}
