//! What of the host may be bound into a container.
//!
//! `Source::real` is the path of the open file, without symlinks: what is judged here is what is mounted. Under a CRI that
//! the policy trusts, only the pod's own files pass (`own.rs`); elsewhere ordinary directories pass too.

use std::path::{Path, PathBuf};

use super::own;
use super::paths::{ETC_FILES, OF_MANY, PUBLIC, RUNTIME_SOCKETS, SENSITIVE, SYSTEM};
use crate::caller::OwnUserNs;
use crate::control::cdi::{self, Word};
use crate::control::{Context, devices, namespaces, reached, remedy};
use crate::errno;
use crate::host::{Backing, Connects, FileKind, Source, SourceFs, SourcePath};
use crate::namespace::NsType;
use crate::reach::{Guard, Guarded, Spot};
use crate::request::Caller;

/// What is to be done with a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    Fine,
    /// May be read, not written: it is the host's, and harmless to read.
    ReadOnly,
    /// Sensitive; the policy names it.
    ByPolicy,
    /// A CDI file of an allowed kind has it, for this device.
    ByCdi(String),
    Refused {
        code: &'static str,
        what: String,
        remedy: String,
    },
}

/// Judges the source of the mount at `index`. `writable`: the mount would let it be written.
pub(super) fn judge(index: usize, target: &Path, writable: bool, cx: &Context<'_>) -> Judgement {
    let source = match cx.host.sources.get(&index) {
        Some(SourcePath::Open(source)) => source,
        Some(SourcePath::Unreadable(errno)) => {
            let why = format!("cannot be opened ({})", errno::name(*errno));
            return unopened(index, &why, cx);
        }
        None => return unopened(index, "was not opened, so nothing is known of it", cx),
    };
    let mounts = cx.request.spec.mounts().as_deref().unwrap_or_default();
    let word = mounts
        .get(index)
        .map_or(Word::Nothing, |mount| cdi::mount(mount, source, cx));
    if let Word::Vouched { by, .. } = word {
        return Judgement::ByCdi(by);
    }
    match (of_host(source, target, writable, cx), word) {
        (Judgement::Refused { what, .. }, Word::Differs(how)) => Judgement::Refused {
            code: "cdi",
            what: format!("{what}: {how}"),
            remedy: cdi::remedy(cx).to_owned(),
        },
        (Judgement::Refused { code, what, .. }, Word::OfKind(kind)) => Judgement::Refused {
            code,
            what,
            remedy: format!("{}, or {}", drop_it(cx.request.caller()), cdi::allow(&kind, cx)),
        },
        (judged, _) => judged,
    }
}

/// Judges an open source for what it is here.
fn of_host(source: &Source, target: &Path, writable: bool, cx: &Context<'_>) -> Judgement {
    if let Some(judgement) = device(source, cx) {
        return judgement;
    }
    if below_any(&source.real, &cx.policy.policy.mounts.allow) {
        return Judgement::ByPolicy;
    }
    // What has no path is no file: a namespace (`net:[…]`), or out of reach of our root.
    if source.filesystem != SourceFs::Ordinary || !source.real.is_absolute() {
        return kernel(source, target, cx);
    }
    if let Some(socket) = runtime_socket(source, cx) {
        return socket;
    }
    // A call of the CRI's whose pod nothing confirms is a pod's still: none of the host is its own.
    let as_named = if cx.request.pod(cx.policy.cri).is_some() || cx.policy.policy.expects(&cx.request.channel) {
        if own::of_pod(&source.real, cx) {
            Judgement::Fine
        } else {
            return host_path(source, "is the host's, not this pod's", cx);
        }
    } else if own::of_container(&source.real, cx) || own::is_volume(&source.real, cx) {
        Judgement::Fine
    } else {
        closed_socket(source, cx).unwrap_or_else(|| ordinary(&source.real, source, writable, cx))
    };
    let judged = as_object(as_named, source, writable, cx);
    if matches!(judged, Judgement::Refused { .. }) {
        return judged;
    }
    sub_path(source, cx).unwrap_or(judged)
}

