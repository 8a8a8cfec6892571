//! Each line of the table, seen good, seen bad and seen unknown.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::node::{Engine, Executes, Keeps, KernelAudit, Landlock, Node, Owned, PolicyFile, Program, SYSCTLS, Seen};
use super::{Line, State, checks, examine, worst};
use crate::policy::{self, Policy};

fn is(text: &str) -> Seen<String> {
    Seen::Is(text.to_owned())
}

fn unknown<T>() -> Seen<T> {
    Seen::Unknown("Permission denied".to_owned())
}

const ROOTS: Owned = Owned { uid: 0, mode: 0o755 };

fn program(name: &str, owned: Owned) -> Seen<Program> {
    Seen::Is(Program {
        path: PathBuf::from("/usr/local/bin").join(name),
        owned,
    })
}

fn containerd(text: &str) -> Seen<Vec<(PathBuf, String)>> {
    let head = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\n";
    Seen::Is(vec![("/etc/containerd/config.toml".into(), format!("{head}{text}"))])
}

const HANDLER: &str = "default_runtime_name = \"gabion\"\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.gabion]\n\
    runtime_type = \"io.containerd.gabion.v2\"\npod_annotations = [\"dev.gabion.*\"]\n";

fn policy_file(text: &str) -> PolicyFile {
    PolicyFile {
        source: "/etc/gabion/policy.toml".to_owned(),
        policy: policy::parse(text),
        expired: Vec::new(),
    }
}

/// A node with which nothing is amiss.
fn well() -> Node {
    let sysctl = |name: &'static str| {
        let value = match name {
            "vm/memfd_noexec"
            | "kernel/io_uring_disabled"
            | "kernel/unprivileged_bpf_disabled"
            | "kernel/perf_event_paranoid" => "2",
            "kernel/core_pattern" => "core",
            "kernel/modprobe" => "/sbin/modprobe",
            "vm/unprivileged_userfaultfd" | "kernel/modules_disabled" => "0",
            _ => "1",
        };
        (name, is(&format!("{value}\n")))
    };
    let mut node = Node {
        release: is("6.12.3-amd64\n"),
        cmdline: is("root=/dev/vda1 proc_mem.force_override=never\n"),
        landlock: Seen::Is(Landlock { abi: 7, errata: 7 }),
        lsm: is("lockdown,capability,landlock,yama,apparmor,bpf\n"),
        selinux: Seen::Absent,
        profiles: is("docker-default (enforce)\ngabion-default (enforce)\n"),
        audit: Seen::Is(KernelAudit::On),
        vulnerabilities: Seen::Is(vec![
            ("l1tf".to_owned(), "Not affected\n".to_owned()),
            ("spectre_v1".to_owned(), "Mitigation: swapgs\n".to_owned()),
        ]),
        ksm: is("0\n"),
        sysctls: SYSCTLS.into_iter().map(sysctl).collect(),
        binfmt: Seen::Is(vec![(
            "python3".to_owned(),
            "enabled\ninterpreter /usr/bin/python3\nflags: \noffset 0\nmagic 0\n".to_owned(),
        )]),
        engines: [
            (
                Engine::Containerd,
                is("containerd github.com/containerd/containerd/v2 v2.3.2 abc"),
            ),
            (Engine::Docker, is("Docker version 28.2.2, build e6534b4")),
            (Engine::Podman, is("podman version 5.7.1")),
            (Engine::CriO, Seen::Absent),
        ]
        .into(),
        containerd: containerd(HANDLER),
        policies: vec![policy_file("lock = true\n")],
        kubelet: Seen::Is(Executes::No),
        shim: program("containerd-shim-gabion-v2", ROOTS),
        programs: vec![
            ("gabion", program("gabion", ROOTS)),
            ("gabionctl", program("gabionctl", ROOTS)),
        ],
        ..Node::default()
    };
    node.cgroups.controllers = is("cpuset cpu io memory pids\n");
    node.cgroups.hierarchies = Seen::Is(vec!["system.slice".to_owned()]);
    node.cgroups.users = Seen::Is(vec![("user 1000".to_owned(), is("cpu memory pids\n"))]);
    node.cgroups.swap_limit = Seen::Is(());
    node.cgroups.swaps = is("Filename Type Size Used Priority\n/dev/vda2 partition 1 0 -2\n");
    node.modules.loaded = is("overlay 1 0 - Live 0x0\n");
    node.modules.aliases = is(
        "alias net-pf-21 rds\nalias net-pf-1 unix\nalias net-pf-2-proto-6 tcp\nalias net-pf-16-proto-4 inet_diag\nalias pci:v1 x\n",
    );
    node.modules.configuration = Seen::Is(vec!["install rds /bin/false\nblacklist tcp\n".to_owned()]);
    node.log.file = "/var/log/gabion/audit.jsonl".into();
    node.log.directory = Seen::Is(Owned { uid: 0, mode: 0o700 });
    node.log.log = Seen::Is(Owned { uid: 0, mode: 0o640 });
    node.log.free = Seen::Is(4 << 30);
    node.log.keeps = Seen::Is(Keeps::Yes);
    node
}

