//! Classic BPF as seccomp(2) takes it: instructions, their check, the joining of programs.
//!
//! Shared with `build.rs` (by `#[path]`), so it depends on nothing but `std`.
//! Source for the form: linux/filter.h, linux/seccomp.h, kernel/seccomp.c `seccomp_check_filter`.

use std::fmt;

/// `AUDIT_ARCH_*` of linux/audit.h: how a filter sees the ABI of a call.
#[allow(dead_code, reason = "each host uses its own two")]
pub const AUDIT_X86_64: u32 = 0xc000_003e;
#[allow(dead_code, reason = "each host uses its own two")]
pub const AUDIT_I386: u32 = 0x4000_0003;
#[allow(dead_code, reason = "each host uses its own two")]
pub const AUDIT_AARCH64: u32 = 0xc000_00b7;
#[allow(dead_code, reason = "each host uses its own two")]
pub const AUDIT_ARM: u32 = 0x4000_0028;
/// Set in the number of every call of the x32 ABI, which shares `AUDIT_ARCH_X86_64`.
pub const X32_BIT: u32 = 0x4000_0000;

pub const RET_ERRNO: u32 = 0x0005_0000;

/// `BPF_MAXINSNS`, the kernel's bound.
pub const MAX_INSNS: usize = 4096;
/// Size of one instruction in bytes.
pub const INSN_SIZE: usize = 8;

/// Offsets in `struct seccomp_data`.
pub const OFF_NR: u32 = 0;
pub const OFF_ARCH: u32 = 4;
const OFF_ARGS: u32 = 16;

/// The low 32 bits of an argument: all that the kernel looks at of an int, on the little endian families that these filters are for.
pub const fn low(arg: u32) -> u32 {
    OFF_ARGS + 8 * arg
}

/// Its high 32 bits.
#[allow(dead_code, reason = "build.rs has no test of all 64")]
pub const fn high(arg: u32) -> u32 {
    low(arg) + 4
}
const DATA_SIZE: u32 = 64;

const LD_W_ABS: u16 = 0x20;
pub const JA: u16 = 0x05;
pub const JEQ_K: u16 = 0x15;
pub const JGT_K: u16 = 0x25;
pub const JGE_K: u16 = 0x35;
const RET_K: u16 = 0x06;
pub const AND_K: u16 = 0x54;
pub const JSET_K: u16 = 0x45;
/// JEQ, JGT, JGE, JSET with a constant.
const JUMPS: [u16; 4] = [JEQ_K, JGT_K, JGE_K, JSET_K];

/// `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Insn {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

impl Insn {
    pub const fn new(code: u16, jt: u8, jf: u8, k: u32) -> Self {
        Self { code, jt, jf, k }
    }

    pub fn load(offset: u32) -> Self {
        Self::new(LD_W_ABS, 0, 0, offset)
    }

    #[allow(dead_code, reason = "build.rs asks of none")]
    pub const fn is_return(self) -> bool {
        self.code == RET_K
    }

    pub fn ret(action: u32) -> Self {
        Self::new(RET_K, 0, 0, action)
    }
}

/// Why bytes are not a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalid {
    /// Not a whole number of instructions, none at all, or more than the kernel takes.
    Length(usize),
    /// The instruction at this index is none that libseccomp or gabion writes.
    Opcode(usize),
    /// The instruction at this index jumps outside the program.
    Jump(usize),
    /// The instruction at this index reads outside `struct seccomp_data`.
    Load(usize),
    /// The last instruction does not return.
    NoReturn,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(n) => write!(f, "{n} bytes are no filter of 1 to {MAX_INSNS} instructions"),
            Self::Opcode(i) => write!(f, "instruction {i} is none that a filter of ours has"),
            Self::Jump(i) => write!(f, "instruction {i} jumps out of the program"),
            Self::Load(i) => write!(f, "instruction {i} reads outside the call's data"),
            Self::NoReturn => write!(f, "the program does not end in a return"),
        }
    }
}

impl std::error::Error for Invalid {}

/// Bytes as libseccomp exports them (native byte order) to instructions.
pub fn decode(bytes: &[u8]) -> Result<Vec<Insn>, Invalid> {
    let (chunks, rest) = bytes.as_chunks::<INSN_SIZE>();
    if !rest.is_empty() || chunks.is_empty() || chunks.len() > MAX_INSNS {
        return Err(Invalid::Length(bytes.len()));
    }
    let insn = |&[a, b, jt, jf, k0, k1, k2, k3]: &[u8; INSN_SIZE]| {
        Insn::new(u16::from_ne_bytes([a, b]), jt, jf, u32::from_ne_bytes([k0, k1, k2, k3]))
    };
    Ok(chunks.iter().map(insn).collect())
}

/// Instructions to bytes, in native order.
pub fn encode(program: &[Insn]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(program.len() * INSN_SIZE);
    for insn in program {
        bytes.extend_from_slice(&insn.code.to_ne_bytes());
        bytes.extend_from_slice(&[insn.jt, insn.jf]);
        bytes.extend_from_slice(&insn.k.to_ne_bytes());
    }
    bytes
}

/// The checks that the kernel makes, made before a program is kept or used; and only the opcodes that libseccomp and this file write,
/// which are fewer than the kernel takes.
pub fn validate(program: &[Insn]) -> Result<(), Invalid> {
    let count = program.len();
    if count == 0 || count > MAX_INSNS {
        return Err(Invalid::Length(count * INSN_SIZE));
    }
    for (i, insn) in program.iter().enumerate() {
        let left = count - i - 1;
        match insn.code {
            LD_W_ABS if insn.k >= DATA_SIZE || insn.k % 4 != 0 => return Err(Invalid::Load(i)),
            JA if usize::try_from(insn.k).map_or(true, |k| k >= left) => return Err(Invalid::Jump(i)),
            code if JUMPS.contains(&code) && usize::from(insn.jt.max(insn.jf)) >= left => return Err(Invalid::Jump(i)),
            LD_W_ABS | JA | AND_K | RET_K => {}
            code if JUMPS.contains(&code) => {}
            _ => return Err(Invalid::Opcode(i)),
        }
    }
    match program.last() {
        Some(Insn { code: RET_K, .. }) => Ok(()),
        _ => Err(Invalid::NoReturn),
    }
}

/// Put `next` behind `first`: wherever `first` would answer `pass`, the call goes on to `next`.
pub fn chain(first: &mut Vec<Insn>, pass: u32, next: &[Insn]) {
    let end = first.len();
    for (i, insn) in first.iter_mut().enumerate() {
        if insn.code == RET_K && insn.k == pass {
            // The last return may simply fall through, but a jump over nothing is as right and needs no case of its own.
            *insn = Insn::new(JA, 0, 0, u32::try_from(end - i - 1).unwrap_or(u32::MAX));
        }
    }
    first.extend_from_slice(next);
}
