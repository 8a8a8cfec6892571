//! Whom a mount's own mapping of ids makes of the container's users (mount_setattr(2) MOUNT_ATTR_IDMAP).
//!
//! The first number of a line is an owner as it stands on the file system, the second the user who acts as that owner. So a line from 0
//! makes somebody root for these files, whatever they are elsewhere: they read what is root's alone, and leave programs that are root's.

use oci_spec::runtime::Mount;

use super::own;
use crate::control::{Context, namespaces};
use crate::decision::Findings;
use crate::host::SourcePath;
use crate::ids::{ContainerIds, IdMap, Kind, Maps};
use crate::namespace::NsType;
use crate::policy::Level;
use crate::request::idmap;

/// Who of the container is root for the files of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RootOfFiles {
    Nobody,
    /// The container's own root, and nobody else: the mapping gives back what the user namespace took.
    OwnRoot,
    Other(Kind, u32),
    /// One of the maps is not known.
    Unknown,
}

/// Judges the mapping of a mount. False: it was refused.
pub(super) fn check(index: usize, mount: &Mount, place: &str, cx: &Context<'_>, findings: &mut Findings) -> bool {
    if !idmap::is_idmapped(mount) {
        return true;
    }
    let restricted = cx.policy.level == Level::Restricted;
    let at = mount.destination().display();
    if !namespaces::is_private(&cx.request.spec, cx, NsType::User) {
        if !restricted {
            findings.warned(place, "its files have other owners inside, without a user namespace");
            return true;
        }
        let what = format!(
            "the mount at {at} maps ids without a user namespace: users of the container could write files as root of the host"
        );
        refuse(place, what, cx, findings);
        return false;
    }
    let what = match root_of_files(mount, cx) {
        RootOfFiles::Nobody => return true,
        // So the kubelet mounts each volume of a pod with `hostUsers: false`.
        RootOfFiles::OwnRoot if !restricted || of_pod(index, cx) => return true,
        RootOfFiles::OwnRoot => {
            format!("the mount at {at} lets root of the container act on its files as root of the host")
        }
        RootOfFiles::Other(kind, id) => {
            let name = if kind == Kind::User { "user" } else { "group" };
            format!("the mount at {at} lets {name} {id} of the container act on its files as root of the host")
        }
        RootOfFiles::Unknown => format!("who acts as root on the files of the mount at {at} is not known"),
    };
    if !restricted {
        findings.warned(place, what);
        return true;
    }
    refuse(place, what, cx, findings);
    false
}

fn root_of_files(mount: &Mount, cx: &Context<'_>) -> RootOfFiles {
    let Some(here) = ContainerIds::planned(&cx.request.spec, cx.host).here else {
        return RootOfFiles::Unknown;
    };
    let maps = match idmap::asked(mount) {
        Ok(None) => return RootOfFiles::Nobody,
        Ok(Some(idmap::IdMap::Container)) => Some(here.clone()),
        Ok(Some(idmap::IdMap::Own { uids, gids })) => both(&uids, &gids),
        Err(idmap::HalfMapped) => None,
    };
    let Some(maps) = maps else {
        return RootOfFiles::Unknown;
    };
    let mut found = RootOfFiles::Nobody;
    for kind in [Kind::User, Kind::Group] {
        for id in maps.of(kind).outside(0).flat_map(|acts| here.of(kind).inside(acts)) {
            if id != 0 {
                return RootOfFiles::Other(kind, id);
            }
            found = RootOfFiles::OwnRoot;
        }
    }
    found
}

fn both(uids: &str, gids: &str) -> Option<Maps> {
    Some(Maps {
        uids: IdMap::parse(uids)?,
        gids: IdMap::parse(gids)?,
    })
}

fn of_pod(index: usize, cx: &Context<'_>) -> bool {
    matches!(cx.host.sources.get(&index), Some(SourcePath::Open(source)) if own::of_pod(&source.real, cx))
}

fn refuse(place: &str, what: String, cx: &Context<'_>, findings: &mut Findings) {
    let own = namespaces::is_private(&cx.request.spec, cx, NsType::User);
    let remedy = if own {
        cx.request.caller().word(
            "use a volume of the pod's own, and leave the mappings to the kubelet",
            "remove `idmap` from the `--volume`",
            "leave id 0 of the files out of the mount's `uidMappings` and `gidMappings`, or remove both and `idmap`",
        )
    } else {
        cx.request.caller().word(
            "set `hostUsers: false`",
            "add `--userns=auto`, or remove `idmap` from the `--volume`",
            "list a user namespace in `linux.namespaces`, or remove the mount's `uidMappings` and `gidMappings`",
        )
    };
    findings.refused("idmap", place, what, remedy);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::Case;

    fn line(inside: u32, outside: u32, size: u32) -> Value {
        json!([{"containerID": inside, "hostID": outside, "size": size}])
    }

    fn root(uids: &Value, gids: &Value, options: &Value) -> RootOfFiles {
        let mut mount = json!({"destination": "/d", "type": "bind", "source": "/s", "options": options});
        if !uids.is_null() {
            mount["uidMappings"] = uids.clone();
            mount["gidMappings"] = gids.clone();
        }
        let case = Case::new()
            .with("/linux/namespaces", json!([{"type": "user"}]))
            .with("/linux/uidMappings", line(0, 100_000, 65536))
            .with("/linux/gidMappings", line(0, 200_000, 65536));
        let request = case.request();
        let cx = Context {
            request: &request,
            policy: &case.policy,
            host: &case.host,
        };
        root_of_files(&serde_json::from_value(mount).unwrap_or_default(), &cx)
    }

    #[test]
    fn who_acts_as_root_on_the_files() {
        let far = line(5, 300_000, 1);
        for (uids, gids, told) in [
            (line(0, 100_000, 65536), line(0, 200_000, 65536), RootOfFiles::OwnRoot),
            (line(0, 101_000, 1), far.clone(), RootOfFiles::Other(Kind::User, 1000)),
            (far.clone(), line(0, 200_007, 1), RootOfFiles::Other(Kind::Group, 7)),
            // The container has no user that is 1000 outside of it.
            (line(0, 1000, 1), line(0, 1000, 1), RootOfFiles::Nobody),
            (line(1, 100_000, 10), line(1, 200_000, 10), RootOfFiles::Nobody),
            (line(0, 100_000, 0), far, RootOfFiles::Unknown),
        ] {
            assert_eq!(root(&uids, &gids, &json!(["bind"])), told, "{uids} {gids}");
        }
        assert_eq!(
            root(&Value::Null, &Value::Null, &json!(["bind", "idmap"])),
            RootOfFiles::OwnRoot
        );
        assert_eq!(
            root(&line(0, 1, 1), &Value::Null, &json!(["bind"])),
            RootOfFiles::Unknown
        );
        assert_eq!(root(&Value::Null, &Value::Null, &json!(["bind"])), RootOfFiles::Nobody);
    }
}
