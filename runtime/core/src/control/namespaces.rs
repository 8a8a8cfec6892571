//! `namespaces`: what of the host a container can see at all.
//!
//! A spec shares a namespace in two ways: by leaving it out, and by naming a path to it. The path is opened once, its kind
//! asked of the kernel, and its identity compared with the host's own, so `/proc/1/ns/net` under any name is still the
//! host's network.

use std::path::Path;

use oci_spec::runtime::{LinuxNamespace, Spec};

use super::{About, Context, Control, ControlId, remedy};
use crate::decision::Findings;
use crate::errno;
use crate::fact::{Fact, Holds};
use crate::hardened::{Draft, Hardened, Joined, Plan};
use crate::host::NsPath;
use crate::namespace::{NsId, NsType};
use crate::observed::Observed;

pub struct Namespaces;

static ABOUT: About = About {
    threat: "a container that shares a namespace with the host sees its processes, memory segments, sockets or mounts",
    rule: "pid, ipc, uts, network and mount are the container's own or its pod's; mount and cgroup are added where absent; \
           a missing one of the others, or a path that is the host's by device and inode, is refused",
    enforced_by: "clone3(2) and unshare(2) for new ones, setns(2) by the descriptor that was vetted; read back from /proc/PID/ns",
    kernel_floor: "5.3 (clone3)",
    refs: &[
        "PSS Baseline: Host Namespaces",
        "CIS Docker 5.10",
        "CIS Docker 5.16",
        "CIS Docker 5.17",
        "CIS Docker 5.21",
        "CIS Kubernetes 5.2.3",
        "CIS Kubernetes 5.2.4",
        "CIS Kubernetes 5.2.5",
        "NIST SP 800-190 4.4.3",
    ],
};

/// These must be private, and only the caller can say how: a network, for one, has to be set up by somebody.
const REQUIRED: [NsType; 4] = [NsType::Pid, NsType::Ipc, NsType::Uts, NsType::Network];

/// These are added where the spec leaves them out: nothing that an image does depends on sharing them.
const ADDED: [NsType; 2] = [NsType::Mount, NsType::Cgroup];

impl Control for Namespaces {
    fn id(&self) -> ControlId {
        ControlId::Namespaces
    }

    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn decide(&self, draft: &mut Draft, cx: &Context<'_>, findings: &mut Findings) {
        let mut asked = draft.linux().namespaces().clone().unwrap_or_default();
        for ns in asked
            .iter_mut()
            .filter(|ns| ns.path().as_ref().is_some_and(|p| p.as_os_str().is_empty()))
        {
            // Go's engines write an absent path as "".
            ns.set_path(None);
        }
        draft.plan.host_namespaces = cx.host.namespaces.clone();
        for typ in NsType::ALL {
            let mut of_type = asked.iter().filter(|ns| NsType::from(ns.typ()) == typ);
            match (of_type.next(), of_type.next()) {
                (Some(_), Some(_)) => findings.refused(
                    "duplicate",
                    place(typ),
                    format!(
                        "the {} namespace is listed twice: which of the two holds is not said",
                        typ.spec_name()
                    ),
                    "list each type once in `linux.namespaces`",
                ),
                (Some(ns), None) => {
                    if let Some(path) = ns.path() {
                        vet(typ, path, cx, &mut draft.plan, findings);
                    }
                }
                (None, _) if REQUIRED.contains(&typ) => refuse_host(typ, "is shared with the host", cx, findings),
                (None, _) if ADDED.contains(&typ) => {
                    let mut ns = LinuxNamespace::default();
                    ns.set_typ(typ.into());
                    asked.push(ns);
                    findings.added(place(typ), "a new one", "nothing in an image needs the host's");
                }
                (None, _) => {}
            }
        }
        findings.kept(
            "linux.namespaces",
            "pid, ipc, uts, network, mount and cgroup are not the host's",
        );
        draft.linux().set_namespaces(Some(asked));
        names(draft, cx, findings);
    }

    fn facts(&self, hardened: &Hardened, seen: &Observed) -> Vec<Fact> {
        let spec = hardened.spec().linux().as_ref().and_then(|l| l.namespaces().as_ref());
        spec.into_iter()
            .flatten()
            .map(|ns| {
                let typ = NsType::from(ns.typ());
                fact(typ, hardened.plan(), seen.namespaces.get(&typ))
            })
            .collect()
    }
}

/// The most bytes of a host name (uname(2)).
const LONGEST_NAME: usize = 64;

/// A new UTS namespace begins with the names of the one it was made in: the host's.
fn names(draft: &mut Draft, cx: &Context<'_>, findings: &mut Findings) {
    if !is_new(&draft.spec, NsType::Uts) {
        return;
    }
    let none = |name: &Option<String>| name.as_ref().is_none_or(String::is_empty);
    if none(draft.spec.hostname()) {
        let id: String = cx.request.id.as_str().chars().take(LONGEST_NAME).collect();
        findings.added("hostname", id.clone(), "a new UTS namespace would show the host's name");
        draft.spec.set_hostname(Some(id));
    }
    if none(draft.spec.domainname()) {
        // The kernel's own word for none.
        draft.spec.set_domainname(Some("(none)".to_owned()));
    }
}

/// Whether the spec gives the container a namespace of this type that is not the host's, as far as was vetted. Other
/// controls ask: sysctls and shared memory belong to a namespace.
pub fn is_private(spec: &Spec, cx: &Context<'_>, typ: NsType) -> bool {
    let namespaces = spec.linux().iter().flat_map(|l| l.namespaces().iter().flatten());
    namespaces
        .filter(|ns| NsType::from(ns.typ()) == typ)
        .any(|ns| match ns.path() {
            None => true,
            Some(path) => matches!(
                cx.host.ns_paths.get(path),
                Some(NsPath::Namespace { typ: seen, id }) if *seen == typ && !is_host(typ, *id, cx)
            ),
        })
}

