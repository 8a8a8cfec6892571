//! The device programs of a container's cgroup on v2: ours, by its instructions, and any other.
//!
//! The program is built once more from what was decided, and loaded; the kernel's own hash over its instructions (the tag) tells it among those
//! that are attached. All that are attached must let an access through, so another one beside it takes nothing off; but it is not what was
//! decided, and is named. systemd puts one of its own on its scopes.

use std::fs::OpenOptions;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use gabion_core::fact::{Fact, Holds};
use gabion_core::host::CgroupDriver;
use gabion_core::id::ControlId;
use gabion_see::cgroup::{program, unified};
use gabion_see::state::Record;
use gabion_see::{build, caller};
use gabion_sys::BpfProgram;
use nix::errno::Errno;
use oci_spec::runtime::LinuxDeviceCgroup;

/// What systemd calls its own.
const SYSTEMDS: &str = "sd_devices";

/// Gives the fact of a container on cgroup v2, in the place of the control's own, which cannot see programs. None: not on v2, nothing was
/// set, or who looks is not shown programs.
pub(super) fn fact(record: &Record) -> Option<Fact> {
    let linux = record.hardened.spec().linux().as_ref();
    let rules = linux
        .and_then(|l| l.resources().as_ref())
        .and_then(|r| r.devices().as_ref())?;
    if !unified() || !record.hardened.enforces(ControlId::Devices) || !caller::is_host_root() {
        return None;
    }
    let directory = record.cgroup.directories().ok()?.into_iter().next()?;
    Some(judged(&directory, rules, record))
}

fn judged(directory: &Path, rules: &[LinuxDeviceCgroup], record: &Record) -> Fact {
    let expected = "the device program of create, by its instructions, and no other";
    let seen = ours(rules).and_then(|ours| Ok((ours, attached(directory)?)));
    let (ours, attached) = match seen {
        Ok(seen) => seen,
        Err(Errno::EPERM) => {
            let how = "attached before its program ran; bpf(2) does not tell this caller of programs";
            return Fact::held(ControlId::Devices, expected, how);
        }
        Err(errno) => return Fact::unknown(ControlId::Devices, expected, format!("bpf(2) does not tell: {errno:?}")),
    };
    let systemd = record.cgroup.driver == CgroupDriver::Systemd;
    let (observed, holds) = compare(&ours, &attached, systemd);
    let same_gabion = record.made_by.as_deref() == Some(build::MADE_BY);
    if holds == Holds::No && !same_gabion && !attached.is_empty() {
        let why = format!("{observed}; another gabion made it, whose program may be another");
        return Fact::unknown(ControlId::Devices, expected, why);
    }
    Fact::judged(ControlId::Devices, expected, observed, holds)
}

/// The program as it would be attached now.
fn ours(rules: &[LinuxDeviceCgroup]) -> Result<BpfProgram, Errno> {
    let bytes = program::bytes(rules).map_err(|_| Errno::EINVAL)?;
    gabion_sys::bpf_program_info(gabion_sys::bpf_load_device(&bytes)?.as_fd())
}

fn attached(directory: &Path) -> Result<Vec<BpfProgram>, Errno> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY)
        .open(directory);
    let cgroup = opened.map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
    let ids = gabion_sys::bpf_device_programs(cgroup.as_fd())?;
    let one = |id| gabion_sys::bpf_program_info(gabion_sys::bpf_program(id)?.as_fd());
    ids.into_iter().map(one).collect()
}

fn compare(ours: &BpfProgram, attached: &[BpfProgram], systemd: bool) -> (String, Holds) {
    let shown = |program: &BpfProgram| {
        let tag: String = program.tag.iter().map(|byte| format!("{byte:02x}")).collect();
        let name = if program.name.is_empty() {
            "without a name"
        } else {
            &program.name
        };
        format!("{name} ({tag})")
    };
    let others: Vec<&BpfProgram> = attached.iter().filter(|program| program.tag != ours.tag).collect();
    let (systemds, foreign): (Vec<_>, Vec<_>) = others.iter().partition(|program| systemd && program.name == SYSTEMDS);
    let there = attached.len() > others.len();
    let list = |programs: &[&&BpfProgram]| {
        programs
            .iter()
            .map(|program| shown(program))
            .collect::<Vec<_>>()
            .join(", ")
    };
    match (there, foreign.is_empty()) {
        (false, true) => ("it is not attached".to_owned(), Holds::No),
        (false, false) => (format!("it is not attached; {} is", list(&foreign)), Holds::No),
        (true, false) => (format!("beside it {}", list(&foreign)), Holds::No),
        (true, true) if systemds.is_empty() => (format!("program {}", shown(ours)), Holds::Yes),
        (true, true) => (
            format!("program {}, and systemd's {}", shown(ours), list(&systemds)),
            Holds::Yes,
        ),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn named(tag: u8, name: &str) -> BpfProgram {
        BpfProgram {
            tag: [tag; 8],
            name: name.to_owned(),
        }
    }

    #[test]
    fn a_replaced_a_detached_and_an_additional_one_differ() {
        let ours = named(1, "");
        let holds = |attached: &[BpfProgram], systemd| compare(&ours, attached, systemd).1;
        assert_eq!(holds(&[named(1, "")], false), Holds::Yes);
        assert_eq!(holds(&[], false), Holds::No);
        assert_eq!(holds(&[named(2, "")], false), Holds::No);
        assert_eq!(holds(&[named(1, ""), named(2, "x")], true), Holds::No);
        assert_eq!(holds(&[named(1, ""), named(2, SYSTEMDS)], true), Holds::Yes);
        assert_eq!(
            holds(&[named(1, ""), named(2, SYSTEMDS)], false),
            Holds::No,
            "nobody's systemd made it"
        );
        assert_eq!(holds(&[named(2, SYSTEMDS)], true), Holds::No);
    }

    /// Where the kernel lets us (root, a cgroup2 mount anywhere): it tells of programs, and ours is known again.
    #[test]
    fn the_kernel_tells_of_programs() {
        let tops = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
        let is_v2 = |top: &&&str| Path::new(top).join("cgroup.controllers").exists();
        let (true, Some(top)) = (nix::unistd::geteuid().is_root(), tops.iter().find(is_v2)) else {
            return;
        };
        let rules = |minor: i64| -> Vec<LinuxDeviceCgroup> {
            let list = json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": minor, "access": "rwm"}]);
            serde_json::from_value(list).unwrap()
        };
        let directory = Path::new(top).join(format!("gabion-attest-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let look = || -> Result<Vec<Holds>, Errno> {
            let cgroup = std::fs::File::open(&directory).unwrap();
            let attach = |rules: &[LinuxDeviceCgroup]| {
                let loaded = gabion_sys::bpf_load_device(&program::bytes(rules).unwrap())?;
                gabion_sys::bpf_attach_device(cgroup.as_fd(), loaded.as_fd())
            };
            let judge = || Ok(compare(&ours(&rules(3))?, &attached(&directory)?, false).1);
            let mut seen = vec![judge()?];
            attach(&rules(3))?;
            seen.push(judge()?);
            attach(&rules(5))?;
            seen.push(judge()?);
            Ok(seen)
        };
        let seen = look();
        std::fs::remove_dir(&directory).unwrap();
        assert_eq!(seen.unwrap(), [Holds::No, Holds::Yes, Holds::No]);
    }
}
