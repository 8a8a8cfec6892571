//! `hooks`: programs that the runtime runs for the spec.
//!
//! All but startContainer's run on the host with the runtime's rights: what they are is decided by whoever can write the
//! file, so that must be root (or the caller, where the caller is not root). startContainer hooks are programs of the image
//! and run confined like the workload.

use std::path::Path;

use oci_spec::runtime::{Hook, Hooks as SpecHooks};

use super::{About, Context, Control, ControlId};
use crate::decision::Findings;
use crate::fact::Fact;
use crate::hardened::{Draft, Hardened};
use crate::host::{HookFile, OwnUserNs};
use crate::observed::Observed;
use crate::policy::Level;

pub struct Hooks;

static ABOUT: About = About {
    threat: "a spec makes the runtime run a program as root on the host, or one that somebody else can replace",
    rule: "hooks are absolute paths of regular files owned by root (or the caller, where that is not root) that no group or \
           other can write; startContainer hooks run confined like the workload; restricted: no hooks at all",
    enforced_by: "the file is looked at before anything is made; startContainer runs after the confinement of the workload",
    kernel_floor: "any",
    refs: &["CIS Docker 3.15", "NIST SP 800-190 4.4.1", "NIST SP 800-190 4.5.5"],
};

/// Where a hook's path leads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Runs {
    OnHost,
    InImage,
}

/// How a user id without a mapping looks inside a user namespace (user_namespaces(7)).
const OVERFLOW_UID: u32 = 65534;

/// Group and other write bits.
const WRITABLE_BY_OTHERS: u32 = 0o022;

impl Control for Hooks {
    fn id(&self) -> ControlId {
        ControlId::Hooks
    }

    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn decide(&self, draft: &mut Draft, cx: &Context<'_>, findings: &mut Findings) {
        let Some(hooks) = draft.spec.hooks() else { return };
        for (stage, runs, list) in stages(hooks) {
            for (index, hook) in list.iter().enumerate() {
                let at = format!("hooks.{stage}[{index}]");
                if cx.policy.level == Level::Restricted {
                    refuse_any(&at, hook.path(), cx, findings);
                    continue;
                }
                judge(&at, hook.path(), runs, cx, findings);
            }
        }
    }

    fn facts(&self, _hardened: &Hardened, _seen: &Observed) -> Vec<Fact> {
        // A hook has run or has not: nothing of it is left to see in the container.
        Vec::new()
    }
}

