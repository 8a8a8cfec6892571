//! `explain`: for each code that a message carries, and for the denials that a running program meets, what happened, how
//! to see it, and the smallest loosening that helps. One table; a test holds it together with the codes that controls emit.

pub mod calls;
mod refusals;
mod running;
pub mod symptoms;

/// One code, explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub code: &'static str,
    pub what: &'static str,
    /// Empty: as for every refusal.
    pub see: &'static str,
    /// From small to large, in the caller's words: Kubernetes; podman; a bundle or the policy.
    pub loosen: &'static str,
}

const fn entry(code: &'static str, what: &'static str, see: &'static str, loosen: &'static str) -> Entry {
    Entry {
        code,
        what,
        see,
        loosen,
    }
}

/// How refusals are seen.
const SEE: &str = "gabion check BUNDLE names the place in config.json, before anything runs; the audit log has the refusal with this code";

impl Entry {
    pub const fn see(&self) -> &'static str {
        if self.see.is_empty() { SEE } else { self.see }
    }
}

/// Everything that can be explained.
pub fn all() -> impl Iterator<Item = &'static Entry> {
    refusals::all().chain(running::RUNNING.iter())
}

/// The entry of a code: as it stands in a message, an errno (`EROFS`), or a pattern (`step.mounts`, `rootfs.not-enforced`).
pub fn find(code: &str) -> Option<&'static Entry> {
    let code = code.trim().trim_matches(['[', ']']);
    let alias = match code.to_ascii_uppercase().as_str() {
        "EROFS" => "run.read-only",
        "EPERM" => "run.eperm",
        "EACCES" => "run.eacces",
        "ENOSYS" => "run.enosys",
        "ENOSPC" => "run.no-space",
        "EAGAIN" => "run.too-many-tasks",
        "OOM" | "137" => "run.out-of-memory",
        _ => code,
    };
    all().find(|e| e.code == alias).or_else(|| {
        let (first, last) = alias.split_once('.')?;
        let pattern = |p: &str| all().find(|e| e.code == p);
        match (first, last) {
            ("step", _) => pattern("step.<step>"),
            (_, "not-enforced") => pattern("<control>.not-enforced"),
            _ => None,
        }
    })
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "these read the sources and the documents")]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::control::CONTROLS;

    fn files(dir: &Path, ends: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files(&path, ends, found);
            } else if path.to_str().unwrap().ends_with(ends) {
                found.push(path);
            }
        }
    }

    /// The sources of every crate below runtime/.
    fn crates(found: &mut Vec<PathBuf>) {
        let runtime = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for folder in ["src", "core/src", "see/src", "common/src", "ctl/src"] {
            files(&runtime.join(folder), ".rs", found);
        }
    }

    /// Source before its tests.
    fn source(path: &Path) -> String {
        fs::read_to_string(path)
            .unwrap()
            .split("#[cfg(test)]")
            .next()
            .unwrap()
            .to_owned()
    }

    /// The string literals that follow `mark` directly.
    fn literals(text: &str, mark: &str) -> Vec<String> {
        text.split(mark)
            .skip(1)
            .filter_map(|rest| Some(rest.trim_start().strip_prefix('"')?.split('"').next()?.to_owned()))
            .collect()
    }

    /// Codes of golden cases, of `refused("…")` in the controls, and of `RefusedCall { code: "…" }` anywhere.
    fn emitted() -> BTreeSet<String> {
        let home = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut found = BTreeSet::new();
        let mut cases = Vec::new();
        files(&home.join("../../tests/cases"), "expect.json", &mut cases);
        for case in &cases {
            let value: serde_json::Value = serde_json::from_str(&fs::read_to_string(case).unwrap()).unwrap();
            found.extend(
                value["codes"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|c| c.as_str().unwrap().to_owned()),
            );
        }
        assert!(!cases.is_empty());
        for control in CONTROLS {
            for text in sources_of(control.id().as_str()) {
                for mark in ["refused(", "unlimited(", "above_max("] {
                    found.extend(
                        literals(&text, mark)
                            .into_iter()
                            .map(|code| format!("{}.{code}", control.id())),
                    );
                }
            }
        }
        let mut sources = Vec::new();
        crates(&mut sources);
        for path in sources {
            let text = source(&path);
            found.extend(literals(&text, "code:").into_iter().filter(|code| code.contains('.')));
        }
        found
    }

    /// `control/NAME.rs` and `control/NAME/*.rs`.
    fn sources_of(control: &str) -> Vec<String> {
        let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/control");
        let mut paths = vec![home.join(format!("{control}.rs"))];
        let folder = home.join(control);
        if folder.is_dir() {
            files(&folder, ".rs", &mut paths);
        }
        paths
            .into_iter()
            .filter(|p| !p.ends_with("tests.rs"))
            .map(|p| source(&p))
            .collect()
    }

    #[test]
    fn every_code_that_is_emitted_is_explained() {
        let missing: Vec<String> = emitted().into_iter().filter(|code| find(code).is_none()).collect();
        assert!(missing.is_empty(), "not in explain/: {missing:?}");
    }

    #[test]
    fn nothing_is_explained_that_is_not_emitted() {
        for entry in refusals::all() {
            let Some((control, reason)) = entry
                .code
                .split_once('.')
                .filter(|(c, _)| CONTROLS.iter().any(|k| k.id().as_str() == *c))
            else {
                continue;
            };
            let literal = format!("\"{reason}\"");
            let whole = format!("\"{}\"", entry.code);
            let mut all = Vec::new();
            crates(&mut all);
            let known = sources_of(control).iter().any(|text| text.contains(&literal))
                || all
                    .iter()
                    .filter(|p| !p.to_str().unwrap().contains("/explain"))
                    .any(|p| source(p).contains(&whole));
            assert!(known, "{} is no longer emitted", entry.code);
        }
    }

    #[test]
    fn entries_say_something_once() {
        let codes: Vec<&str> = all().map(|e| e.code).collect();
        assert_eq!(codes.iter().collect::<BTreeSet<_>>().len(), codes.len());
        for entry in all() {
            assert!(entry.what.len() > 20 && entry.loosen.len() >= 5, "{}", entry.code);
        }
    }

    #[test]
    fn codes_are_found_as_people_type_them() {
        assert_eq!(find("[mounts.host-path]").unwrap().code, "mounts.host-path");
        assert_eq!(find("erofs").unwrap().code, "run.read-only");
        assert_eq!(find("step.mounts").unwrap().code, "step.<step>");
        assert_eq!(find("rootfs.not-enforced").unwrap().code, "<control>.not-enforced");
        assert!(find("mounts.nothing").is_none());
    }
}
