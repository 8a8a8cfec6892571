//! `fds`: nothing of the host is handed in by accident.
//!
//! An open directory is a way round the root file system (CVE-2024-21626: a leaked descriptor of /sys/fs/cgroup, reached by
//! a working directory of /proc/self/fd/7). So directories are never passed on, the working directory is verified by the
//! kernel's own answer after pivot_root, and the session keyring is a new one.

use std::path::{Component, Path, PathBuf};

use super::{About, Context, Control, ControlId};
use crate::decision::Findings;
use crate::fact::{Fact, Holds};
use crate::hardened::{Draft, Hardened};
use crate::observed::Observed;

pub struct Fds;

static ABOUT: About = About {
    threat: "a leaked descriptor or working directory leads out of the container; a shared session keyring holds the host's keys",
    rule: "only stdio and the descriptors that the caller preserves are passed on, no directory among them; the working \
           directory is absolute and verified inside the root; the session keyring is new",
    enforced_by: "close_range(2) CLOSE_RANGE_CLOEXEC; getcwd(2) after chdir; keyctl(2) KEYCTL_JOIN_SESSION_KEYRING; read back \
                  from /proc/PID/fd",
    kernel_floor: "5.11 (CLOSE_RANGE_CLOEXEC)",
    refs: &["NIST SP 800-190 3.4.1", "NIST SP 800-190 4.4.3"],
};

/// How `Observed::inherited_fds` begins for a directory.
pub const DIRECTORY: &str = "directory";

impl Control for Fds {
    fn id(&self) -> ControlId {
        ControlId::Fds
    }

    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn decide(&self, draft: &mut Draft, cx: &Context<'_>, findings: &mut Findings) {
        draft.plan.new_keyring = true;
        findings.kept("process", "stdio and preserved descriptors only; a new session keyring");
        if let Some(process) = draft.spec.process()
            && let Some(why) = bad_cwd(process.cwd())
        {
            let word = cx.request.caller().word("`workingDir`", "`--workdir`", "`process.cwd`");
            findings.refused(
                "cwd",
                "process.cwd",
                format!("the working directory {:?} {why}", process.cwd().to_string_lossy()),
                format!("give an absolute path inside the image in {word}"),
            );
        }
    }

    fn facts(&self, _hardened: &Hardened, seen: &Observed) -> Vec<Fact> {
        let directories: Vec<String> = seen
            .inherited_fds
            .iter()
            .filter(|(_, what)| what.starts_with(DIRECTORY))
            .map(|(fd, what)| format!("{fd}: {what}"))
            .collect();
        let (observed, holds) = if directories.is_empty() {
            ("none".to_owned(), Holds::Yes)
        } else {
            (directories.join(", "), Holds::No)
        };
        // The session keyring is compared where it is joined (gabion, `build/ids.rs`): nobody else can see it.
        vec![Fact::judged(
            ControlId::Fds,
            "no directory among the inherited descriptors",
            observed,
            holds,
        )]
    }
}

/// Why a path cannot be a working directory. `/proc/self/fd` and the like resolve in the runtime's own process: never there.
pub fn bad_cwd(cwd: &Path) -> Option<&'static str> {
    if !cwd.is_absolute() {
        return Some("is not absolute");
    }
    if cwd.as_os_str().as_encoded_bytes().contains(&0) {
        return Some("contains a NUL byte");
    }
    // Step by step: `/proc/self/fd/7/../../..` ends elsewhere than it reads. What symlinks hide, the kernel's getcwd shows.
    let mut at = PathBuf::from("/");
    for part in cwd.components() {
        match part {
            Component::Normal(name) => at.push(name),
            Component::ParentDir => {
                at.pop();
            }
            _ => {}
        }
        if at != Path::new("/proc") && at.starts_with("/proc") {
            return Some("leads through /proc, where paths lead to other processes' files");
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::decision::Verdict;
    use crate::testing::{Case, check_about, codes, refusal};

    #[test]
    fn a_keyring_for_everyone() {
        check_about(&Fds, ControlId::Fds);
        let (draft, decision) = Case::new().decide(&Fds);
        assert!(draft.plan.new_keyring);
        assert_eq!(decision.verdict, Verdict::Kept);
    }

    #[test]
    fn working_directories() {
        for (cwd, good) in [
            ("/", true),
            ("/srv/app", true),
            ("/processing", true),
            ("/proc", true),
            ("srv", false),
            ("", false),
            ("/proc/self/fd/7", false),
            ("/x/../proc/self/fd/7/../../..", false),
            ("/./proc//1/cwd", false),
            ("/a\0b", false),
        ] {
            let (_, decision) = Case::new().with("/process/cwd", json!(cwd)).decide(&Fds);
            assert_eq!(codes(&decision).is_empty(), good, "{cwd:?}");
            if !good {
                refusal(&decision, "fds.cwd");
            }
        }
    }

    #[test]
    fn a_directory_is_found() {
        let hardened = Case::new().harden(&Fds);
        let mut seen = Observed::default();
        seen.inherited_fds.insert(3, "socket".into());
        assert_eq!(Fds.facts(&hardened, &seen)[0].holds, Holds::Yes);
        seen.inherited_fds.insert(7, "directory /sys/fs/cgroup".into());
        assert_eq!(Fds.facts(&hardened, &seen)[0].holds, Holds::No);
    }
}
