#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)]
//! What the filters answer, asked of an interpreter of their bytes, and of the kernel.

mod built;
mod direct;
mod memory;
mod newer;
mod profiles;
mod sockets;

use oci_spec::runtime::LinuxSeccomp;

use super::*;

const ALLOW: u32 = 0x7fff_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const EPERM: u32 = bpf::RET_ERRNO + 1;
const ENOSYS: u32 = bpf::RET_ERRNO + 38;
const EAFNOSUPPORT: u32 = bpf::RET_ERRNO + 97;
const EPROTONOSUPPORT: u32 = bpf::RET_ERRNO + 93;

/// `struct seccomp_data` as far as filters look at it.
#[derive(Debug, Clone, Copy)]
struct Call {
    arch: u32,
    number: u32,
    args: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.arch,
            8..16 => 0,
            _ => {
                let arg = self.args[(offset as usize - 16) / 8];
                // Little endian, as both of our families are.
                if offset.is_multiple_of(8) {
                    arg as u32
                } else {
                    (arg >> 32) as u32
                }
            }
        }
    }
}

fn load(bytes: &[u8]) -> Vec<bpf::Insn> {
    let program = bpf::decode(bytes).unwrap();
    bpf::validate(&program).unwrap();
    program
}

fn run(program: &[u8], call: Call) -> u32 {
    interpret(&load(program), call)
}

/// Run a program as the kernel would.
fn interpret(program: &[bpf::Insn], call: Call) -> u32 {
    let (mut a, mut pc) = (0_u32, 0_usize);
    loop {
        let bpf::Insn { code, jt, jf, k } = program[pc];
        pc += 1;
        let jump = |taken: bool| usize::from(if taken { jt } else { jf });
        match code {
            0x20 => a = call.word(k),
            0x54 => a &= k,
            0x05 => pc += k as usize,
            0x15 => pc += jump(a == k),
            0x25 => pc += jump(a > k),
            0x35 => pc += jump(a >= k),
            0x45 => pc += jump(a & k != 0),
            0x06 => return k,
            other => panic!("opcode {other:#x}"),
        }
    }
}

#[test]
fn groups_are_those_of_the_policy() {
    let named: BTreeSet<&str> = tables::GROUPS.iter().map(|(name, _)| *name).collect();
    assert_eq!(named, SeccompGroup::ALL.map(SeccompGroup::as_str).into());
    for group in SeccompGroup::ALL {
        let text = format!("[seccomp]\nallow = [\"{}\"]", group.as_str());
        assert_eq!(gabion_core::policy::parse(&text).unwrap().seccomp.allow, [group]);
    }
}

#[test]
fn an_opened_group_is_let_through_and_nothing_else() {
    let numbers = |group: SeccompGroup| {
        tables::GROUPS
            .iter()
            .find(|(name, _)| *name == group.as_str())
            .unwrap()
            .1
    };
    for own in [Program::floor(), Program::default_profile()] {
        assert_eq!(own.clone().opening(&BTreeSet::new()), own);
        let before = load(own.as_bytes());
        for group in SeccompGroup::ALL {
            let opened = own.clone().opening(&BTreeSet::from([group]));
            let after = load(opened.as_bytes());
            for &(arch, open) in numbers(group) {
                // x32 is another number, and so stays shut.
                for number in (0..500).chain((0..500).map(|n| n | bpf::X32_BIT)) {
                    for arg in [0, 0x10, 0x1000_0000] {
                        let call = Call {
                            arch,
                            number,
                            args: [arg; 6],
                        };
                        let want = if open.contains(&number) {
                            ALLOW
                        } else {
                            interpret(&before, call)
                        };
                        assert_eq!(interpret(&after, call), want, "{group:?} {arch:x} {number} {arg:x}");
                    }
                }
            }
            // What it opens was shut.
            let shut = numbers(group)
                .iter()
                .flat_map(|&(arch, open)| open.iter().map(move |number| (arch, *number)));
            let refused = |(arch, number)| {
                interpret(
                    &before,
                    Call {
                        arch,
                        number,
                        args: [0x1000_0010; 6],
                    },
                ) != ALLOW
            };
            assert!(shut.clone().any(refused), "{group:?}");
        }
        let all = own.clone().opening(&SeccompGroup::ALL.into());
        assert!(all.instructions() < own.instructions() + 80, "{}", all.instructions());
    }
}

fn profile(json: &str) -> LinuxSeccomp {
    serde_json::from_str(json).unwrap()
}

fn podman() -> LinuxSeccomp {
    profile(include_str!("testdata/podman.json"))
}
