//! The filter of the control `memory`.

use libseccomp::{ScmpArch, ScmpSyscall};

use gabion_core::policy::MemoryRule;

use super::*;
use crate::seccomp::memory::{CALLS, Calls};

const EACCES: u32 = bpf::RET_ERRNO + 13;

fn only(rule: MemoryRule) -> Vec<bpf::Insn> {
    load(Program::of_memory(&BTreeSet::from([rule])).unwrap().as_bytes())
}

fn arch_of(calls: &Calls) -> ScmpArch {
    match calls.arch {
        bpf::AUDIT_X86_64 => ScmpArch::X8664,
        bpf::AUDIT_I386 => ScmpArch::X86,
        bpf::AUDIT_AARCH64 => ScmpArch::Aarch64,
        _ => ScmpArch::Arm,
    }
}

/// What a call of this name is answered, with rubbish in the high half of each argument and without.
fn answer(program: &[bpf::Insn], arch: u32, number: u32, args: [u64; 4]) -> u32 {
    let [a, b, c, d] = args;
    let of = |high: u64| {
        let args = [a | high, b | high, c | high, d | high, 0, 0];
        interpret(program, Call { arch, number, args })
    };
    assert_eq!(of(0), of(7 << 32));
    of(0)
}

#[test]
fn numbers_are_the_kernels() {
    for calls in &CALLS {
        let arch = arch_of(calls);
        let is = |name: &str, number: u32| {
            let known = ScmpSyscall::from_name_by_arch(name, arch).unwrap();
            let known = known.as_raw_syscall();
            // Calls that i386 has two ways to make are numbers of libseccomp's own there.
            assert!(known < 0 || known.unsigned_abs() == number, "{name}: {known} {number}");
        };
        is("memfd_create", calls.memfd_create);
        for (name, number) in ["ptrace", "process_vm_readv", "process_vm_writev"]
            .iter()
            .zip(calls.others)
        {
            is(name, number);
        }
        is("userfaultfd", calls.userfaultfd);
        is("personality", calls.personality);
        let native = calls.arch == bpf::AUDIT_X86_64 || calls.arch == bpf::AUDIT_AARCH64;
        is(if native { "mmap" } else { "mmap2" }, calls.mmap);
        is("shmat", calls.shmat);
        calls.old_mmap.iter().for_each(|number| is("mmap", *number));
        calls.ipc.iter().for_each(|number| is("ipc", *number));
    }
}

#[test]
fn each_rule_closes_its_own_calls() {
    let [mdwe, memfd, shm, ptrace] = [
        MemoryRule::Mdwe,
        MemoryRule::Memfd,
        MemoryRule::ShmExec,
        MemoryRule::Ptrace,
    ]
    .map(only);
    assert_eq!(Program::of_memory(&BTreeSet::from([MemoryRule::Proc])), None);
    for calls in &CALLS {
        let ask = |program: &[bpf::Insn], number, args| answer(program, calls.arch, number, args);
        // PROT_READ|PROT_EXEC, and MAP_SHARED, MAP_SHARED_VALIDATE, MAP_SHARED|MAP_ANONYMOUS.
        for flags in [1, 3, 0x21] {
            assert_eq!(ask(&mdwe, calls.mmap, [0, 4096, 5, flags]), EACCES);
            assert_eq!(ask(&mdwe, calls.mmap, [0, 4096, 3, flags]), ALLOW);
        }
        // A library is mapped private.
        assert_eq!(ask(&mdwe, calls.mmap, [0, 4096, 5, 2]), ALLOW);
        assert_eq!(ask(&mdwe, calls.personality, [0x040_0000, 0, 0, 0]), EPERM);
        for harmless in [0, 8, 0x0002_0000, 0xffff_ffff] {
            assert_eq!(ask(&mdwe, calls.personality, [harmless, 0, 0, 0]), ALLOW);
        }
        assert_eq!(ask(&mdwe, calls.userfaultfd, [0; 4]), EPERM);
        calls
            .old_mmap
            .iter()
            .for_each(|number| assert_eq!(ask(&mdwe, *number, [0; 4]), ENOSYS));
        assert_eq!(ask(&memfd, calls.memfd_create, [0; 4]), ENOSYS);
        assert_eq!(ask(&shm, calls.shmat, [0, 0, 0o100_000, 0]), EACCES);
        assert_eq!(ask(&shm, calls.shmat, [0, 0, 0o010_000, 0]), ALLOW);
        if let Some(ipc) = calls.ipc {
            // Also by the other version of the call, in the high half of the word.
            assert_eq!(ask(&shm, ipc, [21, 0, 0o100_000, 0]), EACCES);
            assert_eq!(ask(&shm, ipc, [0x0001_0015, 0, 0o100_000, 0]), EACCES);
            assert_eq!(ask(&shm, ipc, [21, 0, 0, 0]), ALLOW);
            assert_eq!(ask(&shm, ipc, [22, 0, 0o100_000, 0]), ALLOW);
        }
        for number in calls.others {
            assert_eq!(ask(&ptrace, number, [0; 4]), EPERM);
        }
        for (own, program) in [(calls.memfd_create, &shm), (calls.shmat, &memfd), (calls.mmap, &ptrace)] {
            assert_eq!(ask(program, own, [0, 0, 0o100_004, 1]), ALLOW);
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn x32_is_no_way_round() {
    for number in [9, 30, 319, 39] {
        let number = number | bpf::X32_BIT;
        assert_eq!(
            answer(&only(MemoryRule::Memfd), bpf::AUDIT_X86_64, number, [0; 4]),
            ENOSYS
        );
    }
}

#[test]
fn what_is_logged_is_what_is_denied_but_for_enosys() {
    let logs = |program: &Program, number| {
        let call = Call {
            arch: tables::CALLS[0].arch,
            number,
            args: [0; 6],
        };
        (run(program.as_bytes(), call), run(program.denials().as_bytes(), call))
    };
    let memory = Program::of_memory(&BTreeSet::from(MemoryRule::ALL)).unwrap();
    assert_eq!(logs(&memory, CALLS[0].others[0]), (EPERM, EPERM));
    assert_eq!(logs(&memory, CALLS[0].memfd_create), (ENOSYS, ALLOW));
    for program in [Program::floor(), Program::default_profile()] {
        // clone3, io_uring_setup, and the marker.
        for number in [435, 425, tables::MARKER.0] {
            let (answer, logged) = logs(&program, number);
            assert!(answer != ALLOW && logged == ALLOW, "{number}");
        }
        // move_mount, open_tree.
        for number in [429, 428] {
            assert_eq!(logs(&program, number), (EPERM, EPERM));
        }
    }
}
