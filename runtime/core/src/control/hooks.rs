//! `hooks`: programs that the runtime runs for the spec.
//!
//! All but startContainer's run on the host with the runtime's rights, and with arguments of the spec's choice: `/bin/sh -c …` is
//! root's own and does as it is told. So the policy must name them, nobody but root (or the caller, where the caller is not
//! root) may be able to write them, and the environment may not bring in other code. startContainer hooks are programs of the
//! image and run confined like the workload.

use std::path::{Component, Path};

use oci_spec::runtime::{Hook, Hooks as SpecHooks};

use super::cdi::{self, Word};
use super::{About, Context, Control, ControlId, remedy};
use crate::caller::OwnUserNs;
use crate::decision::Findings;
use crate::fact::Fact;
use crate::hardened::{Draft, Hardened};
use crate::host::HookFile;
use crate::observed::Observed;
use crate::policy::Level;

mod engine;

pub struct Hooks;

static ABOUT: About = About {
    threat: "a spec makes the runtime run a program as root on the host, or one that somebody else can replace",
    rule: "hooks are programs that the policy names, or that a CDI file of an allowed kind has with the same arguments, owned by root (or the caller, where that is not root), that no group or \
           other can write; their environment loads no code; startContainer hooks run confined like the workload; \
           restricted: no hooks but Docker's own for its network",
    enforced_by: "the file is looked at before anything is made; startContainer runs after the confinement of the workload",
    kernel_floor: "any",
    refs: &["NIST SP 800-190 3.4.1", "NIST SP 800-190 4.4.3"],
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
                if cx.policy.level == Level::Restricted && !is_engines(stage, hook, cx) {
                    refuse_any(&at, hook.path(), cx, findings);
                    continue;
                }
                judge(&at, (stage, runs), hook, cx, findings);
            }
        }
        if cx.policy.level != Level::Restricted {
            no_workloads_environment(draft, findings);
        }
    }

    fn facts(&self, _hardened: &Hardened, _seen: &Observed) -> Vec<Fact> {
        // A hook has run or has not: nothing of it is left to see in the container.
        vec![Fact::held(
            ControlId::Hooks,
            "no hook but those that were judged",
            "each was judged before it ran",
        )]
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

/// Whether any hook runs outside of the workload's confinement.
pub(super) fn runs_on_host(hooks: &SpecHooks) -> bool {
    let mut all = stages(hooks).into_iter();
    all.any(|(_, runs, list)| runs == Runs::OnHost && !list.is_empty())
}

/// Whether a hook is the engine's own part of making a container, which is not beside the workload: Docker's network. What it leads to is judged
/// as everywhere.
fn is_engines(stage: &str, hook: &Hook, cx: &Context<'_>) -> bool {
    matches!(cx.host.hooks.get(hook.path()), Some(HookFile::OfProcess(_)))
        && engine::is_setkey(stage, hook, cx.request.id.as_str())
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

fn judge(at: &str, (stage, runs): (&str, Runs), hook: &Hook, cx: &Context<'_>, findings: &mut Findings) {
    let path = hook.path();
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
        Some(HookFile::Executable { uid, mode }) => {
            let word = cdi::hook(stage, hook, cx);
            // With the arguments and the environment that root's file gives it.
            if let Word::Vouched { by, .. } = &word {
                if judge_owner(at, path, (*uid, *mode), cx, findings) != Owner::Another {
                    findings.kept(at, format!("{shown} is what {by} has"));
                }
                return;
            }
            judge_file(at, path, (*uid, *mode), &word, cx, findings);
            judge_environment(at, hook, findings);
        }
        Some(HookFile::OfProcess(exe)) => engine::judge(at, stage, hook, exe, cx, findings),
        Some(HookFile::MagicLink) => findings.refused(
            "not-allowed",
            at,
            format!("the hook {shown} leads through a link of procfs, so that a process chooses the program"),
            "remove the hook, or name the program by its own path and allow that in the policy",
        ),
    }
}

/// Whether the path has `..` in it: it may lead out of whatever the policy names.
fn climbs(path: &Path) -> bool {
    path.components().any(|c| c == Component::ParentDir)
}

/// Whether the policy names the program, or a directory that it lies in. By its name: what a symlink there leads to is the choice
/// of whoever can write that directory.
fn is_allowed(path: &Path, cx: &Context<'_>) -> bool {
    let allow = &cx.policy.policy.hooks.allow;
    !climbs(path) && allow.iter().any(|a| a.is_absolute() && path.starts_with(a))
}

/// Variables that make a program run the code of another: ld.so(8), glibc's converters, and those of shells and interpreters.
const LOADS_CODE: [&str; 14] = [
    "BASH_ENV",
    "ENV",
    "GCONV_PATH",
    "GLIBC_TUNABLES",
    "LUA_INIT",
    "NODE_OPTIONS",
    "PERL5LIB",
    "PERL5OPT",
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "RUBYLIB",
    "RUBYOPT",
    "SHELLOPTS",
];

/// Where only root can put programs.
const SYSTEM_PATH: [&str; 8] = [
    "/bin",
    "/run/current-system/sw/bin",
    "/sbin",
    "/usr/bin",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/usr/sbin",
    "/snap/bin",
];

/// Whether a variable of this name makes a program run the code of another.
fn loads_code(name: &str) -> bool {
    name.starts_with("LD_") || name.starts_with("BASH_FUNC_") || LOADS_CODE.contains(&name)
}

/// Gives what a hook gets of a variable of the runtime's own environment where this control is in force; None where it loads code.
pub fn cleaned(name: &str, value: &str) -> Option<String> {
    if loads_code(name) {
        return None;
    }
    if name != "PATH" {
        return Some(value.to_owned());
    }
    let kept: Vec<&str> = value.split(':').filter(|dir| SYSTEM_PATH.contains(dir)).collect();
    (!kept.is_empty()).then(|| kept.join(":"))
}

/// createContainer hooks that name no environment have the workload's (runc). They are programs of the host, run with the runtime's rights,
/// and the workload's environment is the image's: here they have none.
fn no_workloads_environment(draft: &mut Draft, findings: &mut Findings) {
    let process = draft.spec.process().as_ref();
    let variables = process.and_then(|p| p.env().as_ref()).map_or(0, Vec::len);
    let Some(mut hooks) = draft.spec.hooks().clone().filter(|_| variables > 0) else {
        return;
    };
    let mut list = hooks.create_container().clone().unwrap_or_default();
    let mut changed = false;
    for (index, hook) in list.iter_mut().enumerate() {
        if hook.env().is_some() {
            continue;
        }
        hook.set_env(Some(Vec::new()));
        changed = true;
        findings.tightened(
            format!("hooks.createContainer[{index}].env"),
            format!("the {variables} variables of process.env"),
            "none",
            "it runs on the host, and the environment of a workload is its image's",
        );
    }
    if changed {
        hooks.set_create_container(Some(list));
        draft.spec.set_hooks(Some(hooks));
    }
}

fn judge_environment(at: &str, hook: &Hook, findings: &mut Findings) {
    for variable in hook.env().iter().flatten() {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        let loads = loads_code(name);
        let leads = name == "PATH" && value.split(':').any(|dir| !SYSTEM_PATH.contains(&dir));
        if loads || leads {
            findings.refused(
                "environment",
                at,
                format!(
                    "the hook {} is to run with {name:?} in its environment, which can make it run other code",
                    hook.path().display()
                ),
                format!("remove {name:?} from the hook's `env`; PATH may name system directories only"),
            );
        }
    }
}

fn judge_file(at: &str, path: &Path, (uid, mode): (u32, u32), word: &Word, cx: &Context<'_>, findings: &mut Findings) {
    let owner = judge_owner(at, path, (uid, mode), cx, findings);
    if owner == Owner::Another {
        return;
    }
    if !is_allowed(path, cx) {
        refuse_file(at, path, word, cx, findings);
    } else if owner == Owner::Trusted {
        findings.kept(at, format!("{} is owned by uid {uid}", path.display()));
    }
}

fn refuse_file(at: &str, path: &Path, word: &Word, cx: &Context<'_>, findings: &mut Findings) {
    let shown = path.display();
    if let Word::Differs(how) = word {
        let what = format!("the hook {shown} would run on the host: {how}");
        findings.refused("cdi", at, what, cdi::remedy(cx));
        return;
    }
    let what = format!(
        "the hook {shown} would run on the host, with arguments of the spec's choice, and the policy does not name it{}",
        cdi::unbelieved(cx)
    );
    let remedy = match word {
        _ if climbs(path) => "remove the hook, or write its path without `..`".to_owned(),
        Word::OfKind(kind) => format!("remove the hook, or {}", cdi::allow(kind, cx)),
        _ => format!(
            "remove the hook, or {}",
            remedy::allow(cx, "hooks.allow", &shown.to_string())
        ),
    };
    findings.refused("not-allowed", at, what, remedy);
}

/// Whose a program is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// Root's, or the caller's own.
    Trusted,
    /// Of a user without a number here, which is warned of.
    Unmapped,
    /// Somebody else's, which is refused.
    Another,
}

