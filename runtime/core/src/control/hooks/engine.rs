//! The hook of dockerd: Docker below 28 hangs a container's network in by its own program, `/proc/<dockerd's pid>/exe`, as `libnetwork-setkey`.
//!
//! What passes is that program with the arguments that Docker gives, and nothing else of any process. The program was opened while it was
//! looked at and is run by that descriptor, so the number may be another's by then.

use std::path::{Component, Path};

use oci_spec::runtime::Hook;

use super::{Owner, SYSTEM_PATH, is_allowed, judge_owner};
use crate::control::{Context, remedy};
use crate::decision::Findings;
use crate::host::{Above, ProcessExe, RunBy};

/// Docker's program.
const PROGRAM: &str = "dockerd";

/// The name by which dockerd knows that it is the hook.
const SETKEY: &str = "libnetwork-setkey";

/// Whether a hook is the one that dockerd writes, by all that the spec says of it.
pub(super) fn is_setkey(stage: &str, hook: &Hook, id: &str) -> bool {
    let args: Vec<&str> = hook.args().iter().flatten().map(String::as_str).collect();
    let [name, root, container, controller] = args[..] else {
        return false;
    };
    let root = root.strip_prefix("-exec-root=").map(Path::new);
    let plain = |root: &Path| root.is_absolute() && !root.components().any(|c| c == Component::ParentDir);
    let hex = |text: &str| !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let bare = hook.env().iter().flatten().next().is_none() && hook.timeout().is_none();
    stage == "prestart" && name == SETKEY && root.is_some_and(plain) && container == id && hex(controller) && bare
}

