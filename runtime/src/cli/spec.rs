//! `spec`: a config.json to start from.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use gabion_see::error::{Error, Result};

/// As runc's, terminal included.
const ROOTED: &str = include_str!("spec/config.json");

/// A user's: with a user namespace, and, other than runc's, a network namespace of its own and a fresh sysfs, so that it
/// runs at `hardened`.
const ROOTLESS: &str = include_str!("spec/rootless.json");

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  gabion spec -b ./bundle\n  gabion spec --rootless")]
pub(super) struct Args {
    /// Directory to write it to
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// For a user without privileges
    #[arg(long)]
    rootless: bool,
}

impl Args {
    pub(super) fn run(self) -> Result<u8> {
        let path = self.bundle.join("config.json");
        let text = if self.rootless {
            rootless(nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
        } else {
            ROOTED.to_owned()
        };
        let text = if gabion_see::cgroup::unified() {
            text
        } else {
            without_cgroup_namespace(&text)
        };
        // Never over a file that someone wrote.
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(Error::file("create", &path))?;
        file.write_all(text.as_bytes()).map_err(Error::file("write", &path))?;
        Ok(0)
    }
}

/// As runc: on v1 the container sees its cgroups where the host has them. At hardened the namespace is added.
fn without_cgroup_namespace(text: &str) -> String {
    text.replacen(CGROUP_NAMESPACE, "", 1)
}

/// The last entry of the list, with the comma before it.
const CGROUP_NAMESPACE: &str = ",\n\t\t\t{\n\t\t\t\t\"type\": \"cgroup\"\n\t\t\t}";

fn rootless(uid: u32, gid: u32) -> String {
    ROOTLESS
        .replace("\"@UID@\"", &uid.to_string())
        .replace("\"@GID@\"", &gid.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use oci_spec::runtime::{LinuxNamespaceType, Spec};

    fn has(spec: &Spec, typ: LinuxNamespaceType) -> bool {
        let linux = spec.linux().as_ref().unwrap();
        linux.namespaces().as_ref().unwrap().iter().any(|ns| ns.typ() == typ)
    }

    #[test]
    fn both_are_specs_with_a_terminal_and_their_own_network() {
        for (text, user) in [(ROOTED.to_owned(), false), (rootless(1000, 100), true)] {
            let spec: Spec = serde_json::from_str(&text).unwrap();
            assert_eq!(spec.process().as_ref().unwrap().terminal(), Some(true));
            assert!(has(&spec, LinuxNamespaceType::Network));
            assert_eq!(has(&spec, LinuxNamespaceType::User), user);
            let mounts = spec.mounts().as_ref().unwrap();
            assert!(mounts.iter().any(|m| m.typ().as_deref() == Some("sysfs")));
        }
        for text in [ROOTED.to_owned(), rootless(1000, 100)] {
            let [with, without] = [&text, &without_cgroup_namespace(&text)]
                .map(|text| has(&serde_json::from_str(text).unwrap(), LinuxNamespaceType::Cgroup));
            assert!(with && !without);
        }
        let spec: Spec = serde_json::from_str(&rootless(1000, 100)).unwrap();
        let linux = spec.linux().as_ref().unwrap();
        assert_eq!(linux.uid_mappings().as_ref().unwrap()[0].host_id(), 1000);
        assert_eq!(linux.gid_mappings().as_ref().unwrap()[0].host_id(), 100);
    }
}