/// Whether the spec makes a new namespace of this type.
pub fn is_new(spec: &Spec, typ: NsType) -> bool {
    let namespaces = spec.linux().iter().flat_map(|l| l.namespaces().iter().flatten());
    namespaces
        .filter(|ns| NsType::from(ns.typ()) == typ)
        .any(|ns| ns.path().is_none())
}

/// Whether the spec joins one of this type by path.
pub fn is_joined(spec: &Spec, typ: NsType) -> bool {
    let namespaces = spec.linux().iter().flat_map(|l| l.namespaces().iter().flatten());
    namespaces
        .filter(|ns| NsType::from(ns.typ()) == typ)
        .any(|ns| ns.path().is_some())
}

fn is_host(typ: NsType, id: NsId, cx: &Context<'_>) -> bool {
    cx.host.namespaces.get(&typ).is_some_and(|ids| ids.contains(&id))
}

fn place(typ: NsType) -> String {
    format!("linux.namespaces.{}", typ.spec_name())
}

/// Looks at a namespace that is to be joined.
fn vet(typ: NsType, path: &Path, cx: &Context<'_>, plan: &mut Plan, findings: &mut Findings) {
    let shown = path.display();
    if typ == NsType::Mount {
        findings.refused(
            "mount-joined",
            place(typ),
            format!("the mount namespace is to be {shown}: gabion builds the container's mounts in a new one only"),
            "remove `path` from the `mount` entry of `linux.namespaces`",
        );
        return;
    }
    let id = match cx.host.ns_paths.get(path) {
        Some(NsPath::Namespace { typ: seen, id }) if *seen == typ => *id,
        Some(NsPath::Namespace { typ: seen, .. }) => {
            let what = format!(
                "{shown} is a {} namespace, not a {} one",
                seen.spec_name(),
                typ.spec_name()
            );
            findings.refused(
                "wrong-type",
                place(typ),
                what,
                "give the path of a namespace of that type",
            );
            return;
        }
        Some(NsPath::NotANamespace) => {
            let what = format!("{shown} is not a namespace");
            findings.refused(
                "not-a-namespace",
                place(typ),
                what,
                "give a path like /proc/PID/ns/TYPE",
            );
            return;
        }
        Some(NsPath::Unreadable(errno)) => {
            let what = format!(
                "{shown} cannot be opened ({}): what it is cannot be told",
                errno::name(*errno)
            );
            let remedy = "give the path of a namespace that exists and that this caller may open";
            findings.refused("unreadable", place(typ), what, remedy);
            return;
        }
        None => {
            let what = format!("{shown} was not opened: only an absolute path to a namespace can be vetted");
            findings.refused(
                "unreadable",
                place(typ),
                what,
                "give an absolute path like /proc/PID/ns/TYPE",
            );
            return;
        }
    };
    if is_host(typ, id, cx) {
        refuse_host(typ, &format!("at {shown} is the host's own"), cx, findings);
        return;
    }
    plan.joined.push(Joined {
        typ,
        path: path.to_owned(),
        id,
    });
}

fn refuse_host(typ: NsType, what: &str, cx: &Context<'_>, findings: &mut Findings) {
    let caller = cx.request.caller();
    let (code, word) = match typ {
        NsType::Pid => ("host-pid", caller.word("hostPID: true", "--pid host", "")),
        NsType::Ipc => ("host-ipc", caller.word("hostIPC: true", "--ipc host", "")),
        NsType::Uts => ("host-uts", caller.word("hostNetwork: true", "--uts host", "")),
        NsType::Network => ("host-network", caller.word("hostNetwork: true", "--network host", "")),
        NsType::User => ("host-user", caller.word("", "--userns host", "")),
        NsType::Cgroup => ("host-cgroup", caller.word("", "--cgroupns host", "")),
        NsType::Time => ("host-time", ""),
        NsType::Mount => ("host-mount", ""),
    };
    let name = typ.spec_name();
    let remedy = if word.is_empty() {
        format!("put {{\"type\": \"{name}\"}} without a host path into `linux.namespaces`")
    } else {
        format!("remove `{word}`")
    };
    let remedy = match remedy::let_off(cx, ControlId::Namespaces) {
        Some(exception) => format!("{remedy}, or {exception}"),
        None => remedy,
    };
    findings.refused(code, place(typ), format!("the {name} namespace {what}"), remedy);
}

fn fact(typ: NsType, plan: &Plan, seen: Option<&NsId>) -> Fact {
    let name = typ.spec_name();
    let host = plan.host_namespaces.get(&typ).filter(|ids| !ids.is_empty());
    let joined = plan.joined.iter().find(|j| j.typ == typ);
    let expected = match joined {
        Some(joined) => format!("{name} namespace {}", joined.id),
        None => format!("{name} namespace not the host's"),
    };
    let Some(seen) = seen else {
        return Fact::unknown(ControlId::Namespaces, expected, format!("{name} namespace not shown"));
    };
    let holds = match (joined, host) {
        (Some(joined), _) if joined.id == *seen => Holds::Yes,
        (None, Some(host)) if !host.contains(seen) => Holds::Yes,
        (None, None) => Holds::Unknown,
        _ => Holds::No,
    };
    Fact::judged(
        ControlId::Namespaces,
        expected,
        format!("{name} namespace {seen}"),
        holds,
    )
}
