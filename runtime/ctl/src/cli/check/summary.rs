//! `check --summary`: what a policy would do to all containers of a node, counted. Nothing runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;

use gabion_common::cli::output;
use gabion_core::control::CONTROLS;
use gabion_core::decision::{Change, Decision, Verdict};
use gabion_core::policy::Level;
use gabion_core::request::Request;
use gabion_see::named::Names;

/// How deep bundles are looked for: containerd keeps them below namespace and id, podman below id and `userdata`.
const DEPTH: u32 = 4;
/// More than any node runs; a wrong folder must not be walked for ever.
const MOST: usize = 20_000;

/// All bundles together.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) level: Level,
    pub(super) bundles: usize,
    pub(super) allowed: usize,
    pub(super) refused: usize,
    /// Bundles of containers that have ended: what they ran in is gone, so that nothing can be told of them.
    pub(super) ended: BTreeSet<PathBuf>,
    /// What people call the containers, by their bundles.
    pub(super) names: BTreeMap<PathBuf, String>,
    /// Bundles that could not be read, and why.
    pub(super) unreadable: BTreeMap<PathBuf, String>,
    pub(super) controls: Vec<Counts>,
    /// Bundles by the code that refuses them, or would.
    pub(super) codes: BTreeMap<String, Vec<PathBuf>>,
}

/// How many bundles a control gives each verdict. Only observed counts as enforced here: the question is what would be.
#[derive(Debug, Default, Serialize)]
pub(super) struct Counts {
    control: &'static str,
    kept: usize,
    added: usize,
    tightened: usize,
    warned: usize,
    refused: usize,
}

impl Summary {
    pub(super) fn new(level: Level) -> Self {
        let counts = |control: &'static str| Counts {
            control,
            ..Counts::default()
        };
        Self {
            level,
            bundles: 0,
            allowed: 0,
            refused: 0,
            ended: BTreeSet::new(),
            names: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            controls: CONTROLS.iter().map(|c| counts(c.id().as_str())).collect(),
            codes: BTreeMap::new(),
        }
    }

    /// Whether there was nothing to look at.
    pub(super) fn is_empty(&self) -> bool {
        self.bundles == 0 && self.ended.is_empty() && self.unreadable.is_empty()
    }

    pub(super) fn add(&mut self, bundle: &Path, decisions: &[Decision], invalid: &[Change]) {
        self.bundles += 1;
        let stops = !invalid.is_empty() || decisions.iter().any(|d| d.refusals().next().is_some());
        *(if stops { &mut self.refused } else { &mut self.allowed }) += 1;
        for decision in decisions {
            let Some(counts) = self
                .controls
                .iter_mut()
                .find(|c| c.control == decision.control.as_str())
            else {
                continue;
            };
            *(match decision.verdict {
                Verdict::Kept => &mut counts.kept,
                Verdict::Added => &mut counts.added,
                Verdict::Tightened => &mut counts.tightened,
                Verdict::Warned => &mut counts.warned,
                Verdict::Refused => &mut counts.refused,
            }) += 1;
            self.count(bundle, &decision.changes);
        }
        self.count(bundle, invalid);
    }

    fn count(&mut self, bundle: &Path, changes: &[Change]) {
        for code in changes.iter().filter_map(|c| c.code.clone()) {
            let bundles = self.codes.entry(code).or_default();
            // A privileged container is refused twenty capabilities: it is one container.
            if bundles.last().is_none_or(|last| last != bundle) {
                bundles.push(bundle.to_owned());
            }
        }
    }

    pub(super) fn table(&self, policy: &str) -> String {
        let row = |cells: [&str; 6]| cells.map(str::to_owned).to_vec();
        let mut rows = vec![row(["CONTROL", "REFUSED", "TIGHTENED", "ADDED", "WARNED", "KEPT"])];
        for c in &self.controls {
            let numbers = [c.refused, c.tightened, c.added, c.warned, c.kept]
                .map(|n| if n == 0 { "-".to_owned() } else { n.to_string() });
            rows.push([vec![c.control.to_owned()], numbers.to_vec()].concat());
        }
        let mut text = format!(
            "{} bundle{}, level {}, policy {policy}\n\n{}",
            self.bundles,
            if self.bundles == 1 { "" } else { "s" },
            self.level,
            output::columns(&rows)
        );
        if !self.codes.is_empty() {
            let mut codes: Vec<(&String, &Vec<PathBuf>)> = self.codes.iter().collect();
            codes.sort_by_key(|(code, bundles)| (std::cmp::Reverse(bundles.len()), *code));
            let mut rows = vec![["CODE", "BUNDLES", "FOR EXAMPLE"].map(str::to_owned).to_vec()];
            rows.extend(codes.iter().map(|(code, bundles)| {
                let example = bundles.first().map(|b| self.name(b)).unwrap_or_default();
                vec![(*code).clone(), bundles.len().to_string(), example]
            }));
            text.push('\n');
            text.push_str(&output::columns(&rows));
        }
        for (bundle, why) in &self.unreadable {
            text.push_str(&output::clean(&format!("cannot read {}: {why}\n", bundle.display())));
        }
        let total = format!(
            "\n{} of {} would run; {} would be REFUSED\n",
            self.allowed, self.bundles, self.refused
        );
        text.push_str(&total);
        if !self.ended.is_empty() {
            let names: Vec<String> = self.ended.iter().map(|bundle| self.name(bundle)).collect();
            text.push_str(&format!(
                "{} ended, and not counted: {}\n",
                names.len(),
                names.join(", ")
            ));
        }
        text
    }

    /// What people call a container; else where its bundle is.
    fn name(&self, bundle: &Path) -> String {
        let shown = bundle.display().to_string();
        output::clean(self.names.get(bundle).unwrap_or(&shown))
    }
}

