//! What people type in a day, beside runc: the same exit code and the same words on stdout.

use crate::engine::{Engine, IMAGE, Setup};

/// One `docker run`: its options, and the shell's line.
const RUNS: &[(&[&str], &str)] = &[
    (&[], "echo hello; exit 3"),
    (&["-i"], "id; pwd"),
    (&["--user", "1000:1000", "-w", "/srv"], "id; pwd"),
    (&["--hostname", "web"], "hostname; cat /etc/hostname"),
    (&["--domainname", "example.org"], "cat /proc/sys/kernel/domainname"),
    (&["-e", "A=1"], "echo $A"),
    (&["--init"], "[ $$ != 1 ] && echo a child"),
    (&["--read-only"], "touch /srv/x 2>/dev/null || echo read-only"),
    (&["--tmpfs", "/t:size=1m"], "echo a >/t/a && cat /t/a"),
    (
        &["--tmpfs", "/t:exec"],
        "cat /bin/busybox >/t/true && chmod 755 /t/true; /t/true; echo $?",
    ),
    (&["-v", "RUNTIME-data:/data"], "echo a >>/data/a && cat /data/a"),
    (
        &["-v", "RUNTIME-data:/data:ro"],
        "cat /data/a; touch /data/b 2>/dev/null || echo read-only",
    ),
    (
        &["--memory", "64m"],
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max",
    ),
    (
        &["--pids-limit", "64"],
        "cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max",
    ),
    (&["--ulimit", "nofile=100:200"], "ulimit -n; ulimit -Hn"),
    (&["--cap-drop", "ALL", "--security-opt", "no-new-privileges"], "id"),
    (&["--network", "none"], "ls /sys/class/net"),
    (
        &["--add-host", "other:10.0.0.9"],
        "cat /etc/hosts | while read a b; do [ \"$b\" != other ] || echo $a; done",
    ),
    (&["--ipc", "shareable"], "ls /dev/shm"),
    (&["--shm-size", "1m"], "echo a >/dev/shm/a && cat /dev/shm/a"),
    (
        &["--sysctl", "net.ipv4.ip_unprivileged_port_start=80"],
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start",
    ),
];

#[test]
fn a_days_commands_beside_runc() {
    let Some(engine) = Engine::start("day", Setup::Apart) else {
        return;
    };
    for (options, line) in RUNS {
        let told = |runtime: &str| {
            let options: Vec<String> = options.iter().map(|o| o.replace("RUNTIME", runtime)).collect();
            let mut args: Vec<&str> = vec!["--rm"];
            args.extend(options.iter().map(String::as_str));
            args.extend([IMAGE, "sh", "-c", line]);
            engine.run(runtime, &args)
        };
        let (runc, gabion) = (told("runc"), told("gabion"));
        // A machine may keep runc from what gabion does; what both do they do alike.
        if runc.code == 125 {
            integration::left_out(&format!("runc cannot here: {options:?}: {}", runc.err.trim()));
            drop(gabion);
            continue;
        }
        assert_eq!(
            (gabion.code, &gabion.out),
            (runc.code, &runc.out),
            "{options:?} {line}: {gabion}"
        );
    }
    lives(&engine);
    is_healthy(&engine);
    networks(&engine);
    refusals(&engine);
}

