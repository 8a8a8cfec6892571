//! The device rules of a cgroup v2: a small program that the kernel asks at every open and mknod (bpf(2), cgroup device).
//!
//! libcontainer's comes with libbpf and a second assembler; without its feature the rules of a v2 container were nowhere at all.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use crate::error::{Error, Result, Step};

// linux/bpf.h and linux/bpf_common.h: class, size or operation, source.
const LOAD_WORD: u8 = 0x61;
const MOV_REG: u8 = 0xbc;
const MOV: u8 = 0xb4;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const JUMP_EQ: u8 = 0x15;
const JUMP_NE: u8 = 0x55;
const EXIT: u8 = 0x95;

// struct bpf_cgroup_dev_ctx: what is in which register once it is read.
const CONTEXT: u8 = 1;
const TYPE: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// BPF_DEVCG_ACC_MKNOD, _READ and _WRITE.
const ALL: i32 = 7;

/// `struct bpf_insn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Insn {
    code: u8,
    dst: u8,
    src: u8,
    off: i16,
    imm: i32,
}

impl Insn {
    const fn new(code: u8, dst: u8, src: u8, imm: i32) -> Self {
        Self {
            code,
            dst,
            src,
            off: 0,
            imm,
        }
    }

    fn bytes(self) -> [u8; 8] {
        let (off, imm) = (self.off.to_ne_bytes(), self.imm.to_ne_bytes());
        let registers = if cfg!(target_endian = "little") {
            self.src << 4 | self.dst
        } else {
            self.dst << 4 | self.src
        };
        [self.code, registers, off[0], off[1], imm[0], imm[1], imm[2], imm[3]]
    }
}

/// Gives the program for these rules, instructions of 8 bytes: create attaches it, attest knows it again.
///
/// # Errors
/// A rule is none that a program can have.
pub fn bytes(rules: &[LinuxDeviceCgroup]) -> Result<Vec<u8>> {
    Ok(assemble(rules)?.iter().flat_map(|insn| insn.bytes()).collect())
}

/// The last rule that matches decides (runc); what none matches is denied.
fn assemble(rules: &[LinuxDeviceCgroup]) -> Result<Vec<Insn>> {
    let mut program = vec![
        Insn::new(LOAD_WORD, TYPE, CONTEXT, 0),
        Insn::new(MOV_REG, ACCESS, TYPE, 0),
        Insn::new(AND, TYPE, 0, 0xffff),
        Insn::new(SHIFT_RIGHT, ACCESS, 0, 16),
        Insn {
            off: 4,
            ..Insn::new(LOAD_WORD, MAJOR, CONTEXT, 0)
        },
        Insn {
            off: 8,
            ..Insn::new(LOAD_WORD, MINOR, CONTEXT, 0)
        },
    ];
    for rule in rules.iter().rev() {
        let conditions = conditions(rule)?;
        let verdict = [Insn::new(MOV, 0, 0, i32::from(rule.allow())), Insn::new(EXIT, 0, 0, 0)];
        let length = conditions.len() + verdict.len();
        for (index, insn) in conditions.iter().enumerate() {
            let jump = matches!(insn.code, JUMP_EQ | JUMP_NE);
            let over = i16::try_from(length - index - 1).map_err(|_| too_long())?;
            program.push(Insn {
                off: if jump { over } else { 0 },
                ..*insn
            });
        }
        program.extend(verdict);
        // It matches everything: nothing behind it can be reached, and the kernel takes no such program.
        if conditions.is_empty() {
            return Ok(program);
        }
    }
    program.extend([Insn::new(MOV, 0, 0, 0), Insn::new(EXIT, 0, 0, 0)]);
    Ok(program)
}

fn too_long() -> Error {
    Error::failed(Step::Cgroup, "too many device rules")
}

