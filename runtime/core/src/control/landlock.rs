//! `landlock`: where files may be written and executed, said a second time.
//!
//! noexec on mounts is the first layer of W^X, this is the second: it does not ask who the process is, and it goes with every
//! file that is opened, however it was mounted. This file decides *what* is writable; the rights of the fixed skeleton (`/`
//! readable, EXECUTE on every entry that is not writable) are the crate gabion's (`confine/landlock.rs`), which can look at the image.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, Root};

use super::mounts::options::{Flag, Options};
use super::{About, Context, Control, ControlId, holes};
use crate::decision::{Findings, Mode};
use crate::fact::Fact;
use crate::hardened::{Draft, Hardened, LandlockPlan};
use crate::observed::Observed;
use crate::policy::{Level, Need};
use crate::request::normalize;

pub struct Landlock;

static ABOUT: About = About {
    threat: "a mount that turns out writable or executable (a remount, a missed flag, a new file system) gives a foothold",
    rule: "writing only on holes, writable mounts, /proc and the usual devices; executing nowhere that is writable; TCP ports \
           as annotated",
    enforced_by: "landlock_restrict_self(2), probed by opening a path that it must deny; the ABI reached and the errata fixed are recorded",
    kernel_floor: "6.2 (ABI 3, TRUNCATE; from 5.13 with less, TCP from 6.7)",
    refs: &["CIS Docker 5.13", "NIST SP 800-190 4.4.3", "NIST SP 800-190 4.4.4"],
};

/// What every process writes to. Where one is absent from the image, it gets no rule.
const ALWAYS_WRITABLE: [&str; 11] = [
    "/proc",
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/console",
    "/dev/pts",
    "/dev/shm",
    "/dev/mqueue",
];

/// File systems that are mounted writable and are not for writing, or have rules of their own above.
const NOT_DATA: [&str; 4] = ["proc", "sysfs", "cgroup", "cgroup2"];

/// TCP rules came with ABI 4 (landlock(7)).
const ABI_TCP: u32 = 4;

const TCP_BIND: &str = "dev.gabion.landlock.tcp-bind";
const TCP_CONNECT: &str = "dev.gabion.landlock.tcp-connect";

impl Control for Landlock {
    fn id(&self) -> ControlId {
        ControlId::Landlock
    }

    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn decide(&self, draft: &mut Draft, cx: &Context<'_>, findings: &mut Findings) {
        let tcp_bind = ports(TCP_BIND, cx, findings);
        let tcp_connect = ports(TCP_CONNECT, cx, findings);
        kernel_has_it(cx, findings);
        if cx.host.landlock_abi == 0 {
            return;
        }
        let mut plan = LandlockPlan {
            tcp_bind,
            tcp_connect,
            abi: cx.host.landlock_abi,
            errata: cx.host.landlock_errata,
            ..LandlockPlan::default()
        };
        places(&mut plan, draft, cx);
        findings.added(
            "landlock",
            format!(
                "ABI {}, {}, {} writable paths",
                plan.abi,
                errata(plan.errata),
                plan.writable.len()
            ),
            "writing and executing are kept apart",
        );
        for path in &plan.writable_exec {
            findings.warned(
                path.display().to_string(),
                "both writable and executable: excepted from W^X",
            );
            let what = format!("{}: writable and executable, as its mount is", path.display());
            draft.plan.lets_off(ControlId::Landlock, what);
        }
        stands_alone(&plan, cx, findings);
        draft.plan.landlock = Some(plan);
    }

    fn facts(&self, hardened: &Hardened, _seen: &Observed) -> Vec<Fact> {
        // No file of /proc shows a domain: it is probed before execve, and said to be unseen here.
        vec![match &hardened.plan().landlock {
            Some(plan) => Fact::held(
                ControlId::Landlock,
                format!("domain of ABI {}", plan.abi),
                "the kernel shows no domain; probed before the workload started",
            ),
            None => Fact::absent(
                ControlId::Landlock,
                "a domain",
                "this kernel has no Landlock (warned of at create)",
            ),
        }]
    }
}

