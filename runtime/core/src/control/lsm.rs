//! `lsm`: the mandatory access control of the host, AppArmor or SELinux, on every container.
//!
//! Silence and `unconfined` are what engines write by default or for `privileged`; both are replaced. A profile that is named
//! and not to be had is an error, as with runc: it was asked for, and running without it would be weaker than what was asked.
//! Engines leave the field out where the host has no such LSM, so nobody gets this error by accident.

use super::{About, Context, Control, ControlId};
use crate::caller::OwnUserNs;
use crate::decision::Findings;
use crate::fact::{Fact, Holds};
use crate::hardened::{Draft, Hardened, LsmPlan};
use crate::host::{AppArmor, Host, Parser, SeLinux};
use crate::observed::Observed;
use crate::policy::Need;

pub struct Lsm;

static ABOUT: About = About {
    threat: "a process that got round namespaces and capabilities finds no second wall between it and the host's files",
    rule: "AppArmor: the named profile if it is loaded in enforce mode, else the bundled gabion-default; SELinux: the named \
           label unless it confines nothing, else container_t with its own pair of categories",
    enforced_by: "/proc/self/attr/exec before execve; read back from /proc/PID/attr/current after it",
    kernel_floor: "4.15 with AppArmor or SELinux among its LSMs",
    refs: &[
        "PSS Baseline: AppArmor",
        "PSS Baseline: SELinux",
        "CIS Docker 5.2",
        "CIS Docker 5.3",
        "CIS Kubernetes 5.6.3",
        "NIST SP 800-190 4.4.3",
    ],
};

/// The bundled profile (runtime/policy/gabion-default.apparmor).
pub const DEFAULT_PROFILE: &str = "gabion-default";

/// How engines ask for no profile at all.
const UNCONFINED: &str = "unconfined";

/// Types that confine nothing, or are the host's own.
const FORBIDDEN_TYPES: [&str; 18] = [
    "spc_t",
    "spc_user_t",
    "unconfined_t",
    "unconfined_service_t",
    // The runtime's and the engines' own: Fedora's policy and Debian's.
    "container_runtime_t",
    "container_engine_t",
    "docker_t",
    "dockerd_t",
    "dockerd_user_t",
    "podman_t",
    "podman_user_t",
    "crio_t",
    "kubelet_t",
    "init_t",
    "initrc_t",
    "kernel_t",
    "sysadm_t",
    "virtd_t",
];

/// Engines and gabion give two. Sixteen hold 120 pairs of half a million: hardly another container's.
const MOST_CATEGORIES: usize = 16;

impl Control for Lsm {
    fn id(&self) -> ControlId {
        ControlId::Lsm
    }

    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn decide(&self, draft: &mut Draft, cx: &Context<'_>, findings: &mut Findings) {
        let asked = |value: Option<&String>| value.filter(|v| !v.is_empty()).cloned();
        let process = draft.spec.process().as_ref();
        let profile = asked(process.and_then(|p| p.apparmor_profile().as_ref()));
        let label = asked(process.and_then(|p| p.selinux_label().as_ref()));

        let mut plan = LsmPlan::default();
        apparmor(profile.as_deref(), &mut plan, cx, findings);
        let level = selinux(label.as_deref(), &mut plan, cx, findings);
        if cx.host.apparmor == AppArmor::Absent && cx.host.selinux == SeLinux::Absent {
            none_here("this kernel has neither AppArmor nor SELinux", cx, findings);
        }
        if let Some(process) = draft.spec.process_mut() {
            process
                .set_apparmor_profile(plan.apparmor.clone())
                .set_selinux_label(plan.selinux.clone());
        }
        if let (Some(level), Some(linux)) = (level, draft.spec.linux_mut())
            && linux.mount_label().as_deref().unwrap_or_default().is_empty()
        {
            // Files of the container's own mounts carry its categories: another container cannot open them, and it can itself.
            linux.set_mount_label(Some(format!("system_u:object_r:container_file_t:{level}")));
        }
        draft.plan.lsm = plan;
    }

    fn facts(&self, hardened: &Hardened, seen: &Observed) -> Vec<Fact> {
        let facts = labels(&hardened.plan().lsm, seen);
        if facts.is_empty() {
            let why = "this kernel had neither AppArmor nor SELinux when it was made";
            return vec![Fact::absent(ControlId::Lsm, "a label", why)];
        }
        facts
    }
}

/// Whether the process that was seen runs under the labels of this plan, or will from execve on.
pub fn labels(plan: &LsmPlan, seen: &Observed) -> Vec<Fact> {
    [plan.apparmor.as_deref(), plan.selinux.as_deref()]
        .into_iter()
        .flatten()
        .map(|expected| labelled(expected, seen))
        .collect()
}