type Change = fn(&mut Node);

/// A line, what is changed of a node with which nothing is amiss, what the line says then.
#[rustfmt::skip]
const CASES: &[(&str, Change, State)] = &[
    ("kernel", |n| n.release = is("6.1.0-26-amd64"), State::Weak),
    ("kernel", |n| n.release = is("5.10.0"), State::Weak),
    ("kernel", |n| n.release = is("7.2.0-rc1"), State::Good),
    ("kernel", |n| n.release = is("gibberish"), State::Unknown),
    ("kernel", |n| n.release = unknown(), State::Unknown),
    ("landlock", |n| n.landlock = Seen::Is(Landlock { abi: 0, errata: 0 }), State::Weak),
    ("landlock", |n| n.landlock = Seen::Is(Landlock { abi: 3, errata: 0 }), State::Weak),
    ("landlock", |n| n.landlock = Seen::Is(Landlock { abi: 4, errata: 0 }), State::Weak),
    ("landlock", |n| n.landlock = unknown(), State::Unknown),
    ("landlock-errata", |n| n.landlock = Seen::Is(Landlock { abi: 7, errata: 5 }), State::Weak),
    ("landlock-errata", |n| n.landlock = Seen::Is(Landlock { abi: 5, errata: 5 }), State::Good),
    ("landlock-errata", |n| n.landlock = Seen::Is(Landlock { abi: 7, errata: 0 }), State::Unknown),
    ("landlock-errata", |n| n.landlock = Seen::Is(Landlock { abi: 0, errata: 0 }), State::Absent),
    ("lsm", |n| n.lsm = is("capability,landlock,yama"), State::Weak),
    // A name inside of another one is none.
    ("lsm", |n| n.lsm = is("capability,noapparmor"), State::Weak),
    ("lsm", |n| n.lsm = Seen::Absent, State::Unknown),
    ("lsm", |n| { n.lsm = is("capability,selinux"); n.selinux = is("1"); }, State::Good),
    ("lsm", |n| { n.lsm = is("capability,selinux"); n.selinux = is("0"); }, State::Weak),
    ("lsm", |n| { n.lsm = is("capability,selinux"); n.selinux = Seen::Absent; }, State::Unknown),
    ("apparmor-profile", |n| n.profiles = is("gabion-default (complain)\n"), State::Weak),
    ("apparmor-profile", |n| n.profiles = is("gabion-default-2 (enforce)\n"), State::Weak),
    ("apparmor-profile", |n| n.profiles = Seen::Absent, State::Unknown),
    ("apparmor-profile", |n| n.profiles = unknown(), State::Unknown),
    ("apparmor-profile", |n| { n.lsm = Seen::Absent; n.profiles = Seen::Absent; }, State::Unknown),
    ("apparmor-profile", |n| n.lsm = is("selinux"), State::Absent),
    ("kernel-audit", |n| n.audit = Seen::Is(KernelAudit::Off), State::Weak),
    ("kernel-audit", |n| n.audit = Seen::Absent, State::Weak),
    ("kernel-audit", |n| n.cmdline = is("audit=0"), State::Weak),
    ("kernel-audit", |n| n.audit = unknown(), State::Unknown),
    ("cpu-vulnerabilities", |n| n.vulnerabilities = Seen::Is(vec![("mds".to_owned(), "Vulnerable\n".to_owned())]), State::Weak),
    ("cpu-vulnerabilities", |n| n.vulnerabilities = Seen::Is(vec![("mds".to_owned(), "Mitigation: Clear CPU buffers; SMT vulnerable\n".to_owned())]), State::Weak),
    ("cpu-vulnerabilities", |n| n.vulnerabilities = Seen::Is(vec![("mmio".to_owned(), "Unknown: No mitigations\n".to_owned())]), State::Unknown),
    ("cpu-vulnerabilities", |n| n.vulnerabilities = Seen::Absent, State::Unknown),
    ("samepage-merging", |n| n.ksm = is("1"), State::Advice),
    ("samepage-merging", |n| n.ksm = unknown(), State::Unknown),
    ("proc-mem", |n| n.cmdline = is("quiet"), State::Advice),
    ("proc-mem", |n| n.release = is("6.1.0"), State::Advice),
    ("proc-mem", |n| n.cmdline = unknown(), State::Unknown),
    ("cgroup-version", |n| n.cgroups.controllers = Seen::Absent, State::Weak),
    ("cgroup-version", |n| { n.cgroups.controllers = Seen::Absent; n.cgroups.hierarchies = Seen::Absent; }, State::Weak),
    ("cgroup-version", |n| n.cgroups.controllers = unknown(), State::Unknown),
    ("cgroup-controllers", |n| n.cgroups.controllers = is("cpu pids"), State::Weak),
    ("cgroup-controllers", |n| { n.cgroups.controllers = Seen::Absent; n.cgroups.hierarchies = Seen::Is(vec!["cpu,cpuacct".to_owned(), "pids".to_owned()]); }, State::Weak),
    ("cgroup-controllers", |n| { n.cgroups.controllers = Seen::Absent; n.cgroups.hierarchies = Seen::Is(vec!["cpu,cpuacct".to_owned(), "pids".to_owned(), "memory".to_owned()]); }, State::Good),
    ("cgroup-controllers", |n| { n.cgroups.controllers = Seen::Absent; n.cgroups.hierarchies = unknown(); }, State::Unknown),
    ("cgroup-delegated", |n| n.cgroups.users = Seen::Is(vec![("user 0".to_owned(), is("cpu memory pids")), ("user 1000".to_owned(), is("memory pids"))]), State::Weak),
    ("cgroup-delegated", |n| n.cgroups.users = Seen::Is(vec![("user 1000".to_owned(), unknown())]), State::Unknown),
    ("cgroup-delegated", |n| n.cgroups.users = Seen::Absent, State::Absent),
    ("swap-accounting", |n| n.cgroups.swap_limit = Seen::Absent, State::Weak),
    ("swap-accounting", |n| { n.cgroups.swap_limit = Seen::Absent; n.cgroups.swaps = is("Filename Type\n"); }, State::Good),
    ("swap-accounting", |n| { n.cgroups.swap_limit = Seen::Absent; n.cgroups.swaps = unknown(); }, State::Unknown),
    ("memfd-noexec", |n| { n.sysctls.insert("vm/memfd_noexec", Seen::Absent); }, State::Weak),
    ("memfd-noexec", |n| { n.sysctls.insert("vm/memfd_noexec", unknown()); }, State::Unknown),
    ("io-uring", |n| { n.sysctls.insert("kernel/io_uring_disabled", is("0")); }, State::Advice),
    ("io-uring", |n| { n.sysctls.insert("kernel/io_uring_disabled", Seen::Absent); }, State::Advice),
    ("io-uring", |n| { n.sysctls.insert("kernel/io_uring_disabled", unknown()); }, State::Unknown),
    ("unprivileged-bpf", |n| { n.sysctls.insert("kernel/unprivileged_bpf_disabled", is("0")); }, State::Advice),
    ("unprivileged-bpf", |n| { n.sysctls.insert("kernel/unprivileged_bpf_disabled", unknown()); }, State::Unknown),
    ("userfaultfd", |n| { n.sysctls.insert("vm/unprivileged_userfaultfd", is("1")); }, State::Advice),
    ("userfaultfd", |n| { n.sysctls.insert("vm/unprivileged_userfaultfd", Seen::Absent); }, State::Unknown),
    ("ptrace-scope", |n| { n.sysctls.insert("kernel/yama/ptrace_scope", is("0")); }, State::Advice),
    ("ptrace-scope", |n| { n.sysctls.insert("kernel/yama/ptrace_scope", Seen::Absent); }, State::Advice),
    ("ptrace-scope", |n| { n.sysctls.insert("kernel/yama/ptrace_scope", unknown()); }, State::Unknown),
    ("core-pattern", |n| { n.sysctls.insert("kernel/core_pattern", is("|/usr/lib/systemd/systemd-coredump %P\n")); }, State::Weak),
    ("core-pattern", |n| { n.sysctls.insert("kernel/core_pattern", is("@/run/coredump.sock\n")); }, State::Weak),
    ("core-pattern", |n| { n.sysctls.insert("kernel/core_pattern", unknown()); }, State::Unknown),
    ("kernel-pointers", |n| { n.sysctls.insert("kernel/kptr_restrict", is("0")); }, State::Advice),
    ("kernel-pointers", |n| { n.sysctls.insert("kernel/kptr_restrict", Seen::Absent); }, State::Unknown),
    ("kernel-log", |n| { n.sysctls.insert("kernel/dmesg_restrict", is("0")); }, State::Advice),
    ("kernel-log", |n| { n.sysctls.insert("kernel/dmesg_restrict", unknown()); }, State::Unknown),
    ("perf-events", |n| { n.sysctls.insert("kernel/perf_event_paranoid", is("-1")); }, State::Advice),
    ("perf-events", |n| { n.sysctls.insert("kernel/perf_event_paranoid", is("4")); }, State::Good),
    ("perf-events", |n| { n.sysctls.insert("kernel/perf_event_paranoid", is("x")); }, State::Unknown),
    ("protocol-modules", |n| n.modules.configuration = Seen::Is(Vec::new()), State::Advice),
    ("protocol-modules", |n| n.modules.configuration = Seen::Is(vec!["# install rds /bin/false\ninstall rds /sbin/modprobe rds\n".to_owned()]), State::Advice),
    ("protocol-modules", |n| n.modules.aliases = is("alias net-pf-2-proto-132-type-1 sctp\n"), State::Advice),
    ("protocol-modules", |n| n.modules.aliases = is("alias net-pf-38 algif-hash\n"), State::Advice),
    ("protocol-modules", |n| { n.modules.aliases = is("alias net-pf-38 algif-hash\n"); n.modules.configuration = Seen::Is(vec!["blacklist algif_hash\n".to_owned()]); }, State::Good),
    ("protocol-modules", |n| { n.modules.configuration = Seen::Absent; n.sysctls.insert("kernel/modules_disabled", is("1\n")); }, State::Good),
    ("protocol-modules", |n| { n.modules.configuration = Seen::Absent; n.sysctls.insert("kernel/modprobe", is("\n")); }, State::Good),
    ("protocol-modules", |n| n.modules.loaded = Seen::Absent, State::Good),
    ("protocol-modules", |n| n.modules.aliases = Seen::Absent, State::Unknown),
    ("protocol-modules", |n| n.modules.configuration = unknown(), State::Unknown),
    ("binfmt", |n| n.binfmt = Seen::Is(vec![("qemu-arm".to_owned(), "enabled\ninterpreter /usr/bin/qemu-arm-static\nflags: OCF\nmagic 7f\n".to_owned())]), State::Weak),
    ("binfmt", |n| n.binfmt = Seen::Is(vec![("qemu-arm".to_owned(), "disabled\ninterpreter /usr/bin/qemu-arm-static\nflags: OCF\nmagic 7f\n".to_owned())]), State::Good),
    ("binfmt", |n| n.binfmt = Seen::Absent, State::Good),
    ("binfmt", |n| n.binfmt = unknown(), State::Unknown),
    ("engine-version", |n| { n.engines.insert(Engine::Containerd, is("containerd github.com/containerd/containerd v1.7.32 abc")); }, State::Weak),
    ("engine-version", |n| { n.engines.insert(Engine::Containerd, is("containerd github.com/containerd/containerd v1.6.39 abc")); }, State::Weak),
    ("engine-version", |n| { n.engines.insert(Engine::Containerd, is("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3")); }, State::Unknown),
    ("engine-version", |n| { n.engines.insert(Engine::Containerd, is("containerd containerd.io v2.4.0-beta.0 abc")); }, State::Good),
    ("engine-version", |n| { n.engines.insert(Engine::Podman, is("podman version 4.3.1")); }, State::Weak),
    ("engine-version", |n| { n.engines.insert(Engine::Podman, is("podman version 2.0.0")); }, State::Good),
    ("engine-version", |n| { n.engines.insert(Engine::CriO, is("crio version 1.29.4\nGitCommit: x")); }, State::Weak),
    ("engine-version", |n| { n.engines.insert(Engine::Docker, is("Docker version 26.1.4, build x")); }, State::Weak),
    ("engine-version", |n| { n.engines.insert(Engine::Docker, is("what")); }, State::Unknown),
    ("engine-version", |n| { n.engines.insert(Engine::Docker, unknown()); }, State::Unknown),
    ("engine-version", |n| n.engines.clear(), State::Absent),
    ("containerd-handler", |n| n.containerd = containerd(""), State::Advice),
    ("containerd-handler", |n| n.containerd = containerd("= 1"), State::Unknown),
    ("containerd-handler", |n| n.containerd = Seen::Absent, State::Advice),
    ("containerd-handler", |n| { n.containerd = Seen::Absent; n.engines.clear(); }, State::Absent),
    ("containerd-default", |n| n.containerd = containerd(&HANDLER.replace("\"gabion\"\n", "\"runc\"\n")), State::Advice),
    ("containerd-default", |n| n.containerd = unknown(), State::Unknown),
    ("containerd-annotations", |n| n.containerd = containerd(&HANDLER.replace("dev.gabion.*", "example.com/*")), State::Weak),
    ("containerd-annotations", |n| n.containerd = unknown(), State::Unknown),
    ("policy", |n| n.policies = vec![policy_file("level = \"permissive\"\n")], State::Weak),
    ("policy", |n| n.policies = vec![policy_file("[controls]\nseccomp = \"observe\"\n")], State::Weak),
    ("policy", |n| n.policies = vec![policy_file("[sysctl]\nmemfd_noexec = \"observe\"\n")], State::Weak),
    ("policy", |n| n.policies = vec![policy_file(""), policy_file("level = \"permissive\"\n")], State::Weak),
    ("policy", |n| n.policies = vec![policy_file("bogus = 1\n")], State::Weak),
    ("policy", |n| n.policies[0].expired = vec!["the migration".to_owned()], State::Advice),
    ("policy", |n| n.policies.clear(), State::Unknown),
    ("policy-lock", |n| n.policies = vec![policy_file("")], State::Advice),
    ("policy-lock", |n| n.policies = vec![policy_file("bogus = 1\n")], State::Unknown),
    ("audit-log", |n| n.log.directory = Seen::Is(Owned { uid: 1000, mode: 0o700 }), State::Weak),
    ("audit-log", |n| n.log.directory = Seen::Is(Owned { uid: 0, mode: 0o775 }), State::Weak),
    ("audit-log", |n| n.log.log = Seen::Is(Owned { uid: 0, mode: 0o644 }), State::Weak),
    ("audit-log", |n| n.log.log = Seen::Is(Owned { uid: 0, mode: 0o660 }), State::Weak),
    ("audit-log", |n| n.log.free = Seen::Is(1 << 20), State::Weak),
    ("audit-log", |n| n.log.keeps = Seen::Is(Keeps::UntilBoot), State::Weak),
    ("audit-log", |n| n.log.directory = unknown(), State::Unknown),
    ("audit-log", |n| n.log.directory = Seen::Absent, State::Good),
    ("kubelet-noexec", |n| n.kubelet = Seen::Is(Executes::Yes), State::Advice),
    ("kubelet-noexec", |n| n.kubelet = Seen::Absent, State::Absent),
    ("kubelet-noexec", |n| n.kubelet = unknown(), State::Unknown),
    ("shim", |n| n.shim = Seen::Absent, State::Weak),
    ("shim", |n| n.shim = program("containerd-shim-gabion-v2", Owned { uid: 0, mode: 0o775 }), State::Weak),
    ("shim", |n| { n.shim = Seen::Absent; n.containerd = Seen::Absent; }, State::Absent),
    ("shim", |n| n.shim = unknown(), State::Unknown),
    ("programs", |n| n.programs[1].1 = program("gabionctl", Owned { uid: 1000, mode: 0o755 }), State::Weak),
    ("programs", |n| n.programs[0].1 = unknown(), State::Unknown),
];