/// Which errata are fixed, in words. What the first leaves open on purpose (MPTCP and SMC pass rules for TCP), and what a kernel without the
/// fix for fast open does, is closed by the floor filter.
fn errata(fixed: u32) -> String {
    let numbers: Vec<_> = (0..u32::BITS)
        .filter(|bit| fixed & (1 << bit) != 0)
        .map(|bit| (bit + 1).to_string())
        .collect();
    match numbers.as_slice() {
        [] => "no errata known fixed".to_owned(),
        numbers => format!("errata {} fixed", numbers.join(" ")),
    }
}

/// The floor filter closes what rules for TCP ports do not see: where it is not in force, they are walked around.
fn stands_alone(plan: &LandlockPlan, cx: &Context<'_>, findings: &mut Findings) {
    let ruled = plan.tcp_bind.is_some() || plan.tcp_connect.is_some();
    if ruled && cx.policy.mode(ControlId::Seccomp) == Mode::Observe {
        findings.warned(
            "landlock",
            "the rules for TCP ports stand without the floor filter: MPTCP, TCP fast open and listening without bind pass them",
        );
    }
}

fn kernel_has_it(cx: &Context<'_>, findings: &mut Findings) {
    let (has, min) = (cx.host.landlock_abi, cx.policy.policy.landlock.min_abi.max(1));
    if has >= min {
        return;
    }
    let what = if has == 0 {
        "this kernel has no Landlock (5.13, and `landlock` in its lsm= list)".to_owned()
    } else {
        format!("this kernel has Landlock ABI {has}, the policy wants {min}")
    };
    match cx.policy.policy.landlock.need {
        Need::BestEffort => findings.warned("landlock", format!("{what}: noexec and read-only mounts stand alone")),
        Need::Required => findings.refused(
            "kernel",
            "landlock",
            format!("{what}, and the policy requires it"),
            "boot a kernel that has it, or set [landlock] need = \"best_effort\" in /etc/gabion/policy.toml",
        ),
    }
}

/// The ports of an annotation. It may only tighten: an empty list is no port at all.
fn ports(key: &'static str, cx: &Context<'_>, findings: &mut Findings) -> Option<Vec<u16>> {
    let text = cx.request.asked(key)?;
    if cx.host.landlock_abi < ABI_TCP {
        findings.refused(
            "tcp-unsupported",
            key,
            format!(
                "{key} asks for TCP rules; they need Landlock ABI 4 (kernel 6.7) and this kernel has ABI {}",
                cx.host.landlock_abi
            ),
            format!("remove the annotation {key}, or boot a newer kernel"),
        );
        return None;
    }
    let mut list = Vec::new();
    for port in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        match port.parse::<u16>() {
            Ok(port) => list.push(port),
            Err(_) => findings.refused(
                "bad-port",
                key,
                format!("{port:?} in {key} is not a TCP port"),
                "write numbers from 0 to 65535, separated by commas",
            ),
        }
    }
    list.sort_unstable();
    list.dedup();
    Some(list)
}

