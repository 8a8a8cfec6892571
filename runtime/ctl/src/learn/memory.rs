//! Reading what another process points to, in bounds.

use std::io::{IoSliceMut, Read};

use gabion_see::procfs::Proc;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

/// PATH_MAX, with its end.
const LONGEST: usize = 4096;
/// The smallest page: a read stops at its end at the latest, where the next one may not be there.
const PAGE: u64 = 4096;

/// Reads at most `length` bytes; fewer where there are no more.
pub(super) fn bytes(pid: u32, address: u64, length: usize) -> Option<Vec<u8>> {
    let mut buffer = vec![0; length.min(LONGEST)];
    let first = usize::try_from(PAGE - address % PAGE).ok()?.min(buffer.len());
    let base = usize::try_from(address).ok()?;
    let pieces = [
        RemoteIoVec { base, len: first },
        RemoteIoVec {
            base: base.checked_add(first)?,
            len: buffer.len() - first,
        },
    ];
    let pid = Pid::from_raw(i32::try_from(pid).ok()?);
    let read = process_vm_readv(pid, &mut [IoSliceMut::new(&mut buffer)], &pieces).ok()?;
    buffer.truncate(read);
    Some(buffer)
}

/// Reads a string up to its NUL.
pub(super) fn text(pid: u32, address: u64) -> Option<Vec<u8>> {
    let mut bytes = bytes(pid, address, LONGEST)?;
    let end = bytes.iter().position(|byte| *byte == 0)?;
    bytes.truncate(end);
    Some(bytes)
}

/// Who a task is, as far as files and capabilities go (proc_pid_status(5)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) uid: u32,
    pub(super) groups: Vec<u32>,
    pub(super) capabilities: u64,
}

impl Who {
    pub(super) fn of(proc: &Proc, pid: u32) -> Option<Self> {
        let mut text = String::with_capacity(2048);
        let file = proc.open_file(&format!("{pid}/status"), libc::O_RDONLY).ok()?;
        file.take(64 << 10).read_to_string(&mut text).ok()?;
        let mut who = Self::default();
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else {
                continue;
            };
            // Real, effective, saved, file system.
            let last = || value.split_whitespace().nth(3).and_then(|id| id.parse().ok());
            match key {
                "Uid" => who.uid = last()?,
                "Gid" => who.groups.push(last()?),
                "Groups" => who
                    .groups
                    .extend(value.split_whitespace().filter_map(|id| id.parse::<u32>().ok())),
                "CapEff" => who.capabilities = u64::from_str_radix(value.trim(), 16).ok()?,
                _ => {}
            }
        }
        Some(who)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        let number = gabion_core::capability::NAMES.iter().position(|known| *known == name);
        number.is_some_and(|number| self.capabilities & (1 << number) != 0)
    }

    /// Whether the mode lets this user do it: 2 write, 1 search. Lists (ACLs) are not looked at.
    pub(super) fn may(&self, stat: &libc::stat, what: u32) -> bool {
        if self.has("DAC_OVERRIDE") {
            return true;
        }
        let shift = if stat.st_uid == self.uid {
            6
        } else if self.groups.contains(&stat.st_gid) {
            3
        } else {
            0
        };
        stat.st_mode >> shift & what == what
    }
}
