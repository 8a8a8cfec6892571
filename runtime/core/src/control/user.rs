//! `user`: who the workload is.
//!
//! Ordinary images start as root and become somebody else; that runs, and is said. At the restricted level no id of the process
//! may be root's on the host. Who an id is there is told by the kernel's maps (`ids`), never by its number.

use oci_spec::runtime::Spec;

use super::{About, Context, Control, ControlId};
use crate::decision::Findings;
use crate::fact::{Fact, Holds};
use crate::hardened::{Draft, Hardened};
use crate::host::Host;
use crate::ids::{self, ContainerIds, Kind, OnHost, SetGroups, Users, in_use};
use crate::observed::{IdsSeen, Observed};
use crate::policy::Level;

pub struct User;

static ABOUT: About = About {
    threat: "uid 0 in the container is uid 0 on the host the moment any other wall has a hole",
    rule: "hardened: root is allowed and warned of; restricted: no uid, gid or supplementary group is 0 on the host, and no user \
           namespace maps an id to it",
    enforced_by: "setgroups(2), setresgid(2), setresuid(2); read back from /proc/PID/status, uid_map and gid_map",
    kernel_floor: "3.8 (user namespaces)",
    refs: &[
        "PSS Restricted: Running as Non-root",
        "PSS Restricted: Running as Non-root user",
        "CIS Docker 4.1",
        "CIS Docker 5.31",
        "CIS Kubernetes 5.2.7",
        "NIST SP 800-190 4.4.3",
    ],
};

impl Control for User {
    fn id(&self) -> ControlId {
        ControlId::User
    }

    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn decide(&self, draft: &mut Draft, cx: &Context<'_>, findings: &mut Findings) {
        let Some(process) = draft.spec.process() else { return };
        let user = process.user();
        let ids = ContainerIds::planned(&draft.spec, cx.host);
        let restricted = cx.policy.level == Level::Restricted;
        match judge(&ids, user, &draft.spec) {
            Judged::Nobody if user.uid() == 0 => {
                findings.kept("process.user.uid", "root of a user namespace, nobody on the host");
            }
            Judged::Nobody => findings.kept("process.user.uid", format!("uid {}, not root", user.uid())),
            Judged::Root { place, what } if restricted => refuse_root(place, &what, cx, findings),
            Judged::Unknown(what) if restricted => refuse_unknown(&what, cx, findings),
            Judged::Root { place, what } if place == GROUPS => findings.kept(place, what),
            Judged::Root { place, what } => findings.warned(place, what),
            Judged::Unknown(what) => findings.warned("process.user.uid", what),
        }
        groups_that_stay(&draft.spec, cx, findings);
    }

    fn facts(&self, hardened: &Hardened, seen: &Observed) -> Vec<Fact> {
        let Some(process) = hardened.spec().process() else {
            return Vec::new();
        };
        let ids = of(hardened);
        let (uid, gid) = (process.user().uid(), process.user().gid());
        let shown = |kind: Kind, id: u32| as_shown(&ids, seen.ids, kind, id);
        let mut facts: Vec<Fact> = [
            ("Uid", shown(Kind::User, uid), shown(Kind::User, 0), uid),
            // The group follows the user: a service that starts as root changes both.
            ("Gid", shown(Kind::Group, gid), shown(Kind::Group, 0), uid),
        ]
        .into_iter()
        .map(|(key, expected, root, uid)| identity(key, expected, root, uid, seen.status(key)))
        .collect();
        // Of a container that an older gabion made the maps are not known whole.
        if hardened.level() == Level::Restricted && hardened.plan().ids.is_some() {
            facts.extend(not_root(&ids, seen));
            facts.push(groups(&ids, process.user(), seen));
        }
        facts
    }
}

/// What the container's ids are outside of it, as it was decided; of one that an older gabion made, as far as its spec tells.
pub fn of(hardened: &Hardened) -> ContainerIds {
    if let Some(ids) = &hardened.plan().ids {
        return ids.clone();
    }
    ContainerIds::planned(hardened.spec(), &Host::default())
}

/// Where groups are asked for.
const GROUPS: &str = "process.user.gid";

