//! `sysctl`: kernel settings that a container may have of its own.
//!
//! Only those that belong to a namespace, and only where that namespace is not the host's. One is added: in a new pid
//! namespace memfd_create(2) makes no executable files, which noexec and Landlock cannot see.

use std::collections::BTreeMap;

use super::{About, Context, Control, ControlId, namespaces, remedy};
use crate::caller::OwnUserNs;
use crate::decision::{Findings, Mode};
use crate::fact::{Fact, Holds};
use crate::hardened::{Draft, Hardened};
use crate::host::MemfdNoexec;
use crate::namespace::NsType;
use crate::observed::Observed;
use crate::sysctl::{MEMFD, is_name, namespace};

pub struct Sysctl;

static ABOUT: About = About {
    threat: "a sysctl changes the host's kernel, and a program in a memfd runs though nothing writable is executable",
    rule: "only the safe namespaced list, in a namespace that is not the host's; vm.memfd_noexec=2 in a new pid namespace",
    enforced_by: "writes to /proc/sys inside the namespaces; read back",
    kernel_floor: "6.3 (vm.memfd_noexec)",
    refs: &["PSS Baseline: Sysctls", "NIST SP 800-190 4.4.3"],
};

/// Kubernetes' safe set, with the namespace that each belongs to; podman's default is among them.
const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// What `--domainname` is (docker writes it as a sysctl): of the UTS namespace, as the host name is. A pod has no such field, and Pod Security
/// Standards do not list it.
const DOMAIN_NAME: &str = "kernel.domainname";

/// MFD_NOEXEC_SEAL is enforced: no executable memfd at all (Documentation/userspace-api/mfd_noexec.rst).
const ENFORCED: u8 = 2;

impl Control for Sysctl {
    fn id(&self) -> ControlId {
        ControlId::Sysctl
    }

    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn decide(&self, draft: &mut Draft, cx: &Context<'_>, findings: &mut Findings) {
        let asked: BTreeMap<String, String> = draft.linux().sysctl().clone().unwrap_or_default().into_iter().collect();
        for (name, value) in &asked {
            check(name, value, draft, cx, findings);
        }
        memfd(draft, cx, findings);
        findings.kept("linux.sysctl", "none, or safe and of the container's own namespaces");
    }

    fn facts(&self, hardened: &Hardened, seen: &Observed) -> Vec<Fact> {
        let spec = hardened
            .spec()
            .linux()
            .as_ref()
            .and_then(|l| l.sysctl().clone())
            .unwrap_or_default();
        let mut facts: Vec<Fact> = spec
            .into_iter()
            .collect::<BTreeMap<_, _>>()
            .iter()
            .map(|(name, value)| fact(name, value, seen))
            .collect();
        if let Some(value) = hardened.plan().memfd_noexec {
            facts.push(fact(MEMFD, &value.to_string(), seen));
        } else if namespaces::is_joined(hardened.spec(), NsType::Pid) {
            facts.push(joined_fact(seen));
        } else if !hardened.plan().let_off.contains_key(&ControlId::Sysctl) {
            facts.push(Fact::absent(
                ControlId::Sysctl,
                format!("{MEMFD}={ENFORCED}"),
                "could not be set here (warned of at create): memfd_create may make executable files",
            ));
        }
        facts
    }
}

fn check(name: &str, value: &str, draft: &mut Draft, cx: &Context<'_>, findings: &mut Findings) {
    let caller = cx.request.caller();
    let place = format!("linux.sysctl.{name}");
    let remedy = caller.word(
        "remove it from `securityContext.sysctls`",
        "remove `--sysctl`",
        "remove it from `linux.sysctl`",
    );
    if !is_name(name) {
        let what = format!("{name:?} is not the name of a sysctl: it is written with dots");
        findings.refused("name", place, what, remedy);
        return;
    }
    let Some(typ) = namespace(name) else {
        let what = format!("the sysctl {name} is the whole machine's, not a namespace's");
        findings.refused(
            "not-namespaced",
            place,
            what,
            format!("{remedy}, or set it on the host"),
        );
        return;
    };
    let policy = &cx.policy.policy.sysctl;
    let domain = name == DOMAIN_NAME && cx.request.pod(cx.policy.cri).is_none();
    let safe = SAFE.contains(&name) || domain || (name == MEMFD && value.trim() == ENFORCED.to_string());
    if !safe && !policy.allow.iter().any(|a| a == name) {
        let what = format!("the sysctl {name} is not on the list of safe ones");
        let allow = remedy::allow(cx, "sysctl.allow", name);
        findings.refused("unsafe", place, what, format!("{remedy}, or {allow}"));
        return;
    }
    if !safe {
        let by = format!("{name}, by the policy's sysctl.allow");
        draft.plan.lets_off(ControlId::Sysctl, by);
    }
    if !namespaces::is_private(&draft.spec, cx, typ) {
        let what = format!(
            "the sysctl {name} would be set in the host's {} namespace",
            typ.spec_name()
        );
        findings.refused("host-namespace", place, what, remedy);
    }
}

/// Whether the container's first process is root of a user namespace only.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Yes,
    No,
}

