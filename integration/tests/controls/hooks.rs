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