/// Fills in the paths. Order does not matter to the kernel: rights of all rules on the way to a file add up.
fn places(plan: &mut LandlockPlan, draft: &Draft, cx: &Context<'_>) {
    let mounts = draft.spec.mounts().as_deref().unwrap_or_default();
    let mut writable: Vec<PathBuf> = ALWAYS_WRITABLE.iter().map(PathBuf::from).collect();
    writable.extend(draft.plan.holes.iter().map(|h| h.target.clone()));
    // Nodes that policy lets in beside the usual ones (`devices` has judged them).
    let devices = draft.spec.linux().as_ref().and_then(|l| l.devices().as_ref());
    writable.extend(devices.into_iter().flatten().map(|d| normalize(d.path())));
    let mut excepted = Vec::new();
    let data = || {
        mounts
            .iter()
            .enumerate()
            .map(|(i, m)| (m, Options::of(m), target(i, m, draft)))
            .filter(|(m, _, target)| is_data(m, target))
    };
    for (_, options, target) in data().filter(|(_, o, _)| !o.is(Flag::Ro)) {
        if may_execute(&options, &target, cx) {
            excepted.push(target);
        } else {
            writable.push(target);
        }
    }
    // A root that stayed writable (the control `rootfs` is loosened) is no exception here: each layer stands alone, and whoever
    // wants to write everywhere loosens both. But where there would be holes everybody writes.
    if draft.spec.root().as_ref().and_then(Root::readonly) != Some(true) {
        writable.extend(holes::usual(cx));
    }
    for list in [&mut writable, &mut excepted] {
        list.sort();
        list.dedup();
    }
    writable.retain(|path| !excepted.contains(path));
    let mut inert: Vec<PathBuf> = (mounts.iter().enumerate())
        .filter(|(i, _)| draft.plan.twins.contains(i))
        .map(|(i, m)| target(i, m, draft))
        .filter(|target| !writable.contains(target) && !excepted.contains(target))
        .collect();
    inert.sort();
    inert.dedup();
    plan.executable = data()
        .filter(|(_, o, _)| o.is(Flag::Ro) && !o.is(Flag::Noexec))
        .map(|(_, _, target)| target)
        .filter(|target| {
            let closed = writable.iter().chain(&inert);
            closed.into_iter().any(|w| target != w && target.starts_with(w))
        })
        .collect();
    plan.inert = inert;
    plan.writable = writable;
    plan.writable_exec = excepted;
}

/// Where a mount's destination leads in the image, as far as anybody could look.
fn target(index: usize, mount: &Mount, draft: &Draft) -> PathBuf {
    let seen = draft.plan.targets.get(&index).cloned();
    seen.unwrap_or_else(|| normalize(mount.destination()))
}

/// Whether a mount holds files for a workload to write. /dev itself does not: what is written there has rules of its own.
fn is_data(mount: &Mount, target: &Path) -> bool {
    let typ = mount.typ().as_deref().unwrap_or_default();
    !NOT_DATA.contains(&typ) && target != Path::new("/dev")
}

