//! `hooks`: code that runs as root outside the container is the host's own.

use crate::{check, hardens, refused};
use integration::{Bundle, Case, Container, Policy};
use serde_json::json;
use std::os::unix::fs::PermissionsExt as _;

fn hook(bundle: &mut Bundle, mode: u32, owner: u32) {
    let path = bundle.dir.join("hook");
    std::fs::write(&path, "#!/bin/sh\nexec cat >/dev/null\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    std::os::unix::fs::chown(&path, Some(owner), None).unwrap();
    bundle.config.push("/hooks/createRuntime", json!({ "path": path }));
}

const fn row(name: &'static str, prepare: fn(&mut Bundle)) -> Case {
    Case {
        control: "hooks",
        name,
        prepare,
        act: "cwd",
        expect: refused("hooks."),
        covered_by: &[],
    }
}

pub(crate) const CASES: &[Case] = &[
    row("writable-by-others", |b| hook(b, 0o757, 0)),
    row("writable-by-group", |b| hook(b, 0o775, 0)),
    row("owned-by-another", |b| hook(b, 0o755, 1000)),
    row("not-named", |b| hook(b, 0o755, 0)),
    row("a-shell", |b| {
        let path = b.dir.join("made");
        let script = format!("cat >/dev/null; touch {}", path.display());
        let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script] });
        b.config.push("/hooks/createRuntime", hook);
    }),
];

#[test]
fn each_alone() {
    check(CASES);
}

/// Without an environment of its own, a hook of the host has the runtime's, and of that nothing that loads code. With the rule off it has all.
#[test]
fn no_code_comes_in_by_the_callers_environment() {
    if !hardens() {
        return;
    }
    for (kind, hardened) in [
        ("createRuntime", true),
        ("createContainer", true),
        ("createRuntime", false),
        ("createContainer", false),
    ] {
        let mut bundle = Bundle::new("hook-callers-env");
        let (path, log) = (bundle.dir.join("hook"), bundle.dir.join("log"));
        std::fs::write(&path, format!("#!/bin/sh\nexport -p > {}\n", log.display())).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        bundle.config.push(&format!("/hooks/{kind}"), json!({ "path": path }));
        bundle.config.push("/process/env", json!("BASH_ENV=/image"));
        let policy = if hardened {
            Policy::hardened()
        } else {
            Policy::permissive()
        };
        let allow = format!("hooks.allow = [{path:?}]");
        let mut container = Container::new(bundle)
            .policy(&policy.line(&allow))
            .env("BASH_ENV", "/callers")
            .env("FROM", "caller");
        container.acts(&["cwd"]).ok("cwd");
        let told = std::fs::read_to_string(log).unwrap();
        let callers = kind == "createRuntime";
        assert_eq!(told.contains("FROM="), callers, "{told}");
        assert_eq!(told.contains("BASH_ENV="), !hardened, "{kind} {told}");
        assert_eq!(told.contains("/image"), !callers && !hardened, "{kind} {told}");
    }
}