fn line(node: &Node, id: &str) -> Line {
    let lines = examine(node);
    let Some(line) = lines.iter().find(|line| line.id == id) else {
        panic!("no line {id}")
    };
    line.clone()
}

#[test]
fn a_node_with_which_nothing_is_amiss_is_good_in_each_line() {
    let lines = examine(&well());
    let amiss: Vec<&Line> = lines.iter().filter(|line| line.state != State::Good).collect();
    assert!(amiss.is_empty(), "{amiss:#?}");
    assert_eq!(worst(&lines), State::Good);
}

#[test]
fn each_line_says_what_is_changed() {
    for (number, (id, change, state)) in CASES.iter().enumerate() {
        let mut node = well();
        change(&mut node);
        let line = line(&node, id);
        assert_eq!(line.state, *state, "case {number}: {line:#?}");
        assert!(!line.observed.is_empty(), "{id}");
        let to_do = !matches!(state, State::Good | State::Absent);
        assert_eq!(line.remedy.is_some(), to_do, "{id}");
    }
}

#[test]
fn each_line_is_seen_bad_and_seen_unknown() {
    for check in checks() {
        let seen: BTreeSet<State> = CASES
            .iter()
            .filter(|(id, ..)| *id == check.id)
            .map(|(_, _, state)| *state)
            .collect();
        assert!(
            seen.contains(&State::Weak) || seen.contains(&State::Advice),
            "{}",
            check.id
        );
        assert!(seen.contains(&State::Unknown), "{}", check.id);
    }
    let ids: BTreeSet<&str> = checks().map(|check| check.id).collect();
    assert_eq!(ids.len(), checks().count(), "an id is there twice");
    assert!(CASES.iter().all(|(id, ..)| ids.contains(id)));
}

#[test]
fn where_nobody_looked_nothing_is_good() {
    let lines = examine(&Node::default());
    let good: Vec<&str> = lines
        .iter()
        .filter(|line| line.state == State::Good)
        .map(|line| line.id)
        .collect();
    assert_eq!(good, [""; 0]);
    assert_eq!(worst(&lines), State::Unknown);
}

#[test]
fn what_is_worse_is_said_first_and_nothing_of_it_is_lost() {
    let mut node = well();
    node.policies = vec![
        policy_file(""),
        policy_file("level = \"permissive\"\n"),
        policy_file("bogus = 1\n"),
    ];
    let line = line(&node, "policy");
    assert!(
        line.observed.contains("permissive") && line.observed.contains("bogus"),
        "{line:?}"
    );
    assert!(!line.observed.contains("hardened"), "{line:?}");
    assert_eq!(Policy::default().level, policy::Level::Hardened);
}