/// Tells why a socket of the host is not one that a spec may have us connect to; None where it is. The same trees, sockets and aliases as for
/// what may be bound; a pod's profile is the node's own file, so that a pod has no more and no less.
pub(in crate::control) fn forbidden_socket(source: &Source, cx: &Context<'_>) -> Option<String> {
    let real = source.real.display();
    if below_any(&source.real, &cx.policy.policy.mounts.allow) {
        return None;
    }
    if source.kind != FileKind::Socket {
        return Some(format!("{real} is no socket"));
    }
    let judged = match runtime_socket(source, cx) {
        Some(judged) => judged,
        None => as_object(ordinary(&source.real, source, false, cx), source, false, cx),
    };
    match judged {
        Judgement::Refused { what, .. } => Some(what),
        // Public to be read is a certificate, not a socket.
        Judgement::ReadOnly => Some(format!("{real} is the host's own")),
        Judgement::Fine | Judgement::ByPolicy | Judgement::ByCdi(_) => None,
    }
}

/// Refuses a subPath of a hostPath: it lies below the pod's own directory, and is the host's still.
fn sub_path(source: &Source, cx: &Context<'_>) -> Option<Judgement> {
    cx.request.pod(cx.policy.cri)?;
    own::pod_of_sub_path(&source.real, &cx.policy.policy)?;
    if source.backing == Backing::Volume {
        return None;
    }
    Some(Judgement::Refused {
        code: "host-path",
        what: format!("{} is no part of a volume of this pod's own", source.real.display()),
        // Of which path it is a part the pod says, and nobody else.
        remedy: "remove the `subPath` of the `hostPath` volume, or allow that volume's path: mounts.allow, in an exception for this pod".to_owned(),
    })
}

/// Judges what the source is by what else it is called: an alias of /etc is /etc, by whatever mount, subvolume or link it is reached.
fn as_object(as_named: Judgement, source: &Source, writable: bool, cx: &Context<'_>) -> Judgement {
    let mut judgement = as_named;
    let places = std::iter::once((&source.real, &source.spot)).chain(source.along.iter().map(|a| (&a.path, &a.spot)));
    for (real, spot) in places {
        for guarded in &cx.host.guarded {
            let found = by_guard(guarded, (real, spot), source, writable, cx);
            if matches!(judgement, Judgement::Refused { .. }) {
                return judgement;
            }
            match found {
                Judgement::Fine => {}
                found => judgement = found,
            }
        }
    }
    if let Judgement::Refused { .. } = judgement {
        return judgement;
    }
    let brought = source.along.iter().find(|a| reached::is_kernel_type(&a.fstype));
    match brought {
        Some(along) => {
            let what = format!("brings along {}, a {} of the host", along.path.display(), along.fstype);
            let Judgement::Refused { what, remedy, .. } = host_path(source, &what, cx) else {
                return judgement;
            };
            Judgement::Refused {
                code: "kernel-source",
                what,
                remedy,
            }
        }
        None => judgement,
    }
}

/// Judges one place by one that is guarded.
fn by_guard(
    guarded: &Guarded,
    (real, spot): (&Path, &Spot),
    source: &Source,
    writable: bool,
    cx: &Context<'_>,
) -> Judgement {
    let holds = spot.holds(&guarded.spot);
    if guarded.guard == Guard::File {
        if writable && holds {
            let why = format!(
                "is or holds {}, which gabion goes by, and is to be writable",
                guarded.path.display()
            );
            return host_path(source, &why, cx);
        }
        return Judgement::Fine;
    }
    if let Some(name) = guarded.spot.name_of(&guarded.path, spot, real)
        && name != real
    {
        let pods = own::of_pod(&name, cx);
        if pods || own::is_volume(&name, cx) || below_any(&name, &cx.policy.policy.mounts.allow) {
            return Judgement::Fine;
        }
        return match ordinary(&name, source, writable, cx) {
            Judgement::Refused { code, what, remedy } => Judgement::Refused {
                code,
                what: format!("{} is {} under another name: {what}", real.display(), name.display()),
                remedy,
            },
            other => other,
        };
    }
    if holds && !guarded.path.starts_with(real) {
        return holding(&guarded.path, source, writable, cx);
    }
    Judgement::Fine
}

