//! What the runtime writes to /proc must reach the kernel, not a file that somebody put there (CVE-2025-52881, and
//! CVE-2019-19921 before it): labels, sysctls and scores go through the host's procfs, held open, and never across a mount.

use integration::command::{limit, run, until};
use integration::{Bundle, Container, Policy};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::Command;

/// A directory that looks like the part of /proc that runtimes write to.
const FILES: [&str; 5] = [
    "self/oom_score_adj",
    "self/attr/exec",
    "self/attr/current",
    "thread-self/attr/exec",
    "sys/net/ipv4/ping_group_range",
];

const BAIT: &str = "bait";

fn fake_proc(at: &Path) {
    for file in FILES {
        let file = at.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, BAIT).unwrap();
    }
}

#[track_caller]
fn untouched(fake: &Path) {
    for file in FILES {
        let text = fs::read_to_string(fake.join(file)).unwrap();
        assert_eq!(text, BAIT, "{file} of a false /proc was written to");
    }
}

/// Without pivot_root the host's mounts stay below the moved root, and the kernel lets whoever makes a user namespace mount a new /proc where it
/// still sees a whole one: without any of the container's masks. A container with pivot_root is the same without that.
#[test]
fn no_bare_proc_without_pivot_root() {
    for flags in [&[] as &[&str], &["--no-pivot"]] {
        let mut bundle = Bundle::with_busybox(if flags.is_empty() {
            "proc-pivot"
        } else {
            "proc-no-pivot"
        });
        let script = "mount -t proc none /proc; mount -t tmpfs none /tmp && echo inside";
        bundle
            .config
            .args(&["/bin/busybox", "unshare", "-mrpf", "/bin/busybox", "sh", "-c", script]);
        bundle.config.set("/linux/maskedPaths", json!(["/proc/interrupts"]));
        let container = Container::new(bundle).policy(&Policy::permissive());
        let path = container.path();
        let done = container.op(&[&["run"], flags, &["--bundle", &path, container.id()]].concat());
        // The second one is the control: it is the kind that is denied, and not mounts.
        assert!(done.out.contains("inside"), "{flags:?}: {done}");
        let denied = done.err.matches("ermission denied").count() + done.err.matches("not permitted").count();
        assert_eq!(denied, 1, "{flags:?}: {done}");
        // The host's own are where they were.
        assert!(Path::new("/proc/self/status").exists() && Path::new("/sys/kernel").exists());
    }
}

/// Scores and sysctls of the first process of a container, as the host sees them.
fn as_the_host_sees(container: &Container, pid: i32) -> (String, String) {
    let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    let mut enter = Command::new("nsenter");
    enter.args([
        "--target",
        &pid.to_string(),
        "--net",
        "cat",
        "/proc/sys/net/ipv4/ping_group_range",
    ]);
    let range = run(enter, &container.bundle.dir).ok().out;
    (
        score.trim().to_owned(),
        range.split_whitespace().collect::<Vec<_>>().join(" "),
    )
}

fn asking(test: &str) -> Bundle {
    let mut bundle = Bundle::new(test);
    bundle
        .config
        .set("/process/oomScoreAdj", json!(321))
        .set("/linux/sysctl", json!({ "net.ipv4.ping_group_range": "3 7" }))
        .acts(&["sleep"]);
    bundle
}

/// A volume at /proc: whoever writes to the container's /proc is deceived.
#[test]
fn a_false_proc_of_the_image_is_not_written_to() {
    let mut bundle = asking("attack-proc");
    let fake = bundle.host_dir("proc");
    fake_proc(&fake);
    bundle
        .config
        .without_mount("/proc")
        .bind(fake.to_str().unwrap(), "/proc", &["rw"]);
    let container = Container::new(bundle).policy(&Policy::permissive());
    let created = container.create();
    untouched(&fake);
    if created.code == 0 {
        container.start().ok();
        untouched(&fake);
        let seen = as_the_host_sees(&container, container.pid());
        assert_eq!(seen, ("321".to_owned(), "3 7".to_owned()), "it was written nowhere");
    }
}

/// The container covers its own /proc, then somebody execs into it: nothing is written there, and what is read back is the
/// kernel's, not what stands there.
#[test]
fn a_false_proc_of_a_running_container_is_not_written_to() {
    let mut bundle = Bundle::with_busybox("attack-proc-exec");
    let fake = bundle.host_dir("fake");
    fake_proc(&fake);
    let script = "busybox mount -o bind /fake /proc && echo covered; sleep 1000";
    bundle
        .config
        .bind(fake.to_str().unwrap(), "/fake", &["rw"])
        .add_capability("CAP_SYS_ADMIN")
        .args(&["/bin/sh", "-c", script]);
    let hardens = integration::Runtime::under_test().hardens;
    let container = Container::new(bundle).policy(&Policy::permissive().enforce("no_new_privs"));
    let create = container.spawn(&["create", "--bundle", &container.path(), container.id()]);
    container.wait_status("created");
    container.start().ok();
    create.wait_for("covered");
    let process = json!({
        "args": ["/usr/bin/probe", "sleep"], "cwd": "/", "env": [], "user": { "uid": 0, "gid": 0 }, "oomScoreAdj": 654,
    });
    let (file, pid) = (
        container.bundle.dir.join("process.json"),
        container.bundle.dir.join("pid"),
    );
    fs::write(&file, process.to_string()).unwrap();
    let (file, pid_file) = (file.to_str().unwrap(), pid.to_str().unwrap());
    let words = [
        "exec",
        "--detach",
        "--pid-file",
        pid_file,
        "--process",
        file,
        container.id(),
    ];
    let done = container.op(&words);
    untouched(&fake);
    assert!(done.code == 0 || !hardens, "{done}");
    if done.code == 0 {
        let pid = fs::read_to_string(&pid).unwrap();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains("NoNewPrivs:\t1") || !hardens, "{status}");
        let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
        assert_eq!(score.trim(), "654", "it was written nowhere");
    } else {
        assert!(done.err.contains("/proc"), "{done}");
    }
}

/// Even a mount over a file of the host's own /proc does not lead a write elsewhere: it is an error.
#[test]
fn a_mount_over_a_file_of_the_hosts_proc_is_not_written_through() {
    let mut bundle = asking("attack-proc-host");
    // One whose file is the same in every namespace.
    bundle
        .config
        .set("/linux/sysctl", json!({ "kernel.domainname": "led" }));
    let container = Container::new(bundle).policy(&Policy::permissive());
    let bait = container.bundle.dir.join("bait");
    fs::write(&bait, BAIT).unwrap();
    let create = container.command(&["create", "--bundle", &container.path(), container.id()]);
    // In a mount namespace of its own: the host's /proc stays what it is.
    let mut covered = Command::new("unshare");
    covered.args(["--mount", "sh", "-c"]);
    covered.arg(format!(
        "mount --bind {} /proc/sys/kernel/domainname && exec \"$0\" \"$@\"",
        bait.display()
    ));
    covered.arg(create.get_program()).args(create.get_args());
    let done = run(covered, &container.bundle.dir);
    assert_eq!(
        fs::read_to_string(&bait).unwrap(),
        BAIT,
        "written through a mount: {done}"
    );
    assert!(done.code != 0 && done.err.contains("kernel.domainname"), "{done}");
    assert!(until(limit(20), || integration::leaks::cgroups(&container.bundle.name)
        .is_empty()));
}
