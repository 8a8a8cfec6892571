//! One part of a process after the other, cut to the stored one.

use oci_spec::runtime::{Capabilities, LinuxCapabilities, PosixRlimit, PosixRlimitBuilder, Process};

use super::{ExecRequest, Here, Widening};
use crate::caller::OwnUserNs;
use crate::capability;
use crate::control::capabilities;
use crate::control::fds::bad_cwd;
use crate::control::rlimits::rank::{Above, above};
use crate::control::user::{self, Judged};
use crate::decision::Findings;
use crate::hardened::{ExecPlan, Hardened};
use crate::id::ControlId;
use crate::ids::ContainerIds;
use crate::policy::Level;
use crate::request::Caller;

/// Gives the process that may run; what may not run at all is refused in `findings`.
pub(super) fn merge(asked: &ExecRequest, hardened: &Hardened, here: Here, findings: &mut Findings) -> Process {
    let mut process = asked.process.clone();
    if hardened.plan().exec == ExecPlan::Deny {
        findings.refused(
            "denied",
            "exec",
            "exec into this container is closed by the policy that it was created under",
            closed_remedy(here.caller),
        );
    }
    for flag in &asked.widening {
        refuse_widening(flag, hardened, findings);
    }
    well_formed(&process, findings);
    user(&process, hardened, here, findings);
    if let Some(stored) = hardened.spec().process() {
        caps(&mut process, stored, hardened, findings);
        rlimits(&mut process, stored, hardened, findings);
        rank(&mut process, hardened, here, findings);
        new_privileges(&mut process, stored, hardened, findings);
        labels(&mut process, stored, hardened, findings);
    }
    process
}

/// What to do where exec is closed, in the words of who runs the container.
pub fn closed_remedy(caller: Caller) -> &'static str {
    caller.word(
        "debug beside it, by `kubectl debug --profile=baseline --target=CONTAINER` or a copy (`--copy-to`), and use probes and hooks that are no `exec`; or set \
         exec = \"allow\" in /etc/gabion/policy.toml and make the pod again",
        "debug a copy of the workload, or set exec = \"allow\" in /etc/gabion/policy.toml and create it again",
        "debug a copy of the workload, or set exec = \"allow\" in /etc/gabion/policy.toml and create it again",
    )
}

fn refuse_widening(flag: &Widening, hardened: &Hardened, findings: &mut Findings) {
    let stored = hardened.spec().process().as_ref();
    // Asking for what the container has is not asking for more.
    let has = match flag {
        Widening::Privileged => false,
        Widening::NewPrivileges => stored.is_some_and(|p| p.no_new_privileges() != Some(true)),
        Widening::Capability(name) => stored
            .and_then(|p| p.capabilities().as_ref()?.effective().as_ref())
            .zip(capability::parse(name))
            .is_some_and(|(effective, cap)| effective.contains(&cap)),
        Widening::AppArmor(profile) => stored.and_then(|p| p.apparmor_profile().as_ref()) == Some(profile),
        Widening::ProcessLabel(label) => stored.and_then(|p| p.selinux_label().as_ref()) == Some(label),
    };
    if !has {
        findings.refused(
            "widen",
            "exec",
            format!("{flag} asks for more than the container has"),
            "leave the flag out, or create the container with what it needs",
        );
    }
}

fn well_formed(process: &Process, findings: &mut Findings) {
    let args = process.args().as_deref().unwrap_or_default();
    if args.first().is_none_or(String::is_empty) {
        findings.refused(
            "no-args",
            "process.args",
            "there is no program to run",
            "give a program",
        );
    }
    let texts = [
        ("process.args", args),
        ("process.env", process.env().as_deref().unwrap_or_default()),
    ];
    for (path, _) in texts.iter().filter(|(_, list)| list.iter().any(|t| t.contains('\0'))) {
        findings.refused(
            "nul",
            *path,
            format!("{path} contains a NUL byte: the kernel would end the text there"),
            "remove the NUL byte",
        );
    }
    if let Some(why) = bad_cwd(process.cwd()) {
        findings.refused(
            "cwd",
            "process.cwd",
            format!("the working directory {:?} {why}", process.cwd().to_string_lossy()),
            "give an absolute path inside the container",
        );
    }
}

