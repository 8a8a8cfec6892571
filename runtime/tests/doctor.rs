//! `gabion doctor` on trees that were made up, in namespaces, and here.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "test code: a panic is how a test fails"
)]

mod programs;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A machine's root, made up.
struct Tree(PathBuf);

impl Tree {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("gabion-doctor-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn file(&self, path: &str, text: &str, mode: u32) -> &Self {
        let path = self.0.join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    /// Everything that is looked at, and nothing amiss.
    fn well(self) -> Self {
        for (path, text) in [
            ("/proc/sys/kernel/osrelease", "6.12.3-amd64\n"),
            ("/proc/cmdline", "quiet proc_mem.force_override=ptrace\n"),
            ("/proc/swaps", "Filename Type Size Used Priority\n"),
            ("/proc/modules", "overlay 1 0 - Live 0x0\n"),
            ("/sys/kernel/security/lsm", "capability,landlock,yama,apparmor\n"),
            ("/sys/kernel/security/apparmor/profiles", "gabion-default (enforce)\n"),
            ("/sys/devices/system/cpu/vulnerabilities/mds", "Not affected\n"),
            ("/sys/kernel/mm/ksm/run", "0\n"),
            ("/sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n"),
            (
                "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/cgroup.controllers",
                "cpu memory pids\n",
            ),
            ("/proc/sys/vm/memfd_noexec", "1\n"),
            ("/proc/sys/kernel/io_uring_disabled", "2\n"),
            ("/proc/sys/kernel/unprivileged_bpf_disabled", "2\n"),
            ("/proc/sys/vm/unprivileged_userfaultfd", "0\n"),
            ("/proc/sys/kernel/yama/ptrace_scope", "1\n"),
            ("/proc/sys/kernel/core_pattern", "core\n"),
            ("/proc/sys/kernel/kptr_restrict", "1\n"),
            ("/proc/sys/kernel/dmesg_restrict", "1\n"),
            ("/proc/sys/kernel/perf_event_paranoid", "3\n"),
            ("/proc/sys/kernel/modules_disabled", "0\n"),
            ("/proc/sys/kernel/modprobe", "/sbin/modprobe\n"),
            ("/proc/sys/fs/binfmt_misc/status", "enabled\n"),
            (
                "/proc/sys/fs/binfmt_misc/python",
                "enabled\ninterpreter /usr/bin/python3\nflags: \nmagic 00\n",
            ),
            ("/lib/modules/6.12.3-amd64/modules.alias", "alias net-pf-21 rds\n"),
            ("/etc/modprobe.d/gabion.conf", "install rds /bin/false\n"),
            ("/etc/hostname", "node7\n"),
            ("/etc/gabion/policy.toml", "lock = true\n"),
            (
                "/etc/containerd/config.toml",
                "version = 2\nimports = [\"conf.d/*.toml\"]\n",
            ),
            (
                "/etc/containerd/conf.d/gabion.toml",
                "[plugins.\"io.containerd.grpc.v1.cri\".containerd]\ndefault_runtime_name = \"gabion\"\n\
                 [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.gabion]\n\
                 runtime_type = \"io.containerd.gabion.v2\"\npod_annotations = [\"dev.gabion.*\"]\n",
            ),
        ] {
            self.file(path, text, 0o644);
        }
        for program in ["gabion", "gabionctl", "containerd-shim-gabion-v2"] {
            self.file(&format!("/usr/local/bin/{program}"), "", 0o755);
        }
        self
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn doctor(root: &Path) -> Output {
    programs::gabion()
        .args(["doctor", "--format", "json", "--node"])
        .arg(root)
        .output()
        .unwrap()
}

/// Each line with its state and what was observed; and the exit code.
fn lines(out: &Output) -> (BTreeMap<String, (String, String)>, i32) {
    let report: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {out:?}"));
    let text = |line: &Value, key: &str| line[key].as_str().unwrap().to_owned();
    let all = report["lines"].as_array().unwrap().iter();
    let lines = all.map(|line| (text(line, "id"), (text(line, "state"), text(line, "observed"))));
    (lines.collect(), out.status.code().unwrap())
}

fn state(root: &Path, id: &str) -> String {
    lines(&doctor(root)).0[id].0.clone()
}

/// Of the kernel that runs, and of programs that are not run.
const NOT_OF_THE_TREE: [&str; 4] = ["landlock", "landlock-errata", "kernel-audit", "engine-version"];

#[test]
fn a_tree_with_which_nothing_is_amiss_is_good() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let tree = Tree::new("well").well();
    let out = doctor(&tree.0);
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(report["node"], "node7");
    for key in ["time", "gabion", "state"] {
        assert!(report[key].is_string(), "{key}");
    }
    for key in ["id", "state", "observed", "reason", "refs", "remedy"] {
        assert!(
            report["lines"]
                .as_array()
                .unwrap()
                .iter()
                .all(|line| line.get(key).is_some()),
            "{key}"
        );
    }
    let (lines, _) = lines(&out);
    let amiss: Vec<_> = lines
        .iter()
        .filter(|(id, (state, _))| {
            !NOT_OF_THE_TREE.contains(&id.as_str()) && !matches!(state.as_str(), "good" | "absent")
        })
        .collect();
    assert!(amiss.is_empty(), "{amiss:#?}");
    assert_eq!(lines["containerd-default"].1, "gabion");
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn each_file_is_read_where_it_is() {
    let tree = Tree::new("each").well();
    let before = lines(&doctor(&tree.0)).0;
    for (id, path, text, expected) in [
        ("kernel", "/proc/sys/kernel/osrelease", "5.10.1\n", "weak"),
        ("proc-mem", "/proc/cmdline", "quiet\n", "advice"),
        ("lsm", "/sys/kernel/security/lsm", "capability\n", "weak"),
        (
            "apparmor-profile",
            "/sys/kernel/security/apparmor/profiles",
            "gabion-default (complain)\n",
            "weak",
        ),
        (
            "cpu-vulnerabilities",
            "/sys/devices/system/cpu/vulnerabilities/l1tf",
            "Vulnerable\n",
            "weak",
        ),
        ("samepage-merging", "/sys/kernel/mm/ksm/run", "1\n", "advice"),
        (
            "cgroup-controllers",
            "/sys/fs/cgroup/cgroup.controllers",
            "cpu\n",
            "weak",
        ),
        (
            "cgroup-delegated",
            "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/cgroup.controllers",
            "memory pids\n",
            "weak",
        ),
        (
            "swap-accounting",
            "/proc/swaps",
            "Filename\n/dev/vda2 partition\n",
            "weak",
        ),
        ("io-uring", "/proc/sys/kernel/io_uring_disabled", "0\n", "advice"),
        (
            "unprivileged-bpf",
            "/proc/sys/kernel/unprivileged_bpf_disabled",
            "0\n",
            "advice",
        ),
        ("userfaultfd", "/proc/sys/vm/unprivileged_userfaultfd", "1\n", "advice"),
        ("ptrace-scope", "/proc/sys/kernel/yama/ptrace_scope", "0\n", "advice"),
        (
            "core-pattern",
            "/proc/sys/kernel/core_pattern",
            "|/usr/share/apport/apport %p\n",
            "weak",
        ),
        ("kernel-pointers", "/proc/sys/kernel/kptr_restrict", "0\n", "advice"),
        ("kernel-log", "/proc/sys/kernel/dmesg_restrict", "0\n", "advice"),
        ("perf-events", "/proc/sys/kernel/perf_event_paranoid", "1\n", "advice"),
        ("protocol-modules", "/etc/modprobe.d/gabion.conf", "", "advice"),
        (
            "binfmt",
            "/proc/sys/fs/binfmt_misc/qemu",
            "enabled\ninterpreter /q\nflags: F\nmagic 00\n",
            "weak",
        ),
        ("containerd-handler", "/etc/containerd/conf.d/gabion.toml", "", "advice"),
        (
            "containerd-annotations",
            "/etc/containerd/config.toml",
            "version = 2\n[plugins.cri.containerd.runtimes.x]\nruntime_type = \"io.containerd.gabion.v2\"\n",
            "weak",
        ),
        ("policy", "/etc/gabion/policy.toml", "level = \"permissive\"\n", "weak"),
        (
            "policy",
            "/etc/gabion/runtimes/ci.toml",
            "[controls]\nrootfs = \"observe\"\n",
            "weak",
        ),
        ("policy-lock", "/etc/gabion/policy.toml", "lock = false\n", "advice"),
    ] {
        let at = tree.0.join(path.trim_start_matches('/'));
        let old = fs::read_to_string(&at).ok();
        tree.file(path, text, 0o644);
        let (after, code) = lines(&doctor(&tree.0));
        assert_eq!(after[id].0, expected, "{path}: {:?}", after[id]);
        if expected == "weak" {
            assert_eq!(code, 3, "{path}");
        }
        // Nothing else changes by it, but what hangs on the same file.
        let same = [
            "containerd-",
            "policy",
            "shim",
            "protocol-modules",
            "apparmor-profile",
            "cgroup-",
            "proc-mem",
        ];
        for (other, now) in after.iter().filter(|(other, _)| *other != id) {
            let related = same.iter().any(|family| other.starts_with(family));
            assert!(related || now == &before[other], "{path} changed {other}: {now:?}");
        }
        match old {
            Some(old) => drop(tree.file(path, &old, 0o644)),
            None => fs::remove_file(&at).unwrap(),
        }
    }
}

#[test]
fn what_is_gone_or_no_file_is_said_as_that() {
    let tree = Tree::new("gone").well();
    for (id, path, expected) in [
        ("memfd-noexec", "/proc/sys/vm/memfd_noexec", "weak"),
        ("cgroup-version", "/sys/fs/cgroup/cgroup.controllers", "weak"),
        ("lsm", "/sys/kernel/security/lsm", "unknown"),
        ("binfmt", "/proc/sys/fs/binfmt_misc/status", "unknown"),
        ("protocol-modules", "/lib/modules/6.12.3-amd64/modules.alias", "unknown"),
        ("shim", "/usr/local/bin/containerd-shim-gabion-v2", "weak"),
    ] {
        let at = tree.0.join(path.trim_start_matches('/'));
        let old = fs::read_to_string(&at).unwrap();
        fs::remove_file(&at).unwrap();
        assert_eq!(state(&tree.0, id), expected, "{path}");
        tree.file(path, &old, 0o755);
    }
    // A directory, and a pipe that nobody writes to, in a file's place: not waited for, and not good.
    let at = tree.0.join("proc/sys/kernel/core_pattern");
    fs::remove_file(&at).unwrap();
    nix::unistd::mkfifo(&at, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(state(&tree.0, "core-pattern"), "unknown");
}

#[test]
fn a_link_of_the_tree_does_not_lead_out_of_it() {
    let tree = Tree::new("links").well();
    let outside = Tree::new("outside");
    outside.file("/policy.toml", "level = \"permissive\"\n", 0o644);
    let at = tree.0.join("etc/gabion/policy.toml");
    fs::remove_file(&at).unwrap();
    symlink(outside.0.join("policy.toml"), &at).unwrap();
    // The link leads nowhere in the tree: a policy that somebody meant to have.
    let (lines, _) = lines(&doctor(&tree.0));
    let (state, observed) = &lines["policy"];
    assert!(
        state == "weak" && !observed.contains("permissive"),
        "{state} {observed}"
    );
    // And one that stays inside is followed there.
    tree.file("/srv/policy.toml", "level = \"permissive\"\n", 0o644);
    fs::remove_file(&at).unwrap();
    symlink("/srv/policy.toml", &at).unwrap();
    assert!(lines_of(&tree.0, "policy").contains("permissive"));
}

fn lines_of(root: &Path, id: &str) -> String {
    lines(&doctor(root)).0[id].1.clone()
}

#[test]
fn owners_and_modes_are_looked_at() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let tree = Tree::new("owners").well();
    let log = "/var/log/gabion/audit.jsonl";
    tree.file(log, "", 0o600);
    let directory = tree.0.join("var/log/gabion");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
    assert_ne!(lines_of(&tree.0, "audit-log"), "");
    for (path, mode, id) in [
        ("var/log/gabion", 0o777, "audit-log"),
        ("var/log/gabion/audit.jsonl", 0o644, "audit-log"),
        ("usr/local/bin/containerd-shim-gabion-v2", 0o775, "shim"),
        ("usr/local/bin/gabion", 0o757, "programs"),
        ("etc/gabion/policy.toml", 0o666, "policy"),
    ] {
        let at = tree.0.join(path);
        let before = fs::metadata(&at).unwrap().permissions();
        fs::set_permissions(&at, fs::Permissions::from_mode(mode)).unwrap();
        let (lines, code) = lines(&doctor(&tree.0));
        assert_eq!((lines[id].0.as_str(), code), ("weak", 3), "{path}: {:?}", lines[id]);
        fs::set_permissions(&at, before).unwrap();
    }
}

/// In a mount namespace of its own, which ends with the shell.
fn in_namespace(script: &str) -> String {
    let out = Command::new("unshare")
        .args(["-m", "sh", "-ec", script])
        .output()
        .unwrap();
    assert!(matches!(out.status.code(), Some(0 | 3 | 4)), "{out:?}");
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn mounts_are_looked_at_in_a_namespace() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let tree = Tree::new("mounts").well();
    let program = programs::gabion();
    let (program, root) = (program.get_program().to_str().unwrap(), tree.0.display());
    let looked = |options: &str| {
        let script = format!(
            "mkdir -p {root}/var/lib/kubelet {root}/var/log/gabion
            mount -t tmpfs {options} none {root}/var/lib/kubelet; mkdir {root}/var/lib/kubelet/pods
            mount -t tmpfs -o size=1m,mode=0700 none {root}/var/log/gabion
            {program} doctor --node {root}"
        );
        in_namespace(&script)
    };
    let line = |text: &str, id: &str| text.lines().find(|line| line.starts_with(id)).unwrap().to_owned();
    let text = looked("-o noexec");
    assert!(line(&text, "kubelet-noexec").contains("good"), "{text}");
    let log = line(&text, "audit-log");
    assert!(
        log.contains("weak") && log.contains("tmpfs") && log.contains("free"),
        "{log}"
    );
    assert!(line(&looked(""), "kubelet-noexec").contains("advice"));
}

#[test]
fn a_handler_of_binfmt_is_seen_where_the_kernel_has_it() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let program = programs::gabion();
    let program = program.get_program().to_str().unwrap();
    // Since Linux 6.7 each user namespace has handlers of its own.
    let script = format!(
        "mount -t binfmt_misc none /proc/sys/fs/binfmt_misc || {{ echo none; exit 0; }}
        echo ':gabion-test:M::gabiontest::/bin/true:CF' >/proc/sys/fs/binfmt_misc/register || {{ echo none; exit 0; }}
        {program} doctor || true"
    );
    let out = Command::new("unshare")
        .args(["-Urm", "sh", "-c", &script])
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    if text.trim() == "none" || text.is_empty() {
        return;
    }
    let line = text.lines().find(|line| line.starts_with("binfmt")).unwrap();
    assert!(
        line.contains("weak") && line.contains("gabion-test (CF: /bin/true)"),
        "{line}"
    );
}

#[test]
fn this_machine_is_judged_and_nothing_is_left_out() {
    let out = programs::gabion()
        .args(["doctor", "--format", "json"])
        .output()
        .unwrap();
    let (lines, code) = lines(&out);
    assert!(out.stderr.is_empty(), "{out:?}");
    let has = |word: &str| lines.values().any(|(state, _)| state == word);
    let expected = if has("weak") {
        3
    } else if has("unknown") {
        4
    } else {
        0
    };
    assert_eq!(code, expected);
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert!(lines["kernel"].1.starts_with(release.trim()), "{:?}", lines["kernel"]);
    // What stands in the table says each line as well.
    let table = programs::gabion().arg("doctor").output().unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(
        lines
            .keys()
            .all(|id| table.lines().any(|line| line.starts_with(id.as_str()))),
        "{table}"
    );
    let nowhere = programs::gabion()
        .args(["doctor", "--node", "/nowhere"])
        .output()
        .unwrap();
    assert_eq!(nowhere.status.code(), Some(1));
}
