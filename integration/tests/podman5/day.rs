//! What people do with containers all day; the same as root and as a user.

use crate::engine::{Podman, Who, systemd};
use integration::command::{limit, until};
use integration::unified;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

#[test]
fn root_s_day() {
    a_day(Who::Root);
}

#[test]
fn a_user_s_day() {
    a_day(Who::User);
}

fn a_day(who: Who) {
    let Some(podman) = &Podman::of(who, "podman5") else {
        return;
    };
    assert_eq!(
        podman.run(&["img", "sh", "-c", "id -u; exit 7"]).fails_with(7).out,
        "0\n"
    );
    podman.run(&["img", "no-such-program"]).fails_with(127);
    places_to_write(podman);
    one_container(podman);
    a_pod(podman);
    podman.nothing_runs();
}

/// Volumes, tmpfs and secrets: what may be written, what may be executed.
fn places_to_write(podman: &Podman) {
    let secret = podman.bundle.dir.join("secret");
    fs::write(&secret, "a word\n").unwrap();
    podman
        .call(&["secret", "create", "word", secret.to_str().unwrap()])
        .ok();
    let volume = podman.bundle.host_dir("volume");
    let plain = format!("{}:/data", volume.display());
    let exec = format!("{}:/run/tools:exec", volume.display());
    // `try` fails wherever writing or executing is not as it should be.
    let script = "
        yes() { \"$@\" || { echo \"denied: $*\"; exit 1; }; }
        no() { ! \"$@\" 2>/dev/null || { echo \"done: $*\"; exit 1; }; }
        yes cat /run/secrets/word
        yes touch /data/file /scratch/file /tmp/file /run/file
        no touch /usr/file; no touch /file; no touch /etc/file
        for dir in /data /scratch /tmp; do yes cp /bin/busybox $dir/busybox; no $dir/busybox true; done
        yes /run/tools/busybox true
        echo as it should be";
    let words = [
        "--read-only",
        "--secret",
        "word",
        "--tmpfs",
        "/scratch",
        "-v",
        &plain,
        "-v",
        &exec,
    ];
    let done = podman.run(&[&words[..], &["img", "sh", "-c", script]].concat());
    assert_eq!(done.ok().out, "a word\nas it should be\n");
    assert!(volume.join("file").exists());
    podman.call(&["secret", "rm", "word"]).ok();
}

fn one_container(podman: &Podman) {
    let script = "trap 'exit 0' TERM; echo up; while :; do sleep 0.2; done";
    let mut words = vec!["run", "--detach", "--name", "c", "--network", "none"];
    words.extend(["--memory", "64m", "--pids-limit", "100", "--volume", "named:/named"]);
    words.extend(["--health-cmd", "test -e /tmp/well", "--health-interval", "disable"]);
    words.extend(["img", "sh", "-c", script]);
    podman.call(&words).ok();
    let said = until(limit(20), || podman.call(&["logs", "c"]).ok().out == "up\n");
    assert!(said, "it never said so");
    limits(podman);

    let exec = podman.call(&[
        "exec",
        "-e",
        "A=1",
        "-w",
        "/tmp",
        "c",
        "sh",
        "-c",
        "echo $A; pwd; exit 9",
    ]);
    assert_eq!(exec.fails_with(9).out, "1\n/tmp\n");
    podman.call(&["healthcheck", "run", "c"]).fails_with(1);
    let file = podman.bundle.dir.join("well");
    fs::write(&file, "copied\n").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    podman.call(&["cp", file.to_str().unwrap(), "c:/tmp/well"]).ok();
    podman.call(&["healthcheck", "run", "c"]).ok();
    assert_eq!(podman.call(&["exec", "c", "cat", "/tmp/well"]).ok().out, "copied\n");

    let back = podman.below("back");
    podman.call(&["cp", "c:/tmp/well", back.to_str().unwrap()]).ok();
    assert_eq!(fs::read_to_string(back).unwrap(), "copied\n");
    podman.call(&["exec", "c", "touch", "/named/file"]).ok();

    let top = podman.call(&["top", "c", "pid", "args"]).ok().out;
    assert!(top.contains("sleep 0.2"), "{top}");
    let stats = podman.call(&[
        "stats",
        "--no-stream",
        "--format",
        "{{.Name}} {{.PIDs}} {{.MemUsage}}",
        "c",
    ]);
    shown(&stats.ok().out);
    podman.call(&["pause", "c"]).ok();
    assert_eq!(podman.tell("c", "{{.State.Status}}"), "paused");
    podman.call(&["unpause", "c"]).ok();

    podman.call(&["stop", "--time", "60", "c"]).ok();
    assert_eq!(podman.tell("c", "{{.State.Status}} {{.State.ExitCode}}"), "exited 0");
    podman.call(&["start", "c"]).ok();
    // What lies in a volume stays.
    podman.call(&["exec", "c", "test", "-e", "/named/file"]).ok();
    podman.call(&["kill", "c"]).ok();
    podman.call(&["rm", "--force", "c"]).ok();
    podman.call(&["volume", "rm", "named"]).ok();
}

/// Figures are those of the container's cgroup.
fn shown(stats: &str) {
    let fields: Vec<&str> = stats.split_whitespace().collect();
    assert_eq!((fields[0], fields[3]), ("c", "/"), "{stats}");
    if unified() && systemd() {
        assert!(fields[1].parse::<u32>().unwrap() >= 1, "{stats}");
        // After `podman update`.
        assert_eq!(fields[4], "100.7MB", "{stats}");
        assert_ne!(fields[2], "0B", "{stats}");
    }
}

/// Limits are where the kernel looks, before and after `podman update`.
fn limits(podman: &Podman) {
    if !unified() {
        return;
    }
    let cgroup = podman.cgroup("c");
    if let Some(session) = &podman.session {
        assert!(cgroup.starts_with(session.delegated()), "{}", cgroup.display());
    }
    if systemd() {
        // conmon makes the scope, podman the name.
        let scope = cgroup.to_string_lossy().contains("libpod-") && cgroup.to_string_lossy().contains(".scope");
        assert!(scope, "{}", cgroup.display());
    }
    let file = |name: &str| fs::read_to_string(cgroup.join(name)).unwrap().trim().to_owned();
    assert_eq!(
        (file("memory.max"), file("pids.max")),
        ("67108864".into(), "100".into())
    );
    // podman asks for as much swap as memory; hardened has none.
    assert_eq!(file("memory.swap.max"), "0");
    let unbounded = podman.call(&["update", "--pids-limit", "-1", "c"]);
    assert_ne!(unbounded.code, 0, "{unbounded}");
    unbounded.says(&["refused [cgroup.pids-unlimited]", "remedy: "]);
    assert_eq!(file("pids.max"), "100");
    podman
        .call(&["update", "--memory", "96m", "--pids-limit", "50", "c"])
        .ok();
    assert_eq!(
        (file("memory.max"), file("pids.max")),
        ("100663296".into(), "50".into())
    );
}

fn a_pod(podman: &Podman) {
    podman
        .call(&["pod", "create", "--name", "pod", "--network", "none"])
        .ok();
    podman
        .call(&[
            "run", "--detach", "--pod", "pod", "--name", "one", "img", "sleep", "600",
        ])
        .ok();
    let space = |name: &str| podman.tell(name, "{{.State.Pid}}");
    let net = |name: &str| fs::read_link(format!("/proc/{}/ns/net", space(name))).unwrap();
    podman
        .call(&[
            "run", "--detach", "--pod", "pod", "--name", "two", "img", "sleep", "600",
        ])
        .ok();
    assert_eq!(net("one"), net("two"));
    assert_ne!(net("one"), fs::read_link("/proc/self/ns/net").unwrap());
    podman.call(&["pod", "rm", "--force", "--time", "0", "pod"]).ok();
}
