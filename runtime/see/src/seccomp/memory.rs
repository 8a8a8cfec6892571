//! The filter of the control `memory`: calls by which a program gets to run what it has written.
//!
//! It is a filter of its own and no part of the floor, so that it stands where `seccomp` is only observed. What the rest of the kernel's
//! W^X (PR_SET_MDWE) leaves open is closed here: shared memory has two mappings, of which one is written and the other executed; a
//! personality makes the heap executable; userfaultfd fills pages that nobody may write.

use std::collections::BTreeSet;

use gabion_core::policy::MemoryRule;

use super::bpf::{self, Insn};
use super::numbers::{Numbers, tree_of};
use super::{Program, RET_ALLOW};

/// What the tree answers for calls whose arguments are judged behind it.
const HERE: u32 = 0x7ff0_6764;

const EPERM: u32 = bpf::RET_ERRNO + 1;
const EACCES: u32 = bpf::RET_ERRNO + 13;
const ENOSYS: u32 = bpf::RET_ERRNO + 38;

const PROT_EXEC: u32 = 4;
/// Also a bit of MAP_SHARED_VALIDATE.
const MAP_SHARED: u32 = 1;
const SHM_EXEC: u32 = 0o100_000;
/// The word of ipc(2) for shmat, in its low 16 bits.
const SHMAT: u32 = 21;
const READ_IMPLIES_EXEC: u32 = 0x040_0000;
/// personality(2) with this only asks.
const ASK: u32 = 0xffff_ffff;

/// The numbers of one ABI's calls.
#[derive(Debug, Clone, Copy)]
pub(super) struct Calls {
    /// `AUDIT_ARCH_*`
    pub(super) arch: u32,
    pub(super) memfd_create: u32,
    /// ptrace, process_vm_readv, process_vm_writev.
    pub(super) others: [u32; 3],
    pub(super) userfaultfd: u32,
    pub(super) personality: u32,
    /// With its arguments in registers: mmap, or mmap2.
    pub(super) mmap: u32,
    /// With its arguments in memory, where no filter can look.
    pub(super) old_mmap: Option<u32>,
    pub(super) shmat: u32,
    /// The multiplexer of 32-bit x86.
    pub(super) ipc: Option<u32>,
}

#[cfg(target_arch = "x86_64")]
pub(super) const CALLS: [Calls; 2] = [
    Calls {
        arch: bpf::AUDIT_X86_64,
        memfd_create: 319,
        others: [101, 310, 311],
        userfaultfd: 323,
        personality: 135,
        mmap: 9,
        old_mmap: None,
        shmat: 30,
        ipc: None,
    },
    Calls {
        arch: bpf::AUDIT_I386,
        memfd_create: 356,
        others: [26, 347, 348],
        userfaultfd: 374,
        personality: 136,
        mmap: 192,
        old_mmap: Some(90),
        shmat: 397,
        ipc: Some(117),
    },
];

#[cfg(target_arch = "aarch64")]
pub(super) const CALLS: [Calls; 2] = [
    Calls {
        arch: bpf::AUDIT_AARCH64,
        memfd_create: 279,
        others: [117, 270, 271],
        userfaultfd: 282,
        personality: 92,
        mmap: 222,
        old_mmap: None,
        shmat: 196,
        ipc: None,
    },
    Calls {
        arch: bpf::AUDIT_ARM,
        memfd_create: 385,
        others: [26, 376, 377],
        userfaultfd: 388,
        personality: 136,
        mmap: 192,
        old_mmap: None,
        shmat: 305,
        ipc: None,
    },
];

impl Program {
    /// The filter for these rules; None where none of them needs one.
    pub fn of_memory(rules: &BTreeSet<MemoryRule>) -> Option<Self> {
        let blocks: Vec<Numbers> = CALLS.iter().map(|calls| numbers(rules, calls)).collect();
        if blocks.iter().all(|block| block.answers.is_empty()) {
            return None;
        }
        // x32 is a second door to every call, and what most kernels are built without.
        let mut program = vec![
            Insn::load(bpf::OFF_ARCH),
            Insn::new(bpf::JEQ_K, 0, 3, bpf::AUDIT_X86_64),
            Insn::load(bpf::OFF_NR),
            Insn::new(bpf::JGE_K, 0, 1, bpf::X32_BIT),
            Insn::ret(ENOSYS),
        ];
        let mut tree = tree_of(&blocks, RET_ALLOW);
        bpf::chain(&mut tree, HERE, &arguments());
        program.extend(tree);
        Some(Self(bpf::encode(&program).into()))
    }
}