/// Jumps to the next rule where this one does not match.
fn conditions(rule: &LinuxDeviceCgroup) -> Result<Vec<Insn>> {
    let mut all = Vec::new();
    match rule.typ().unwrap_or(LinuxDeviceType::A) {
        LinuxDeviceType::A => {}
        LinuxDeviceType::B => all.push(Insn::new(JUMP_NE, TYPE, 0, 1)),
        LinuxDeviceType::C | LinuxDeviceType::U => all.push(Insn::new(JUMP_NE, TYPE, 0, 2)),
        LinuxDeviceType::P => return Err(Error::failed(Step::Cgroup, "a device rule for a FIFO")),
    }
    let access = access(rule.access().as_deref().unwrap_or("rwm"))?;
    if access != ALL {
        all.push(Insn::new(MOV_REG, CONTEXT, ACCESS, 0));
        if rule.allow() {
            // All of what is asked for must be allowed.
            all.push(Insn::new(AND, CONTEXT, 0, ALL & !access));
            all.push(Insn::new(JUMP_NE, CONTEXT, 0, 0));
        } else {
            // Any of it is denied.
            all.push(Insn::new(AND, CONTEXT, 0, access));
            all.push(Insn::new(JUMP_EQ, CONTEXT, 0, 0));
        }
    }
    for (register, number) in [(MAJOR, rule.major()), (MINOR, rule.minor())] {
        // Absent and -1 are every number.
        let Some(number) = number.filter(|n| *n >= 0) else {
            continue;
        };
        let number = i32::try_from(number).map_err(|_| Error::failed(Step::Cgroup, "a device number out of range"))?;
        all.push(Insn::new(JUMP_NE, register, 0, number));
    }
    Ok(all)
}

fn access(text: &str) -> Result<i32> {
    text.chars().try_fold(0, |bits, c| match c {
        'm' => Ok(bits | 1),
        'r' => Ok(bits | 2),
        'w' => Ok(bits | 4),
        _ => Err(Error::failed(
            Step::Cgroup,
            format!("{c:?} is not an access of a device rule"),
        )),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rules(list: Value) -> Vec<LinuxDeviceCgroup> {
        serde_json::from_value(list).unwrap()
    }

    /// Runs a program as the kernel would.
    fn run(program: &[Insn], typ: u64, access: u64, major: u64, minor: u64) -> u64 {
        let context = [access << 16 | typ, major, minor];
        let (mut registers, mut at) = ([0_u64; 6], 0_usize);
        loop {
            let insn = program[at];
            let (dst, imm) = (usize::from(insn.dst), u64::from(insn.imm.cast_unsigned()));
            at += 1;
            let over = usize::try_from(insn.off).unwrap();
            match insn.code {
                LOAD_WORD => registers[dst] = context[over / 4],
                MOV_REG => registers[dst] = registers[usize::from(insn.src)],
                MOV => registers[dst] = imm,
                AND => registers[dst] &= imm,
                SHIFT_RIGHT => registers[dst] >>= imm,
                JUMP_EQ if registers[dst] == imm => at += over,
                JUMP_NE if registers[dst] != imm => at += over,
                JUMP_EQ | JUMP_NE => {}
                EXIT => return registers[0],
                code => unreachable!("{code:x}"),
            }
        }
    }

    const READ: u64 = 2;
    const WRITE: u64 = 4;
    const MKNOD: u64 = 1;

    #[test]
    fn the_last_rule_that_matches_decides() {
        let program = assemble(&rules(json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
            {"allow": true, "type": "c", "major": 136, "access": "rw"},
            {"allow": true, "type": "b", "major": 8, "minor": 0, "access": "r"},
            {"allow": false, "type": "c", "major": 136, "minor": 7, "access": "w"}
        ])))
        .unwrap();
        let (block, char) = (1, 2);
        for (typ, access, major, minor, verdict) in [
            (char, READ | WRITE | MKNOD, 1, 3, 1),
            (char, READ, 1, 4, 0),
            (block, READ, 1, 3, 0),
            (char, READ | WRITE, 136, 5, 1),
            (char, MKNOD, 136, 5, 0),
            (char, READ, 136, 7, 1),
            (char, READ | WRITE, 136, 7, 0),
            (block, READ, 8, 0, 1),
            (block, READ | WRITE, 8, 0, 0),
            (block, READ, 8, 1, 0),
        ] {
            assert_eq!(
                run(&program, typ, access, major, minor),
                verdict,
                "{typ} {access} {major}:{minor}"
            );
        }
        assert_eq!(run(&assemble(&[]).unwrap(), char, READ, 1, 3), 0, "no rules: nothing");
        let open = assemble(&rules(
            json!([{"allow": false, "access": "rwm"}, {"allow": true, "access": "rwm"}]),
        ))
        .unwrap();
        assert_eq!((open.len(), run(&open, block, READ, 8, 0)), (8, 1));
    }

    #[test]
    fn what_is_no_rule() {
        for bad in [
            json!([{"allow": true, "access": "x"}]),
            json!([{"allow": true, "type": "p", "access": "r"}]),
        ] {
            assert!(assemble(&rules(bad)).is_err());
        }
    }
}