/// A container that stays: logs, exec, cp, top, update, pause, stop.
fn lives(engine: &Engine) {
    let run = ["-d", "--name", "stays", "-v", "stays:/data", IMAGE];
    let line = ["sh", "-c", "echo started; while :; do sleep 1; done"];
    drop(engine.run("gabion", &[&run[..], &line].concat()).ok());
    let says = |args: &[&str], what: &str| {
        let so = integration::command::until(integration::command::limit(20), || {
            engine.docker(args).out.contains(what)
        });
        assert!(so, "{args:?}: {}", engine.docker(args));
    };
    says(&["logs", "stays"], "started");
    known_by_name(engine, "stays");
    says(&["exec", "stays", "echo", "inside"], "inside");
    says(
        &[
            "exec",
            "-u",
            "1000",
            "-w",
            "/srv",
            "-e",
            "B=2",
            "stays",
            "sh",
            "-c",
            "id -u; pwd; echo $B",
        ],
        "1000\n/srv\n2",
    );
    assert_eq!(engine.docker(&["exec", "stays", "sh", "-c", "exit 7"]).code, 7);
    says(&["top", "stays"], "sleep 1");
    says(&["stats", "--no-stream", "--format", "{{.Name}}", "stays"], "stays");
    let file = engine.dir.join("copied");
    std::fs::write(&file, "copied").unwrap();
    drop(
        engine
            .docker(&["cp", file.to_str().unwrap(), "stays:/data/copied"])
            .ok(),
    );
    says(&["exec", "stays", "cat", "/data/copied"], "copied");
    drop(
        engine
            .docker(&["update", "--memory", "64m", "--memory-swap", "64m", "stays"])
            .ok(),
    );
    drop(engine.docker(&["pause", "stays"]).ok());
    says(&["inspect", "-f", "{{.State.Status}}", "stays"], "paused");
    drop(engine.docker(&["unpause", "stays"]).ok());
    drop(engine.docker(&["restart", "-t", "1", "stays"]).ok());
    says(&["exec", "stays", "cat", "/data/copied"], "copied");
    // Another container in its namespaces, whose files it has, too.
    let joins = [
        "--rm",
        "--network",
        "container:stays",
        "--pid",
        "container:stays",
        IMAGE,
        "cat",
        "/etc/hosts",
    ];
    drop(engine.run("gabion", &joins).ok());
    drop(engine.docker(&["stop", "-t", "1", "stays"]).ok());
    says(
        &["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "stays"],
        "exited 137",
    );
    drop(engine.docker(&["rm", "stays"]).ok());
}

/// A health check of its own. Not where anything is paused: dockerd waits for a check that the pause has caught, whatever the runtime.
fn is_healthy(engine: &Engine) {
    let check = ["--health-cmd", "test -e /bin/sh", "--health-interval", "1s"];
    let run = [&["-d", "--name", "well"][..], &check, &[IMAGE, "sleep", "600"]].concat();
    drop(engine.run("gabion", &run).ok());
    let ask = ["inspect", "-f", "{{.State.Health.Status}}", "well"];
    let healthy = integration::command::until(integration::command::limit(20), || {
        engine.docker(&ask).out.trim() == "healthy"
    });
    assert!(
        healthy,
        "{}",
        engine.docker(&["inspect", "-f", "{{json .State.Health}}", "well"])
    );
    drop(engine.docker(&["rm", "-f", "well"]).ok());
}

/// gabion's own commands know the container by Docker's name, in the root that dockerd gave the runtime.
fn known_by_name(engine: &Engine, name: &str) {
    let id = engine.docker(&["inspect", "-f", "{{.Id}}", name]).ok().out;
    let runtimes = std::fs::read_dir(engine.dir.join("x")).unwrap().flatten();
    let mut roots = runtimes.map(|runtime| runtime.path().join("moby"));
    let root = roots.find(|root| root.join(id.trim()).is_dir()).expect("its root");
    assert!(
        root.parent()
            .is_some_and(|dir| dir.to_str().unwrap().contains("/x/runtime-")),
        "{}",
        root.display()
    );
    let gabion = |args: &[&str]| {
        let mut command = std::process::Command::new(&integration::Runtime::gabion().program);
        command.arg("--root").arg(&root).args(args);
        integration::command::run(command, &engine.dir).ok().out
    };
    let listed = gabion(&["list"]);
    let end = ["docker", name, IMAGE];
    let shown = |line: &str| line.split_whitespace().collect::<Vec<_>>().ends_with(&end);
    assert!(listed.lines().any(shown), "{listed}");
    assert!(gabion(&["attest", name]).contains(": holds"));
    assert!(gabion(&["events", "--stats", name]).starts_with("{\"type\":\"stats\""));
}

/// A network of the user's: names are found by Docker's own server.
fn networks(engine: &Engine) {
    let made = engine.docker(&["network", "create", "front"]);
    if made.code != 0 {
        integration::left_out(&format!("no network of one's own here: {}", made.err.trim()));
        return;
    }
    drop(
        engine
            .run(
                "gabion",
                &["-d", "--name", "db", "--network", "front", IMAGE, "sleep", "600"],
            )
            .ok(),
    );
    let told = engine.run(
        "gabion",
        &["--rm", "--network", "front", IMAGE, "ping", "-c", "1", "-W", "5", "db"],
    );
    // ping needs a right that is not given: that the name was found is what is asked.
    let found = format!("{}{}", told.out, told.err);
    assert!(found.contains("PING db (") || !found.contains("bad address"), "{found}");
    drop(engine.docker(&["rm", "-f", "db"]).ok());
    drop(engine.docker(&["network", "rm", "front"]).ok());
}

/// What hardened refuses, in Docker's words, each once.
fn refusals(engine: &Engine) {
    let dir = engine.dir.display();
    let root = format!("{dir}/d:/x");
    let socket = format!("{dir}/d.sock:/x");
    let all = format!("{dir}:/x");
    let tasks = format!("{dir}/cs:/x");
    for (options, code, remedy) in [
        (vec!["--privileged"], "devices.allow-all", "remove `--privileged`"),
        (
            vec!["--cap-add", "NET_ADMIN"],
            "capabilities.not-allowed",
            "--cap-add NET_ADMIN",
        ),
        (
            vec!["--network", "host"],
            "namespaces.host-network",
            "remove `--network host`",
        ),
        (vec!["--pid", "host"], "namespaces.host-pid", "remove `--pid host`"),
        (vec!["-v", &root], "mounts.host-path", "remove the `--volume`"),
        (vec!["-v", &all], "mounts.host-path", "remove the `--volume`"),
        (vec!["-v", &tasks], "mounts.host-path", "remove the `--volume`"),
        (vec!["-v", &socket], "mounts.", "remove the `--volume`"),
    ] {
        let mut args = vec!["--rm"];
        args.extend(&options);
        args.extend([IMAGE, "true"]);
        let done = engine.run("gabion", &args).fails_with(125).says(&[code, remedy]);
        assert_eq!(done.err.matches("refused [").count(), 1, "{done}");
        assert!(
            !options.contains(&"--privileged") || !done.err.contains("more:"),
            "{done}"
        );
    }
}
