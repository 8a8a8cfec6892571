//! The outcome in the words of those who start containers: ready to be copied.

use std::fmt::Write as _;
use std::path::Path;

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::{Hole, Loosening, Volume};
use crate::control::holes::ANNOTATION;
use crate::size::Size;

pub(super) fn size<S: Serializer>(size: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
    size.map(|bytes| Size(bytes).to_string()).serialize(to)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
pub(super) fn mode<S: Serializer>(mode: &Option<u32>, to: S) -> Result<S::Ok, S::Error> {
    mode.map(|bits| format!("{bits:04o}")).serialize(to)
}

impl Hole {
    /// As the annotation has it.
    pub fn entry(&self) -> String {
        let mut text = self.path.display().to_string();
        if let Some(bytes) = self.size {
            write!(text, ":size={}", Size(bytes)).unwrap_or_default();
        }
        if let Some(mode) = self.mode {
            write!(text, ":mode={mode:04o}").unwrap_or_default();
        }
        text
    }

    /// Whether the annotation's grammar can say the path at all.
    pub fn can_be_said(&self) -> bool {
        let odd = |c: char| c == ',' || c == ':' || c.is_whitespace() || c.is_control();
        self.path.to_str().is_some_and(|path| !path.contains(odd))
    }
}

/// The value of `dev.gabion.holes`; none where no hole is needed.
pub fn annotation(needs: &Loosening, between: &str) -> Option<String> {
    let entries: Vec<String> = needs.holes.iter().map(Hole::entry).collect();
    (!entries.is_empty()).then(|| entries.join(between))
}

/// A word for a shell.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// What stands between `run` and the image, for `podman`.
pub fn podman(needs: &Loosening) -> Vec<String> {
    // podman 4 cuts an annotation's value at commas.
    let mut words = engine(needs, " ");
    for volume in needs.volumes.iter().filter(|volume| !volume.mounted) {
        words.extend(["--tmpfs".to_owned(), tmpfs(volume, Some("notmpcopyup"))]);
    }
    words
}

/// The same for Docker, whose tmpfs are empty anyway.
pub fn docker(needs: &Loosening) -> Vec<String> {
    let mut words = engine(needs, ",");
    for volume in needs.volumes.iter().filter(|volume| !volume.mounted) {
        words.extend(["--tmpfs".to_owned(), tmpfs(volume, None)]);
    }
    words
}

fn engine(needs: &Loosening, between: &str) -> Vec<String> {
    let mut words = Vec::new();
    if let Some(value) = annotation(needs, between) {
        words.extend(["--annotation".to_owned(), format!("{ANNOTATION}={value}")]);
    }
    for (name, value) in &needs.sysctls {
        words.extend(["--sysctl".to_owned(), format!("{name}={value}")]);
    }
    for name in &needs.capabilities {
        words.extend(["--cap-add".to_owned(), name.clone()]);
    }
    words
}

fn tmpfs(volume: &Volume, empty: Option<&str>) -> String {
    let mode = volume.mode.map(|mode| format!("mode={mode:o}"));
    let exec = volume.exec.then(|| "exec".to_owned());
    let empty = empty.filter(|_| volume.empty).map(str::to_owned);
    let options: Vec<String> = [mode, exec, empty].into_iter().flatten().collect();
    if options.is_empty() {
        return volume.path.display().to_string();
    }
    format!("{}:{}", volume.path.display(), options.join(","))
}

/// The keys of the policy that are needed, each with its value as TOML writes it.
pub fn keys(needs: &Loosening) -> Vec<(&'static str, String)> {
    let list = |words: Vec<String>| {
        let words: Vec<String> = words.iter().map(|word| text(word)).collect();
        format!("[{}]", words.join(", "))
    };
    let mut keys = Vec::new();
    // An engine's own tmpfs says `exec` itself; what is mounted, and a pod's emptyDir, cannot.
    let exec: Vec<String> = needs
        .volumes
        .iter()
        .filter(|v| v.exec)
        .map(|v| v.path.display().to_string())
        .collect();
    if !exec.is_empty() {
        keys.push(("mounts.exec_paths", list(exec)));
    }
    if !needs.capabilities.is_empty() {
        let names = needs.capabilities.iter().map(|name| format!("CAP_{name}"));
        keys.push(("capabilities.allow", list(names.collect())));
    }
    if needs.memfd {
        keys.push(("sysctl.memfd_noexec", text("observe")));
    }
    if !needs.seccomp.is_empty() {
        keys.push((
            "seccomp.allow",
            list(needs.seccomp.iter().map(|g| g.as_str().to_owned()).collect()),
        ));
    }
    if !needs.sockets.is_empty() {
        keys.push((
            "seccomp.sockets",
            list(needs.sockets.iter().map(|w| w.as_str().to_owned()).collect()),
        ));
    }
    keys
}

/// A basic string of TOML.
fn text(word: &str) -> String {
    let mut out = String::from("\"");
    for c in word.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => write!(out, "\\u{:04X}", u32::from(c)).unwrap_or_default(),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// An exception for the policy of a node whose CRI vouches for the container; none where no key is needed.
pub fn exception(needs: &Loosening, reason: &str) -> Option<String> {
    let keys = keys(needs);
    if keys.is_empty() {
        return None;
    }
    let mut out = format!(
        "[[exception]]\nreason = {}\nmatch = {{ namespace = \"NAMESPACE\", name = \"POD-*\", container = \"CONTAINER\" }}\n",
        text(reason)
    );
    for (key, value) in keys {
        writeln!(out, "{key} = {value}").unwrap_or_default();
    }
    Some(out)
}

/// The lines of a pod that the outcome needs, in their places.
pub fn pod(needs: &Loosening) -> Value {
    let mut pod = json!({
        "spec": {"runtimeClassName": "gabion", "containers": [{"name": "CONTAINER", "securityContext": {
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": false,
        }}]},
    });
    if let Some(value) = annotation(needs, ",") {
        pod["metadata"]["annotations"][format!("{ANNOTATION}.CONTAINER")] = value.into();
    }
    if !needs.sysctls.is_empty() {
        let all = needs
            .sysctls
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value}));
        pod["spec"]["securityContext"]["sysctls"] = all.collect();
    }
    let container = &mut pod["spec"]["containers"][0];
    if !needs.capabilities.is_empty() {
        container["securityContext"]["capabilities"]["add"] = json!(needs.capabilities);
    }
    let new: Vec<&Volume> = needs.volumes.iter().filter(|volume| !volume.mounted).collect();
    if !new.is_empty() {
        let mounts = new
            .iter()
            .enumerate()
            .map(|(at, v)| json!({"name": format!("writable-{at}"), "mountPath": v.path}));
        container["volumeMounts"] = mounts.collect();
        let volumes = new
            .iter()
            .enumerate()
            .map(|(at, _)| json!({"name": format!("writable-{at}"), "emptyDir": {}}));
        pod["spec"]["volumes"] = volumes.collect();
    }
    pod
}

