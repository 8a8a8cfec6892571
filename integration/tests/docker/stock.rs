//! Docker as it is installed, with gabion as its default runtime: the usual directories, iptables, both builders, compose, and gabion's own shim
//! where Docker takes one.

use integration::Done;
use integration::command::{limit, until};

use crate::engine::{Engine, IMAGE, SHIM, Setup, major, unpacked, which};

#[test]
fn gabion_is_the_default_runtime_of_a_stock_docker() {
    let Some(engine) = Engine::start("stock", Setup::Stock) else {
        return;
    };
    let told = engine.docker(&["run", "--rm", IMAGE, "cat", "/proc/self/status"]).ok();
    assert!(told.out.contains("NoNewPrivs:\t1"), "{told}");
    places_to_write(&engine);
    found_without_a_root(&engine);
    a_port_is_published(&engine);
    by_gabions_shim(&engine);
    builds(&engine);
    compose(&engine);
}

fn inside(engine: &Engine, words: &[&str]) -> Done {
    integration::command::run(engine.inside(words), &engine.dir)
}

/// The ways of docs/RECIPES.md for a service that writes to its root: Docker's own, and from Docker 25 on the annotation.
fn places_to_write(engine: &Engine) {
    let line = ["sh", "-c", "echo kept >/srv/a && cat /srv/a"];
    drop(
        engine
            .docker(&[&["run", "--rm", IMAGE][..], &line].concat())
            .fails_with(1),
    );
    let by = |options: &[&str]| engine.docker(&[&["run", "--rm"], options, &[IMAGE], &line].concat());
    assert_eq!(by(&["--tmpfs", "/srv"]).ok().out, "kept\n");
    if major("dockerd").is_some_and(|major| major >= 25) {
        assert_eq!(by(&["--annotation", "dev.gabion.holes=/srv"]).ok().out, "kept\n");
    }
}

/// gabion finds the roots that Docker gives its runtimes, and the container by Docker's name.
fn found_without_a_root(engine: &Engine) {
    drop(
        engine
            .docker(&["run", "-d", "--name", "named", IMAGE, "sleep", "600"])
            .ok(),
    );
    let gabion = integration::Runtime::gabion().program.display().to_string();
    let listed = inside(engine, &[&gabion, "list"]).ok().out;
    let shown = |line: &str| {
        line.split_whitespace()
            .collect::<Vec<_>>()
            .ends_with(&["docker", "named", IMAGE])
    };
    assert!(listed.lines().any(shown), "{listed}");
    let attested = inside(engine, &[&gabion, "attest", "named"]).ok();
    assert!(attested.out.contains(": holds"), "{attested}");
    drop(inside(engine, &[&gabion, "events", "--stats", "named"]).ok());
    drop(engine.docker(&["rm", "-f", "named"]).ok());
}

fn a_port_is_published(engine: &Engine) {
    let run = ["run", "-d", "--name", "port", "-p", "127.0.0.1:8080:8080", IMAGE];
    let serve = ["busybox", "nc", "-ll", "-p", "8080", "-e", "echo", "served"];
    let started = engine.docker(&[&run[..], &serve].concat());
    if started.code != 0 && started.err.contains("iptables") {
        integration::left_out(&format!("no iptables of Docker's here: {}", started.err.trim()));
        return;
    }
    drop(started.ok());
    let answers = until(limit(20), || {
        inside(engine, &["busybox", "nc", "-w", "2", "127.0.0.1", "8080"])
            .out
            .contains("served")
    });
    assert!(answers, "{}", engine.docker(&["logs", "port"]));
    drop(engine.docker(&["rm", "-f", "port"]).ok());
}

/// The same container by gabion's shim: Docker asks containerd for it by its type.
fn by_gabions_shim(engine: &Engine) {
    if !engine.has_shim() {
        integration::left_out("this Docker takes no shim as a runtime");
        return;
    }
    let told = engine.run(
        SHIM,
        &[
            "--rm",
            "-i",
            IMAGE,
            "sh",
            "-c",
            "cat /proc/self/status; echo own >&2; exit 3",
        ],
    );
    assert!(told.code == 3 && told.out.contains("NoNewPrivs:\t1"), "{told}");
    assert_eq!(told.err, "own\n");
    let refused = ["--name", "refused", "--cap-add", "NET_ADMIN", IMAGE, "true"];
    let refused = engine
        .run(SHIM, &refused)
        .fails_with(125)
        .says(&["capabilities.not-allowed", "--cap-add NET_ADMIN"]);
    // Told to Docker, and not to those who read the container's output.
    assert_eq!(refused.err.matches("refused [").count(), 1, "{refused}");
    let logs = engine.docker(&["logs", "refused"]);
    assert!(!format!("{}{}", logs.out, logs.err).contains("refused ["), "{logs}");
    drop(engine.docker(&["rm", "refused"]).ok());
    drop(engine.run(SHIM, &["-d", "--name", "shim", IMAGE, "sleep", "600"]).ok());
    assert_eq!(engine.docker(&["exec", "shim", "echo", "inside"]).ok().out, "inside\n");
    drop(engine.docker(&["rm", "-f", "shim"]).ok());
}