/// Whether a container has ended: a namespace that it joined is there no longer. An engine keeps the bundle until the container is removed.
pub(super) fn has_ended(request: &Request) -> bool {
    let gone = |path: &Path| matches!(path.try_exists(), Ok(false));
    let linux = request.spec.linux().as_ref();
    let namespaces = linux
        .and_then(|linux| linux.namespaces().as_deref())
        .unwrap_or_default();
    let paths = namespaces.iter().filter_map(|ns| ns.path().as_deref());
    let mut named = paths.filter(|path| path.is_absolute());
    named.any(gone)
}

/// What people call a container: as its engine does, a pod's by the pod's own names.
pub(super) fn name_of(names: &mut Names, request: &Request) -> Option<String> {
    let named = names.of(request.id.as_str(), &request.bundle, &request.spec)?;
    let Some(pod) = named.pod else {
        return named.name.map(|name| name.to_string());
    };
    Some(match pod.container {
        Some(container) => format!("{}/{}/{container}", pod.namespace, pod.pod),
        None => format!("{}/{}", pod.namespace, pod.pod),
    })
}

/// The bundles below a folder, or the folder itself. Symlinks are not followed, root file systems not entered.
pub(super) fn bundles(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    walk(dir, DEPTH, &mut found)?;
    found.sort();
    Ok(found)
}

fn walk(dir: &Path, depth: u32, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if dir.join("config.json").is_file() {
        found.push(dir.to_owned());
        return Ok(());
    }
    if depth == 0 {
        return Ok(());
    }
    for entry in std::fs::read_dir(dir)?.flatten() {
        let name = entry.file_name();
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if !is_dir || name == "rootfs" || name == "merged" || name == "diff" || found.len() >= MOST {
            continue;
        }
        // One that may not be read, or went away, holds nothing for this caller.
        if let Err(error) = walk(&entry.path(), depth - 1, found) {
            tracing::debug!(path = %entry.path().display(), %error, "left out");
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn request(namespace: &str) -> Request {
        let text = format!(
            r#"{{"ociVersion":"1.0.2","process":{{"user":{{"uid":0,"gid":0}},"args":["sh"],"cwd":"/"}},"root":{{"path":"r"}},"linux":{{"namespaces":[{namespace}]}}}}"#
        );
        Request::parse("c".parse().unwrap(), "/b".into(), text.as_bytes(), Path::new("t")).unwrap()
    }

    #[test]
    fn what_ran_in_a_namespace_that_is_gone_has_ended() {
        let of = |namespace: &str| has_ended(&request(namespace));
        assert!(of(r#"{"type":"network","path":"/run/netns/nowhere-at-all"}"#));
        assert!(!of(r#"{"type":"network","path":"/proc/self/ns/net"}"#));
        assert!(!of(r#"{"type":"network"}"#));
        assert!(!of(r#"{"type":"network","path":""}"#));
    }
}
