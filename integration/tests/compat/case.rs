//! A row and what is done with it.

use crate::patch;
use crate::peers::Peer;
use integration::{Bundle, Container, Policy, Runtime, unified};
use serde_json::Value;
use std::os::unix::fs::symlink;

/// Busybox's applets that scripts use, beside the harness's own.
const APPLETS: [&str; 40] = [
    "awk",
    "basename",
    "chmod",
    "chown",
    "cut",
    "dd",
    "dmesg",
    "dnsdomainname",
    "env",
    "expr",
    "find",
    "grep",
    "head",
    "hostname",
    "ionice",
    "kill",
    "ln",
    "mknod",
    "mount",
    "mv",
    "od",
    "printf",
    "ps",
    "pwd",
    "readlink",
    "rm",
    "rmdir",
    "sed",
    "seq",
    "sort",
    "stat",
    "sysctl",
    "tail",
    "test",
    "touch",
    "tr",
    "umount",
    "uname",
    "uniq",
    "wc",
];

/// What a case tells: text, and how it ended.
type Drive = fn(&Container) -> String;

#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// File and heading of the runtime spec.
    pub(crate) section: &'static str,
    pub(crate) patch: Value,
    pub(crate) script: &'static str,
    drive: Option<Drive>,
    setup: Option<fn(&mut Bundle)>,
    /// Files of the container's cgroup that are read from outside: controller and name.
    cgroup: &'static [(&'static str, &'static str)],
    /// The container is created and not run.
    reads_cgroup: bool,
    peers: Vec<Peer>,
    /// Must be in what gabion tells: a case in which all fail alike proves nothing.
    shows: Vec<&'static str>,
    /// Deleted by the self-check.
    pub(crate) field: Option<&'static str>,
    /// Left out where the machine cannot do it, with a look that says so.
    only_if: Option<fn() -> bool>,
}

impl Case {
    pub(crate) fn new(section: &'static str, name: &'static str, patch: Value, script: &'static str) -> Self {
        Self {
            name,
            section,
            patch,
            script,
            drive: None,
            setup: None,
            cgroup: &[],
            reads_cgroup: false,
            peers: vec![Peer::Runc, Peer::Crun],
            shows: Vec::new(),
            field: None,
            only_if: None,
        }
    }

    pub(crate) fn field(mut self, pointer: &'static str) -> Self {
        self.field = Some(pointer);
        self
    }

    pub(crate) fn drive(mut self, drive: Drive) -> Self {
        self.drive = Some(drive);
        self
    }

    pub(crate) fn cgroup(mut self, files: &'static [(&'static str, &'static str)]) -> Self {
        self.cgroup = files;
        self.reads_cgroup = true;
        self
    }

    pub(crate) fn setup(mut self, setup: fn(&mut Bundle)) -> Self {
        self.setup = Some(setup);
        self
    }

    pub(crate) fn shows(mut self, text: &'static str) -> Self {
        self.shows.push(text);
        self
    }

    /// Only compared with runc: docs/RUNC-COMPAT.md says what crun does.
    pub(crate) fn runc(mut self) -> Self {
        self.peers = vec![Peer::Runc];
        self
    }

    pub(crate) fn crun(mut self) -> Self {
        self.peers = vec![Peer::Crun];
        self
    }

    /// Compared with nobody: the runtimes here are older than the field, or do it otherwise. `shows` must say what is expected.
    pub(crate) fn alone(mut self) -> Self {
        self.peers.clear();
        self
    }

    /// cgroup v2 has no such limit, and gabion says so; others leave it out.
    pub(crate) fn error_on_v2(mut self) -> Self {
        if unified() {
            self = self.alone();
            self.shows = vec!["create 1"];
        }
        self
    }

    /// Not compared with a version of a peer that has a fault there: docs/RUNC-COMPAT.md says which.
    pub(crate) fn but(mut self, faulty: Peer, version: &[u32]) -> Self {
        self.peers
            .retain(|peer| *peer != faulty || !peer.is_there() || !peer.version().starts_with(version));
        self
    }

    /// On v2 the older peers do it otherwise: docs/RUNC-COMPAT.md says how.
    pub(crate) fn alone_on_v2(mut self) -> Self {
        if unified() {
            self.peers.clear();
        }
        self
    }

    /// Tells a weight of CPU time, which older runtimes make of shares in another way.
    pub(crate) fn weighs(mut self) -> Self {
        self.peers.retain(|peer| peer.weighs_alike());
        self
    }

    pub(crate) fn only_if(mut self, look: fn() -> bool) -> Self {
        self.only_if = Some(look);
        self
    }

    fn can_run(&self) -> bool {
        let can = self.only_if.is_none_or(|look| look());
        if !can {
            integration::left_out(self.name);
        }
        can
    }