/// Judges who the process is on the host, as create judges the first one.
fn user(process: &Process, hardened: &Hardened, here: Here, findings: &mut Findings) {
    if hardened.level() != Level::Restricted || !hardened.enforces(ControlId::User) {
        return;
    }
    let what = match user::judge(&ids(hardened, here), process.user(), hardened.spec()) {
        Judged::Nobody => return,
        Judged::Root { what, .. } | Judged::Unknown(what) => what,
    };
    let word = match here.caller {
        Caller::Cri => "the image's or pod's own user is used: set `runAsUser` and `runAsGroup` there",
        Caller::Podman => "name a user and a group: `podman exec --user 1000:1000 …`",
        Caller::Docker => "name a user and a group: `docker exec --user 1000:1000 …`",
        Caller::Bundle => "name a user and a group: `exec --user 1000:1000`",
    };
    findings.refused(
        "root",
        "process.user",
        format!("{what}; at level restricted nothing runs as that"),
        word,
    );
}

/// What the container's ids are. An older gabion wrote down no more than whether it ran in a user namespace itself.
fn ids(hardened: &Hardened, here: Here) -> ContainerIds {
    let mut ids = user::of(hardened);
    if hardened.plan().ids.is_none() && here.user_ns == OwnUserNs::Nested {
        ids.own.maps = None;
    }
    ids
}

fn caps(process: &mut Process, stored: &Process, hardened: &Hardened, findings: &mut Findings) {
    let at = "process.capabilities";
    let Some(asked) = process.capabilities().clone() else {
        // As runc: what the container has.
        process.set_capabilities(stored.capabilities().clone());
        return;
    };
    if !hardened.enforces(ControlId::Capabilities) {
        return;
    }
    let limit = stored.capabilities().as_ref();
    let cut = |asked: &Option<Capabilities>, limit: Option<&Option<Capabilities>>| -> Option<Capabilities> {
        let limit = limit?.as_ref()?;
        Some(asked.as_ref()?.intersection(limit).copied().collect())
    };
    let mut granted = LinuxCapabilities::default();
    granted
        .set_bounding(cut(asked.bounding(), limit.map(LinuxCapabilities::bounding)))
        .set_effective(cut(asked.effective(), limit.map(LinuxCapabilities::effective)))
        .set_permitted(cut(asked.permitted(), limit.map(LinuxCapabilities::permitted)))
        .set_inheritable(cut(asked.inheritable(), limit.map(LinuxCapabilities::inheritable)))
        .set_ambient(cut(asked.ambient(), limit.map(LinuxCapabilities::ambient)));
    let bits = |set: &Option<Capabilities>| set.as_ref().map_or(0, capabilities::mask);
    let sets =
        |c: &LinuxCapabilities| [c.bounding(), c.effective(), c.permitted(), c.inheritable(), c.ambient()].map(bits);
    if sets(&granted) == sets(&asked) {
        findings.kept(at, "within what the container has");
    } else {
        let shown = |c: &LinuxCapabilities| capability::shown(sets(c).iter().fold(0, |a, b| a | b));
        findings.tightened(at, shown(&asked), shown(&granted), "not among the container's own");
    }
    process.set_capabilities(Some(granted));
}

/// The lower of both for each limit; those that only the container has are added.
fn rlimits(process: &mut Process, stored: &Process, hardened: &Hardened, findings: &mut Findings) {
    if !hardened.enforces(ControlId::Rlimits) {
        return;
    }
    let asked = process.rlimits().clone().unwrap_or_default();
    let mut merged: Vec<PosixRlimit> = Vec::new();
    for limit in stored.rlimits().iter().flatten().chain(&asked) {
        match merged.iter_mut().find(|m| m.typ() == limit.typ()) {
            Some(known) => *known = lower(known, limit.soft(), limit.hard()),
            None => merged.push(*limit),
        }
    }
    let higher = |a: &PosixRlimit| merged.iter().any(|m| m.typ() == a.typ() && m != a);
    if let Some(cut) = asked.iter().find(|a| higher(a)) {
        findings.tightened(
            format!("process.rlimits.{}", cut.typ()),
            cut.hard().to_string(),
            "the container's own",
            "not above the container's limit",
        );
    }
    process.set_rlimits(Some(merged));
}