/// Judges who could replace the program, by its owner and its mode.
fn judge_owner(at: &str, path: &Path, (uid, mode): (u32, u32), cx: &Context<'_>, findings: &mut Findings) -> Owner {
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
        return Owner::Trusted;
    }
    if unmapped {
        findings.warned(
            at,
            format!("{shown} is owned by a user without a mapping here; it runs with the caller's rights only"),
        );
        return Owner::Unmapped;
    }
    findings.refused(
        "wrong-owner",
        at,
        format!("the hook {shown} belongs to uid {uid}, who could replace what the runtime runs"),
        format!("chown root {shown}"),
    );
    Owner::Another
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::decision::Verdict;
    use crate::testing::{Case, check_about, codes, refusal};

    fn hook(stage: &str, path: &str, file: Option<HookFile>) -> Case {
        let mut case = Case::new().with(&format!("/hooks/{stage}"), json!([{"path": path}]));
        case.policy.policy.hooks.allow = vec!["/h".into(), "/usr/bin".into()];
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
                let (_, decision) = hook(stage, path, file.clone()).decide(&Hooks);
                assert_eq!(codes(&decision), [code], "{stage} {path}");
                refusal(&decision, code);
            }
        }
    }

    #[test]
    fn only_what_the_policy_names_runs() {
        for path in ["/bin/sh", "/h2", "/usr/bin/../../bin/sh", "/usr/binary"] {
            let (_, decision) = hook("createRuntime", path, file(0, 0o755)).decide(&Hooks);
            assert_eq!(codes(&decision), ["hooks.not-allowed"], "{path}");
        }
        let mut case = hook("createRuntime", "/bin/sh", file(0, 0o755));
        case.policy.policy.hooks.allow = vec!["".into()];
        refusal(&case.decide(&Hooks).1, "hooks.not-allowed");
    }

    #[test]
    fn no_code_comes_in_by_the_environment() {
        let with = |env: &str| {
            let case = hook("prestart", "/h", file(0, 0o755)).with("/hooks/prestart/0/env", json!([env]));
            case.decide(&Hooks).1
        };
        for bad in [
            "LD_PRELOAD=/x.so",
            "LD_AUDIT=",
            "PYTHONPATH=/x",
            "PATH=/tmp:/bin",
            "PATH=",
            "BASH_ENV=/x",
            "ENV",
        ] {
            assert_eq!(codes(&with(bad)), ["hooks.environment"], "{bad}");
        }
        for good in [
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG=C",
            "NVIDIA_VISIBLE_DEVICES=all",
        ] {
            assert!(codes(&with(good)).is_empty(), "{good}");
        }
    }

    #[test]
    fn of_the_runtimes_environment_nothing_that_loads_code_is_handed_on() {
        for gone in ["LD_PRELOAD", "BASH_ENV", "PYTHONPATH", "BASH_FUNC_x%%"] {
            assert_eq!(cleaned(gone, "/x"), None, "{gone}");
        }
        assert_eq!(cleaned("NOTIFY_SOCKET", "/x").as_deref(), Some("/x"));
        assert_eq!(
            cleaned("PATH", "/opt/x:/usr/bin::/bin").as_deref(),
            Some("/usr/bin:/bin")
        );
        assert_eq!(cleaned("PATH", "/opt/x:."), None);
    }

    /// The image's variables are no host program's; one that names its own keeps them.
    #[test]
    fn a_create_container_hook_has_no_environment_of_the_workloads() {
        let with = |stage: &str, env: serde_json::Value| {
            let case = hook(stage, "/h", file(0, 0o755)).with("/process/env", json!(["LD_PRELOAD=/x.so"]));
            let (draft, decision) = case.with(&format!("/hooks/{stage}/0/env"), env).decide(&Hooks);
            let hooks = draft.spec.hooks().clone().unwrap();
            let list = hooks.create_container().as_ref().or(hooks.create_runtime().as_ref());
            (decision.verdict, list.unwrap()[0].env().clone())
        };
        assert_eq!(
            with("createContainer", json!(null)),
            (Verdict::Tightened, Some(Vec::new()))
        );
        let own = with("createContainer", json!(["A=1"]));
        assert_eq!(own, (Verdict::Kept, Some(vec!["A=1".to_owned()])));
        // The others have the runtime's own.
        assert_eq!(with("createRuntime", json!(null)), (Verdict::Kept, None));
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
