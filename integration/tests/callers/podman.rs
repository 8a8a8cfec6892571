//! The real podman, with the real conmon.

use integration::Podman;
use integration::command::{limit, until};

fn podman_s_day(level: &'static str) {
    let Some(podman) = Podman::new(&format!("podman-{level}"), level) else {
        return;
    };
    let name = podman.name("c");
    let run = |words: &[&str]| {
        let all: Vec<&str> = ["run", "--rm", "--network", "none"]
            .into_iter()
            .chain(words.iter().copied())
            .collect();
        podman.call(&all)
    };
    assert_eq!(run(&["img", "echo", "hello"]).ok().out, "hello\n");
    run(&["img", "sh", "-c", "exit 7"]).fails_with(7);
    // podman tells these apart by runc's words.
    run(&["img", "no-such-program"]).fails_with(127);
    run(&["img", "/etc"]).fails_with(126);
    let file = if integration::unified() {
        "/sys/fs/cgroup/memory.max"
    } else {
        "/sys/fs/cgroup/memory/memory.limit_in_bytes"
    };
    assert_eq!(run(&["--memory", "64m", "img", "cat", file]).ok().out, "67108864\n");

    podman
        .call(&[
            "run",
            "--detach",
            "--name",
            &name,
            "--network",
            "none",
            "img",
            "sh",
            "-c",
            "trap 'exit 0' TERM; echo up; while :; do sleep 0.1; done",
        ])
        .ok();
    let said = until(limit(20), || podman.call(&["logs", &name]).ok().out == "up\n");
    assert!(said, "it never said so");
    assert_eq!(
        podman
            .call(&["exec", "-e", "A=1", "-w", "/tmp", &name, "sh", "-c", "echo $A; pwd"])
            .ok()
            .out,
        "1\n/tmp\n"
    );
    podman.call(&["exec", &name, "sh", "-c", "exit 9"]).fails_with(9);
    podman.call(&["exec", &name, "no-such-program"]).fails_with(127);
    known_by_name(&podman, &name);
    podman.call(&["pause", &name]).ok();
    assert_eq!(
        podman
            .call(&["inspect", "--format", "{{.State.Status}}", &name])
            .ok()
            .out,
        "paused\n"
    );
    podman.call(&["unpause", &name]).ok();
    assert!(podman.call(&["stats", "--no-stream", &name]).ok().out.contains(&name));
    assert!(podman.call(&["top", &name]).ok().out.contains("sleep"));
    let file = podman.bundle.dir.join("file");
    std::fs::write(&file, "copied\n").unwrap();
    podman
        .call(&["cp", file.to_str().unwrap(), &format!("{name}:/tmp/file")])
        .ok();
    assert_eq!(podman.call(&["exec", &name, "cat", "/tmp/file"]).ok().out, "copied\n");
    podman.call(&["stop", "--time", "10", &name]).ok();
    assert_eq!(
        podman
            .call(&["inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", &name])
            .ok()
            .out,
        "exited 0\n"
    );
    podman.call(&["start", &name]).ok();
    podman.call(&["pause", &name]).ok();
    podman.call(&["kill", &name]).ok();
    podman.call(&["rm", "--force", &name]).ok();

    pod_of_two(&podman);
}

/// gabion's own commands know the container by podman's name, without being told where its state is.
fn known_by_name(podman: &Podman, name: &str) {
    let gabion = |args: &[&str]| {
        let mut command = std::process::Command::new(&integration::Runtime::gabion().program);
        command.args(args);
        integration::command::run(command, &podman.bundle.dir)
    };
    let listed = gabion(&["list"]).ok().out;
    let row = listed.lines().find(|line| line.contains(&format!(" {name} ")));
    let row = row.unwrap_or_else(|| panic!("{name} is not listed: {listed}"));
    let words: Vec<&str> = row.split_whitespace().collect();
    assert!(
        words.ends_with(&["root", "podman", name, "localhost/img:latest"]),
        "{row}"
    );
    // At permissive everything is only observed.
    let attested = gabion(&["attest", name]);
    assert!(
        [0, 4].contains(&attested.code) && attested.out.contains(name),
        "{attested}"
    );
    let event = gabion(&["events", "--stats", name]).ok().out;
    assert!(
        event.starts_with(&format!("{{\"type\":\"stats\",\"id\":\"{}\"", words[0])),
        "{event}"
    );
}

fn pod_of_two(podman: &Podman) {
    let (name, pod) = (podman.name("in-pod"), podman.name("pod"));
    podman
        .call(&[
            "pod",
            "create",
            "--name",
            &pod,
            "--network",
            "none",
            "--infra-image",
            "img",
            "--infra-command",
            "/bin/sleep 600",
        ])
        .ok();
    podman
        .call(&["run", "--detach", "--pod", &pod, "--name", &name, "img", "sleep", "600"])
        .ok();
    assert_eq!(
        podman.call(&["exec", &name, "echo", "in the pod"]).ok().out,
        "in the pod\n"
    );
    podman.call(&["pod", "rm", "--force", "--time", "0", &pod]).ok();
    assert_eq!(podman.call(&["ps", "--all", "--quiet"]).ok().out, "");
}

#[test]
fn podman_s_day_permissive() {
    podman_s_day("permissive");
}

