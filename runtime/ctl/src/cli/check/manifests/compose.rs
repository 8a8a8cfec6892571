//! What helps, in the words of a compose file. The rest of gabion knows podman's and Docker's options.

use gabion_core::decision::Change;

/// What to do to the file, by the refusal's code.
const WORDS: &[(&str, &str)] = &[
    ("capabilities.not-allowed", "take it out of `cap_add`"),
    ("cgroup.memory-above-max", "lower `mem_limit`"),
    ("cgroup.pids-above-max", "lower `pids_limit`"),
    (
        "devices.allow-all",
        "take `privileged: true` out, and ask for what is needed by `cap_add` and `devices`",
    ),
    ("devices.mismatch", "take it out of `devices`"),
    ("devices.not-allowed", "take it out of `devices`"),
    ("lsm.apparmor-absent", "take `apparmor=…` out of `security_opt`"),
    ("lsm.profile-not-loaded", "take `apparmor=…` out of `security_opt`"),
    ("lsm.selinux-absent", "take `label=…` out of `security_opt`"),
    ("mounts.device", "take it out of `volumes`"),
    (
        "mounts.entrypoint-noexec",
        "mount it read-only (`:ro`), or keep the program in the image",
    ),
    ("mounts.host-path", "take it out of `volumes`, or use a named volume"),
    ("mounts.kernel-source", "take it out of `volumes`"),
    ("mounts.propagation", "take `propagation` out of the volume's `bind`"),
    ("mounts.runtime-socket", "take it out of `volumes`"),
    ("mounts.system-writable", "add `:ro` to it in `volumes`"),
    ("namespaces.host-ipc", "take `ipc: host` out"),
    (
        "namespaces.host-network",
        "take `network_mode: host` out, and publish `ports`",
    ),
    ("namespaces.host-pid", "take `pid: host` out"),
    ("namespaces.host-uts", "take `uts: host` out"),
    ("sysctl.host-namespace", "take it out of `sysctls`"),
    ("sysctl.name", "take it out of `sysctls`"),
    (
        "sysctl.not-namespaced",
        "take it out of `sysctls`, or set it on the host",
    ),
    ("sysctl.unsafe", "take it out of `sysctls`"),
    ("user.root", "set `user: \"UID:GID\"`"),
];

/// Puts the words for compose before the remedy.
pub(super) fn remedy(change: &mut Change) {
    let words = WORDS.iter().find(|(code, _)| change.code.as_deref() == Some(code));
    if let (Some((_, words)), Some(remedy)) = (words, &change.remedy) {
        change.remedy = Some(format!("{words}; at the command line: {remedy}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_for_a_code_that_there_is() {
        for (code, _) in WORDS {
            assert!(gabion_core::explain::find(code).is_some(), "{code}");
        }
    }
}
