//! What this machine has of the things that a policy names, for `policy validate --host`.

use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;

use gabion_core::policy::Policy;
use gabion_core::policy::here::{At, Here, questions};

use crate::survey::lsm;

/// Looks up what [`gabion_core::policy::here::judge`] asks for. Opens no path that the policy names.
pub fn look(policy: &Policy) -> Here {
    let asked = questions(policy);
    Here {
        paths: asked.paths.into_iter().map(|path| (path.clone(), at(&path))).collect(),
        sysctls: asked.sysctls.into_iter().filter(|name| has_sysctl(name)).collect(),
        landlock_abi: gabion_sys::landlock_abi(),
        lsm: lsm::selinux_is_here() || lsm::app_armor_is_here(),
        last_capability: number("kernel/cap_last_cap"),
        // 2: nobody has it. 1 leaves it to those with a right that a container has not.
        no_io_uring: number("kernel/io_uring_disabled").is_some_and(|n| n > 0),
        no_user_namespaces: number("user/max_user_namespaces") == Some(0),
    }
}

fn at(path: &Path) -> At {
    let found = match path.metadata() {
        Ok(found) => found,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return At::Missing,
        Err(_) => return At::Unseen,
    };
    let kind = found.file_type();
    if kind.is_dir() {
        At::Directory
    } else if kind.is_block_device() || kind.is_char_device() {
        At::Device
    } else if kind.is_file() && found.permissions().mode() & 0o111 != 0 {
        path.canonicalize().map_or(At::Unseen, At::Program)
    } else {
        At::Other
    }
}

/// Whether the kernel has it. One that cannot be looked at is there: only what is missing is spoken of.
fn has_sysctl(name: &str) -> bool {
    let path = Path::new("/proc/sys").join(name.replace('.', "/"));
    !matches!(path.symlink_metadata(), Err(error) if error.kind() == ErrorKind::NotFound)
}

fn number(name: &str) -> Option<usize> {
    let text = crate::small::read(Path::new("/proc/sys").join(name)).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_looked_at_as_it_is() {
        let text = "[mounts]\nallow = [\"/usr/bin\", \"/nowhere/at/all\"]\n[devices]\nallow = [\"/dev/null\"]\n[hooks]\nallow = [\"/bin/sh\"]\n\
                    [sysctl]\nallow = [\"net.ipv4.ip_local_port_range\", \"net.core.nonesuch\"]\n";
        let here = look(&gabion_core::policy::parse(text).unwrap());
        let at = |path: &str| &here.paths[Path::new(path)];
        assert_eq!(
            (at("/usr/bin"), at("/nowhere/at/all"), at("/dev/null")),
            (&At::Directory, &At::Missing, &At::Device)
        );
        assert!(matches!(at("/bin/sh"), At::Program(real) if real.is_absolute()));
        assert_eq!(
            here.sysctls.into_iter().collect::<Vec<_>>(),
            ["net.ipv4.ip_local_port_range"]
        );
        assert!(here.last_capability.unwrap() >= 36);
    }
}
