//! `can`: what it says is what the kernel does. Every act of the table is asked of `can`, and then made in the container.

use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;

use crate::gabion;
use integration::{Bundle, Container, Policy};
use serde_json::Value;

/// An act, and the probe's that does it.
#[allow(clippy::too_many_lines, reason = "one table")]
fn acts() -> Vec<(String, String)> {
    let files = [
        (
            "write",
            "create-file",
            &[
                "/new",
                "/usr/new",
                "/usr/bin/new",
                "/tmp/new",
                "/run/new",
                "/var/tmp/new",
                "/dev/shm/new",
                "/data/new",
                "/ro/new",
            ][..],
        ),
        (
            "write",
            "open-write",
            &[
                "/proc/sys/kernel/domainname",
                "/proc/sysrq-trigger",
                "/dev/null",
                "/proc/self/comm",
            ],
        ),
        (
            "exec",
            "exec-file",
            &[
                "/usr/bin/probe",
                "/tmp/run",
                "/run/run",
                "/var/tmp/run",
                "/dev/shm/run",
                "/data/run",
            ],
        ),
        (
            "read",
            "read-file",
            &[
                "/usr/bin/probe",
                "/proc/kcore",
                "/proc/keys",
                "/proc/interrupts",
                "/proc/self/status",
                "/proc/timer_list",
                "/proc/scsi/scsi",
            ],
        ),
        (
            "open",
            "open-device",
            &[
                "/dev/null",
                "/dev/zero",
                "/dev/urandom",
                "/dev/fuse",
                "/dev/kmsg",
                "/dev/mem",
            ],
        ),
        ("bind", "bind-port", &["80", "8080"]),
        ("connect", "connect-port", &["443", "9"]),
    ];
    let of_files = files
        .into_iter()
        .flat_map(|(verb, act, of)| of.iter().map(move |of| (format!("{verb} {of}"), format!("{act}={of}"))));
    // By their numbers on x86_64, with arguments that do nothing.
    let calls = [
        ("getpid", 39, ""),
        ("keyctl", 250, ""),
        ("add_key", 248, ""),
        ("bpf", 321, ""),
        ("perf_event_open", 298, ""),
        ("userfaultfd", 323, "1"),
        ("io_uring_setup", 425, ""),
        ("setns", 308, ""),
        ("unshare", 272, "67108864"),
        ("mount", 165, ""),
        ("umount2", 166, ""),
        ("pivot_root", 155, ""),
        ("personality", 135, ""),
        ("vmsplice", 278, ""),
        ("modify_ldt", 154, ""),
        ("memfd_create", 319, ""),
        ("process_vm_readv", 310, ""),
        ("kcmp", 312, ""),
        ("fsopen", 430, ""),
        ("open_tree", 428, ""),
        ("swapon", 167, ""),
        ("syslog", 103, ""),
        ("init_module", 175, ""),
        ("delete_module", 176, ""),
        ("kexec_load", 246, ""),
        ("open_by_handle_at", 304, ""),
        ("move_mount", 429, ""),
        ("mount_setattr", 442, ""),
        ("clone3", 435, ""),
        ("getrandom", 318, ""),
        ("socket", 41, "2 1 0"),
        ("socket", 41, "38 5 0"),
        ("socket", 41, "16 3 0"),
    ];
    let of_calls = calls.into_iter().map(|(name, number, args)| {
        let given = args.replace(' ', ",");
        let asked = if args.is_empty() { "0" } else { args };
        (format!("call {name} {asked}"), format!("syscall={number},{given}"))
    });
    let native = cfg!(target_arch = "x86_64");
    of_files.chain(of_calls.filter(|_| native)).collect()
}

fn container(level: &'static str) -> Container {
    let mut bundle = Bundle::with_busybox(&format!("can-{level}"));
    for dir in ["tmp", "run", "var/tmp", "data", "ro"] {
        fs::create_dir_all(bundle.rootfs().join(dir)).unwrap();
    }
    bundle.config.args(&["/bin/sleep", "600"]);
    bundle.config.mount("/data", "tmpfs", "tmpfs", &["rw", "mode=1777"]);
    bundle.config.mount("/ro", "tmpfs", "tmpfs", &["ro"]);
    if level == "restricted" {
        bundle.config.user(1000);
    }
    Container::new(bundle).policy(&Policy::level(level))
}

