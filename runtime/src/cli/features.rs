//! `features`: what this runtime understands, as the runtime spec lays it out. Nothing goes to stderr: CRI-O reads both.

use std::collections::HashMap;

use oci_spec::runtime::{
    Apparmor, ApparmorBuilder, Arch, Cgroup, CgroupBuilder, Features, FeaturesBuilder, IDMapBuilder, IntelRdtBuilder,
    LinuxFeature, LinuxFeatureBuilder, LinuxNamespaceType, LinuxSeccompAction, MemoryPolicy, MemoryPolicyBuilder,
    MountExtensionsBuilder, NetDevicesBuilder, Seccomp, SeccompBuilder, SelinuxBuilder,
};

use gabion_common::cli::output;
use gabion_core::request::mount_options::{Meaning, TABLE};
use gabion_see::error::{Error, Result};
use gabion_see::seccomp::library_version;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  gabion features")]
pub(super) struct Args {}

impl Args {
    // By value, like every other command.
    #[allow(clippy::unused_self)]
    pub(super) fn run(self) -> Result<u8> {
        let features = features().map_err(|error| Error::Usage(error.to_string()))?;
        output::print_json(&features)?;
        Ok(0)
    }
}

type Built<T> = std::result::Result<T, oci_spec::OciSpecError>;

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn features() -> Built<Features> {
    let mut annotations = HashMap::from([("dev.gabion.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]);
    if let Some((major, minor, micro)) = library_version() {
        // runc's key: engines show it.
        annotations.insert(
            "io.github.seccomp.libseccomp.version".to_owned(),
            format!("{major}.{minor}.{micro}"),
        );
    }
    FeaturesBuilder::default()
        .oci_version_min("1.0.0")
        .oci_version_max("1.3.0")
        .hooks(strings(&[
            "prestart",
            "createRuntime",
            "createContainer",
            "startContainer",
            "poststart",
            "poststop",
        ]))
        .mount_options(mount_options())
        .linux(linux()?)
        .annotations(annotations)
        .potentially_unsafe_config_annotations(strings(&ANNOTATIONS))
        .build()
}

/// What config.json may say of a mount: the one table by which mounts are judged and made, but for what is refused.
fn mount_options() -> Vec<String> {
    let done = TABLE.iter().filter(|(_, meaning)| *meaning != Meaning::Remount);
    done.map(|(word, _)| (*word).to_owned()).collect()
}

fn linux() -> Built<LinuxFeature> {
    let mut capabilities: Vec<String> = caps::all().iter().map(ToString::to_string).collect();
    capabilities.sort();
    LinuxFeatureBuilder::default()
        .namespaces(vec![
            LinuxNamespaceType::Cgroup,
            LinuxNamespaceType::Ipc,
            LinuxNamespaceType::Mount,
            LinuxNamespaceType::Network,
            LinuxNamespaceType::Pid,
            LinuxNamespaceType::Time,
            LinuxNamespaceType::User,
            LinuxNamespaceType::Uts,
        ])
        .capabilities(capabilities)
        .cgroup(cgroup()?)
        .seccomp(seccomp()?)
        .apparmor(apparmor()?)
        .selinux(SelinuxBuilder::default().enabled(true).build()?)
        // gabion-core's `valid` refuses these: not claimed.
        .intel_rdt(
            IntelRdtBuilder::default()
                .enabled(false)
                .schemata(false)
                .monitoring(false)
                .build()?,
        )
        .memory_policy(memory_policy()?)
        .mount_extensions(
            MountExtensionsBuilder::default()
                .idmap(IDMapBuilder::default().enabled(true).build()?)
                .build()?,
        )
        .net_devices(NetDevicesBuilder::default().enabled(true).build()?)
        .build()
}

fn cgroup() -> Built<Cgroup> {
    CgroupBuilder::default()
        .v1(true)
        .v2(true)
        .systemd(true)
        .systemd_user(true)
        .rdma(true)
        .build()
}

/// All that oci-spec can read and build/memory_policy.rs does.
fn memory_policy() -> Built<MemoryPolicy> {
    MemoryPolicyBuilder::default()
        .modes(strings(&[
            "MPOL_DEFAULT",
            "MPOL_BIND",
            "MPOL_INTERLEAVE",
            "MPOL_WEIGHTED_INTERLEAVE",
            "MPOL_PREFERRED",
            "MPOL_PREFERRED_MANY",
            "MPOL_LOCAL",
        ]))
        .flags(strings(&[
            "MPOL_F_NUMA_BALANCING",
            "MPOL_F_RELATIVE_NODES",
            "MPOL_F_STATIC_NODES",
        ]))
        .build()
}

fn apparmor() -> Built<Apparmor> {
    ApparmorBuilder::default().enabled(true).build()
}

fn seccomp() -> Built<Seccomp> {
    SeccompBuilder::default()
        .enabled(true)
        .actions(vec![
            LinuxSeccompAction::ScmpActAllow,
            LinuxSeccompAction::ScmpActErrno,
            LinuxSeccompAction::ScmpActKill,
            LinuxSeccompAction::ScmpActKillProcess,
            LinuxSeccompAction::ScmpActKillThread,
            LinuxSeccompAction::ScmpActLog,
            LinuxSeccompAction::ScmpActNotify,
            LinuxSeccompAction::ScmpActTrace,
            LinuxSeccompAction::ScmpActTrap,
        ])
        .operators(strings(&[
            "SCMP_CMP_EQ",
            "SCMP_CMP_GE",
            "SCMP_CMP_GT",
            "SCMP_CMP_LE",
            "SCMP_CMP_LT",
            "SCMP_CMP_MASKED_EQ",
            "SCMP_CMP_NE",
        ]))
        .archs(vec![
            Arch::ScmpArchAarch64,
            Arch::ScmpArchArm,
            Arch::ScmpArchX32,
            Arch::ScmpArchX86,
            Arch::ScmpArchX86_64,
        ])
        .known_flags(flags(|_| true))
        .supported_flags(flags(gabion_sys::seccomp_knows_flags))
        .build()
}

fn flags(wanted: fn(u32) -> bool) -> Vec<String> {
    let all = FLAGS.iter().filter(|(_, bits)| wanted(*bits));
    all.map(|(name, _)| (*name).to_owned()).collect()
}

/// With their bits (linux/seccomp.h); the last one only goes together with a listener.
const FLAGS: [(&str, u32); 4] = [
    ("SECCOMP_FILTER_FLAG_LOG", 1 << 1),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", 1 << 2),
    ("SECCOMP_FILTER_FLAG_TSYNC", 1 << 0),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", 1 << 5 | 1 << 3),
];

/// Annotations of a config.json that change what gabion does with it: its own, and those by which it knows pods. Who passes on
/// what users wrote must not let them write these.
const ANNOTATIONS: [&str; 5] = [
    "dev.gabion.",
    "io.container.manager",
    "io.kubernetes.cri-o.",
    "io.kubernetes.cri.",
    "io.kubernetes.pod.",
];

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use oci_spec::runtime::{LinuxMemoryPolicy, LinuxSeccomp};
    use serde_json::{Value, json};

    fn told() -> Value {
        serde_json::to_value(super::features().unwrap()).unwrap()
    }

    fn list(value: &Value) -> Vec<String> {
        serde_json::from_value(value.clone()).unwrap()
    }

    /// Every key of the structure (features-linux.md): null would say «unknown».
    #[test]
    fn nothing_is_left_unsaid() {
        let value = told();
        for pointer in [
            "/ociVersionMin",
            "/hooks",
            "/mountOptions",
            "/annotations",
            "/potentiallyUnsafeConfigAnnotations",
            "/linux/namespaces",
            "/linux/capabilities",
            "/linux/cgroup/v1",
            "/linux/cgroup/v2",
            "/linux/cgroup/systemd",
            "/linux/cgroup/systemdUser",
            "/linux/cgroup/rdma",
            "/linux/seccomp/enabled",
            "/linux/seccomp/actions",
            "/linux/seccomp/operators",
            "/linux/seccomp/archs",
            "/linux/seccomp/knownFlags",
            "/linux/seccomp/supportedFlags",
            "/linux/apparmor/enabled",
            "/linux/selinux/enabled",
            "/linux/intelRdt/enabled",
            "/linux/intelRdt/schemata",
            "/linux/intelRdt/monitoring",
            "/linux/memoryPolicy/modes",
            "/linux/memoryPolicy/flags",
            "/linux/mountExtensions/idmap/enabled",
            "/linux/netDevices/enabled",
        ] {
            assert!(value.pointer(pointer).is_some_and(|v| !v.is_null()), "{pointer}");
        }
        assert_eq!(value["ociVersionMax"], "1.3.0");
        assert!(list(&value["linux"]["capabilities"]).contains(&"CAP_CHOWN".to_owned()));
    }

    /// By those who judge: what is named must compile, and nothing that compiles is left out.
    #[test]
    fn seccomp_s_words_are_those_that_compile() {
        let value = told();
        let seccomp = &value["linux"]["seccomp"];
        let compiles = |patch: Value| -> bool {
            let mut profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/s"});
            profile
                .as_object_mut()
                .unwrap()
                .extend(patch.as_object().unwrap().clone());
            serde_json::from_value::<LinuxSeccomp>(profile).is_ok_and(|p| gabion_see::seccomp::compile(&p).is_ok())
        };
        for action in list(&seccomp["actions"]) {
            let rule = json!({"names": ["sethostname"], "action": action});
            assert!(compiles(json!({"syscalls": [rule]})), "{action}");
        }
        for op in list(&seccomp["operators"]) {
            let arg = json!({"index": 0, "value": 1, "valueTwo": 1, "op": op});
            let rule = json!({"names": ["sethostname"], "action": "SCMP_ACT_ERRNO", "args": [arg]});
            assert!(compiles(json!({"syscalls": [rule]})), "{op}");
        }
        for arch in list(&seccomp["archs"]) {
            assert!(compiles(json!({"architectures": [arch]})), "{arch}");
        }
        for flag in list(&seccomp["knownFlags"]) {
            assert!(compiles(json!({"flags": [flag]})), "{flag}");
        }
        let known = list(&seccomp["knownFlags"]);
        let supported = list(&seccomp["supportedFlags"]);
        assert!(supported.iter().all(|flag| known.contains(flag)) && !supported.is_empty());
        // A flag that no kernel has is told apart.
        assert!(!gabion_sys::seccomp_knows_flags(1 << 30));
        assert!(!compiles(
            json!({"syscalls": [{"names": ["sethostname"], "action": "SCMP_ACT_DREAM"}]})
        ));
    }

    #[test]
    fn memory_policies_are_those_that_can_be_read() {
        let value = told();
        let policy = &value["linux"]["memoryPolicy"];
        for mode in list(&policy["modes"]) {
            for flag in list(&policy["flags"]) {
                let asked = json!({"mode": mode, "flags": [flag]});
                assert!(
                    serde_json::from_value::<LinuxMemoryPolicy>(asked).is_ok(),
                    "{mode} {flag}"
                );
            }
        }
    }

    #[test]
    fn what_is_refused_is_not_claimed() {
        let value = told();
        assert_eq!(value["linux"]["intelRdt"]["enabled"], false);
        assert_eq!(value["linux"]["netDevices"]["enabled"], true);
        assert_eq!(value["linux"]["cgroup"]["rdma"], true);
        assert_eq!(value["linux"]["mountExtensions"]["idmap"]["enabled"], true);
        let options = list(&value["mountOptions"]);
        for option in ["rro", "idmap", "ridmap", "tmpcopyup", "silent", "iversion", "lazytime"] {
            assert!(options.contains(&option.to_owned()), "{option}");
        }
        assert!(!options.contains(&"remount".to_owned()));
    }
}
