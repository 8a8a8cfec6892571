//! `features`: what this runtime understands, as the runtime spec lays it out. Nothing goes to stderr: CRI-O reads both.

use std::collections::HashMap;

use libseccomp::ScmpVersion;
use oci_spec::runtime::{
    Apparmor, ApparmorBuilder, Arch, Cgroup, CgroupBuilder, Features, FeaturesBuilder, IDMapBuilder, IntelRdtBuilder,
    LinuxFeature, LinuxFeatureBuilder, LinuxNamespaceType, LinuxSeccompAction, MemoryPolicy, MemoryPolicyBuilder,
    MountExtensionsBuilder, NetDevicesBuilder, Seccomp, SeccompBuilder, SelinuxBuilder,
};

use super::output;
use crate::container::valid::OF_BINDS;
use crate::error::{Error, Result};

/// Print what this runtime supports, as JSON
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
    if let Ok(version) = ScmpVersion::current() {
        // runc's key: engines show it.
        annotations.insert("io.github.seccomp.libseccomp.version".to_owned(), version.to_string());
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
        .potentially_unsafe_config_annotations(strings(&["dev.gabion."]))
        .build()
}

/// What config.json may say of a mount: the one list by which binds are judged, and what is done for a tmpfs.
fn mount_options() -> Vec<String> {
    // Passed over without effect on a bind: not claimed.
    let done = OF_BINDS.iter().filter(|o| !o.ends_with("lazytime"));
    done.chain(&["tmpcopyup"]).map(|o| (*o).to_owned()).collect()
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
        // container/valid.rs refuses these: not claimed.
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
        .net_devices(NetDevicesBuilder::default().enabled(false).build()?)
        .build()
}

fn cgroup() -> Built<Cgroup> {
    CgroupBuilder::default()
        .v1(true)
        .v2(true)
        .systemd(true)
        .systemd_user(true)
        .rdma(false)
        .build()
}

/// All that oci-spec can read and init/memory_policy.rs does.
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
        .known_flags(strings(&FLAGS))
        .supported_flags(strings(&FLAGS))
        .build()
}

const FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use oci_spec::runtime::LinuxMemoryPolicy;

    #[test]
    fn the_structure_is_the_spec_s() {
        let value = serde_json::to_value(super::features().unwrap()).unwrap();
        assert_eq!(value["ociVersionMax"], "1.3.0");
        assert_eq!(value["linux"]["seccomp"]["archs"][4], "SCMP_ARCH_X86_64");
        assert!(
            value["linux"]["capabilities"]
                .as_array()
                .unwrap()
                .contains(&"CAP_CHOWN".into())
        );
        for refused in ["intelRdt", "netDevices"] {
            assert_eq!(value["linux"][refused]["enabled"], false, "{refused}");
        }
        assert_eq!(value["linux"]["mountExtensions"]["idmap"]["enabled"], true);
        for mode in value["linux"]["memoryPolicy"]["modes"].as_array().unwrap() {
            let policy = serde_json::json!({"mode": mode});
            assert!(serde_json::from_value::<LinuxMemoryPolicy>(policy).is_ok(), "{mode}");
        }
        assert!(value["mountOptions"].as_array().unwrap().contains(&"rro".into()));
    }
}