fn numbers(rules: &BTreeSet<MemoryRule>, calls: &Calls) -> Numbers {
    let mut answers = Vec::new();
    for rule in rules {
        match rule {
            MemoryRule::Mdwe => {
                answers.extend([
                    (calls.mmap, HERE),
                    (calls.personality, HERE),
                    (calls.userfaultfd, EPERM),
                ]);
                answers.extend(calls.old_mmap.map(|number| (number, ENOSYS)));
            }
            MemoryRule::Memfd => answers.push((calls.memfd_create, ENOSYS)),
            MemoryRule::ShmExec => {
                answers.push((calls.shmat, HERE));
                answers.extend(calls.ipc.map(|number| (number, HERE)));
            }
            MemoryRule::Ptrace => answers.extend(calls.others.map(|number| (number, EPERM))),
            MemoryRule::Proc => {}
        }
    }
    Numbers {
        arch: calls.arch,
        answers,
        above: None,
    }
}

/// The calls that the tree sends here, by ABI.
fn arguments() -> Vec<Insn> {
    let mut program = vec![Insn::load(bpf::OFF_ARCH)];
    for calls in &CALLS {
        let mut body = vec![Insn::load(bpf::OFF_NR)];
        when(&mut body, calls.mmap, &shared_and_executable());
        when(&mut body, calls.personality, &makes_data_executable());
        when(&mut body, calls.shmat, &attaches_executable());
        if let Some(ipc) = calls.ipc {
            when(&mut body, ipc, &multiplexed());
        }
        body.push(Insn::ret(RET_ALLOW));
        when(&mut program, calls.arch, &body);
    }
    program.push(Insn::ret(RET_ALLOW));
    program
}

/// A private mapping that gets executable is MDWE's; of a shared one another mapping may be written.
fn shared_and_executable() -> Vec<Insn> {
    vec![
        Insn::load(bpf::low(2)),
        Insn::new(bpf::JSET_K, 0, 3, PROT_EXEC),
        Insn::load(bpf::low(3)),
        Insn::new(bpf::JSET_K, 0, 1, MAP_SHARED),
        Insn::ret(EACCES),
        Insn::ret(RET_ALLOW),
    ]
}

/// The heap becomes executable by brk(2), and a mapping by being readable.
fn makes_data_executable() -> Vec<Insn> {
    vec![
        Insn::load(bpf::low(0)),
        Insn::new(bpf::JEQ_K, 2, 0, ASK),
        Insn::new(bpf::JSET_K, 0, 1, READ_IMPLIES_EXEC),
        Insn::ret(EPERM),
        Insn::ret(RET_ALLOW),
    ]
}

fn attaches_executable() -> Vec<Insn> {
    vec![
        Insn::load(bpf::low(2)),
        Insn::new(bpf::JSET_K, 0, 1, SHM_EXEC),
        Insn::ret(EACCES),
        Insn::ret(RET_ALLOW),
    ]
}

fn multiplexed() -> Vec<Insn> {
    let mut program = vec![
        Insn::load(bpf::low(0)),
        Insn::new(bpf::AND_K, 0, 0, 0xffff),
        Insn::new(bpf::JEQ_K, 1, 0, SHMAT),
        Insn::ret(RET_ALLOW),
    ];
    program.extend(attaches_executable());
    program
}

/// Runs `then`, which returns, where what was loaded last is `value`. What is put here is a few dozen instructions long.
fn when(out: &mut Vec<Insn>, value: u32, then: &[Insn]) {
    let length = u8::try_from(then.len()).unwrap_or(u8::MAX);
    out.push(Insn::new(bpf::JEQ_K, 0, length, value));
    out.extend_from_slice(then);
}
