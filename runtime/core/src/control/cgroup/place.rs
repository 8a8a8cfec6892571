//! Where the container's cgroup lies. Limits hold only if it is the container's own.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::Linux;

use crate::caller::OwnUserNs;
use crate::control::Context;
use crate::decision::Findings;
use crate::hardened::BoundedBy;
use crate::host::{CgroupDriver, NeighbourIs};
use crate::request::normalize;

/// Gives a container without a cgroup path one, and refuses a path that cannot be its own.
pub(super) fn decide(linux: &mut Linux, cx: &Context<'_>, findings: &mut Findings) {
    place(linux, cx, findings);
    if !findings.refuses(AT) {
        refuse_neighbour(cx, findings);
    }
}

const AT: &str = "linux.cgroupsPath";

/// A cgroup above another container's, in one or the same: whoever ends one ends both.
fn refuse_neighbour(cx: &Context<'_>, findings: &mut Findings) {
    let Some(found) = &cx.host.cgroup_neighbour else { return };
    let how = match found.is {
        NeighbourIs::Above => "would be inside",
        NeighbourIs::Same => "is",
        NeighbourIs::Below => "would hold",
    };
    findings.refused(
        "taken",
        AT,
        format!(
            "the container's cgroup {how} {} of {}: limits and the end of one would be the other's",
            found.path.display(),
            found.who
        ),
        cx.request.caller().word(
            "let the CRI choose it, below the pod's own cgroup",
            "leave `--cgroup-parent` out, or name one in which nobody is",
            "leave `linux.cgroupsPath` out, or name a cgroup of this container's own, in none of another's",
        ),
    );
}

/// Below these all containers of an engine have theirs (gabion's, Docker's, the kubelet's, podman's).
const PARENTS: [&str; 7] = [
    "gabion",
    "docker",
    "kubepods",
    "kubepods/besteffort",
    "kubepods/burstable",
    "libpod_parent",
    "machine",
];

/// Gives a container without a path one, and refuses a path that is none.
fn place(linux: &mut Linux, cx: &Context<'_>, findings: &mut Findings) {
    let at = AT;
    let id = cx.request.id.as_str();
    let Some(path) = linux.cgroups_path().clone().filter(|p| !p.as_os_str().is_empty()) else {
        if cx.host.delegation.is_none() {
            let why = "no cgroup of its own, and so no limits: none is delegated to this caller";
            findings.warned(at, why);
            linux.set_cgroups_path(None);
            return;
        }
        let own = match (
            cx.host.cgroup_driver,
            cx.host.euid == 0 && cx.host.user_ns == OwnUserNs::Initial,
        ) {
            (CgroupDriver::Cgroupfs, _) => format!("/gabion/{id}"),
            (CgroupDriver::Systemd, true) => format!("system.slice:gabion:{id}"),
            (CgroupDriver::Systemd, false) => format!("user.slice:gabion:{id}"),
        };
        findings.added(at, own.clone(), "a cgroup of its own");
        linux.set_cgroups_path(Some(PathBuf::from(own)));
        return;
    };
    if let Some(why) = bad_path(&path, cx.host.cgroup_driver) {
        findings.refused(
            "path",
            at,
            format!("the cgroup path {} {why}", path.display()),
            cx.request.caller().word(
                "let the CRI choose it (the kubelet's cgroupDriver and the runtime's SystemdCgroup must agree)",
                "leave `--cgroup-parent` out, or make it fit `--cgroup-manager`",
                "leave `linux.cgroupsPath` out, or name a cgroup of this container's own",
            ),
        );
    } else if cx.host.delegation.is_none() {
        findings.refused(
            "not-delegated",
            at,
            format!(
                "the cgroup {} is asked for, and this caller may not make it",
                path.display()
            ),
            cx.request.caller().word(
                "let root run the CRI, or delegate that cgroup to its user",
                "leave `--cgroup-parent` out, or delegate that cgroup to the user",
                "leave `linux.cgroupsPath` out, or delegate that cgroup to the user",
            ),
        );
    }
}

/// Tells whether the container's cgroup lies in its pod's: below it nothing is kept back that the pod does not have.
pub(super) fn bounded_by(linux: &Linux, cx: &Context<'_>) -> BoundedBy {
    let Some((pod, path)) = cx.request.pod(cx.policy.cri).zip(linux.cgroups_path().as_deref()) else {
        return BoundedBy::Nobody;
    };
    // cgroupfs: …/pod<uid>/<id>; systemd: …-pod<uid>.slice:prefix:<id>, with `_` for `-`, which parts slices.
    let inside = match cx.host.cgroup_driver {
        CgroupDriver::Cgroupfs => path
            .parent()
            .and_then(Path::file_name)
            .is_some_and(|name| name.to_str().and_then(|n| n.strip_prefix("pod")) == Some(pod.uid)),
        CgroupDriver::Systemd => path.to_str().is_some_and(|text| {
            let slice = text.split(':').next().unwrap_or_default();
            slice.ends_with(&format!("pod{}.slice", pod.uid.replace('-', "_")))
        }),
    };
    if inside && !pod.uid.is_empty() {
        BoundedBy::Pod
    } else {
        BoundedBy::Nobody
    }
}

/// Why a path cannot be a container's own cgroup.
fn bad_path(path: &Path, driver: CgroupDriver) -> Option<&'static str> {
    if path.as_os_str().as_encoded_bytes().contains(&0) {
        return Some("contains a NUL byte");
    }
    match driver {
        CgroupDriver::Cgroupfs => {
            if path.components().any(|c| c == Component::ParentDir) {
                return Some("contains «..» and could lead into another container's cgroup");
            }
            let named = path.components().any(|c| matches!(c, Component::Normal(_)));
            if !named {
                return Some("is the root of the hierarchy, where no limit holds");
            }
            let own = normalize(path);
            let own = own.strip_prefix("/").unwrap_or(&own);
            let slice = own
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().ends_with(b".slice"));
            (slice || PARENTS.iter().any(|parent| own == Path::new(parent)))
                .then_some("is one in which an engine or systemd keeps those of others")
        }
        CgroupDriver::Systemd => {
            let text = path.to_str()?;
            let parts: Vec<&str> = text.split(':').collect();
            let (&[slice, _, name] | &[slice, name]) = parts.as_slice() else {
                return Some("is not of the form slice:prefix:name, which the systemd driver needs");
            };
            let slice_is_one = parts.len() == 2 || slice.is_empty() || slice.strip_suffix(".slice").is_some();
            // systemd.unit(5): names are case-sensitive.
            if name.strip_suffix(".slice").is_some() {
                return Some("names a slice, and processes can only be in a scope");
            }
            if name.is_empty() || !slice_is_one || text.contains('/') {
                return Some("is not of the form slice:prefix:name, which the systemd driver needs");
            }
            None
        }
    }
}
