//! `seccomp`: doors into the kernel that no ordinary workload uses are shut.

use crate::{check, errno, hardens};
use integration::{Bundle, Case, Container, Policy};
use serde_json::json;

const fn shut(act: &'static str, with: &'static str) -> Case {
    Case {
        control: "seccomp",
        name: act,
        prepare: |_| {},
        act,
        expect: errno(with),
        covered_by: &[],
    }
}

pub(crate) const CASES: &[Case] = &[
    shut("unshare-user", "EPERM"),
    shut("clone-newuser", "EPERM"),
    shut("clone3", "ENOSYS"),
    shut("ptrace-attach", "EPERM"),
    shut("ptrace-seize", "EPERM"),
    shut("keyctl", "EPERM"),
    shut("add-key", "EPERM"),
    shut("userfaultfd", "EPERM"),
    shut("io-uring", "ENOSYS"),
    // These need a capability, so that another control answers first where this one is off.
    Case {
        control: "seccomp",
        name: "mount",
        prepare: |b| {
            b.config.add_capability("CAP_SYS_ADMIN");
        },
        act: "mount-tmpfs",
        expect: errno("EPERM"),
        // A Landlock domain may not change the mounts at all.
        covered_by: &["capabilities", "landlock"],
    },
    Case {
        control: "seccomp",
        name: "mount-api",
        prepare: |b| {
            b.config.add_capability("CAP_SYS_ADMIN");
        },
        act: "mount-api",
        expect: errno("EPERM"),
        covered_by: &["capabilities"],
    },
    Case {
        control: "seccomp",
        name: "bpf",
        prepare: |b| {
            b.config.add_capability("CAP_BPF");
        },
        act: "bpf",
        expect: errno("EPERM"),
        covered_by: &["capabilities"],
    },
    Case {
        control: "seccomp",
        name: "perf-event",
        prepare: |b| {
            // Debian's kernels ask for the second where kernel.perf_event_paranoid is 3, as it is there.
            b.config.add_capability("CAP_PERFMON").add_capability("CAP_SYS_ADMIN");
        },
        act: "perf-event",
        expect: errno("EPERM"),
        covered_by: &["capabilities"],
    },
    Case {
        control: "seccomp",
        name: "setns",
        prepare: |b| {
            b.config.add_capability("CAP_SYS_ADMIN");
        },
        act: "setns",
        expect: errno("EPERM"),
        covered_by: &["capabilities"],
    },
    Case {
        control: "seccomp",
        name: "open-by-handle",
        prepare: |b| {
            b.config.add_capability("CAP_DAC_READ_SEARCH");
        },
        act: "open-by-handle=/",
        expect: errno("EPERM"),
        covered_by: &["capabilities"],
    },
];

#[test]
fn each_alone() {
    check(CASES);
}

/// The calls of the other doors are ENOSYS or EPERM, and never made; what the kernel lacks is ENOSYS without a filter.
#[test]
fn x32_is_denied_and_unknown_calls_do_not_exist() {
    if !hardens() {
        return;
    }
    let only = Policy::permissive().enforce("seccomp");
    let outcome = Container::new(Bundle::new("seccomp-x32"))
        .policy(&only)
        .acts(&["x32", "unknown-syscall", "int80"]);
    let x32 = outcome.answer("x32");
    assert!(x32.starts_with("EPERM") || x32.starts_with("ENOSYS"), "{x32}");
    outcome.denied("unknown-syscall", "ENOSYS");
    outcome.ok("int80");
}

/// The floor holds under a profile that allows everything.
#[test]
fn a_lax_profile_of_the_spec_does_not_open_the_floor() {
    if !hardens() {
        return;
    }
    let mut bundle = Bundle::new("seccomp-lax");
    bundle.config.set(
        "/linux/seccomp",
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"] }),
    );
    let acts = ["unshare-user", "userfaultfd", "ptrace-attach", "keyctl", "seccomp"];
    let outcome = Container::new(bundle).policy(&Policy::hardened()).acts(&acts);
    for act in &acts[..4] {
        outcome.denied(act, "EPERM");
    }
    assert!(outcome.ok("seccomp").contains("Seccomp=2"), "{outcome:?}");
}

