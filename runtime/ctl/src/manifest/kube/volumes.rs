//! A pod's volumes, and where its containers mount them.

use std::path::Path;

use gabion_core::request::normalize;

use crate::manifest::at::{At, Wrong};
use crate::manifest::wish::{Mounted, Origin, Wish};

use super::token;

const MOUNT: &[&str] = &[
    "bindMountOptions",
    "mountPath",
    "mountPropagation",
    "name",
    "readOnly",
    "recursiveReadOnly",
    "subPath",
    "subPathExpr",
];

pub(super) fn of_container(at: &At<'_>, spec: &At<'_>, wish: &mut Wish) -> Result<(), Wrong> {
    for mount in at.get("volumeMounts").list()? {
        mount.unknown(MOUNT, &mut wish.assumed)?;
        one(&mount, spec, wish)?;
    }
    for device in at.get("volumeDevices").list()? {
        let Some(path) = device.get("devicePath").text()? else {
            return Err(device.wrong("it has no devicePath"));
        };
        wish.note(&path, &device.place);
        wish.assume(format!("{}: which block device it is, the cluster knows", device.place));
        wish.devices.push((path, device.place));
    }
    token(spec, wish)
}

fn one(mount: &At<'_>, spec: &At<'_>, wish: &mut Wish) -> Result<(), Wrong> {
    let (Some(name), Some(target)) = (mount.get("name").text()?, mount.get("mountPath").text()?) else {
        return Err(mount.wrong("it needs a name and a mountPath"));
    };
    let volumes = spec.get("volumes").list()?;
    let named = |volume: &&At<'_>| {
        volume
            .get("name")
            .text()
            .is_ok_and(|n| n.as_deref() == Some(name.as_str()))
    };
    let Some(volume) = volumes.iter().find(named) else {
        return Err(mount.get("name").wrong(format!("there is no volume {name:?}")));
    };
    // A path that a CRI takes from the root.
    let target = Path::new("/").join(&target).display().to_string();
    let (mut from, by_nature) = source(volume, &name, wish)?;
    let parts = [mount.get("subPath"), mount.get("subPathExpr")];
    for part in parts.iter().filter(|part| part.is_there()) {
        let way = part.text()?.unwrap_or_default();
        if let Origin::Host(path) = &from {
            // `..` the kubelet refuses.
            from = Origin::Host(normalize(&path.join(way)));
        }
    }
    let mut options = vec![
        if by_nature || mount.get("readOnly").is_true()? {
            "ro"
        } else {
            "rw"
        }
        .to_owned(),
    ];
    options.push(
        match mount.get("mountPropagation").text()?.as_deref() {
            None | Some("None" | "") => "rprivate",
            Some("HostToContainer") => "rslave",
            Some("Bidirectional") => "rshared",
            Some(other) => {
                return Err(mount
                    .get("mountPropagation")
                    .wrong(format!("{other:?} is no way of it")));
            }
        }
        .to_owned(),
    );
    let place = if matches!(from, Origin::Host(_)) {
        &volume.place
    } else {
        &mount.place
    };
    wish.note(&format!("mounts.{target}"), place);
    wish.mounts.push(Mounted { from, target, options });
    Ok(())
}

/// Gives where a volume comes from, and whether it is read-only whatever its mount says.
fn source(volume: &At<'_>, name: &str, wish: &mut Wish) -> Result<(Origin, bool), Wrong> {
    let host = volume.get("hostPath");
    if host.is_there() {
        let Some(path) = host.get("path").text()? else {
            return Err(host.wrong("it has no path"));
        };
        return Ok((Origin::Host(normalize(Path::new(&path))), false));
    }
    let kinds: [(&str, &str, bool); 8] = [
        ("emptyDir", "kubernetes.io~empty-dir", false),
        ("configMap", "kubernetes.io~configmap", true),
        ("secret", "kubernetes.io~secret", true),
        ("downwardAPI", "kubernetes.io~downward-api", true),
        ("projected", "kubernetes.io~projected", true),
        ("image", "kubernetes.io~image", true),
        ("persistentVolumeClaim", "kubernetes.io~csi", false),
        ("ephemeral", "kubernetes.io~csi", false),
    ];
    let of_pod = |plugin, read_only| Ok((Origin::OfPod(plugin, name.to_owned()), read_only));
    // `emptyDir:` with nothing behind it is one, too.
    let has = |key: &str| volume.value.get(key).is_some();
    if let Some((key, plugin, read_only)) = kinds.iter().find(|(key, ..)| has(key)) {
        if *key == "persistentVolumeClaim" {
            wish.assume(format!(
                "{}: that the claim is of a volume of files, and no path of the node's",
                volume.place
            ));
        }
        return of_pod(*plugin, *read_only);
    }
    let keys = volume
        .map()?
        .into_iter()
        .map(|(key, _)| key)
        .filter(|key| key != "name");
    let kind = keys.collect::<Vec<_>>().join(", ");
    wish.assume(format!(
        "{}: {kind}: that the kubelet mounts it below the pod's own directory",
        volume.place
    ));
    of_pod("kubernetes.io~csi", false)
}
