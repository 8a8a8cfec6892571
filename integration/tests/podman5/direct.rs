//! gabion by hand in a user's session: `spec --rootless`, and the user's own systemd for the cgroup.

use crate::session::Session;
use integration::command::{Running, limit};
use integration::{Bundle, Done, Runtime, leaks};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

struct Direct {
    bundle: Bundle,
    session: Session,
}

impl Direct {
    fn new(test: &str) -> Option<Self> {
        let session = Session::new()?;
        let direct = Self {
            bundle: Bundle::with_busybox(test),
            session,
        };
        let dir = &direct.bundle.dir;
        let program = &Runtime::gabion().program;
        fs::copy(program, dir.join("gabion")).unwrap();
        fs::copy(program.with_file_name("gabionctl"), dir.join("gabionctl")).unwrap();
        direct.session.give(&direct.bundle.bundle());
        let bundle = direct.bundle.bundle().display().to_string();
        direct.gabion(&["spec", "--rootless", "--bundle", &bundle]).ok();
        Some(direct)
    }

    fn gabion(&self, words: &[&str]) -> Done {
        self.with_env(&[], words)
    }

    fn with_env(&self, env: &[String], words: &[&str]) -> Done {
        let program = self.bundle.dir.join("gabion");
        Running::start(self.session.command(env, &program, words), &self.bundle.dir).wait(limit(60))
    }

    fn set(&self, args: &[&str], resources: Value) {
        let path = self.bundle.bundle().join("config.json");
        let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(args);
        config["linux"]["resources"] = resources;
        fs::write(path, config.to_string()).unwrap();
    }

    fn run(&self, global: &[&str], more: &[&str]) -> Done {
        let bundle = self.bundle.bundle().display().to_string();
        self.gabion(&[global, &["run", "--bundle", &bundle], more, &[self.id()]].concat())
    }

    fn id(&self) -> &str {
        &self.bundle.name
    }

    fn scope(&self) -> PathBuf {
        let name = format!("user.slice/gabion-{}.scope", self.id());
        self.session.delegated().join(name)
    }

    fn file(&self, name: &str) -> String {
        let path = self.scope().join(name);
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        text.trim().to_owned()
    }

    fn checked(&self, global: &[&str], control: &str) -> Value {
        let bundle = self.bundle.bundle().display().to_string();
        let words = [global, &["check", "--format", "json", &bundle]].concat();
        let done = self.gabion(&words);
        let report: Value = serde_json::from_str(&done.out).unwrap_or_else(|_| panic!("{done}"));
        let decisions = report["decisions"].as_array().unwrap();
        decisions.iter().find(|d| d["control"] == control).unwrap().clone()
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        self.gabion(&["delete", "--force", self.id()]);
        if !std::thread::panicking() {
            let left = leaks::of(&self.bundle);
            assert!(left.is_empty(), "left behind: {left:#?}");
        }
    }
}

const SYSTEMD: &[&str] = &["--systemd-cgroup"];

#[test]
fn limits_hold_in_a_scope_of_the_user_s_systemd() {
    let Some(direct) = Direct::new("direct-limits") else {
        return;
    };
    let resources = json!({ "memory": { "limit": 64 << 20 }, "pids": { "limit": 20 }, "cpu": { "shares": 1024 } });
    direct.set(&["/bin/sleep", "600"], resources);
    direct.run(SYSTEMD, &["--detach"]).ok();
    let pid: Value = serde_json::from_str(&direct.gabion(&["state", direct.id()]).ok().out).unwrap();
    assert_eq!(direct.file("cgroup.procs"), pid["pid"].to_string());
    for (name, value) in [
        ("memory.max", "67108864"),
        ("memory.swap.max", "0"),
        ("pids.max", "20"),
        ("cpu.weight", "100"),
    ] {
        assert_eq!(direct.file(name), value, "{name}");
    }
    direct.gabion(&["update", "--pids-limit", "15", direct.id()]).ok();
    assert_eq!(direct.file("pids.max"), "15");
    // Twenty at once are too many.
    let many = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do sleep 1 & done; wait";
    let done = direct.gabion(&["exec", direct.id(), "sh", "-c", many]);
    assert!(done.code != 0 && done.err.contains("can't fork"), "{done}");
    let attest = direct.gabion(&["attest", direct.id()]).ok();
    assert!(attest.out.contains("pids.max"), "{attest}");
    direct.gabion(&["pause", direct.id()]).ok();
    assert_eq!(direct.file("cgroup.freeze"), "1");
    direct.gabion(&["resume", direct.id()]).ok();
    let events = direct.gabion(&["events", "--stats", direct.id()]).ok();
    assert!(events.out.contains(r#""limit":15"#), "{events}");
    direct.gabion(&["delete", "--force", direct.id()]).ok();
    assert!(!direct.scope().exists());
}

#[test]
fn what_gabion_adds_is_had_where_it_is_delegated_and_warned_of_elsewhere() {
    let Some(direct) = Direct::new("direct-adds") else {
        return;
    };
    direct.set(&["/bin/cat", "/proc/self/cgroup"], json!({}));
    let added = direct.checked(SYSTEMD, "cgroup");
    assert_eq!(added["verdict"], "added", "{added}");
    // No user is given a device program.
    assert_eq!(direct.checked(SYSTEMD, "devices")["verdict"], "warned");
    direct.run(SYSTEMD, &[]).ok();
    // Without the flag nobody makes a cgroup.
    assert_eq!(direct.checked(&[], "cgroup")["verdict"], "warned");
    direct.run(&[], &[]).ok();
}

#[test]
fn what_is_asked_and_cannot_be_had_is_refused() {
    let Some(direct) = Direct::new("direct-asks") else {
        return;
    };
    // A user's systemd is given cpu, memory and pids.
    direct.set(&["/bin/true"], json!({ "cpu": { "cpus": "0" } }));
    direct
        .run(SYSTEMD, &[])
        .fails_with(1)
        .says(&["refused [cgroup.controller-missing]", "delegate the controller"]);
    direct.set(&["/bin/true"], json!({ "pids": { "limit": 20 } }));
    direct
        .run(&[], &[])
        .fails_with(1)
        .says(&["refused [cgroup.controller-missing]"]);
    // Asked for, and no bus to ask.
    let bundle = direct.bundle.bundle().display().to_string();
    let run = direct.bundle.bundle().join("run");
    fs::create_dir(&run).unwrap();
    direct.session.give(&run);
    let nowhere = [
        "DBUS_SESSION_BUS_ADDRESS=unix:path=/nowhere".to_owned(),
        format!("XDG_RUNTIME_DIR={}", run.display()),
    ];
    let words = ["--systemd-cgroup", "run", "--bundle", &bundle, direct.id()];
    direct.with_env(&nowhere, &words).fails_with(1).says(&["systemd"]);
    assert_eq!(direct.with_env(&nowhere, &["list", "--quiet"]).ok().out, "");
}