/// What a process's user is on the host.
pub(super) enum Judged {
    Nobody,
    Root { place: &'static str, what: String },
    Unknown(String),
}

/// Judges every id that the process has, and every id that its user namespace lets it have.
pub(super) fn judge(ids: &ContainerIds, user: &oci_spec::runtime::User, spec: &Spec) -> Judged {
    let namespace = match ids::users(spec) {
        Users::Runtime => "that gabion runs in",
        Users::New => "of the container",
        Users::Joined(_) => "that is joined",
    };
    let mut unknown = false;
    let mut groups = None;
    for (kind, field, id) in in_use(user) {
        match (ids.on_host(kind, id), kind) {
            (OnHost::NotRoot, _) => {}
            (OnHost::Unknown, _) => unknown = true,
            (OnHost::Root, Kind::User) => return root(kind, &field, id, namespace),
            (OnHost::Root, Kind::Group) => groups = groups.or(Some((field, id))),
        }
    }
    // In a namespace of the container's own nothing else may be root either: a setuid program would become it.
    if ids::users(spec) != Users::Runtime {
        for (kind, place, name) in [
            (Kind::User, "linux.uidMappings", "user"),
            (Kind::Group, "linux.gidMappings", "group"),
        ] {
            match ids.reaches_root(kind) {
                OnHost::NotRoot => {}
                OnHost::Unknown => unknown = true,
                OnHost::Root => {
                    return Judged::Root {
                        place,
                        what: format!("the user namespace {namespace} maps a {name} to the host's root"),
                    };
                }
            }
        }
    }
    if let Some((field, id)) = groups {
        return root(Kind::Group, &field, id, namespace);
    }
    if unknown {
        return Judged::Unknown(format!(
            "who the process is on the host is not known: the maps of the user namespace {namespace} cannot be read, or not whole"
        ));
    }
    Judged::Nobody
}

fn root(kind: Kind, field: &str, id: u32, namespace: &str) -> Judged {
    match kind {
        Kind::User if id == 0 => Judged::Root {
            place: "process.user.uid",
            what: "the process starts as uid 0, the host's root".to_owned(),
        },
        Kind::User => Judged::Root {
            place: "process.user.uid",
            what: format!(
                "the process starts as uid {id}, which the user namespace {namespace} maps to the host's root"
            ),
        },
        Kind::Group => Judged::Root {
            place: GROUPS,
            what: format!("group {id} of {field} is the group of the host's root"),
        },
    }
}

fn refuse_root(place: &'static str, what: &str, cx: &Context<'_>, findings: &mut Findings) {
    let caller = cx.request.caller();
    let remedy = match place {
        "process.user.uid" => caller.word(
            "set `securityContext.runAsNonRoot: true`, `runAsUser` and `runAsGroup`, or `hostUsers: false` (containerd 2.0 or later)",
            "give `--user UID:GID`, or `--userns auto`",
            "set `process.user.uid` and `gid`, or a `user` namespace in `linux.namespaces` with mappings without host id 0",
        ),
        GROUPS => caller.word(
            "set `securityContext.runAsGroup`, and leave 0 out of `supplementalGroups`",
            "give `--user UID:GID`, and no `--group-add` of root",
            "set `process.user.gid`, and leave 0 out of `additionalGids`",
        ),
        _ => caller.word(
            "set `hostUsers: false`, and leave the mappings to the kubelet",
            "give `--userns auto`, or ranges without host id 0 in `--uidmap` and `--gidmap`",
            "give ranges without host id 0 in `linux.uidMappings` and `gidMappings`",
        ),
    };
    findings.refused("root", place, format!("{what}; this level wants another"), remedy);
}

fn refuse_unknown(what: &str, cx: &Context<'_>, findings: &mut Findings) {
    let remedy = cx.request.caller().word(
        "start the pod again: its sandbox has to run",
        "start the container whose user namespace is joined, or give `--userns auto`",
        "name `/proc/PID/ns/user` of a process that runs in it, or make a new `user` namespace with mappings",
    );
    findings.refused("unknown", "linux.namespaces.user", what, remedy);
}

/// Groups of gabion's caller, which a user namespace whose processes may not set groups takes from nobody (user_namespaces(7)).
fn groups_that_stay(spec: &Spec, cx: &Context<'_>, findings: &mut Findings) {
    let host = cx.host;
    // Its own group is the one that is mapped.
    let groups: Vec<u32> = host.groups.iter().copied().filter(|gid| *gid != host.egid).collect();
    if groups.is_empty() || !stay(spec, host) {
        return;
    }
    let place = "process.user.additionalGids";
    let shown: Vec<String> = groups.iter().map(ToString::to_string).collect();
    let what = format!(
        "the caller's supplementary groups ({}) stay: in this user namespace no process may set any",
        shown.join(", ")
    );
    if cx.policy.level != Level::Restricted {
        findings.warned(place, what);
        return;
    }
    let remedy = cx.request.caller().word(
        "run gabion as root",
        "give the user ranges in /etc/subuid and /etc/subgid, and run `podman system migrate`",
        "map a range of /etc/subgid in `linux.gidMappings`, or start gabion by `setpriv --clear-groups` (as root)",
    );
    findings.refused("groups", place, what, remedy);
}

fn stay(spec: &Spec, host: &Host) -> bool {
    match ids::users(spec) {
        Users::Runtime => host.set_groups == SetGroups::Denied,
        Users::Joined(path) => match host.joined_users.get(path) {
            Some(joined) => joined.set_groups == SetGroups::Denied,
            // Of what is not known the worst: at restricted it is refused anyway.
            None => true,
        },
        Users::New => {
            let groups = spec.linux().as_ref().and_then(|l| l.gid_mappings().as_deref());
            // So a user maps themselves: the kernel wants setgroups closed before.
            let own = matches!(groups.unwrap_or_default(), [one] if one.host_id() == host.egid && one.size() == 1);
            host.set_groups == SetGroups::Denied || (host.euid != 0 && own)
        }
    }
}

/// The number by which /proc/PID/status shows an id of the container.
fn as_shown(ids: &ContainerIds, seen: IdsSeen, kind: Kind, id: u32) -> Option<u32> {
    match seen {
        IdsSeen::Inside => Some(id),
        IdsSeen::Outside => ids.here.as_ref()?.of(kind).outside(id).next(),
        IdsSeen::Host => ids.host_maps()?.of(kind).outside(id).next(),
    }
}

/// All four ids of the process are the one that was decided. What started as root may have become somebody else since; what
/// did not start as root may not.
fn identity(key: &str, expected: Option<u32>, root: Option<u32>, uid: u32, seen: Option<&str>) -> Fact {
    let Some(expected) = expected else {
        return Fact::unknown(
            ControlId::User,
            format!("{key} as decided"),
            "mapped by a user namespace that could not be looked into",
        );
    };
    let wanted = format!("{key} {expected}");
    let Some(ids) = numbers(seen).filter(|ids| ids.len() == 4) else {
        return Fact::unknown(ControlId::User, wanted, format!("{key} not shown"));
    };
    let good = |id: &u32| *id == expected || (uid == 0 && Some(*id) != root);
    let holds = if ids.iter().all(good) { Holds::Yes } else { Holds::No };
    Fact::judged(ControlId::User, wanted, format!("{key} {}", shown(&ids)), holds)
}

fn numbers(text: Option<&str>) -> Option<Vec<u32>> {
    text?.split_whitespace().map(|id| id.parse().ok()).collect()
}

fn shown(ids: &[u32]) -> String {
    let words: Vec<String> = ids.iter().map(ToString::to_string).collect();
    words.join(" ")
}

/// The supplementary groups are those that were asked for: none of its caller's was left. At level restricted nothing changes them later.
fn groups(ids: &ContainerIds, user: &oci_spec::runtime::User, seen: &Observed) -> Fact {
    let asked: Option<Vec<u32>> = user
        .additional_gids()
        .iter()
        .flatten()
        .map(|gid| as_shown(ids, seen.ids, Kind::Group, *gid))
        .collect();
    let (Some(asked), Some(all)) = (asked, numbers(seen.status("Groups"))) else {
        return Fact::unknown(ControlId::User, "Groups as decided", "Groups not shown, or not mapped");
    };
    let own = as_shown(ids, seen.ids, Kind::Group, user.gid());
    let holds =
        asked.iter().all(|gid| all.contains(gid)) && all.iter().all(|gid| asked.contains(gid) || own == Some(*gid));
    let name = |ids: &[u32]| format!("Groups {}", shown(ids)).trim_end().to_owned();
    let holds = if holds { Holds::Yes } else { Holds::No };
    Fact::judged(ControlId::User, name(&asked), name(&all), holds)
}

/// No id that the process has is root's on the host: at level restricted true of every process, whoever it has become.
pub fn not_root(ids: &ContainerIds, seen: &Observed) -> Vec<Fact> {
    [("Uid", Kind::User), ("Gid", Kind::Group), ("Groups", Kind::Group)]
        .into_iter()
        .map(|(key, kind)| {
            let expected = format!("{key} not root on the host");
            let Some(all) = numbers(seen.status(key)) else {
                return Fact::unknown(ControlId::User, expected, format!("{key} not shown"));
            };
            let judged = all.iter().map(|id| match seen.ids {
                IdsSeen::Inside => ids.on_host(kind, *id),
                IdsSeen::Outside => ids.own.on_host(kind, *id),
                IdsSeen::Host if *id == 0 => OnHost::Root,
                IdsSeen::Host => OnHost::NotRoot,
            });
            let observed = format!("{key} {}", shown(&all));
            match ids::worst(judged) {
                OnHost::NotRoot => Fact::judged(ControlId::User, expected, observed, Holds::Yes),
                OnHost::Root => Fact::judged(ControlId::User, expected, observed, Holds::No),
                OnHost::Unknown => {
                    Fact::unknown(ControlId::User, expected, format!("{observed}, whose map is not known"))
                }
            }
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn inside_ids_are_the_container_s_own() {
        let linux = r#"{"namespaces":[{"type":"user"}],"uidMappings":[{"containerID":0,"hostID":100000,"size":1000}],
                        "gidMappings":[{"containerID":0,"hostID":100000,"size":1000}]}"#;
        let hardened = crate::testing::Case::new()
            .with("/linux", serde_json::from_str(linux).unwrap())
            .with("/process/user", serde_json::json!({"uid": 7, "gid": 8}))
            .harden(&User);
        let holds = |ids: IdsSeen, uid: &str, gid: &str| {
            let mut seen = Observed {
                ids,
                ..Observed::default()
            };
            for (key, id) in [("Uid", uid), ("Gid", gid)] {
                seen.status.insert(key.to_owned(), [id; 4].join("\t"));
            }
            User.facts(&hardened, &seen).iter().all(|f| f.holds == Holds::Yes)
        };
        assert!(holds(IdsSeen::Inside, "7", "8"));
        assert!(!holds(IdsSeen::Inside, "100007", "100008"));
        assert!(!holds(IdsSeen::Inside, "0", "0"));
        assert!(holds(IdsSeen::Outside, "100007", "100008"));
        assert!(!holds(IdsSeen::Outside, "7", "8"));
    }

    #[test]
    fn a_service_may_leave_root_and_nobody_may_become_it() {
        for (expected, uid, seen, holds) in [
            (0, 0, "0\t0\t0\t0", Holds::Yes),
            (0, 0, "33\t33\t33\t33", Holds::Yes),
            (1000, 1000, "1000\t1000\t1000\t1000", Holds::Yes),
            (1000, 1000, "1000\t0\t1000\t1000", Holds::No),
            (1000, 1000, "33\t33\t33\t33", Holds::No),
            (1000, 1000, "1000", Holds::Unknown),
        ] {
            assert_eq!(
                identity("Uid", Some(expected), Some(0), uid, Some(seen)).holds,
                holds,
                "{seen}"
            );
        }
        assert_eq!(identity("Uid", None, None, 0, Some("0 0 0 0")).holds, Holds::Unknown);
    }
}
