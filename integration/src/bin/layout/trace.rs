//! Which functions run: a breakpoint at each, taken away when it is hit, in every process of a command.

use crate::map::Map;
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::process::{Command, Stdio};

/// int3.
const BREAK: u8 = 0xcc;
/// AT_ENTRY of the auxiliary vector: where the program begins, in memory.
const AT_ENTRY: u64 = 9;

#[derive(Debug)]
pub(crate) struct Tracer {
    functions: BTreeSet<u64>,
    entry: Option<u64>,
    /// In the order of their first hit.
    order: Vec<u64>,
    /// By which of the watched commands each was hit: a bit for each.
    by: BTreeMap<u64, u32>,
    command: u32,
    /// Where each process has the binary.
    bases: BTreeMap<Pid, u64>,
    /// The bytes under the breakpoints.
    under: BTreeMap<u64, u8>,
}

impl Tracer {
    pub(crate) fn new(map: &Map) -> Self {
        Self {
            functions: map.functions.iter().copied().collect(),
            entry: None,
            order: Vec::new(),
            by: BTreeMap::new(),
            command: 0,
            bases: BTreeMap::new(),
            under: BTreeMap::new(),
        }
    }

    /// What ran, first what every command needs, last what one alone does; what the same commands need in the order of its
    /// first hit. So each command has its code in a few pieces, and none of what the others alone need between them.
    pub(crate) fn hits(&self) -> Vec<u64> {
        let mut hits = self.order.clone();
        hits.sort_by_key(|at| (Reverse(self.by[at].count_ones()), self.by[at]));
        hits
    }

    /// Runs a command to its end. What it leaves behind goes on during the next one. `command` tells those that are counted apart.
    pub(crate) fn run(&mut self, command: u32, words: &[OsString]) {
        self.entry = Some(entry_of(&words[0]));
        self.accompany(command, words);
    }

    /// The same with a command that is not looked at itself: what is, is what was left behind.
    #[allow(clippy::zombie_processes, reason = "waitpid() below waits for every process")]
    pub(crate) fn accompany(&mut self, command: u32, words: &[OsString]) {
        self.command = 1 << command;
        // The shell stops for us to take hold, and becomes the command.
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "kill -STOP $$; exec \"$0\" \"$@\""]).args(words);
        let child = shell.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("sh");
        let first = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        waitpid(first, Some(WaitPidFlag::WUNTRACED)).expect("the shell's stop");
        let options = Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL;
        ptrace::seize(first, options).expect("ptrace");
        nix::sys::signal::kill(first, Signal::SIGCONT).expect("SIGCONT");
        loop {
            match waitpid(None, Some(WaitPidFlag::__WALL)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == first => {
                    assert_eq!(code, 0, "{words:?}");
                    return;
                }
                Ok(status) => self.stopped(status),
                Err(error) => panic!("waitpid: {error}"),
            }
        }
    }

    fn stopped(&mut self, status: WaitStatus) {
        let (pid, signal) = match status {
            WaitStatus::PtraceEvent(pid, _, event) if event == nix::libc::PTRACE_EVENT_EXEC => {
                if !self.begins(pid) {
                    // The workload: no longer ours to watch.
                    ptrace::detach(pid, None).expect("detach");
                    return;
                }
                (pid, None)
            }
            // A fork, a child's first stop, or one of SIGCONT's.
            WaitStatus::PtraceEvent(pid, _, _) => (pid, None),
            WaitStatus::Stopped(pid, Signal::SIGTRAP) if self.hit(pid) => (pid, None),
            WaitStatus::Stopped(pid, signal) => (pid, Some(signal)),
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return,
            other => panic!("{other:?}"),
        };
        match ptrace::cont(pid, signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => panic!("cont: {error}"),
        }
    }

    /// After execve: breakpoints everywhere, if it is the binary that we look at.
    fn begins(&mut self, pid: Pid) -> bool {
        let in_memory = auxv(pid, AT_ENTRY);
        let entry = self.entry.expect("run() sets it");
        if in_memory & 0xfff != entry & 0xfff {
            return false;
        }
        let base = in_memory - entry;
        self.bases.insert(pid, base);
        for at in self.functions.clone() {
            let byte = poke(pid, base + at, BREAK);
            self.under.insert(at, byte);
        }
        true
    }

    fn hit(&mut self, pid: Pid) -> bool {
        let mut registers = ptrace::getregs(pid).expect("registers");
        let entry = self.entry.expect("run() sets it");
        // A child's memory is laid out as its parent's is.
        let base = *self.bases.entry(pid).or_insert_with(|| auxv(pid, AT_ENTRY) - entry);
        let at = registers.rip.wrapping_sub(1).wrapping_sub(base);
        let Some(byte) = self.under.get(&at) else { return false };
        poke(pid, base + at, *byte);
        registers.rip -= 1;
        ptrace::setregs(pid, registers).expect("registers");
        let by = self.by.entry(at).or_default();
        if *by == 0 {
            self.order.push(at);
        }
        *by |= self.command;
        true
    }
}

/// Puts a byte there and gives the one that was.
fn poke(pid: Pid, at: u64, byte: u8) -> u8 {
    let word = at & !7;
    let shift = (at & 7) * 8;
    let address = std::ptr::with_exposed_provenance_mut(usize::try_from(word).expect("an address"));
    let old = ptrace::read(pid, address).expect("peek").cast_unsigned();
    let new = old & !(0xff << shift) | u64::from(byte) << shift;
    ptrace::write(pid, address, new.cast_signed()).expect("poke");
    old.to_le_bytes()[usize::try_from(at & 7).expect("below eight")]
}

fn auxv(pid: Pid, key: u64) -> u64 {
    let bytes = std::fs::read(format!("/proc/{pid}/auxv")).expect("auxv");
    let words: Vec<u64> = bytes
        .chunks_exact(8)
        .map(|chunk| u64::from_ne_bytes(chunk.try_into().expect("eight bytes")))
        .collect();
    words
        .chunks_exact(2)
        .find(|pair| pair[0] == key)
        .map(|pair| pair[1])
        .expect("AT_ENTRY")
}

/// `e_entry` of an ELF file.
fn entry_of(path: &OsString) -> u64 {
    let bytes = std::fs::read(path).expect("gabion");
    u64::from_le_bytes(bytes[24..32].try_into().expect("eight bytes"))
}