/// What the policy names runs, as the spec says.
#[test]
fn a_hook_that_the_policy_names_runs() {
    if !hardens() {
        return;
    }
    let mut bundle = Bundle::new("hook-named");
    let (path, made) = (bundle.dir.join("hook"), bundle.dir.join("made"));
    std::fs::write(&path, "#!/bin/sh\ncat >/dev/null\n/bin/touch \"$1\"\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let hook = json!({ "path": path, "args": ["hook", made] });
    bundle.config.push("/hooks/createRuntime", hook);
    let allow = format!("hooks.allow = [{path:?}]");
    let mut container = Container::new(bundle).policy(&Policy::hardened().line(&allow));
    container.acts(&["cwd"]).ok("cwd");
    assert!(made.exists());
}

/// A program that runs and does not end by itself, as `dockerd` does: echo, whose pipe nobody reads. As a hook it ends at once, whatever it is told.
struct Engine {
    child: std::process::Child,
    program: std::path::PathBuf,
}

impl Engine {
    fn start(dir: &std::path::Path, of: &str, mode: u32) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let program = dir.join("dockerd");
        std::fs::copy(of, &program).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(mode)).unwrap();
        let mut command = std::process::Command::new(&program);
        command.arg("x".repeat(100_000)).stdout(std::process::Stdio::piped());
        let child = command.spawn().unwrap();
        Self { child, program }
    }

    fn hook(&self, id: &str) -> serde_json::Value {
        let args = ["libnetwork-setkey", "-exec-root=/var/run/docker", id, "99ebbd3ea5c9"];
        json!({ "path": format!("/proc/{}/exe", self.child.id()), "args": args })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// How a hook is made other than Docker's.
type Forge<'a> = &'a dyn Fn(&Engine, &mut serde_json::Value);

/// dockerd's hook is the program of a process: it is judged by where it leads, and by all that Docker writes of it.
#[test]
fn dockers_hook_and_no_other_process() {
    if !hardens() {
        return;
    }
    let attempt = |change: Forge<'_>, allow: &str| {
        let bundle = Bundle::new("hook-docker");
        let engine = Engine::start(&bundle.dir.join("bin"), "/bin/echo", 0o755);
        let allow = allow.replace("OWN", engine.program.to_str().unwrap());
        let policy = Policy::hardened().line(&format!("hooks.allow = [{allow}]"));
        let mut container = Container::new(bundle).policy(&policy);
        let mut hook = engine.hook(container.id());
        change(&engine, &mut hook);
        container.bundle.config.push("/hooks/prestart", hook);
        container.bundle.config.acts(&["cwd"]);
        container.bundle.write_config();
        let done = container.run();
        // Before the container looks for what is left behind.
        drop(engine);
        done
    };
    // The positive control: Docker's own, where an operator says that it is.
    drop(attempt(&|_, _| {}, "\"OWN\"").ok());
    let refused: [(&str, Forge<'_>, &str); 9] = [
        ("gabion's own", &|_, h| h["path"] = json!("/proc/self/exe"), "\"OWN\""),
        ("not named, and where no distribution has it", &|_, _| {}, ""),
        ("only /proc named", &|_, _| {}, "\"/proc\""),
        (
            "another's process",
            &|_, h| h["path"] = json!(format!("/proc/{}/exe", std::process::id())),
            "\"OWN\"",
        ),
        (
            "other arguments",
            &|_, h| h["args"][1] = json!("--config-file=/tmp/x"),
            "\"OWN\"",
        ),
        ("another container", &|_, h| h["args"][2] = json!("another"), "\"OWN\""),
        (
            "an environment",
            &|_, h| h["env"] = json!(["DOCKER_TMPDIR=/tmp"]),
            "\"OWN\"",
        ),
        (
            "by the root of a process",
            &|e, h| h["path"] = json!(format!("/proc/self/root{}", e.program.display())),
            "\"OWN\", \"/proc\", \"/\"",
        ),
        (
            "exchanged meanwhile",
            &|e, _| {
                std::fs::remove_file(&e.program).unwrap();
                std::fs::copy("/bin/true", &e.program).unwrap();
            },
            "\"OWN\"",
        ),
    ];
    for (name, change, allow) in refused {
        let done = attempt(change, allow);
        assert!(done.err.contains("refused [hooks.not-allowed]"), "{name}: {}", done.err);
    }
    let open = |engine: &Engine, _: &mut serde_json::Value| {
        let dir = engine.program.parent().unwrap();
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o777)).unwrap();
    };
    attempt(&open, "\"OWN\"")
        .fails_with(1)
        .says(&["hooks.writable-by-others"]);
    let users = |engine: &Engine, _: &mut serde_json::Value| {
        std::os::unix::fs::chown(&engine.program, Some(1000), None).unwrap();
    };
    attempt(&users, "\"OWN\"").says(&["hooks.wrong-owner"]);
}
