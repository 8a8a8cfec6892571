//! Who is in a cgroup: nobody before it is the container's, its process afterwards, and whom a signal to all of them reaches.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::error::{Error, Result, Step};
use gabion_core::id::ControlId;
use gabion_core::request::normalize;

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

/// Nobody is in it, nor below it. `delete` kills whoever is: a path that others use as well (`/docker`, `/user.slice`) can never
/// be a container's own.
pub fn unoccupied(path: &Path, directories: &[PathBuf]) -> Result<()> {
    for directory in directories {
        let found = anybody(directory)
            .map_err(|e| Error::step(Step::Cgroup, format!("look into {}", directory.display()), e))?;
        if let Some(pid) = found {
            let why = format!(
                "container's cgroup is not empty: the cgroup {} is in use (process {pid}): deleting the container would end what is not its own; \
                 give it a path of its own in linux.cgroupsPath",
                path.display()
            );
            return Err(Error::failed(Step::Cgroup, why));
        }
    }
    Ok(())
}

fn anybody(directory: &Path) -> nix::Result<Option<i32>> {
    if let Some(pid) = pids(directory)?.first() {
        return Ok(Some(*pid));
    }
    for child in below(directory)? {
        if let Some(pid) = anybody(&child)? {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

/// The cgroups right below this one. One that is not there has none.
pub fn below(directory: &Path) -> nix::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(errno(&e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| errno(&e))?;
        if entry.file_type().map_err(|e| errno(&e))?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// The processes of this one directory. One that is not there has none; 0 stands for those of other pid namespaces.
pub fn pids(directory: &Path) -> nix::Result<BTreeSet<i32>> {
    match fs::read_to_string(directory.join("cgroup.procs")) {
        Ok(text) => Ok(text
            .lines()
            .filter_map(|line| line.parse().ok())
            .filter(|pid| *pid >= 0)
            .collect()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        // Removed between open and read.
        Err(e) if errno(&e) == Errno::ENODEV => Ok(BTreeSet::new()),
        // A threaded cgroup (v2) has threads, and its processes in the one above it.
        Err(e) if errno(&e) == Errno::EOPNOTSUPP => Ok(BTreeSet::new()),
        Err(e) => Err(errno(&e)),
    }
}

/// The processes of a directory and of all below it.
pub fn tree(directory: &Path, found: &mut BTreeSet<i32>) -> nix::Result<()> {
    found.extend(pids(directory)?.into_iter().filter(|pid| *pid > 0));
    for child in below(directory)? {
        tree(&child, found)?;
    }
    Ok(())
}

/// Where /proc/PID/cgroup shows a process, for the controllers named (cgroups(7)).
pub fn place_of<'t>(listing: &'t str, controller: &str) -> Option<&'t Path> {
    let mut unified = None;
    for line in listing.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        if controllers.split(',').any(|c| c == controller) {
            return Some(Path::new(path));
        }
        if controllers.is_empty() {
            unified = Some(Path::new(path));
        }
    }
    unified
}

/// The process is where its limits are: a limit of a cgroup that it is not in binds nobody.
pub fn verify(path: &Path, controllers: &[(ControlId, &str)], listing: &str) -> Result<()> {
    let own = normalize(path);
    for (control, controller) in controllers {
        let shown = place_of(listing, controller);
        // Below it is as good: exec may ask for a cgroup of its own there.
        if !shown.is_some_and(|at| at.starts_with(&own)) {
            return Err(Error::Mismatch {
                control: *control,
                expected: format!("the process in {} of the {controller} controller", own.display()),
                observed: shown.map_or_else(|| "none".to_owned(), |at| at.display().to_string()),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const V1: &str = "9:name=systemd:/\n8:pids:/gabion/a\n4:cpu,memory:/gabion/ab\n0::/\n";

    #[test]
    fn a_process_is_where_its_limits_are() {
        let check =
            |path: &str, controller, listing| verify(Path::new(path), &[(ControlId::Cgroup, controller)], listing);
        assert!(check("/gabion/a", "pids", V1).is_ok());
        assert!(check("gabion//a/", "pids", V1).is_ok());
        for (path, controller, listing) in [
            ("/gabion/a", "memory", V1),
            ("/gabion/a", "devices", V1),
            ("/gabion/a/b", "pids", V1),
            ("/gabion/a", "pids", ""),
            ("/gabion/a", "pids", "0::/"),
        ] {
            let error = check(path, controller, listing).unwrap_err();
            assert_eq!(error.code(), "cgroup.not-enforced", "{path} {controller}");
        }
        assert!(check("/x/y", "pids", "0::/x/y\n").is_ok());
    }

    #[test]
    fn a_cgroup_with_strangers_is_none_of_ours() {
        let dir = std::env::temp_dir().join(format!("gabion-members-{}", std::process::id()));
        fs::create_dir_all(dir.join("below")).unwrap();
        let check = || unoccupied(Path::new("/docker"), std::slice::from_ref(&dir));
        assert!(check().is_ok());
        fs::write(dir.join("cgroup.procs"), "").unwrap();
        assert!(check().is_ok());
        fs::write(dir.join("below/cgroup.procs"), "4242\n").unwrap();
        assert!(
            check()
                .unwrap_err()
                .to_string()
                .contains("/docker is in use (process 4242)")
        );
        fs::remove_dir_all(&dir).unwrap();
        assert!(check().is_ok());
    }
}