/// Not before the host's own processes, and not killed after the container's first.
fn rank(process: &mut Process, hardened: &Hardened, here: Here, findings: &mut Findings) {
    if !hardened.enforces(ControlId::Rlimits) {
        return;
    }
    for Above { place, what } in above(process) {
        findings.refused(
            "widen",
            place,
            format!("{what} is asked for, which the container may not have"),
            "leave it out",
        );
    }
    let named = hardened.spec().process().as_ref().and_then(Process::oom_score_adj);
    // An older gabion did not write down what was inherited; below 0 nothing was, where this control was in force.
    let own = named.or(hardened.plan().oom_score_adj).unwrap_or(0);
    let asked = process.oom_score_adj();
    // What nobody says is inherited from the runtime, whose score may be the node's own.
    let keeps = match asked {
        Some(score) => score >= own,
        None => named.is_none() && here.oom_score_adj >= own,
    };
    if keeps {
        return;
    }
    if let Some(asked) = asked {
        findings.tightened(
            "process.oomScoreAdj",
            asked.to_string(),
            own.to_string(),
            "as for the container",
        );
    }
    process.set_oom_score_adj(Some(own));
}

pub fn lower(a: &PosixRlimit, soft: u64, hard: u64) -> PosixRlimit {
    let hard = a.hard().min(hard);
    PosixRlimitBuilder::default()
        .typ(a.typ())
        .soft(a.soft().min(soft).min(hard))
        .hard(hard)
        .build()
        .unwrap_or(*a)
}

fn new_privileges(process: &mut Process, stored: &Process, hardened: &Hardened, findings: &mut Findings) {
    let closed = hardened.enforces(ControlId::NoNewPrivs) || stored.no_new_privileges() == Some(true);
    if closed && process.no_new_privileges() != Some(true) {
        findings.tightened("process.noNewPrivileges", "false", "true", "as for the container");
        process.set_no_new_privileges(Some(true));
    }
}

fn labels(process: &mut Process, stored: &Process, hardened: &Hardened, findings: &mut Findings) {
    let profile = label(
        "process.apparmorProfile",
        process.apparmor_profile().as_deref(),
        stored.apparmor_profile().as_deref(),
        hardened,
        findings,
    );
    let selinux = label(
        "process.selinuxLabel",
        process.selinux_label().as_deref(),
        stored.selinux_label().as_deref(),
        hardened,
        findings,
    );
    process.set_apparmor_profile(profile).set_selinux_label(selinux);
}

/// The label to run under: the container's. `unconfined` is what engines repeat from the spec that create replaced it in.
fn label(
    at: &str,
    asked: Option<&str>,
    stored: Option<&str>,
    hardened: &Hardened,
    findings: &mut Findings,
) -> Option<String> {
    let own = stored.filter(|s| !s.is_empty()).map(str::to_owned);
    let Some(asked) = asked.filter(|a| !a.is_empty()) else {
        return own;
    };
    if !hardened.enforces(ControlId::Lsm) {
        return Some(asked.to_owned());
    }
    if own.as_deref() == Some(asked) {
        return own;
    }
    let shown = own.as_deref().unwrap_or("none");
    if asked == "unconfined" && at == "process.apparmorProfile" {
        findings.tightened(at, asked, shown, "as for the container");
    } else {
        findings.refused(
            "other-label",
            at,
            format!("{asked:?} is another label than the container's ({shown})"),
            "leave it out: exec runs under the container's own label",
        );
    }
    own
}
