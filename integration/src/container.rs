//! A container of the runtime under test, and the promise that nothing of it is left.

use crate::command::{Running, limit, run};
use crate::outcome::answers;
use crate::{Bundle, Done, Outcome, Policy, Runtime, leaks};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

#[derive(Debug)]
pub struct Container {
    pub bundle: Bundle,
    pub runtime: Runtime,
    globals: Vec<String>,
    env: Vec<(String, String)>,
}

impl Container {
    pub fn new(bundle: Bundle) -> Self {
        Self::of(Runtime::under_test(), bundle)
    }

    pub fn of(runtime: &Runtime, mut bundle: Bundle) -> Self {
        let mut globals = vec!["--root".to_owned(), bundle.state().display().to_string()];
        if crate::cgroup::by_systemd() && bundle.give_to_systemd() {
            globals.push("--systemd-cgroup".to_owned());
        }
        bundle.write_config();
        Self {
            bundle,
            runtime: runtime.clone(),
            globals,
            env: Vec::new(),
        }
    }

    /// A stand-in knows no policy and is run without one.
    #[must_use]
    pub fn policy(self, policy: &Policy) -> Self {
        let audit = format!(
            "\n[audit]\nfile = \"{}\"\n",
            self.bundle.dir.join("audit.jsonl").display()
        );
        self.policy_text(&(policy.to_toml() + &audit))
    }

    #[must_use]
    pub fn policy_text(mut self, text: &str) -> Self {
        if self.runtime.hardens {
            let path = self.bundle.dir.join("policy.toml");
            fs::write(&path, text).expect("policy file");
            fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("mode");
            self.globals
                .retain(|word| word != "--policy" && *word != path.display().to_string());
            self.globals.extend(["--policy".to_owned(), path.display().to_string()]);
        }
        self
    }

    #[must_use]
    pub fn global(mut self, args: &[&str]) -> Self {
        self.globals.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }

    pub fn id(&self) -> &str {
        &self.bundle.name
    }

    /// The runtime with its global options and these words.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.runtime.program);
        command.args(&self.globals).args(args).envs(self.env.iter().cloned());
        command
    }

    #[track_caller]
    pub fn op(&self, args: &[&str]) -> Done {
        run(self.command(args), &self.bundle.dir)
    }

    /// Like `op`, for commands that stay.
    pub fn spawn(&self, args: &[&str]) -> Running {
        Running::start(self.command(args), &self.bundle.dir)
    }

    pub fn path(&self) -> String {
        self.bundle.bundle().display().to_string()
    }

    #[track_caller]
    pub fn create(&self) -> Done {
        self.op(&["create", "--bundle", &self.path(), self.id()])
    }

    #[track_caller]
    pub fn start(&self) -> Done {
        self.op(&["start", self.id()])
    }

    /// In the foreground, to the end.
    #[track_caller]
    pub fn run(&self) -> Done {
        self.op(&["run", "--bundle", &self.path(), self.id()])
    }

    #[track_caller]
    pub fn run_detached(&self) -> Done {
        self.op(&["run", "--detach", "--bundle", &self.path(), self.id()])
    }

    #[track_caller]
    pub fn kill(&self, signal: &str) -> Done {
        self.op(&["kill", self.id(), signal])
    }

    #[track_caller]
    pub fn delete(&self) -> Done {
        self.op(&["delete", self.id()])
    }

    #[track_caller]
    pub fn exec(&self, args: &[&str]) -> Done {
        let words: Vec<&str> = ["exec", self.id()].into_iter().chain(args.iter().copied()).collect();
        self.op(&words)
    }

    /// Acts of a second process in the container.
    #[track_caller]
    pub fn exec_acts(&self, acts: &[&str]) -> BTreeMap<String, String> {
        let words: Vec<&str> = std::iter::once("/usr/bin/probe").chain(acts.iter().copied()).collect();
        answers(&self.exec(&words).ok().out)
    }

    #[track_caller]
    pub fn state(&self) -> Value {
        let done = self.op(&["state", self.id()]).ok();
        serde_json::from_str(&done.out).unwrap_or_else(|error| panic!("state is no JSON: {error}: {done}"))
    }

    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    pub fn wait_status(&self, status: &str) {
        let so = crate::command::until(limit(10), || {
            let state: Value = serde_json::from_str(&self.op(&["state", self.id()]).out).unwrap_or_default();
            state["status"] == status
        });
        assert!(so, "the container is not {status}: {}", self.op(&["state", self.id()]));
    }

    #[track_caller]
    pub fn pid(&self) -> i32 {
        let state = self.state();
        state["pid"]
            .as_i64()
            .and_then(|pid| i32::try_from(pid).ok())
            .unwrap_or_else(|| panic!("no pid in {state}"))
    }

    /// Makes the acts as the workload of a foreground container.
    #[track_caller]
    pub fn acts(&mut self, acts: &[&str]) -> Outcome {
        self.bundle.config.acts(acts);
        self.bundle.write_config();
        Outcome::of(&self.run())
    }

    /// Reads one value of the container's cgroup, by v1's names, in v1's or v2's place.
    pub fn cgroup(&self, controller: &str, file: &str) -> Option<String> {
        let file = crate::cgroup::file(file);
        let found = leaks::cgroups(&self.bundle.name).into_iter().find(|path| {
            let below = path
                .strip_prefix("/sys/fs/cgroup")
                .ok()
                .and_then(|path| path.components().next());
            below.is_some_and(|first| {
                first
                    .as_os_str()
                    .to_string_lossy()
                    .split(',')
                    .any(|name| name == controller)
            }) || path.join("cgroup.controllers").exists() && path.join(file).exists()
        })?;
        fs::read_to_string(found.join(file))
            .ok()
            .map(|text| text.trim().to_owned())
    }

    /// Fails the test if a mount, cgroup, process or state is left.
    #[track_caller]
    pub fn nothing_left(&self) {
        let left = leaks::of(&self.bundle);
        assert!(left.is_empty(), "left behind: {left:#?}");
    }
}

/// Whatever the test did or failed to do: the container goes, and its going is checked.
impl Drop for Container {
    fn drop(&mut self) {
        let gone = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.op(&["delete", "--force", self.id()]);
            leaks::of(&self.bundle)
        }));
        if matches!(&gone, Ok(left) if left.is_empty()) {
            return;
        }
        leaks::scrub(&self.bundle);
        if std::thread::panicking() {
            eprintln!("left behind after the failure: {gone:?}");
        } else {
            panic!("left behind: {gone:#?}");
        }
    }
}