/// A group of calls that the policy opens is answered as it is without the control; the others stay shut.
#[test]
fn the_policy_opens_one_group_and_no_other() {
    if !hardens() {
        return;
    }
    let groups: [(&str, &[&str]); 5] = [
        ("io_uring", &["io-uring"]),
        ("userns", &["unshare-user", "clone-newuser"]),
        ("ptrace", &["ptrace-attach", "ptrace-seize"]),
        ("keyring", &["keyctl", "add-key"]),
        ("perf", &["perf-event"]),
    ];
    let acts: Vec<&str> = groups.iter().flat_map(|(_, acts)| *acts).copied().collect();
    let answers = |name: &str, policy: &Policy| {
        let outcome = Container::new(Bundle::new(name)).policy(policy).acts(&acts);
        acts.iter()
            .map(|act| outcome.answer(act).to_owned())
            .collect::<Vec<_>>()
    };
    let free = answers("seccomp-free", &Policy::hardened().observe("seccomp"));
    let shut = answers("seccomp-shut", &Policy::hardened());
    for (group, own) in groups {
        let line = format!("seccomp.allow = [\"{group}\"]");
        let opened = answers(&format!("seccomp-{group}"), &Policy::hardened().line(&line));
        for (i, act) in acts.iter().enumerate() {
            let want = if own.contains(act) { &free[i] } else { &shut[i] };
            // A success may say what it has got, which differs from time to time.
            let word = |answer: &str| answer.split_whitespace().next().map(str::to_owned);
            assert_eq!(word(&opened[i]), word(want), "{group}: {act}: {} / {want}", opened[i]);
        }
        assert!(
            own.iter()
                .any(|act| acts.iter().position(|a| a == act).is_some_and(|i| free[i] != shut[i])),
            "{group}"
        );
    }
}

/// With `no_new_privs` off the filter needs `CAP_SYS_ADMIN`, so it must come before the capabilities go.
#[test]
fn the_specs_profile_works_without_no_new_privs_as_root_and_not() {
    for uid in [0, 1000] {
        let mut bundle = Bundle::new(&format!("seccomp-nnp-{uid}"));
        bundle.config.user(uid).set("/linux/seccomp", deny("personality"));
        let outcome = Container::new(bundle)
            .policy(&Policy::permissive())
            .acts(&["personality", "nnp", "seccomp"]);
        outcome.denied("personality", "EPERM");
        assert_eq!(outcome.ok("nnp"), "NoNewPrivs=0");
        assert!(outcome.ok("seccomp").starts_with("Seccomp=2"));
    }
}

/// A profile under which neither execve nor exit is allowed: the first process ends all the same, and whoever waits for it hears so.
#[test]
fn a_profile_that_lets_nobody_exit_holds_up_nobody() {
    for allowed in ["chmod", "write"] {
        let mut bundle = Bundle::new("seccomp-no-exit");
        bundle.config.set(
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": [allowed], "action": "SCMP_ACT_ALLOW"}]}),
        );
        let container = Container::new(bundle).policy(&Policy::hardened());
        container.create().ok();
        let done = container.start().fails_with(1);
        // What cannot write has no words of its own.
        assert!(done.err.contains("exec"), "{allowed}: {done}");
        container.op(&["delete", "--force", container.id()]).ok();
        container.nothing_left();
    }
}

#[test]
fn exec_is_filtered_too() {
    let mut bundle = Bundle::new("seccomp-exec");
    bundle.config.set("/linux/seccomp", deny("personality"));
    let container = Container::new(bundle).policy(&Policy::permissive());
    container.run_detached().ok();
    assert!(container.exec_acts(&["personality"])["personality"].starts_with("EPERM"));
}

/// A rule that forbids a call nobody knows protects from nothing: it is an error, not skipped.
#[test]
fn an_unknown_name_in_a_deny_rule_is_an_error() {
    if !hardens() {
        return;
    }
    let mut bundle = Bundle::new("seccomp-unknown");
    bundle.config.set("/linux/seccomp", deny("no_such_call"));
    let container = Container::new(bundle).policy(&Policy::hardened());
    container.run().fails_with(1).says(&["seccomp", "no_such_call"]);
    container.nothing_left();
}

/// mseal, 462: libseccomp of Debian 12 knows calls up to 450. Its errno is told from any kernel's own.
#[test]
fn a_rule_with_conditions_holds_for_a_call_that_libseccomp_does_not_know() {
    let over: u64 = (1 << 32) + 7;
    let rule = json!({ "names": ["mseal"], "action": "SCMP_ACT_ERRNO", "errnoRet": 16, "args": [
        { "index": 0, "value": over, "op": "SCMP_CMP_EQ" },
        { "index": 1, "value": 0xf0, "valueTwo": 0x10, "op": "SCMP_CMP_MASKED_EQ" },
    ]});
    let mut bundle = Bundle::new("seccomp-newer");
    bundle.config.set("/linux/seccomp", deny("personality"));
    bundle.config.push("/linux/seccomp/syscalls", rule);
    let (hit, other_half, other_bits) = (
        format!("syscall=462,{over},31"),
        "syscall=462,7,31".to_owned(),
        format!("syscall=462,{over},47"),
    );
    let acts = [hit.as_str(), other_half.as_str(), other_bits.as_str()];
    let outcome = Container::new(bundle).policy(&Policy::hardened()).acts(&acts);
    outcome.denied(&hit, "EBUSY");
    for act in &acts[1..] {
        assert!(!outcome.answer(act).starts_with("EBUSY"), "{outcome:?}");
    }
}

fn deny(call: &str) -> serde_json::Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{ "names": [call], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 }]
    })
}