/// What `can` says of these, by act.
fn asked(container: &Container, acts: &[String]) -> BTreeMap<String, Value> {
    let file = container.bundle.dir.join("acts");
    fs::write(&file, acts.join("\n")).unwrap();
    let mut command = container.command(&["can", container.id(), "-", "--format", "json"]);
    let output = command
        .stdin(fs::File::open(&file).unwrap())
        .stdout(Stdio::piped())
        .output()
        .unwrap();
    assert!(matches!(output.status.code(), Some(0 | 3)), "{output:?}");
    let all: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    all.into_iter()
        .map(|one| (one["act"].as_str().unwrap().to_owned(), one))
        .collect()
}

const NO: [&str; 6] = ["EPERM", "EACCES", "ENOSYS", "EROFS", "EAFNOSUPPORT", "ENODATA"];

fn holds(level: &'static str) {
    if !gabion() {
        return;
    }
    let container = container(level);
    container.run_detached().ok();
    let acts = acts();
    let words: Vec<String> = acts.iter().map(|(act, _)| act.clone()).collect();
    let asked = self::asked(&container, &words);
    let done: Vec<&str> = acts.iter().map(|(_, act)| act.as_str()).collect();
    let done = container.exec_acts(&done);
    let mut wrong = Vec::new();
    for (act, by) in &acts {
        let (says, does) = (&asked[act], &done[by]);
        let may = says["may"].as_bool().unwrap();
        let errno = does.split(' ').next().unwrap();
        let refused = NO.contains(&errno);
        // As another user than root what may be done may be refused by owner and mode, which `can` names beside.
        let by_owner = errno == "EACCES" && level == "restricted";
        // What the kernel may ask for beside is said; a kernel without the family says so.
        let also = says["also"].to_string();
        let by_kernel = (errno == "EPERM" && also.contains("which it has not"))
            || (errno == "EAFNOSUPPORT" && level == "permissive");
        let absent = errno == "ENOENT" || errno == "ENOTDIR";
        let agrees = if may {
            !refused || by_owner || by_kernel
        } else {
            errno != "ok"
        };
        if !agrees && !absent {
            wrong.push(format!("{act}: {says}, and the kernel {does}"));
        }
    }
    assert!(wrong.is_empty(), "{level}:\n{}", wrong.join("\n"));
    capabilities(&container);
}

/// In the kernel's order (linux/capability.h).
const NAMES: &str = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST \
     NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE \
     SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND \
     AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE";

/// Each of the kernel's capabilities is asked about, and looked for in what the container's own process has.
fn capabilities(container: &Container) {
    let status = container.exec(&["/bin/cat", "/proc/self/status"]).ok().out;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    let effective = u64::from_str_radix(line.trim(), 16).unwrap();
    let words: Vec<String> = NAMES.split(' ').map(|name| format!("cap {name}")).collect();
    let asked = asked(container, &words);
    for (bit, word) in words.iter().enumerate() {
        assert_eq!(
            asked[word]["may"],
            effective & (1 << bit) != 0,
            "{word}: {}",
            asked[word]
        );
    }
}

#[test]
fn what_can_says_the_kernel_does_at_hardened() {
    holds("hardened");
}

#[test]
fn what_can_says_the_kernel_does_at_restricted() {
    holds("restricted");
}

#[test]
fn what_can_says_the_kernel_does_at_permissive() {
    holds("permissive");
}

/// Loosening one of two layers is not enough, and what `can` names takes both off: asked of a bundle, and done.
#[test]
fn the_loosening_takes_every_layer_off() {
    if !gabion() {
        return;
    }
    for (name, policy, ran) in [
        ("none", Policy::hardened(), false),
        ("mounts", Policy::hardened().observe("mounts"), false),
        ("landlock", Policy::hardened().observe("landlock"), false),
        (
            "key",
            Policy::hardened().line("[mounts]\nexec_paths = [\"/data\"]"),
            true,
        ),
    ] {
        let mut bundle = Bundle::with_busybox(&format!("can-{name}"));
        fs::create_dir(bundle.rootfs().join("data")).unwrap();
        bundle.config.mount("/data", "tmpfs", "tmpfs", &["rw", "mode=1777"]);
        bundle.config.acts(&["exec-file=/data/run"]);
        let container = Container::new(bundle).policy(&policy);
        let before = container.op(&["can", "--bundle", &container.path(), "exec", "/data/run"]);
        assert_eq!(before.code, if ran { 0 } else { 3 }, "{name}: {before}");
        if name == "none" {
            for word in ["mounts", "landlock", "exec_paths"] {
                assert!(before.out.contains(word), "{before}");
            }
        }
        let answers = container.run().ok().out;
        assert_eq!(answers.contains("exec-file=/data/run: ok"), ran, "{name}: {answers}");
    }
}