/// Judges what a guarded place lies in.
fn holding(tree: &Path, source: &Source, writable: bool, cx: &Context<'_>) -> Judgement {
    if !SYSTEM.iter().any(|system| tree == Path::new(system)) {
        return host_path(
            source,
            &format!("holds {}, which is the host's own", tree.display()),
            cx,
        );
    }
    if writable {
        return system_writable(&source.real, cx);
    }
    Judgement::Fine
}

/// A path of the host outside of CRI: the source's own, or what it is called as well.
fn ordinary(real: &Path, source: &Source, writable: bool, cx: &Context<'_>) -> Judgement {
    let regular = source.kind == FileKind::Regular;
    let private = real.components().any(|c| c.as_os_str() == "private");
    let public = below_any(real, &PUBLIC) && !private;
    let etc = regular && (ETC_FILES.iter().any(|f| real == Path::new(f)) || below_any(real, &["/etc/ssl", "/etc/pki"]));
    if public || (etc && !private) {
        return Judgement::ReadOnly;
    }
    let settings = &cx.policy.policy.mounts;
    let own: Vec<&Path> = [
        &settings.kubelet_root,
        &settings.containerd_root,
        &settings.containerd_state,
    ]
    .into_iter()
    .chain(&cx.host.state_dirs)
    .map(PathBuf::as_path)
    .collect();
    let sensitive = SENSITIVE.iter().map(Path::new).chain(own);
    for tree in sensitive.filter(|t| t.is_absolute()) {
        if real == tree {
            return host_path(source, "is the host's own", cx);
        }
        if real.starts_with(tree) {
            return host_path(
                source,
                &format!("lies in {}, which is the host's own", tree.display()),
                cx,
            );
        }
        if tree.starts_with(real) {
            return host_path(
                source,
                &format!("holds {}, which is the host's own", tree.display()),
                cx,
            );
        }
    }
    let system = SYSTEM
        .iter()
        .map(Path::new)
        .any(|t| real.starts_with(t) || t.starts_with(real));
    if writable && (system || real == Path::new(OF_MANY)) {
        return system_writable(real, cx);
    }
    Judgement::Fine
}

fn system_writable(real: &Path, cx: &Context<'_>) -> Judgement {
    let what = format!(
        "{} holds programs of the host, the state of its services or everybody's files, and is to be writable",
        real.display()
    );
    let remedy = cx.request.caller().word(
        "set `readOnly: true` on the volume mount",
        "add `:ro` to `--volume`",
        "add `ro` to the mount's `options`",
    );
    Judgement::Refused {
        code: "system-writable",
        what,
        remedy: or_allow(remedy, real, cx),
    }
}

/// A device node as a source: only what a container has anyway, or what the policy names.
fn device(source: &Source, cx: &Context<'_>) -> Option<Judgement> {
    let (typ, major, minor) = match source.kind {
        FileKind::CharDevice(major, minor) => {
            if devices::is_harmless(major, minor) {
                return Some(Judgement::Fine);
            }
            ('c', major, minor)
        }
        FileKind::BlockDevice(major, minor) => ('b', major, minor),
        _ => return None,
    };
    let real = &source.real;
    if below_any(real, &cx.policy.policy.devices.allow) {
        return Some(Judgement::ByPolicy);
    }
    let shown = real.display();
    let what = format!("{shown} is a device ({typ} {major}:{minor}) that this policy does not allow");
    let remedy = cx.request.caller().word(
        "remove the volume",
        "remove `--device` or `--volume`",
        "remove the mount",
    );
    Some(Judgement::Refused {
        code: "device",
        what,
        remedy: format!(
            "{remedy}, or {}",
            remedy::allow(cx, "devices.allow", &shown.to_string())
        ),
    })
}

