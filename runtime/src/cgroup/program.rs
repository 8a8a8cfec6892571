//! The device rules of a cgroup v2, put in force: the program is `gabion_see::cgroup::program`'s.

use std::fs::OpenOptions;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use oci_spec::runtime::LinuxDeviceCgroup;

use gabion_see::cgroup::program::bytes;
use gabion_see::error::{Error, Result, Step};

/// Puts the rules in force on the cgroup at `directory`.
pub(super) fn attach(directory: &Path, rules: &[LinuxDeviceCgroup]) -> Result<()> {
    let bytes = bytes(rules)?;
    let cgroup = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY)
        .open(directory)
        .map_err(Error::file("open", directory))?;
    let failed = |doing: &'static str| move |e: Errno| Error::step(Step::Cgroup, doing, e);
    let loaded = gabion_sys::bpf_load_device(&bytes).map_err(failed("load the device rules"))?;
    gabion_sys::bpf_attach_device(cgroup.as_fd(), loaded.as_fd()).map_err(failed("attach the device rules"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rules(list: Value) -> Vec<LinuxDeviceCgroup> {
        serde_json::from_value(list).unwrap()
    }

    /// Where the kernel lets us (root, a cgroup2 mount anywhere): it takes the program, and it denies.
    #[test]
    fn the_kernel_takes_it() {
        let tops = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
        let is_v2 = |top: &&&str| Path::new(top).join("cgroup.controllers").exists();
        let (true, Some(top)) = (nix::unistd::geteuid().is_root(), tops.iter().find(is_v2)) else {
            return;
        };
        let directory = Path::new(top).join(format!("gabion-program-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let list = json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"}]);
        let attached = attach(&directory, &rules(list));
        let procs = directory.join("cgroup.procs");
        let script = format!(
            "echo $$ > {} && true < /dev/null && ! true < /dev/zero 2> /dev/null",
            procs.display()
        );
        let inside = std::process::Command::new("sh").args(["-c", &script]).status().unwrap();
        std::fs::remove_dir(&directory).unwrap();
        attached.unwrap();
        assert!(inside.success());
    }
}
