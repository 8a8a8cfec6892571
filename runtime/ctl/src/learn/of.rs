//! What a container of an engine's has written below its root: its writable layer is the engine's, and needs nothing of ours.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use gabion_core::learn::Seen;
use gabion_core::observed::MountPoint;
use gabion_core::observed::parse::parse_mount;
use gabion_core::request::{ContainerId, normalize};
use gabion_see::error::{Error, Result};
use gabion_see::state::StateView;
use serde_json::Value;

use super::upper::{self, Since, Whole};

/// What was seen, and the spec that the container runs by.
pub(crate) struct Found {
    pub(crate) seen: Seen,
    pub(crate) config: Value,
    pub(crate) bundle: PathBuf,
}

/// Looks at the layer of a container that is there, running or not.
///
/// # Errors
/// There is no such container, or its root is no overlay whose layers can be found.
pub(crate) fn of(root: &Path, id: &ContainerId) -> Result<Found> {
    let dir = StateView::open(root, id)?;
    let record = dir.record()?;
    let config = serde_json::to_value(record.hardened.spec())
        .map_err(|error| Error::file("read the spec in", dir.path())(error.into()))?;
    let (layers, seen_at) = layers(&dir)?;
    let mut seen = Seen::new();
    seen.runs = 1;
    let since = began(&dir)?;
    let made = targets(&config);
    let (written, whole) = upper::written(&layers.upper, &layers.lower, &Since::Time(since, &made))
        .map_err(Error::file("look through", &layers.upper))?;
    if whole == Whole::No {
        seen.unseen
            .insert("more than 100000 entries below the root: what was written beyond them".to_owned());
    }
    seen.sizes = upper::sizes(&seen_at, upper::directories(&written));
    seen.written = written;
    seen.volumes = super::run::volumes(&config);
    let only = "all but what was written below the root: programs, sockets, calls, capabilities, what failed (learn a bundle for these)";
    seen.unseen.insert(only.to_owned());
    Ok(Found {
        seen,
        config,
        bundle: record.bundle.clone(),
    })
}

struct Layers {
    upper: PathBuf,
    /// The uppermost first.
    lower: Vec<PathBuf>,
}

/// The layers of the container's root, and where all of them together are seen.
fn layers(dir: &StateView) -> Result<(Layers, PathBuf)> {
    let rootfs = dir.record()?.rootfs.clone();
    let mounts = |who: &str| {
        fs::read_to_string(format!("/proc/{who}/mountinfo"))
            .map(|text| text.lines().filter_map(parse_mount).collect::<Vec<_>>())
    };
    // A running one shows its own; that of a stopped one is still where its engine mounted it.
    let own = dir.init()?.filter(|init| init.lives()).and_then(|init| {
        let mounts = mounts(&init.pid.to_string()).ok()?;
        let mount = mounts.iter().rfind(|mount| mount.target == Path::new("/"))?.clone();
        Some((mount, PathBuf::from(format!("/proc/{}/root", init.pid))))
    });
    let engines = || {
        let mounts = mounts("self").ok()?;
        let mount = mounts.iter().rfind(|mount| mount.target == rootfs)?.clone();
        Some((mount, rootfs.clone()))
    };
    let bad = |why: &str| {
        Error::Usage(format!(
            "the root of the container is {why}: what it wrote cannot be told from its image"
        ))
    };
    let (mount, seen_at) = own
        .or_else(engines)
        .ok_or_else(|| bad("mounted nowhere that can be seen from here"))?;
    if mount.fstype != "overlay" {
        return Err(bad(&format!("no overlay but {}", mount.fstype)));
    }
    let layers =
        of_mount(&mount, &rootfs).ok_or_else(|| bad("an overlay whose layers are not named by absolute paths"))?;
    if !layers.upper.is_dir() || layers.lower.iter().any(|lower| !lower.is_dir()) {
        return Err(bad("an overlay whose layers cannot be seen from here"));
    }
    Ok((layers, seen_at))
}

/// overlayfs names its layers in the options, with a backslash before what parts them.
fn of_mount(mount: &MountPoint, rootfs: &Path) -> Option<Layers> {
    let option = |key: &str| {
        mount
            .super_options
            .iter()
            .find_map(|option| option.strip_prefix(key)?.strip_prefix('='))
    };
    let upper = PathBuf::from(option("upperdir")?);
    // podman's shorter names hang from the directory in which it keeps all layers.
    let home = rootfs.ancestors().find(|above| above.join("l").is_dir());
    let place = |name: &[u8]| {
        let path = PathBuf::from(std::ffi::OsString::from_vec(name.to_vec()));
        if path.is_absolute() {
            Some(path)
        } else {
            home.map(|home| home.join(path))
        }
    };
    let lower = split(option("lowerdir")?.as_bytes())
        .iter()
        .map(|name| place(name))
        .collect::<Option<Vec<_>>>()?;
    upper.is_absolute().then_some(Layers { upper, lower })
}

/// At colons that no backslash stands before.
fn split(text: &[u8]) -> Vec<Vec<u8>> {
    let (mut parts, mut escaped) = (vec![Vec::new()], false);
    for byte in text {
        let Some(last) = parts.last_mut() else { break };
        match byte {
            b'\\' if !escaped => {
                escaped = true;
                continue;
            }
            b':' if !escaped => parts.push(Vec::new()),
            byte => last.push(*byte),
        }
        escaped = false;
    }
    // Layers with data alone stand behind a double colon.
    parts.retain(|part| !part.is_empty());
    parts
}

/// When the container's first process was there: its file is written once. What the engine made in the layer is older.
fn began(dir: &StateView) -> Result<(i64, i64)> {
    let path = dir.path().join(gabion_see::state::PID);
    let meta = fs::metadata(&path).map_err(Error::file("look at", &path))?;
    Ok((meta.mtime(), meta.mtime_nsec()))
}

/// Where the spec mounts something: the runtime makes these places where the image has none, after its first process is there.
fn targets(config: &Value) -> BTreeSet<PathBuf> {
    let mounts = config["mounts"].as_array().into_iter().flatten();
    let mut targets: BTreeSet<PathBuf> = mounts
        .filter_map(|mount| mount["destination"].as_str())
        .map(|at| normalize(Path::new(at)))
        .collect();
    targets.extend(["/dev", "/proc", "/sys", "/run/.containerenv", "/.dockerenv"].map(PathBuf::from));
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_parted_at_colons() {
        let parts = |text: &str| -> Vec<String> {
            split(text.as_bytes())
                .iter()
                .map(|part| String::from_utf8_lossy(part).into_owned())
                .collect()
        };
        assert_eq!(parts("/a:/b"), ["/a", "/b"]);
        assert_eq!(parts(r"/a\:b:/c\\d::/data"), ["/a:b", r"/c\d", "/data"]);
    }
}
