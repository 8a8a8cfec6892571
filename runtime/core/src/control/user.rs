//! `user`: who the workload is.
//!
//! Ordinary images start as root and become somebody else; that runs, and is said. At the restricted level uid 0 is allowed
//! only where it is nobody on the host: in a user namespace that does not map the host's root.

use oci_spec::runtime::{LinuxIdMapping, Spec};

use super::{About, Context, Control, ControlId, namespaces};
use crate::caller::OwnUserNs;
use crate::decision::Findings;
use crate::fact::{Fact, Holds};
use crate::hardened::{Draft, Hardened};
use crate::namespace::NsType;
use crate::observed::{IdsSeen, Observed};
use crate::policy::Level;

pub struct User;

static ABOUT: About = About {
    threat: "uid 0 in the container is uid 0 on the host the moment any other wall has a hole",
    rule: "hardened: root is allowed and warned of; restricted: uid 0 only in a user namespace that does not map the host's root",
    enforced_by: "setgroups(2), setresgid(2), setresuid(2); read back from /proc/PID/status",
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
        let uid = process.user().uid();
        if uid != 0 {
            findings.kept("process.user.uid", format!("uid {uid}, not root"));
            return;
        }
        match root_is(&draft.spec, cx) {
            Root::Nobody => findings.kept("process.user.uid", "root of a user namespace, nobody on the host"),
            Root::Host(why) if cx.policy.level == Level::Restricted => findings.refused(
                "root",
                "process.user.uid",
                format!("the process starts as uid 0, {why}; this level wants another user"),
                cx.request.caller().word(
                    "set `securityContext.runAsNonRoot: true` and `runAsUser`, or `hostUsers: false`",
                    "give `--user UID`, or `--userns auto`",
                    "set `process.user.uid`, or a `user` namespace with mappings in `linux.namespaces`",
                ),
            ),
            Root::Host(why) => findings.warned("process.user.uid", format!("the process starts as uid 0, {why}")),
        }
    }

    fn facts(&self, hardened: &Hardened, seen: &Observed) -> Vec<Fact> {
        let Some(process) = hardened.spec().process() else {
            return Vec::new();
        };
        let linux = hardened.spec().linux().as_ref();
        let joins = namespaces::is_joined(hardened.spec(), NsType::User);
        let maps = |maps: Option<&Vec<LinuxIdMapping>>, id: u32| -> Option<u32> {
            match maps {
                _ if seen.ids == IdsSeen::Inside => Some(id),
                // The mappings of a namespace that is joined are not ours to know.
                _ if joins => None,
                Some(maps) if namespaces::is_new(hardened.spec(), NsType::User) => mapped(maps, id),
                _ => Some(id),
            }
        };
        let uids = linux.and_then(|l| l.uid_mappings().as_ref());
        let gids = linux.and_then(|l| l.gid_mappings().as_ref());
        let (uid, gid) = (process.user().uid(), process.user().gid());
        [
            ("Uid", maps(uids, uid), maps(uids, 0), uid),
            // The group follows the user: a service that starts as root changes both.
            ("Gid", maps(gids, gid), maps(gids, 0), uid),
        ]
        .into_iter()
        .map(|(key, expected, root, uid)| identity(key, expected, root, uid, seen.status(key)))
        .collect()
    }
}

/// What root of the container is outside of it.
enum Root {
    Nobody,
    Host(&'static str),
}

fn root_is(spec: &Spec, cx: &Context<'_>) -> Root {
    if cx.host.user_ns == OwnUserNs::Nested {
        return Root::Nobody;
    }
    if !namespaces::is_private(spec, cx, NsType::User) {
        return Root::Host("the host's root");
    }
    let linux = spec.linux().as_ref();
    let maps = linux.and_then(|l| l.uid_mappings().as_deref()).unwrap_or_default();
    // A user namespace that maps the host's root gives it away: files and devices see uid 0.
    if maps.iter().any(|m| m.host_id() == 0 && m.size() > 0) {
        return Root::Host("and its user namespace maps the host's root");
    }
    Root::Nobody
}

/// The id outside that an id inside stands for (user_namespaces(7)).
fn mapped(maps: &[LinuxIdMapping], inside: u32) -> Option<u32> {
    maps.iter().find_map(|m| {
        let offset = inside.checked_sub(m.container_id())?;
        (offset < m.size()).then(|| m.host_id().checked_add(offset))?
    })
}

/// All four ids of the process are the one that was decided. What started as root may have become somebody else since; what
/// did not start as root may not.
fn identity(key: &str, expected: Option<u32>, root: Option<u32>, uid: u32, seen: Option<&str>) -> Fact {
    let Some(expected) = expected else {
        return Fact::unknown(
            ControlId::User,
            format!("{key} as decided"),
            "mapped by a user namespace that is joined",
        );
    };
    let wanted = format!("{key} {expected}");
    let ids: Option<Vec<u32>> = seen.and_then(|text| text.split_whitespace().map(|id| id.parse().ok()).collect());
    let Some(ids) = ids.filter(|ids| ids.len() == 4) else {
        return Fact::unknown(ControlId::User, wanted, format!("{key} not shown"));
    };
    let good = |id: &u32| *id == expected || (uid == 0 && Some(*id) != root);
    let holds = if ids.iter().all(good) { Holds::Yes } else { Holds::No };
    let shown: Vec<String> = ids.iter().map(ToString::to_string).collect();
    Fact::judged(ControlId::User, wanted, format!("{key} {}", shown.join(" ")), holds)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn maps(text: &str) -> Vec<LinuxIdMapping> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn ids_are_mapped_as_the_kernel_does() {
        let maps = maps(r#"[{"containerID":0,"hostID":100000,"size":1000},{"containerID":5000,"hostID":7,"size":1}]"#);
        for (inside, outside) in [
            (0, Some(100_000)),
            (999, Some(100_999)),
            (1000, None),
            (5000, Some(7)),
            (5001, None),
        ] {
            assert_eq!(mapped(&maps, inside), outside, "{inside}");
        }
    }

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