/// A seccomp profile that allows what was called, and what every program does to start and end.
pub fn profile(calls: impl IntoIterator<Item = String>, architectures: &[&str]) -> Value {
    const ALWAYS: [&str; 24] = [
        "brk",
        "capget",
        "close",
        "execve",
        "exit",
        "exit_group",
        "fcntl",
        "fstat",
        "futex",
        "getpid",
        "getppid",
        "mmap",
        "mprotect",
        "munmap",
        "openat",
        "prctl",
        "read",
        "restart_syscall",
        "rt_sigaction",
        "rt_sigprocmask",
        "rt_sigreturn",
        "sched_yield",
        "tgkill",
        "write",
    ];
    let mut names: Vec<String> = calls.into_iter().chain(ALWAYS.map(str::to_owned)).collect();
    names.sort();
    names.dedup();
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": architectures,
        "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}],
    })
}

/// The same as the security-profiles-operator takes it.
pub fn seccomp_profile(profile: &Value, name: &str) -> Value {
    json!({
        "apiVersion": "security-profiles-operator.x-k8s.io/v1beta1",
        "kind": "SeccompProfile",
        "metadata": {"name": name},
        "spec": {
            "defaultAction": profile["defaultAction"],
            "architectures": profile["architectures"],
            "syscalls": profile["syscalls"],
        },
    })
}

/// JSON as YAML: a mapping and a sequence a line each, every word quoted as JSON quotes it.
pub fn yaml(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    out
}

fn block(value: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let plain = key.chars().all(|c| c.is_ascii_alphanumeric());
                let key = if plain {
                    key.clone()
                } else {
                    Value::from(key.as_str()).to_string()
                };
                out.push_str(&format!("{indent}{key}:"));
                inner(value, depth + 1, out);
            }
        }
        Value::Array(list) => {
            for value in list {
                let mut text = String::new();
                if is_nested(value) {
                    block(value, depth + 1, &mut text);
                    let rest = text.trim_start().to_owned();
                    out.push_str(&format!("{indent}- {rest}"));
                } else {
                    out.push_str(&format!("{indent}- {value}\n"));
                }
            }
        }
        other => out.push_str(&format!("{indent}{other}\n")),
    }
}

fn is_nested(value: &Value) -> bool {
    value.as_object().is_some_and(|map| !map.is_empty()) || value.as_array().is_some_and(|list| !list.is_empty())
}

fn inner(value: &Value, depth: usize, out: &mut String) {
    if is_nested(value) {
        out.push('\n');
        block(value, depth, out);
    } else {
        out.push_str(&format!(" {value}\n"));
    }
}

/// Whether a path can be printed in a line of somebody's configuration.
pub fn is_plain(path: &Path) -> bool {
    path.to_str().is_some_and(|path| !path.chars().any(char::is_control))
}
