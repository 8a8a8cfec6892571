//! Recipes that are no services: an init container that brings the program, and a build in a volume.

use crate::stand::{root, with_policy};
use integration::{Bundle, Done, Podman};
use std::fs;

const TOOL_SAYS: &str = "/tools/sh: Permission denied";
const ENTRYPOINT_SAYS: &str = "refused [mounts.entrypoint-noexec]";
const READ_ONLY: &str = "tools:/tools:ro";
const EXEC: &str = "tools:/tools:exec";
const EXEC_PATHS: &str = "exec_paths = [\"/tools\"]";
const BUILD: &str = ".:/src:exec";
const BUILD_SAYS: &str = "./hello: Permission denied";

/// What docs/RECIPES.md has in these words.
pub(crate) const QUOTED: &[&str] = &[
    TOOL_SAYS,
    ENTRYPOINT_SAYS,
    READ_ONLY,
    EXEC,
    EXEC_PATHS,
    BUILD,
    BUILD_SAYS,
];

/// The pod of docs/RECIPES.md: what the first container copies into the volume, the second has at /tools, by these words for podman.
fn pod(policy: Option<&str>, volume: &str, command: &[&str]) -> Option<Done> {
    let podman = with_policy(Podman::new("init-container", "hardened")?, policy);
    let (pod, main) = (podman.name("app"), podman.name("main"));
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
    let create = |words: &[&str]| podman.call(&[&["create", "--pod", &pod], words].concat()).ok();
    create(&[
        "--init-ctr",
        "always",
        "-v",
        "tools:/tools",
        "img",
        "busybox",
        "cp",
        "/usr/bin/busybox",
        "/tools/sh",
    ]);
    create(
        &[
            &["--name", &main, "--log-driver", "k8s-file", "-v", volume, "img"],
            command,
        ]
        .concat(),
    );
    let started = podman.call(&["pod", "start", &pod]);
    if started.code != 0 {
        return Some(started);
    }
    let code = podman.call(&["wait", &main]).ok().out;
    let mut done = podman.call(&["logs", &main]);
    done.code = code.trim().parse().expect("an exit code");
    Some(done)
}

const TOOL: &[&str] = &["/tools/sh", "-c", "echo the tool runs"];

/// By a shell of the image, which gabion cannot tell from any other program.
const TOOL_BY_SHELL: &[&str] = &["sh", "-c", "/tools/sh -c 'echo the tool runs'"];

#[test]
fn what_an_init_container_brings_runs_where_it_is_mounted_read_only() {
    for command in [TOOL, TOOL_BY_SHELL] {
        let Some(done) = pod(None, READ_ONLY, command) else {
            return;
        };
        assert_eq!(done.ok().out, "the tool runs\n");
    }
}

/// Without a pod: podman's own first container of one is root's.
#[test]
fn at_restricted_too() {
    let Some(podman) = Podman::new("init-restricted", "restricted") else {
        return;
    };
    let podman = with_policy(podman, None);
    let run = |volume: &str, words: &[&str]| {
        let options = ["run", "--rm", "--network", "none", "-u", "1000", "-v", volume, "img"];
        podman.call(&[&options[..], words].concat())
    };
    run("tools:/tools", &["busybox", "cp", "/usr/bin/busybox", "/tools/sh"]).ok();
    assert_eq!(run(READ_ONLY, TOOL).ok().out, "the tool runs\n");
    let done = run(EXEC, TOOL);
    assert_ne!(done.code, 0, "{done}");
    done.says(&["refused [mounts.exec]"]);
}

#[test]
fn what_an_init_container_brings_does_not_run_where_it_can_be_written() {
    let Some(done) = pod(None, "tools:/tools", TOOL) else {
        return;
    };
    assert_ne!(done.code, 0, "{done}");
    done.says(&[ENTRYPOINT_SAYS]);
    let done = pod(None, "tools:/tools", TOOL_BY_SHELL).expect("podman");
    done.fails_with(126).says(&[TOOL_SAYS]);
}

#[test]
fn what_an_init_container_brings_runs_by_exception() {
    let Some(done) = pod(None, EXEC, TOOL) else {
        return;
    };
    assert_eq!(done.ok().out, "the tool runs\n");
    let policy = format!("[mounts]\n{EXEC_PATHS}\n");
    let done = pod(Some(&policy), "tools:/tools", TOOL).expect("podman");
    assert_eq!(done.ok().out, "the tool runs\n");
}

/// The build of docs/RECIPES.md: it makes a program and runs it, as tests and generators do.
fn build(level: &str, volume: &str) -> Option<Done> {
    let root = root()?;
    let podman = with_policy(Podman::without_image(Bundle::new("build"), level)?, None);
    let source = podman.bundle.host_dir("src");
    fs::write(
        source.join("hello.c"),
        "#include <stdio.h>\nint main(void) { puts(\"built\"); }\n",
    )
    .unwrap();
    fs::write(
        source.join("Makefile"),
        "check: hello\n\t./hello\nhello: hello.c\n\ttcc -o $@ $<\n",
    )
    .unwrap();
    let volume = volume.replacen('.', source.to_str().unwrap(), 1);
    let root = root.to_str().unwrap().to_owned();
    let options = [
        "run",
        "--rm",
        "--network",
        "none",
        "-u",
        "nobody",
        "-w",
        "/src",
        "-v",
        &volume,
    ];
    Some(podman.call(&[&options[..], &["--rootfs", &root, "make", "check"]].concat()))
}

#[test]
fn a_build_runs_what_it_built_in_a_volume_with_exec() {
    let Some(done) = build("hardened", BUILD) else {
        return;
    };
    assert_eq!(done.ok().out, "tcc -o hello hello.c\n./hello\nbuilt\n");
    let done = build("hardened", ".:/src").expect("podman");
    assert_ne!(done.code, 0, "{done}");
    done.says(&[BUILD_SAYS]);
    let done = build("restricted", BUILD).expect("podman");
    assert_ne!(done.code, 0, "{done}");
    done.says(&["refused [mounts.exec]"]);
}