/// Judges `/proc/<pid>/exe` by where it leads.
pub(super) fn judge(at: &str, stage: &str, hook: &Hook, exe: &ProcessExe, cx: &Context<'_>, findings: &mut Findings) {
    let shown = hook.path().display();
    let refuse = |findings: &mut Findings, why: String, remedy: String| {
        findings.refused("not-allowed", at, format!("the hook {shown} {why}"), remedy);
    };
    let Some(program) = &exe.program else {
        return refuse(
            findings,
            "is the program of a process and lies at no path of this host: it was exchanged, or is a container's"
                .to_owned(),
            "restart Docker after it was upgraded; else name the program by its own path, and allow that".to_owned(),
        );
    };
    let real = program.display();
    let systems = program.file_name().is_some_and(|name| name == PROGRAM)
        && SYSTEM_PATH.iter().any(|dir| program.parent() == Some(Path::new(dir)));
    if !systems && !is_allowed(program, cx) {
        return refuse(
            findings,
            format!(
                "leads to {real}, which is not Docker's program where a distribution has it, and the policy does not name it"
            ),
            format!(
                "remove the hook; where it is Docker's own, {}",
                remedy::allow(cx, "hooks.allow", &real.to_string())
            ),
        );
    }
    if exe.process != RunBy::Caller {
        return refuse(
            findings,
            format!("is the program of a process of another user or another container ({real})"),
            "name the program by its own path, and allow that in the policy".to_owned(),
        );
    }
    if !is_setkey(stage, hook, cx.request.id.as_str()) {
        return refuse(
            findings,
            format!(
                "leads to {real} and is not as Docker writes it: a prestart hook `{SETKEY} -exec-root=DIR ID CONTROLLER` of this container, \
                 with no environment and no timeout"
            ),
            format!("remove the hook, or name {real} by its own path and allow that in the policy"),
        );
    }
    if exe.above == Above::Open {
        return findings.refused(
            "writable-by-others",
            at,
            format!("the hook {shown} leads to {real}, and others can write to a directory above it"),
            format!("chmod go-w the directories above {real}"),
        );
    }
    if judge_owner(at, program, (exe.uid, exe.mode), cx, findings) == Owner::Trusted {
        findings.kept(
            at,
            format!("{shown} is {real}, Docker's own, which hangs the container's network in"),
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::control::hooks::Hooks;
    use crate::decision::Verdict;
    use crate::host::{Above, HookFile, ProcessExe, RunBy};
    use crate::policy::Level;
    use crate::testing::{Case, codes};

    fn exe() -> ProcessExe {
        ProcessExe {
            program: Some("/usr/bin/dockerd".into()),
            uid: 0,
            mode: 0o755,
            above: Above::Closed,
            process: RunBy::Caller,
        }
    }

    fn setkey() -> Value {
        json!({"path": "/proc/7/exe", "args": ["libnetwork-setkey", "-exec-root=/var/run/docker", "web1", "99ebbd3ea5c9"]})
    }

    fn case(stage: &str, hook: &Value, exe: ProcessExe) -> Case {
        let mut case = Case::new().with(&format!("/hooks/{stage}"), json!([hook]));
        case.host.hooks.insert("/proc/7/exe".into(), HookFile::OfProcess(exe));
        case
    }

    #[test]
    fn dockers_own_passes_without_a_word_in_the_policy() {
        for level in [Level::Hardened, Level::Restricted] {
            let (_, decision) = case("prestart", &setkey(), exe()).level(level).decide(&Hooks);
            assert_eq!(
                (decision.verdict, codes(&decision).len()),
                (Verdict::Kept, 0),
                "{level}"
            );
        }
        let elsewhere = ProcessExe {
            program: Some("/opt/docker/dockerd".into()),
            ..exe()
        };
        let mut case = case("prestart", &setkey(), elsewhere);
        assert_eq!(codes(&case.decide(&Hooks).1), ["hooks.not-allowed"]);
        case.policy.policy.hooks.allow = vec!["/opt/docker/dockerd".into()];
        assert_eq!(case.decide(&Hooks).1.verdict, Verdict::Kept);
    }

    #[test]
    fn another_process_or_program_does_not() {
        type Changed = (fn(&mut ProcessExe), &'static str);
        let with = |change: fn(&mut ProcessExe)| {
            let mut exe = exe();
            change(&mut exe);
            codes(&case("prestart", &setkey(), exe).decide(&Hooks).1).join(" ")
        };
        let cases: [Changed; 8] = [
            (|e| e.program = None, "hooks.not-allowed"),
            (|e| e.program = Some("/usr/bin/bash".into()), "hooks.not-allowed"),
            (|e| e.program = Some("/home/u/dockerd".into()), "hooks.not-allowed"),
            (|e| e.program = Some("/usr/bin/x/dockerd".into()), "hooks.not-allowed"),
            (|e| e.process = RunBy::Another, "hooks.not-allowed"),
            (|e| e.above = Above::Open, "hooks.writable-by-others"),
            (|e| e.mode = 0o775, "hooks.writable-by-others"),
            (|e| e.uid = 1000, "hooks.wrong-owner"),
        ];
        for (index, (change, code)) in cases.into_iter().enumerate() {
            assert_eq!(with(change), code, "{index}");
        }
    }

    #[test]
    fn other_arguments_do_not() {
        let id = "web1";
        for args in [
            json!(["dockerd", "-exec-root=/run/docker", id, "9"]),
            json!(["libnetwork-setkey", "-exec-root=/run/docker", "other", "9"]),
            json!(["libnetwork-setkey", "-exec-root=run", id, "9"]),
            json!(["libnetwork-setkey", "-exec-root=/run/../x", id, "9"]),
            json!(["libnetwork-setkey", "--config-file=/x", id, "9"]),
            json!(["libnetwork-setkey", "-exec-root=/run/docker", id, "../9"]),
            json!(["libnetwork-setkey", "-exec-root=/run/docker", id]),
            json!(["libnetwork-setkey", "-exec-root=/run/docker", id, "9", "-H"]),
            json!(null),
        ] {
            let hook = json!({"path": "/proc/7/exe", "args": args});
            let (_, decision) = case("prestart", &hook, exe()).decide(&Hooks);
            assert_eq!(codes(&decision), ["hooks.not-allowed"], "{args}");
        }
        let mut hook = setkey();
        hook["env"] = json!(["A=1"]);
        assert_eq!(
            codes(&case("prestart", &hook, exe()).decide(&Hooks).1),
            ["hooks.not-allowed"]
        );
        for stage in ["createRuntime", "createContainer", "poststart", "poststop"] {
            let (_, decision) = case(stage, &setkey(), exe()).decide(&Hooks);
            assert_eq!(codes(&decision), ["hooks.not-allowed"], "{stage}");
        }
    }

    #[test]
    fn no_policy_lets_a_process_choose_the_program() {
        let mut case = Case::new().with("/hooks/prestart", json!([{"path": "/proc/self/root/bin/sh"}]));
        case.policy.policy.hooks.allow = vec!["/proc".into(), "/".into()];
        let path = "/proc/self/root/bin/sh";
        case.host.hooks.insert(path.into(), HookFile::MagicLink);
        assert_eq!(codes(&case.decide(&Hooks).1), ["hooks.not-allowed"]);
        // Nor does naming /proc let in the program of any process.
        let shell = ProcessExe {
            program: Some("/bin/sh".into()),
            ..exe()
        };
        let mut case = super::tests::case("prestart", &setkey(), shell);
        case.policy.policy.hooks.allow = vec!["/proc".into()];
        assert_eq!(codes(&case.decide(&Hooks).1), ["hooks.not-allowed"]);
    }
}
