#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)]
//! What the filters answer, asked of an interpreter of their bytes, and of the kernel.

mod built;
mod direct;
mod profiles;

use oci_spec::runtime::LinuxSeccomp;

use super::*;

const ALLOW: u32 = 0x7fff_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const EPERM: u32 = bpf::RET_ERRNO + 1;
const ENOSYS: u32 = bpf::RET_ERRNO + 38;
const EAFNOSUPPORT: u32 = bpf::RET_ERRNO + 97;

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

fn profile(json: &str) -> LinuxSeccomp {
    serde_json::from_str(json).unwrap()
}

fn podman() -> LinuxSeccomp {
    profile(include_str!("testdata/podman.json"))
}
