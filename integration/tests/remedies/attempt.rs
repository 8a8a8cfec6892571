//! One refusal and what is done about it.

use crate::elsewhere::can_be_met;
use integration::{Bundle, Container, Done, Runtime};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

/// What is tried.
#[derive(Debug, Clone)]
pub(crate) enum Then {
    /// `run`, to its end.
    Run,
    /// `exec` with these flags, and either a program or a process.json.
    Exec {
        flags: Vec<&'static str>,
        program: Vec<&'static str>,
        process: Option<String>,
    },
    /// `update` of a running container.
    Update(String),
}

/// A container to be, and what shall be done with it.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub bundle: Bundle,
    pub level: &'static str,
    /// Further lines of the policy.
    pub policy: String,
    /// Of `run`.
    pub flags: Vec<&'static str>,
    pub then: Then,
}

impl Attempt {
    fn new(code: &str) -> Self {
        let mut bundle = Bundle::new(&code.replace('.', "-"));
        bundle.config.acts(&["cwd"]);
        Self {
            bundle,
            level: "hardened",
            policy: String::new(),
            flags: Vec::new(),
            then: Then::Run,
        }
    }

    pub(crate) fn exec(&mut self, flags: &[&'static str], program: &[&'static str]) {
        self.then = Then::Exec {
            flags: flags.to_vec(),
            program: program.to_vec(),
            process: None,
        };
    }

    /// `exec --process` with this added to an ordinary one.
    pub(crate) fn exec_process(&mut self, key: &str, value: serde_json::Value) {
        let mut process = serde_json::json!({
            "args": ["/usr/bin/probe", "cwd"], "cwd": "/", "env": [], "user": { "uid": 0, "gid": 0 },
        });
        process[key] = value;
        self.then = Then::Exec {
            flags: Vec::new(),
            program: Vec::new(),
            process: Some(process.to_string()),
        };
    }

    pub(crate) fn update(&mut self, limits: &str) {
        self.then = Then::Update(limits.to_owned());
    }

    /// A program on the host, with owner and mode.
    pub(crate) fn program(&self, name: &str, uid: u32, mode: u32) -> String {
        let path = self.bundle.dir.join(name);
        fs::copy("/bin/true", &path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        std::os::unix::fs::chown(&path, Some(uid), None).unwrap();
        path.display().to_string()
    }

    /// The path of a directory of the host that is nothing special.
    pub(crate) fn host_dir(&self, name: &str) -> String {
        self.bundle.host_dir(name).display().to_string()
    }

    fn go(self) -> Done {
        let Self {
            mut bundle,
            level,
            policy,
            flags,
            then,
        } = self;
        let own = if policy.contains("[audit]") {
            String::new()
        } else {
            let file = bundle.dir.join("audit.jsonl");
            format!("\n[audit]\nfile = \"{}\"\n", file.display())
        };
        let policy = format!("level = \"{level}\"\n{policy}{own}").replace("DIR", &bundle.dir.display().to_string());
        if !matches!(then, Then::Run) {
            bundle.config.acts(&["sleep"]);
        }
        let container = Container::of(Runtime::gabion(), bundle).policy_text(&policy);
        match then {
            Then::Run => {
                let bundle = container.path();
                container.op(&[&["run"], flags.as_slice(), &["--bundle", &bundle, container.id()]].concat())
            }
            Then::Exec {
                flags,
                program,
                process,
            } => {
                container.run_detached().ok();
                let file = container.bundle.dir.join("process.json");
                fs::write(&file, process.as_deref().unwrap_or_default()).unwrap();
                let given = ["--process", file.to_str().unwrap()];
                let given = if process.is_some() { given.as_slice() } else { &[] };
                container.op(&[&["exec"], flags.as_slice(), given, &[container.id()], &program].concat())
            }
            Then::Update(limits) => {
                container.run_detached().ok();
                let file = container.bundle.dir.join("limits.json");
                fs::write(&file, limits).unwrap();
                container.op(&["update", "--resources", file.to_str().unwrap(), container.id()])
            }
        }
    }
}

/// A code, a way to it, and the way out of it.
pub(crate) struct Row {
    pub code: &'static str,
    /// What is asked for.
    pub ask: fn(&mut Attempt),
    /// What the remedy says, done after `ask`.
    pub remedy: fn(&mut Attempt),
}

impl Row {
    pub(crate) fn check(&self) {
        if !can_be_met(self.code) {
            integration::left_out(self.code);
            return;
        }
        let mut attempt = Attempt::new(self.code);
        (self.ask)(&mut attempt);
        let dir = attempt.bundle.dir.display().to_string();
        let done = attempt.go();
        // Not always the first one: who shares the host's network has its sysctls, too.
        let words = ["refused [", self.code, "; remedy: "];
        assert!(
            done.code != 0 && words.iter().all(|word| done.err.contains(word)),
            "{} should be refused: {done}",
            self.code
        );
        if let Some(lines) = done
            .err
            .as_str()
            .split_once(self.code)
            .and_then(|(_, said)| printed(said))
        {
            let mut attempt = Attempt::new(self.code);
            (self.ask)(&mut attempt);
            // Each attempt has a directory of its own.
            policy(&mut attempt, &lines.replace(&dir, "DIR"));
            let done = attempt.go();
            assert!(
                !done.err.contains(&format!("refused [{}]", self.code)),
                "{lines}: as it is printed it does not help: {done}"
            );
        }
        let mut attempt = Attempt::new(self.code);
        (self.ask)(&mut attempt);
        (self.remedy)(&mut attempt);
        let done = attempt.go();
        assert!(done.code == 0, "{}: the remedy does not help: {done}", self.code);
    }
}

/// The lines that the message has for the policy of a second name. Those for a pod are tried in tests/tests/remedies.rs.
fn printed(said: &str) -> Option<String> {
    let (first, _) = said.split_once("refused [").unwrap_or((said, ""));
    let (_, rest) = first.split_once("(docs/POLICY.md): ")?;
    let (line, _) = rest.split_once(" in /etc/gabion/runtimes/NAME.toml")?;
    Some(format!("\n{}\n", line.replacen("] ", "]\n", 1)))
}

pub(crate) fn set(attempt: &mut Attempt, pointer: &str, value: serde_json::Value) {
    attempt.bundle.config.set(pointer, value);
}

pub(crate) fn push(attempt: &mut Attempt, pointer: &str, value: serde_json::Value) {
    attempt.bundle.config.push(pointer, value);
}

pub(crate) fn remove(attempt: &mut Attempt, pointer: &str) {
    attempt.bundle.config.remove(pointer);
}

pub(crate) fn policy(attempt: &mut Attempt, text: &str) {
    attempt.policy.push_str(text);
}