/// Before execve only attr/exec shows the label; after it, attr/current does (attest reads no `label_on_exec`).
fn labelled(expected: &str, seen: &Observed) -> Fact {
    let clean = |label: &Option<String>| {
        let label = label.as_deref()?.trim_end_matches(['\0', '\n']);
        (!label.is_empty()).then(|| label.to_owned())
    };
    let (current, on_exec) = (clean(&seen.label), clean(&seen.label_on_exec));
    let what = format!("label {expected}");
    let is = |label: &Option<String>| {
        // AppArmor shows the mode behind the name: in complain mode nothing is denied.
        let label = label.as_deref()?;
        Some(label == expected || label.strip_suffix(" (enforce)") == Some(expected))
    };
    match (is(&current), is(&on_exec)) {
        (None, None) => Fact::unknown(ControlId::Lsm, what, "no label shown"),
        (Some(true), _) => Fact::judged(ControlId::Lsm, what, current.unwrap_or_default(), Holds::Yes),
        (_, Some(true)) => Fact::judged(
            ControlId::Lsm,
            what,
            format!("{} on execve", on_exec.unwrap_or_default()),
            Holds::Yes,
        ),
        _ => Fact::judged(ControlId::Lsm, what, current.or(on_exec).unwrap_or_default(), Holds::No),
    }
}

/// No LSM stands behind this container.
fn none_here(why: &str, cx: &Context<'_>, findings: &mut Findings) {
    match cx.policy.policy.lsm.need {
        Need::BestEffort => findings.warned("lsm", format!("{why}: the other layers stand alone")),
        Need::Required => findings.refused(
            "none",
            "lsm",
            format!("{why}, and the policy requires one"),
            "boot with AppArmor or SELinux, or set [lsm] need = \"best_effort\" in /etc/gabion/policy.toml",
        ),
    }
}

fn apparmor(asked: Option<&str>, plan: &mut LsmPlan, cx: &Context<'_>, findings: &mut Findings) {
    let path = "process.apparmorProfile";
    let word = cx.request.caller().word(
        "`securityContext.appArmorProfile`",
        "`--security-opt apparmor=…`",
        "`process.apparmorProfile`",
    );
    let loaded = match &cx.host.apparmor {
        AppArmor::Enabled { loaded, .. } => loaded.as_ref(),
        AppArmor::Absent => {
            if let Some(name) = asked.filter(|n| *n != UNCONFINED) {
                findings.refused(
                    "apparmor-absent",
                    path,
                    format!("the AppArmor profile {name:?} is asked for and this kernel has no AppArmor"),
                    format!("remove {word}, or boot with AppArmor"),
                );
            }
            return;
        }
    };
    match asked {
        Some(name) if name != UNCONFINED && name != DEFAULT_PROFILE => {
            if loaded.is_some_and(|l| !l.contains(name)) || name.contains(char::is_control) {
                findings.refused(
                    "profile-not-loaded",
                    path,
                    format!("the AppArmor profile {name:?} is not loaded in enforce mode"),
                    format!("load it with apparmor_parser -r, or remove {word} to get {DEFAULT_PROFILE}"),
                );
            } else {
                // A list that cannot be read: the kernel refuses an unknown name at execve.
                findings.kept(path, format!("{name} as named"));
            }
            plan.apparmor = Some(name.to_owned());
        }
        _ => bundled(asked, loaded.map(|l| l.contains(DEFAULT_PROFILE)), plan, cx, findings),
    }
}

/// The bundled profile, where none was named. `loaded`: whether it is there already, if that could be seen.
fn bundled(asked: Option<&str>, loaded: Option<bool>, plan: &mut LsmPlan, cx: &Context<'_>, findings: &mut Findings) {
    let path = "process.apparmorProfile";
    if loaded != Some(true)
        && let Err((why, remedy)) = can_load(cx.host)
    {
        if asked == Some(DEFAULT_PROFILE) {
            let what = format!("the AppArmor profile \"gabion-default\" is asked for and not seen to be loaded; {why}");
            findings.refused("profile-not-loaded", path, what, remedy);
            return;
        }
        let why = format!("AppArmor is on, but gabion-default is not seen to be loaded and {why} ({remedy})");
        none_here(&why, cx, findings);
        return;
    }
    match asked {
        Some(DEFAULT_PROFILE) => findings.kept(path, DEFAULT_PROFILE),
        Some(other) => findings.tightened(path, other, DEFAULT_PROFILE, "no container runs without a profile"),
        None => findings.added(path, DEFAULT_PROFILE, "the spec names no profile"),
    }
    plan.load_default = loaded != Some(true);
    plan.apparmor = Some(DEFAULT_PROFILE.to_owned());
}