#[test]
fn podman_s_day_hardened() {
    podman_s_day("hardened");
}

#[test]
fn podman_shows_a_refusal_as_it_is() {
    let Some(podman) = Podman::new("podman-refused", "hardened") else {
        return;
    };
    let done = podman.call(&["run", "--rm", "--network", "host", "img", "true"]);
    assert_ne!(done.code, 0, "{done}");
    done.says(&["refused [namespaces.host-network]", "--network host"]);
}

/// What `podman inspect` tells of a container that never ran is judged as it is when podman starts it: the same answer, by the same code.
#[test]
fn what_podman_tells_of_a_container_is_judged_as_it_starts() {
    let Some(podman) = Podman::new("podman-inspect", "hardened") else {
        return;
    };
    let gabion = integration::Container::new(integration::Bundle::new("podman-inspect-check"))
        .policy(&integration::Policy::hardened());
    let data = podman.bundle.dir.join("data");
    std::fs::create_dir(&data).unwrap();
    let volume = format!("{}:/data", data.display());
    let rows: [(&[&str], Option<&str>); 7] = [
        (&[], None),
        (&["--volume", &volume, "--user", "7:7", "--tmpfs", "/run"], None),
        (&["--cap-add", "NET_ADMIN"], Some("capabilities.not-allowed")),
        (&["--pid", "host"], Some("namespaces.host-pid")),
        (&["--privileged"], Some("devices.allow-all")),
        (&["--volume", "/etc:/x:ro"], Some("mounts.host-path")),
        (
            &["--volume", &volume, "--entrypoint", "/data/run"],
            Some("mounts.entrypoint-noexec"),
        ),
    ];
    let mut wrong = Vec::new();
    for (options, code) in rows {
        let name = podman.name("c");
        let create = ["create", "--network", "none", "--name", &name];
        podman.call(&[&create[..], options, &["img", "true"]].concat()).ok();
        let told = podman.bundle.dir.join("inspect.json");
        std::fs::write(&told, podman.call(&["inspect", &name]).ok().out).unwrap();
        let checked = gabion.op(&["check", told.to_str().unwrap()]);
        let started = podman.call(&["start", "--attach", &name]);
        podman.call(&["rm", "--force", "--time", "0", &name]).ok();
        let agree = match code {
            None => (checked.code, started.code) == (0, 0),
            Some(code) => {
                let shown = format!("[{code}");
                checked.code == 3 && started.code != 0 && checked.out.contains(&shown) && started.err.contains(&shown)
            }
        };
        if !agree {
            wrong.push(format!("{options:?}: check {checked}, start {started}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Of another container's files those come in that go with a namespace that is shared with it, and not those of a third (walls L1). podman's
/// storage is made one that the policy knows as an engine's.
#[test]
fn another_container_s_shm_comes_with_its_ipc_namespace_alone() {
    let Some(podman) = Podman::new("podman-neighbour", "hardened") else {
        return;
    };
    let dir = podman.bundle.dir.display().to_string();
    let policy = podman.bundle.dir.join("policy.toml");
    let text =
        format!("[mounts]\ncontainerd_root = \"{dir}/p\"\ncontainerd_state = \"{dir}/r\"\nallow = [\"{dir}/p/vfs\"]\n");
    std::fs::write(&policy, text).unwrap();
    let podman = podman.runtime_flag(&format!("policy={}", policy.display()));
    let start = |name: &str| {
        let name = podman.name(name);
        let words = [
            "run",
            "--detach",
            "--network",
            "none",
            "--ipc",
            "shareable",
            "--name",
            &name,
            "img",
            "sleep",
            "600",
        ];
        (podman.call(&words).ok().out.trim().to_owned(), name)
    };
    let ((_, one), (third, _)) = (start("one"), start("third"));
    let ipc = format!("container:{one}");
    let run = ["run", "--rm", "--network", "none", "--ipc", &ipc];
    podman.call(&[&run[..], &["img", "true"]].concat()).ok();
    let volume = format!("{dir}/p/vfs-containers/{third}/userdata/shm:/x");
    let done = podman.call(&[&run[..], &["--volume", &volume, "img", "true"]].concat());
    assert_ne!(done.code, 0, "{done}");
    done.says(&["refused [mounts.host-path]"]);
}

/// podman and conmon pass them through: by number, and as socket activation.
#[test]
fn descriptors_that_podman_is_given() {
    let Some(podman) = Podman::new("podman-fds", "hardened") else {
        return;
    };
    let given = podman.bundle.dir.join("given");
    std::fs::write(&given, "from the caller\n").unwrap();
    let open = format!("exec 3<{};", given.display());
    let script = "echo $LISTEN_FDS $(cat <&3)";
    let run = ["run", "--rm", "--network", "none"];
    let words = |flags: &[&'static str]| [&run[..], flags, &["img", "sh", "-c", script]].concat();
    let preserved = podman.call_after(&open, &words(&["--preserve-fds", "1"])).ok();
    assert_eq!(preserved.out, "from the caller\n");
    let activated = podman
        .call_after(&format!("{open} export LISTEN_FDS=1 LISTEN_PID=$$;"), &words(&[]))
        .ok();
    assert_eq!(activated.out, "1 from the caller\n");
}