#[allow(deprecated)] // prestart is deprecated and still written (nvidia-container-toolkit); it must not pass unseen.
fn stages(hooks: &SpecHooks) -> [(&'static str, Runs, &[Hook]); 6] {
    fn list(hooks: Option<&Vec<Hook>>) -> &[Hook] {
        hooks.map(Vec::as_slice).unwrap_or_default()
    }
    [
        ("prestart", Runs::OnHost, list(hooks.prestart().as_ref())),
        ("createRuntime", Runs::OnHost, list(hooks.create_runtime().as_ref())),
        ("createContainer", Runs::OnHost, list(hooks.create_container().as_ref())),
        ("startContainer", Runs::InImage, list(hooks.start_container().as_ref())),
        ("poststart", Runs::OnHost, list(hooks.poststart().as_ref())),
        ("poststop", Runs::OnHost, list(hooks.poststop().as_ref())),
    ]
}

fn refuse_any(at: &str, path: &Path, cx: &Context<'_>, findings: &mut Findings) {
    let caller = cx.request.caller();
    findings.refused(
        "restricted",
        at,
        format!(
            "the hook {} is asked for; at level restricted nothing is run beside the workload",
            path.display()
        ),
        caller.word(
            "remove the hook from the CRI's hooks directory or NRI plugin, or run this pod at level hardened",
            "remove the hook from `--hooks-dir`, or run at level hardened",
            "remove it from `hooks`, or run at level hardened",
        ),
    );
}

fn judge(at: &str, path: &Path, runs: Runs, cx: &Context<'_>, findings: &mut Findings) {
    let shown = path.display();
    if !path.is_absolute() {
        findings.refused(
            "not-absolute",
            at,
            format!("the hook {shown} is not an absolute path: what it names would depend on the working directory"),
            "give its absolute path",
        );
        return;
    }
    if runs == Runs::InImage {
        findings.kept(
            at,
            format!("{shown} is the image's own and runs confined like the workload"),
        );
        return;
    }
    match cx.host.hooks.get(path) {
        None | Some(HookFile::Unreadable(_)) => findings.refused(
            "missing",
            at,
            format!("the hook {shown} does not exist or cannot be looked at"),
            "install it on the host, or remove the hook",
        ),
        Some(HookFile::NotAFile) => findings.refused(
            "not-a-file",
            at,
            format!("the hook {shown} is not a regular file"),
            "name the program itself",
        ),
        Some(HookFile::Executable { uid, mode }) => judge_file(at, path, *uid, *mode, cx, findings),
    }
}

fn judge_file(at: &str, path: &Path, uid: u32, mode: u32, cx: &Context<'_>, findings: &mut Findings) {
    let shown = path.display();
    let ours = uid == 0 || (cx.host.euid != 0 && uid == cx.host.euid);
    // Inside a user namespace the host's root has no number: it and every other foreign owner look the same.
    let unmapped = cx.host.user_ns == OwnUserNs::Nested && uid == OVERFLOW_UID;
    if mode & WRITABLE_BY_OTHERS != 0 {
        findings.refused(
            "writable-by-others",
            at,
            format!(
                "the hook {shown} can be written by others than its owner (mode {:04o})",
                mode & 0o7777
            ),
            format!("chmod go-w {shown}"),
        );
    }
    if ours {
        findings.kept(at, format!("{shown} is owned by uid {uid}"));
    } else if unmapped {
        findings.warned(
            at,
            format!("{shown} is owned by a user without a mapping here; it runs with the caller's rights only"),
        );
    } else {
        findings.refused(
            "wrong-owner",
            at,
            format!("the hook {shown} belongs to uid {uid}, who could replace what the runtime runs"),
            format!("chown root {shown}"),
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::decision::Verdict;
    use crate::testing::{Case, check_about, codes, refusal};

    fn hook(stage: &str, path: &str, file: Option<HookFile>) -> Case {
        let mut case = Case::new().with(&format!("/hooks/{stage}"), json!([{"path": path}]));
        if let Some(file) = file {
            case.host.hooks.insert(path.into(), file);
        }
        case
    }

    #[allow(clippy::unnecessary_wraps)] // as the table of cases wants it
    fn file(uid: u32, mode: u32) -> Option<HookFile> {
        Some(HookFile::Executable { uid, mode })
    }

    #[test]
    fn a_file_of_root_runs() {
        check_about(&Hooks, ControlId::Hooks);
        let (_, decision) = hook("createRuntime", "/usr/bin/hook", file(0, 0o755)).decide(&Hooks);
        assert_eq!(decision.verdict, Verdict::Kept);
        let (_, none) = Case::new().decide(&Hooks);
        assert_eq!((none.verdict, none.changes.len()), (Verdict::Kept, 0));
    }

    #[test]
    fn what_others_could_replace_does_not() {
        for (path, file, code) in [
            ("hook", file(0, 0o755), "hooks.not-absolute"),
            ("/h", None, "hooks.missing"),
            ("/h", Some(HookFile::Unreadable(13)), "hooks.missing"),
            ("/h", Some(HookFile::NotAFile), "hooks.not-a-file"),
            ("/h", file(0, 0o775), "hooks.writable-by-others"),
            ("/h", file(0, 0o757), "hooks.writable-by-others"),
            ("/h", file(1000, 0o755), "hooks.wrong-owner"),
            ("/h", file(65534, 0o755), "hooks.wrong-owner"),
        ] {
            for stage in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
                let (_, decision) = hook(stage, path, file).decide(&Hooks);
                assert_eq!(codes(&decision), [code], "{stage} {path}");
                refusal(&decision, code);
            }
        }
    }

    #[test]
    fn a_users_own_hooks() {
        let mut case = hook("poststop", "/h", file(1000, 0o755));
        case.host.euid = 1000;
        assert_eq!(case.decide(&Hooks).1.verdict, Verdict::Kept);
        let mut case = hook("poststop", "/h", file(65534, 0o755));
        case.host.user_ns = OwnUserNs::Nested;
        assert_eq!(case.decide(&Hooks).1.verdict, Verdict::Warned);
    }

    #[test]
    fn hooks_of_the_image() {
        let (_, decision) = hook("startContainer", "/sbin/ldconfig", None).decide(&Hooks);
        assert_eq!(decision.verdict, Verdict::Kept);
        let (_, decision) = hook("startContainer", "ldconfig", None).decide(&Hooks);
        refusal(&decision, "hooks.not-absolute");
    }

    #[test]
    fn none_at_restricted() {
        for stage in ["createRuntime", "startContainer"] {
            let case = hook(stage, "/usr/bin/hook", file(0, 0o755)).level(Level::Restricted);
            refusal(&case.decide(&Hooks).1, "hooks.restricted");
        }
    }
}