fn in_user_namespace(draft: &Draft, cx: &Context<'_>) -> Inside {
    let own = namespaces::is_new(&draft.spec, NsType::User) || namespaces::is_joined(&draft.spec, NsType::User);
    if own || cx.host.user_ns == OwnUserNs::Nested {
        Inside::Yes
    } else {
        Inside::No
    }
}

/// memfd_create(2) and fexecve(3) run a program that was never a file: no mount flag and no path rule sees it.
fn memfd(draft: &mut Draft, cx: &Context<'_>, findings: &mut Findings) {
    let new = namespaces::is_new(&draft.spec, NsType::Pid);
    if cx.policy.policy.sysctl.memfd_noexec == Mode::Observe {
        findings.warned(MEMFD, "memfd_create may make executable files, as the policy says");
        draft.plan.lets_off(
            ControlId::Sysctl,
            "memfd_create may make executable files, by the policy's sysctl.memfd_noexec",
        );
    } else if cx.host.memfd_noexec == MemfdNoexec::Absent {
        findings.warned(
            MEMFD,
            "this kernel has it not (6.3): memfd_create may make executable files",
        );
    } else if new && in_user_namespace(draft, cx) == Inside::Yes {
        // Its file belongs to the host's root, whoever is root inside (proc_sys_vm(5)).
        findings.warned(
            MEMFD,
            "it cannot be set from inside a user namespace: memfd_create may make executable files",
        );
    } else if new && cx.host.memfd_noexec == MemfdNoexec::Hidden {
        findings.refused(
            "memfd-hidden",
            MEMFD,
            "gabion may not look at /proc/sys/vm/memfd_noexec, so it cannot see to it that memfd_create makes no executable files",
            format!(
                "allow it in the policy of the machine's security module (docs/INSTALL.md, SELinux), or {}",
                remedy::set(cx, "sysctl.memfd_noexec", "\"observe\"")
            ),
        );
    } else if new {
        draft.plan.memfd_noexec = Some(ENFORCED);
        findings.added(MEMFD, ENFORCED.to_string(), "memfd_create makes no executable files");
    } else if namespaces::is_joined(&draft.spec, NsType::Pid) {
        findings.kept(
            MEMFD,
            "the pid namespace is another container's: it is looked at, not set",
        );
    } else {
        findings.warned(MEMFD, "the pid namespace is the host's: it is left alone");
    }
}

fn fact(name: &str, value: &str, seen: &Observed) -> Fact {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let expected = format!("{name}={}", words(value));
    match seen.sysctls.get(name) {
        None => Fact::unknown(ControlId::Sysctl, expected, format!("{name} not shown")),
        Some(seen) => {
            let observed = format!("{name}={}", words(seen));
            let holds = if observed == expected { Holds::Yes } else { Holds::No };
            Fact::judged(ControlId::Sysctl, expected, observed, holds)
        }
    }
}

/// In a pid namespace that is joined, whoever made it has decided: a weaker value is told, and is no error of ours.
fn joined_fact(seen: &Observed) -> Fact {
    let fact = fact(MEMFD, &ENFORCED.to_string(), seen);
    if fact.holds == Holds::No {
        return Fact::unknown(
            ControlId::Sysctl,
            fact.expected,
            format!("{} (of a joined namespace)", fact.observed),
        );
    }
    fact
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_climb() {
        for bad in ["", "net/ipv4/x", "net..x", "..", ".net", "net.", "a b", "net.ipv4.\n"] {
            assert!(!is_name(bad), "{bad}");
        }
        assert!(is_name("net.ipv4.conf.eth0.rp_filter"));
    }

    /// `docker run --domainname` writes it as a sysctl. A pod has no word for it.
    #[test]
    fn the_domain_name_is_the_containers_own() {
        use crate::policy::Cri;
        use crate::testing::{Case, codes};

        let sysctl = serde_json::json!({"kernel.domainname": "example.org"});
        let case = || Case::new().with("/linux/sysctl", sysctl.clone());
        assert!(codes(&case().decide(&Sysctl).1).is_empty());
        let annotations = serde_json::json!({
            "io.kubernetes.cri.container-type": "container",
            "io.kubernetes.cri.sandbox-namespace": "default",
            "io.kubernetes.cri.sandbox-name": "web",
            "io.kubernetes.cri.sandbox-id": "s",
            "io.kubernetes.cri.sandbox-uid": "u",
        });
        let pod = case().with("/annotations", annotations).called_by(Cri::Containerd);
        assert_eq!(codes(&pod.decide(&Sysctl).1), ["sysctl.unsafe"]);
        let hosts = case().with("/linux/namespaces", serde_json::json!([{"type": "pid"}]));
        assert_eq!(codes(&hosts.decide(&Sysctl).1), ["sysctl.host-namespace"]);
    }

    #[test]
    fn every_safe_one_is_namespaced() {
        for name in SAFE {
            assert!(namespace(name).is_some(), "{name}");
        }
        assert_eq!(namespace("kernel.core_pattern"), None);
        assert_eq!(namespace("vm.overcommit_memory"), None);
        assert_eq!(namespace("fs.file-max"), None);
    }
}