/// Loading a profile takes CAP_MAC_ADMIN in the initial user namespace, and a compiler. Why not, and the remedy.
fn can_load(host: &Host) -> Result<(), (&'static str, &'static str)> {
    if host.euid != 0 || host.user_ns != OwnUserNs::Initial {
        return Err(("loading it needs root", "run `gabion apparmor load` as root"));
    }
    match &host.apparmor {
        AppArmor::Enabled {
            parser: Parser::Missing,
            ..
        } => Err((
            "there is no apparmor_parser to load it with",
            "install your distribution's package apparmor",
        )),
        _ => Ok(()),
    }
}

/// Fills in the process label; gives the level that files of its own have.
fn selinux(asked: Option<&str>, plan: &mut LsmPlan, cx: &Context<'_>, findings: &mut Findings) -> Option<String> {
    let path = "process.selinuxLabel";
    let word = cx.request.caller().word(
        "`securityContext.seLinuxOptions`",
        "`--security-opt label=…`",
        "`process.selinuxLabel`",
    );
    match (&cx.host.selinux, asked) {
        (SeLinux::Absent, None) => None,
        (SeLinux::Absent, Some(label)) => {
            findings.refused(
                "selinux-absent",
                path,
                format!("the SELinux label {label:?} is asked for and this kernel has no SELinux"),
                format!("remove {word}, or boot with SELinux"),
            );
            None
        }
        (SeLinux::Enabled { mcs }, None) => {
            let label = format!("system_u:system_r:container_t:{mcs}");
            findings.added(path, label.clone(), "the spec names no label");
            plan.selinux = Some(label);
            Some(mcs.clone())
        }
        (SeLinux::Enabled { .. }, Some(label)) => {
            if let Some((code, why)) = bad_label(label) {
                findings.refused(
                    code,
                    path,
                    format!("the SELinux label {label:?} {why}"),
                    format!("remove it from {word} to get container_t, or name a type that confines"),
                );
            } else {
                findings.kept(path, format!("{label} as named"));
            }
            plan.selinux = Some(label.to_owned());
            // Of a range (s0-s0:c1,c2) the upper end: what it may reach.
            let level = label.splitn(4, ':').nth(3).and_then(|level| level.rsplit('-').next());
            level.map(str::to_owned)
        }
    }
}

/// Why a label (`user:role:type[:level]`) is not one for a container.
fn bad_label(label: &str) -> Option<(&'static str, &'static str)> {
    let mut parts = label.splitn(4, ':');
    let (user, role, typ) = (parts.next()?, parts.next(), parts.next());
    let level = parts.next();
    let (Some(role), Some(typ)) = (role, typ) else {
        return Some(("bad-label", "is not of the form user:role:type:level"));
    };
    let plain = |s: &str| !s.is_empty() && s.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    let plain_level = |l: &str| l.chars().all(|c| c.is_ascii_alphanumeric() || ":,.-".contains(c));
    if ![user, role, typ].into_iter().all(plain) || !level.is_none_or(plain_level) {
        return Some(("bad-label", "is not of the form user:role:type:level"));
    }
    if FORBIDDEN_TYPES.contains(&typ) || typ.starts_with("unconfined") {
        return Some(("unconfined-label", "confines nothing"));
    }
    if level.is_some_and(|l| categories(l) > MOST_CATEGORIES) {
        return Some(("all-categories", "covers the categories of other containers"));
    }
    None
}