/// An operator's `exec` on the mount itself, or a path of the policy; at level restricted neither.
fn may_execute(options: &Options, target: &Path, cx: &Context<'_>) -> bool {
    if cx.policy.level == Level::Restricted {
        return false;
    }
    let exec_paths = &cx.policy.policy.mounts.exec_paths;
    exec_paths.iter().any(|p| target.starts_with(normalize(p))) || options.asks_against(Flag::Noexec)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::decision::{Decision, Verdict};
    use crate::hardened::Hole;
    use crate::testing::{Case, check_about, codes, refusal};

    fn plan(case: &Case) -> (Option<LandlockPlan>, Decision) {
        let (draft, decision) = case.decide(&Landlock);
        (draft.plan.landlock, decision)
    }

    fn paths(list: &[PathBuf]) -> Vec<&str> {
        list.iter().filter_map(|p| p.to_str()).collect()
    }

    fn mounts(mounts: Value) -> Case {
        Case::new().with("/mounts", mounts)
    }

    #[test]
    fn the_usual_places() {
        check_about(&Landlock, ControlId::Landlock);
        let (plan, decision) = plan(&Case::new());
        let plan = plan.unwrap();
        assert_eq!(decision.verdict, Verdict::Added);
        assert_eq!(plan.abi, 7);
        let mut fixed = ALWAYS_WRITABLE.to_vec();
        fixed.sort_unstable();
        assert_eq!(paths(&plan.writable), fixed, "neither /dev, /sys nor /sys/fs/cgroup");
        assert!(plan.writable_exec.is_empty() && plan.executable.is_empty());
    }

    #[test]
    fn mounts_by_their_options() {
        let case = mounts(json!([
            {"destination": "/data", "type": "bind", "source": "/srv", "options": ["rbind", "rw", "noexec"]},
            {"destination": "/data/tools", "type": "bind", "source": "/t", "options": ["rbind", "ro"]},
            {"destination": "/data/info", "type": "bind", "source": "/i", "options": ["rbind", "ro", "noexec"]},
            {"destination": "/src", "type": "bind", "source": "/src", "options": ["rbind", "noexec", "exec"]},
            {"destination": "/opt/../jit", "type": "tmpfs", "source": "tmpfs"},
            {"destination": "/conf", "type": "bind", "source": "/c", "options": ["rw", "ro"]},
            {"destination": "/conf2", "type": "bind", "source": "/c", "options": ["rbind", "rro"]}
        ]));
        let mut case = case;
        case.policy.policy.mounts.exec_paths = vec!["/jit".into()];
        let (plan, decision) = plan(&case);
        let plan = plan.unwrap();
        assert_eq!(decision.verdict, Verdict::Warned);
        assert!(paths(&plan.writable).contains(&"/data"));
        assert!(!paths(&plan.writable).iter().any(|p| p.starts_with("/conf")));
        assert_eq!(paths(&plan.writable_exec), ["/jit", "/src"]);
        assert_eq!(paths(&plan.executable), ["/data/tools"]);
        let (strict, _) = super::tests::plan(&case.level(Level::Restricted));
        assert!(
            strict.unwrap().writable_exec.is_empty(),
            "restricted knows no exception"
        );
    }

    #[test]
    fn holes_devices_and_an_open_root() {
        let case = Case::new().with(
            "/linux/devices",
            json!([{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]),
        );
        let case = case.with("/root/readonly", json!(false));
        let request = case.request();
        let mut draft = Draft {
            spec: request.spec.clone(),
            plan: crate::hardened::Plan::default(),
        };
        draft.plan.holes.push(Hole {
            path: "/var/run".into(),
            target: "/var/tmp".into(),
            size: 1,
            mode: 0o1777,
            mode_asked: false,
        });
        let cx = Context {
            request: &request,
            policy: &case.policy,
            host: &case.host,
        };
        Landlock.decide(&mut draft, &cx, &mut Findings::default());
        let plan = draft.plan.landlock.unwrap();
        assert!(
            ["/var/tmp", "/dev/fuse"]
                .iter()
                .all(|p| paths(&plan.writable).contains(p))
        );
        assert!(
            plan.writable_exec.is_empty(),
            "a root that stayed writable is not writable by this layer"
        );
    }

    #[test]
    fn ports() {
        let with = |text: &str| Case::new().with(&format!("/annotations/{TCP_BIND}"), json!(text));
        let (good, decision) = plan(&with("8080, 443,8080"));
        assert_eq!(good.unwrap().tcp_bind, Some(vec![443, 8080]));
        assert!(codes(&decision).is_empty());
        assert_eq!(plan(&with("")).0.unwrap().tcp_bind, Some(vec![]));
        for bad in ["http", "65536", "-1", "80;81"] {
            refusal(&plan(&with(bad)).1, "landlock.bad-port");
        }
        let mut bare = with("80");
        bare.policy.policy.controls.insert(ControlId::Seccomp, Mode::Observe);
        assert_eq!(
            (decision.verdict, plan(&bare).1.verdict),
            (Verdict::Added, Verdict::Warned)
        );
        let mut old = with("80");
        old.host.landlock_abi = 3;
        refusal(&plan(&old).1, "landlock.tcp-unsupported");
    }

    #[test]
    fn kernels_without() {
        for (abi, min, need, verdict, planned) in [
            (0, 0, Need::BestEffort, Verdict::Warned, false),
            (0, 1, Need::Required, Verdict::Refused, false),
            (1, 3, Need::BestEffort, Verdict::Warned, true),
            (2, 3, Need::Required, Verdict::Refused, true),
            (3, 3, Need::Required, Verdict::Added, true),
        ] {
            let mut case = Case::new();
            case.host.landlock_abi = abi;
            case.policy.policy.landlock.min_abi = min;
            case.policy.policy.landlock.need = need;
            let (plan, decision) = plan(&case);
            assert_eq!((plan.is_some(), decision.verdict), (planned, verdict), "{abi} {min}");
            if verdict == Verdict::Refused {
                refusal(&decision, "landlock.kernel");
            }
        }
    }
}
