//! Codes that are tried elsewhere or cannot be met, each with its reason.

use integration::{apparmor, unified};

/// Codes of `explain` that are no refusals: faults of files, calls and states.
pub(crate) const NO_REFUSALS: [&str; 13] = [
    "annotations.unknown",
    "annotations.value",
    "bundle.invalid",
    "bundle.spelling",
    "bundle.unsupported",
    "policy.invalid",
    "state.unreadable",
    "state.wrong",
    "state.not-running",
    "id.invalid",
    "id.exists",
    "id.not-found",
    "program.not-found",
];

/// Where it is another host that is needed, tests/remedies.json has the remedy, tried on that host's description.
const OTHER_HOST: &str = "needs another host; tests/remedies.json";
/// A second lock behind one that answers first; unit and golden tests go behind that one.
const SECOND_LOCK: &str = "the parser or the command line refuses it first, with bundle.invalid or a usage error";
/// Met and remedied with the caller that it is for.
const OTHER_CALLER: &str = "needs a user without privileges (tests/rootless), or buildah (tests/callers)";

/// Only a container of containerd's CRI plugin has an image with a name (the shim's tests/cri).
const BY_CRI: &str = "needs containerd's CRI plugin; tests/remedies.json";

/// A CDI file lies in a directory of the whole machine's (integration/tests/controls/cdi.rs).
const CDI_FILE: &str = "needs a CDI file of the machine's; tests/remedies.json";

/// Another container is asked for what the first has.
const NEIGHBOUR: &str = "needs a second container (attacks/cgroup.rs); tests/remedies.json";

pub(crate) const WHY: &[(&str, &str)] = &[
    ("cgroup.taken", NEIGHBOUR),
    ("devices.cdi", CDI_FILE),
    ("hooks.cdi", CDI_FILE),
    ("mounts.cdi", CDI_FILE),
    // A kernel with swapaccount=0 on v1: set at boot.
    ("cgroup.swap-accounting-missing", OTHER_HOST),
    // A kernel before 6.7.
    ("landlock.tcp-unsupported", OTHER_HOST),
    // SELinux, and a domain that may not look at /proc/sys/vm (integration/tests/controls/lsm/selinux.rs).
    ("sysctl.memfd-hidden", OTHER_HOST),
    // A kernel before 6.3.
    ("memory.mdwe-missing", OTHER_HOST),
    // AppArmor or SELinux.
    ("rootfs.image", BY_CRI),
    ("lsm.all-categories", OTHER_HOST),
    ("lsm.bad-label", OTHER_HOST),
    ("lsm.profile-not-loaded", OTHER_HOST),
    ("lsm.unconfined-label", OTHER_HOST),
    // A user namespace that nobody is in (integration/tests/controls/user.rs).
    ("user.unknown", OTHER_HOST),
    ("user.groups", OTHER_CALLER),
    ("cgroup.not-delegated", OTHER_CALLER),
    ("rootfs.build", OTHER_CALLER),
    ("exec.no-args", SECOND_LOCK),
    ("exec.nul", SECOND_LOCK),
    ("rootfs.missing", SECOND_LOCK),
    // What is missing is added, and what is joined is namespaces.mount-joined.
    ("namespaces.host-mount", "no request leads to it"),
];

/// Whether a refusal can be met on this machine: some say that it does not have what others do.
pub(crate) fn can_be_met(code: &str) -> bool {
    match code {
        // On v2 no controller is missing that a distribution's kernel has.
        "cgroup.unified-on-v1" | "cgroup.controller-missing" => !unified(),
        "lsm.apparmor-absent" => !apparmor(),
        "lsm.none" => !apparmor() && !selinux(),
        "lsm.selinux-absent" => !selinux(),
        _ => true,
    }
}

fn selinux() -> bool {
    std::path::Path::new("/sys/fs/selinux/enforce").exists()
}

/// The remedies that are tried without a kernel.
#[test]
fn what_needs_another_host_has_its_remedy_there() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/remedies.json");
    let text = std::fs::read_to_string(path).unwrap();
    let remedies: serde_json::Value = serde_json::from_str(&text).unwrap();
    let missing: Vec<_> = WHY
        .iter()
        .filter(|(code, why)| [OTHER_HOST, BY_CRI, CDI_FILE].contains(why) && remedies.get(code).is_none())
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