/// How many categories a level reaches: `s0-s0:c1,c5.c9` six. One that is not understood reaches all.
fn categories(level: &str) -> usize {
    let upper = level.rsplit('-').next().unwrap_or_default();
    let Some((_, list)) = upper.split_once(':') else {
        return 0;
    };
    let number = |c: &str| c.strip_prefix('c')?.parse::<usize>().ok();
    let reach = |part: &str| match part.split_once('.') {
        Some((first, last)) => Some(number(last)?.checked_sub(number(first)?)? + 1),
        None => number(part).map(|_| 1),
    };
    list.split(',')
        .map(reach)
        .try_fold(0_usize, |sum, n| sum.checked_add(n?))
        .unwrap_or(usize::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::decision::{Decision, Verdict};
    use crate::testing::{Case, check_about, names, refusal};

    fn with_apparmor(asked: Option<&str>, loaded: Option<&[&str]>) -> Case {
        let mut case = Case::new().with("/process/apparmorProfile", json!(asked));
        case.host.apparmor = AppArmor::Enabled {
            loaded: loaded.map(names),
            parser: Parser::Here,
        };
        case
    }

    fn with_selinux(asked: Option<&str>) -> Case {
        let mut case = Case::new().with("/process/selinuxLabel", json!(asked));
        case.host.selinux = SeLinux::Enabled { mcs: "s0:c1,c2".into() };
        case
    }

    fn plan(case: &Case) -> (LsmPlan, Decision) {
        let (draft, decision) = case.decide(&Lsm);
        let process = draft.spec.process().as_ref();
        assert_eq!(
            process.and_then(|p| p.apparmor_profile().clone()),
            draft.plan.lsm.apparmor
        );
        assert_eq!(process.and_then(|p| p.selinux_label().clone()), draft.plan.lsm.selinux);
        (draft.plan.lsm, decision)
    }

    #[test]
    fn a_kernel_with_neither() {
        check_about(&Lsm, ControlId::Lsm);
        let mut case = Case::new();
        let (lsm, decision) = plan(&case);
        assert_eq!((lsm, decision.verdict), (LsmPlan::default(), Verdict::Warned));
        case.policy.policy.lsm.need = Need::Required;
        refusal(&plan(&case).1, "lsm.none");
        let named = Case::new().with("/process/apparmorProfile", json!("mine"));
        refusal(&plan(&named).1, "lsm.apparmor-absent");
        let named = Case::new().with("/process/selinuxLabel", json!("u:r:container_t:s0"));
        refusal(&plan(&named).1, "lsm.selinux-absent");
        for silent in ["", "unconfined"] {
            let case = Case::new().with("/process/apparmorProfile", json!(silent));
            assert_eq!(plan(&case).1.verdict, Verdict::Warned, "{silent:?}");
        }
    }

    #[test]
    fn the_bundled_profile() {
        for (asked, loaded, verdict, load) in [
            (None, Some(&[][..]), Verdict::Added, true),
            (None, Some(&["gabion-default"][..]), Verdict::Added, false),
            (None, None, Verdict::Added, true),
            (Some(""), Some(&[][..]), Verdict::Added, true),
            (Some("unconfined"), Some(&[][..]), Verdict::Tightened, true),
            (Some("gabion-default"), Some(&[][..]), Verdict::Kept, true),
        ] {
            let (lsm, decision) = plan(&with_apparmor(asked, loaded));
            assert_eq!(lsm.apparmor.as_deref(), Some(DEFAULT_PROFILE), "{asked:?}");
            assert_eq!((decision.verdict, lsm.load_default), (verdict, load), "{asked:?}");
        }
    }

    #[test]
    fn without_root_it_must_be_there() {
        for user in [1000, 0] {
            let mut case = with_apparmor(None, None);
            case.host.euid = user;
            case.host.user_ns = if user == 0 {
                OwnUserNs::Nested
            } else {
                OwnUserNs::Initial
            };
            let (lsm, decision) = plan(&case);
            assert_eq!((lsm.apparmor, decision.verdict), (None, Verdict::Warned));
            let asked = case.clone().with("/process/apparmorProfile", json!(DEFAULT_PROFILE));
            refusal(&plan(&asked).1, "lsm.profile-not-loaded");
            case.policy.policy.lsm.need = Need::Required;
            refusal(&plan(&case).1, "lsm.none");
            case.host.apparmor = AppArmor::Enabled {
                loaded: Some(names(&["gabion-default"])),
                parser: Parser::Here,
            };
            let (lsm, decision) = plan(&case);
            assert_eq!((lsm.load_default, decision.verdict), (false, Verdict::Added));
        }
    }

    #[test]
    fn without_a_compiler_it_must_be_there() {
        let mut case = with_apparmor(None, None);
        let set = |case: &mut Case, loaded: &[&str]| {
            case.host.apparmor = AppArmor::Enabled {
                loaded: Some(names(loaded)),
                parser: Parser::Missing,
            };
        };
        set(&mut case, &[]);
        let (lsm, decision) = plan(&case);
        assert_eq!((lsm.apparmor, decision.verdict), (None, Verdict::Warned));
        case.policy.policy.lsm.need = Need::Required;
        refusal(&plan(&case).1, "lsm.none");
        set(&mut case, &["gabion-default"]);
        assert_eq!(plan(&case).1.verdict, Verdict::Added);
    }

    #[test]
    fn named_profiles() {
        let (lsm, decision) = plan(&with_apparmor(Some("mine"), Some(&["mine"])));
        assert_eq!(
            (lsm.apparmor.as_deref(), decision.verdict),
            (Some("mine"), Verdict::Kept)
        );
        refusal(
            &plan(&with_apparmor(Some("mine"), Some(&["yours"]))).1,
            "lsm.profile-not-loaded",
        );
        refusal(&plan(&with_apparmor(Some("a\nb"), None)).1, "lsm.profile-not-loaded");
        assert_eq!(plan(&with_apparmor(Some("mine"), None)).1.verdict, Verdict::Kept);
    }

    #[test]
    fn selinux_labels() {
        let (draft, decision) = with_selinux(None).decide(&Lsm);
        assert_eq!(decision.verdict, Verdict::Added);
        assert_eq!(
            draft.plan.lsm.selinux.as_deref(),
            Some("system_u:system_r:container_t:s0:c1,c2")
        );
        let mount_label = draft.spec.linux().as_ref().and_then(|l| l.mount_label().clone());
        assert_eq!(
            mount_label.as_deref(),
            Some("system_u:object_r:container_file_t:s0:c1,c2")
        );
        for good in [
            "system_u:system_r:container_t:s0:c5,c9",
            "u:r:my_container.process:s0",
            "u:r:x_t:s0-s0:c1,c5.c9",
            "u:r:x_t",
        ] {
            let (lsm, decision) = plan(&with_selinux(Some(good)));
            assert_eq!((lsm.selinux.as_deref(), decision.verdict), (Some(good), Verdict::Kept));
        }
        for (label, asked, files) in [
            (
                "u:r:x_t:s0:c5,c9",
                None,
                Some("system_u:object_r:container_file_t:s0:c5,c9"),
            ),
            (
                "u:r:x_t:s0-s0:c5,c9",
                None,
                Some("system_u:object_r:container_file_t:s0:c5,c9"),
            ),
            (
                "u:r:x_t:s0:c5,c9",
                Some("u:object_r:mine_t:s0"),
                Some("u:object_r:mine_t:s0"),
            ),
            ("u:r:x_t", None, None),
        ] {
            let case = with_selinux(Some(label)).with("/linux/mountLabel", json!(asked));
            let linux = case.decide(&Lsm).0.spec.linux().clone().unwrap();
            assert_eq!(linux.mount_label().as_deref(), files, "{label}");
        }
        for (bad, code) in [
            ("system_u:system_r:spc_t:s0", "lsm.unconfined-label"),
            ("system_u:system_r:container_engine_t:s0", "lsm.unconfined-label"),
            ("unconfined_u:unconfined_r:unconfined_t:s0", "lsm.unconfined-label"),
            ("u:r:unconfined_whatever_t:s0", "lsm.unconfined-label"),
            ("system_u:system_r:container_t:s0-s0:c0.c1023", "lsm.all-categories"),
            (
                "system_u:system_r:container_t:s0:c0.c511,c512.c1022",
                "lsm.all-categories",
            ),
            ("u:r:container_t:s0:c5,c9.c4", "lsm.all-categories"),
            ("container_t", "lsm.bad-label"),
            ("u::container_t:s0", "lsm.bad-label"),
            ("u:r:container_t:s0\n", "lsm.bad-label"),
        ] {
            refusal(&plan(&with_selinux(Some(bad))).1, code);
        }
    }

    #[test]
    fn labels_of_the_kernel() {
        let hardened = with_apparmor(None, Some(&[])).harden(&Lsm);
        for (current, on_exec, holds) in [
            (None, None, Holds::Unknown),
            (Some("gabion-default (enforce)\n"), None, Holds::Yes),
            (Some("gabion-default (complain)\n"), Some(""), Holds::No),
            (Some("unconfined"), Some("gabion-default (enforce)"), Holds::Yes),
            (Some("unconfined"), Some("gabion-default"), Holds::Yes),
            (Some("unconfined"), None, Holds::No),
            (Some("gabion-default-not (enforce)"), None, Holds::No),
        ] {
            let seen = Observed {
                label: current.map(str::to_owned),
                label_on_exec: on_exec.map(str::to_owned),
                ..Observed::default()
            };
            assert_eq!(Lsm.facts(&hardened, &seen)[0].holds, holds, "{current:?} {on_exec:?}");
        }
        let hardened = with_selinux(None).harden(&Lsm);
        let seen = Observed {
            label: Some("system_u:system_r:container_t:s0:c1,c2\0".into()),
            ..Observed::default()
        };
        assert_eq!(Lsm.facts(&hardened, &seen)[0].holds, Holds::Yes);
    }
}