    fn bundle(&self, without: Option<&str>) -> Bundle {
        let mut bundle = Bundle::with_busybox(&format!("compat-{}", self.name));
        let bin = bundle.rootfs().join("usr/bin");
        for applet in APPLETS {
            // Some are there already.
            symlink("busybox", bin.join(applet)).ok();
        }
        if !self.script.is_empty() {
            bundle.config.args(&["/bin/sh", "-c", self.script]);
        }
        if let Some(setup) = self.setup {
            setup(&mut bundle);
        }
        let patch = serde_json::to_string(&self.patch).unwrap();
        let patch = patch
            .replace("@DIR@", &bundle.dir.display().to_string())
            .replace("@NAME@", &bundle.name);
        patch::merge(&mut bundle.config.0, &serde_json::from_str(&patch).unwrap());
        if let Some(pointer) = without {
            patch::delete(&mut bundle.config.0, pointer);
        }
        bundle
    }

    /// What is told, with this test's own names made equal.
    fn told(&self, runtime: &Runtime, without: Option<&str>) -> String {
        let bundle = self.bundle(without);
        let (name, dir) = (bundle.name.clone(), bundle.dir.display().to_string());
        let container = Container::of(runtime, bundle).policy(&Policy::permissive());
        let text = match self.drive {
            Some(drive) => drive(&container),
            None if self.reads_cgroup => self.read_cgroup(&container),
            None => {
                let done = container.run();
                // A runtime's own words are its own; that it failed is not.
                let words = if done.code == 0 {
                    String::new()
                } else {
                    excerpt(&done.err)
                };
                format!("{}exit {}{words}", done.out, done.code)
            }
        };
        if !runtime.hardens {
            // What they leave behind when they fail is not ours to judge, nor to keep.
            container.op(&["delete", "--force", container.id()]);
            integration::leaks::scrub(&container.bundle);
            std::fs::remove_dir_all(container.bundle.state()).ok();
        }
        text.replace(&dir, "DIR").replace(&name, "NAME")
    }

    fn read_cgroup(&self, container: &Container) -> String {
        let created = container.create();
        let mut text = format!("create {}{}\n", created.code, excerpt(&created.err));
        for (controller, file) in self.cgroup {
            let value = container.cgroup(controller, file).unwrap_or_else(|| "none".to_owned());
            let mut lines: Vec<&str> = value.lines().collect();
            lines.sort_unstable();
            text += &format!("{file}: {}\n", lines.join("; "));
        }
        text
    }

    pub(crate) fn same_everywhere(&self) -> Result<(), String> {
        if !self.can_run() {
            return Ok(());
        }
        let ours = self.told(Runtime::gabion(), None);
        let alone = std::env::var_os("GABION_COMPAT_CASE").is_some();
        if alone {
            eprintln!("--- gabion\n{ours}");
        }
        let mut wrong = Vec::new();
        wrong.extend(
            self.shows
                .iter()
                .filter(|text| !ours.contains(**text))
                .map(|text| format!("does not show {text:?}")),
        );
        for peer in self.peers.iter().filter(|p| p.is_there()) {
            let mut theirs = self.told(&peer.runtime(), None);
            // Peers have faults of their own that come and go: crun fails where a hook ends before it has read its state. They
            // are asked again; gabion is not.
            for _ in 0..2 {
                if comparable(&theirs) != comparable(&ours) {
                    theirs = self.told(&peer.runtime(), None);
                }
            }
            if alone {
                eprintln!("--- {}\n{theirs}", peer.name());
            }
            if comparable(&theirs) != comparable(&ours) {
                wrong.push(format!("{}:\n{}", peer.name(), difference(&ours, &theirs)));
            }
        }
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(format!("{}\n  gabion told: {}", wrong.join("\n"), indent(&ours)))
        }
    }

    pub(crate) fn deleted_field_shows(&self) -> Result<(), String> {
        let Some(pointer) = self.field.filter(|_| self.can_run()) else {
            return Ok(());
        };
        let with = self.told(Runtime::gabion(), None);
        // What changes from run to run would look like a difference. With peers, the comparison has shown that it does not.
        if self.peers.is_empty() && comparable(&with) != comparable(&self.told(Runtime::gabion(), None)) {
            return Err(format!("it tells something else each time: {}", indent(&with)));
        }
        let without = self.told(Runtime::gabion(), Some(pointer));
        if comparable(&with) == comparable(&without) {
            return Err(format!("without {pointer} it tells the same: {}", indent(&with)));
        }
        Ok(())
    }
}

/// The last line of what a runtime said.
fn excerpt(err: &str) -> String {
    format!("\nsaid: {}", err.lines().last().unwrap_or_default())
}

/// All but a runtime's own words.
fn comparable(text: &str) -> String {
    text.lines()
        .filter(|line| !line.starts_with("said: "))
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}

fn difference(ours: &str, theirs: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (ours.lines().collect(), theirs.lines().collect());
    let only = |x: &[&str], y: &[&str], sign: &str| -> String {
        x.iter()
            .filter(|line| !y.contains(line))
            .map(|line| format!("    {sign} {line}\n"))
            .collect()
    };
    let text = only(&a, &b, "gabion:") + &only(&b, &a, "other: ");
    if text.is_empty() {
        "    the same lines in another order\n".to_owned()
    } else {
        text
    }
}

fn indent(text: &str) -> String {
    text.lines().take(30).map(|line| format!("\n    {line}")).collect()
}