fn build(engine: &Engine, kit: &str, lines: &str) -> Done {
    let context = engine.dir.join("context");
    std::fs::create_dir_all(&context).unwrap();
    std::fs::write(context.join("Dockerfile"), format!("FROM {IMAGE}\n{lines}\n")).unwrap();
    engine.docker_with(
        &[("DOCKER_BUILDKIT", kit)],
        &["build", "-t", "built", context.to_str().unwrap()],
    )
}

/// A step of the builder of old is a container: what it wrote to a hole would silently be missing.
fn builds(engine: &Engine) {
    for line in ["RUN echo v > /var/tmp/model.bin", "RUN true"] {
        let done = build(engine, "0", line);
        assert_ne!(done.code, 0, "{line}: {done}");
        let said = format!("{}{}", done.out, done.err);
        assert!(
            said.contains("rootfs.build") && said.contains("DOCKER_BUILDKIT=1 docker build"),
            "{done}"
        );
    }
    // One that runs nothing, and a container that only looks like a step.
    drop(build(engine, "0", "ENV A=1").ok());
    let id = engine.docker(&["inspect", "-f", "{{.Id}}", IMAGE]).ok().out;
    for options in [&["--log-driver", "none"][..], &["--no-healthcheck"], &[]] {
        let run = [&["run", "--rm"][..], options, &[id.trim(), "true"]].concat();
        drop(engine.docker(&run).ok());
    }
    let done = build(engine, "1", "RUN echo v > /var/tmp/model.bin");
    let said = format!("{}{}", done.out, done.err);
    if done.code != 0
        && [
            "buildx component is missing",
            "rlimit",
            "could not be found",
            "not supported",
        ]
        .iter()
        .any(|why| said.contains(why))
    {
        integration::left_out(&format!(
            "no BuildKit here: {}",
            said.lines().last().unwrap_or_default()
        ));
        return;
    }
    drop(done.ok());
    let read = [
        "run",
        "--rm",
        "--runtime",
        "gabion",
        "built",
        "cat",
        "/proc/self/status",
    ];
    drop(engine.docker(&read).ok());
}

const COMPOSE: &str = r#"
services:
  db:
    image: busybox
    command: sleep 600
    healthcheck: {test: ["CMD", "test", "-e", "/bin/sh"], interval: 1s}
    networks: [back]
  web:
    image: busybox
    command: sh -c "echo up; sleep 600"
    depends_on: {db: {condition: service_healthy}}
    read_only: true
    user: "1000:1000"
    tmpfs: /t
    volumes: ["data:/data"]
    networks: [back]
networks: {back: {}}
volumes: {data: {}}
"#;

fn compose(engine: &Engine) {
    let plugin = unpacked().map(|root| root.join("usr/libexec/docker/cli-plugins/docker-compose"));
    let plugin = plugin.filter(|file| file.is_file());
    let Some(program) = plugin.or_else(|| which("docker-compose")) else {
        integration::left_out("no docker-compose here");
        return;
    };
    engine.write("compose.yml", COMPOSE);
    let call = |words: &[&str]| {
        let mut command = std::process::Command::new(&program);
        command
            .args(["-p", "shop", "-f", engine.dir.join("compose.yml").to_str().unwrap()])
            .args(words);
        command
            .env("DOCKER_HOST", format!("unix://{}/d.sock", engine.dir.display()))
            .env("DOCKER_CONFIG", &engine.dir);
        integration::command::Running::start(command, &engine.dir).wait(limit(60))
    };
    drop(call(&["up", "-d"]).ok());
    let said = until(limit(20), || call(&["logs", "web"]).ok().out.contains("up"));
    assert!(said, "{}", call(&["ps"]));
    assert_eq!(
        call(&["exec", "-T", "web", "sh", "-c", "id -u; touch /t/a && echo written"])
            .ok()
            .out,
        "1000\nwritten\n"
    );
    let found = call(&[
        "exec",
        "-T",
        "web",
        "sh",
        "-c",
        "busybox nslookup db 127.0.0.11 && echo found",
    ]);
    assert!(found.out.contains("found"), "{found}");
    drop(call(&["restart", "-t", "1", "web"]).ok());
    drop(call(&["down", "-v", "-t", "1"]).ok());
}