/// A file of a kernel file system. The one case with a reason: in a user namespace a new sysfs cannot be mounted without a
/// new network namespace, so rootless engines bind the host's, where the kernel's own checks keep this user from writing.
fn kernel(source: &Source, target: &Path, cx: &Context<'_>) -> Judgement {
    let user_ns = cx.host.user_ns == OwnUserNs::Nested || namespaces::is_private(&cx.request.spec, cx, NsType::User);
    if source.filesystem == SourceFs::Sys && source.real == Path::new("/sys") && target == Path::new("/sys") && user_ns
    {
        return Judgement::ReadOnly;
    }
    let name = match source.filesystem {
        SourceFs::Proc => "procfs",
        SourceFs::Sys => "sysfs",
        SourceFs::Cgroup => "cgroup file system",
        SourceFs::Kernel | SourceFs::Ordinary => "kernel file systems",
    };
    let real = source.real.display();
    Judgement::Refused {
        code: "kernel-source",
        what: format!("{real} is on the host's {name}"),
        remedy: or_allow(drop_it(cx.request.caller()), &source.real, cx),
    }
}

fn runtime_socket(source: &Source, cx: &Context<'_>) -> Option<Judgement> {
    let name = source.real.file_name()?;
    if source.kind != FileKind::Socket || !RUNTIME_SOCKETS.iter().any(|s| name == *s) {
        return None;
    }
    let real = source.real.display();
    Some(Judgement::Refused {
        code: "runtime-socket",
        what: format!("{real} is a socket that gives whoever connects control of the host"),
        remedy: or_allow(drop_it(cx.request.caller()), &source.real, cx),
    })
}

/// Refuses a socket that root keeps from everybody: an engine's is one under whatever name. Given to a container it is open to that.
fn closed_socket(source: &Source, cx: &Context<'_>) -> Option<Judgement> {
    if source.connects != Connects::RootAlone {
        return None;
    }
    let real = source.real.display();
    Some(Judgement::Refused {
        code: "runtime-socket",
        what: format!("{real} is a socket of root's that others may not connect to, as engines' are"),
        remedy: or_allow(drop_it(cx.request.caller()), &source.real, cx),
    })
}

fn host_path(source: &Source, why: &str, cx: &Context<'_>) -> Judgement {
    let real = &source.real;
    let caller = cx.request.caller();
    // The kubelet's and containerd's files look like anybody's until the policy says whose annotations can be believed.
    Judgement::Refused {
        code: "host-path",
        what: format!("{} {why}", real.display()),
        remedy: format!(
            "{}{}",
            remedy::cri_first(cx).unwrap_or_default(),
            or_allow(drop_it(caller), real, cx)
        ),
    }
}

fn unopened(index: usize, why: &str, cx: &Context<'_>) -> Judgement {
    let mount = cx.request.spec.mounts().as_ref().and_then(|m| m.get(index));
    let path = mount.and_then(|m| m.source().clone()).unwrap_or_default();
    Judgement::Refused {
        code: "source",
        what: format!("the source {:?} of a bind mount {why}", path.display()),
        remedy: "name a file or directory that exists and that this caller may open".to_owned(),
    }
}

fn drop_it(caller: Caller) -> &'static str {
    caller.word(
        "remove the `hostPath` volume",
        "remove the `--volume`",
        "remove it from `mounts`",
    )
}

/// Offers the policy's key beside the other way. What has no path, as a namespace or a pipe, the policy cannot name.
fn or_allow(other: &str, real: &Path, cx: &Context<'_>) -> String {
    if !real.is_absolute() {
        return other.to_owned();
    }
    format!(
        "{other}, or {}",
        remedy::allow(cx, "mounts.allow", &real.display().to_string())
    )
}

/// Whether `path` is one of these or below it. Every path lies below "": only absolute ones count.
pub(in crate::control) fn below_any<P: AsRef<Path>>(path: &Path, trees: &[P]) -> bool {
    trees
        .iter()
        .map(AsRef::as_ref)
        .any(|tree| tree.is_absolute() && path.starts_with(tree))
}
