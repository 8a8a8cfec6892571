//! Classic BPF as seccomp(2) takes it: instructions, their check, the joining of programs.
//!
//! Shared with `build.rs` (by `#[path]`), so it depends on nothing but `std`.
//! Source for the form: linux/filter.h, linux/seccomp.h, kernel/seccomp.c `seccomp_check_filter`.

use std::collections::BTreeMap;
use std::fmt;

/// `AUDIT_ARCH_*` of linux/audit.h: how a filter sees the ABI of a call.
#[allow(dead_code, reason = "each host uses its own two")]
pub(crate) const AUDIT_X86_64: u32 = 0xc000_003e;
#[allow(dead_code, reason = "each host uses its own two")]
pub(crate) const AUDIT_I386: u32 = 0x4000_0003;
#[allow(dead_code, reason = "each host uses its own two")]
pub(crate) const AUDIT_AARCH64: u32 = 0xc000_00b7;
#[allow(dead_code, reason = "each host uses its own two")]
pub(crate) const AUDIT_ARM: u32 = 0x4000_0028;
/// Set in the number of every call of the x32 ABI, which shares `AUDIT_ARCH_X86_64`.
pub(crate) const X32_BIT: u32 = 0x4000_0000;

pub(crate) const RET_ERRNO: u32 = 0x0005_0000;

/// `BPF_MAXINSNS`, the kernel's bound.
pub(crate) const MAX_INSNS: usize = 4096;
/// Size of one instruction in bytes.
pub(crate) const INSN_SIZE: usize = 8;

/// Offsets in `struct seccomp_data`.
const OFF_NR: u32 = 0;
const OFF_ARCH: u32 = 4;
const DATA_SIZE: u32 = 64;

const LD_W_ABS: u16 = 0x20;
const JA: u16 = 0x05;
const JEQ_K: u16 = 0x15;
const JGT_K: u16 = 0x25;
const JGE_K: u16 = 0x35;
const RET_K: u16 = 0x06;
const AND_K: u16 = 0x54;
/// JEQ, JGT, JGE, JSET with a constant.
const JUMPS: [u16; 4] = [JEQ_K, JGT_K, JGE_K, 0x45];

/// `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Insn {
    pub(crate) code: u16,
    pub(crate) jt: u8,
    pub(crate) jf: u8,
    pub(crate) k: u32,
}

impl Insn {
    const fn new(code: u16, jt: u8, jf: u8, k: u32) -> Self {
        Self { code, jt, jf, k }
    }

    fn load(offset: u32) -> Self {
        Self::new(LD_W_ABS, 0, 0, offset)
    }

    fn ret(action: u32) -> Self {
        Self::new(RET_K, 0, 0, action)
    }
}

/// Why bytes are not a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Invalid {
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
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<Insn>, Invalid> {
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
pub(crate) fn encode(program: &[Insn]) -> Vec<u8> {
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
pub(crate) fn validate(program: &[Insn]) -> Result<(), Invalid> {
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
pub(crate) fn chain(first: &mut Vec<Insn>, pass: u32, next: &[Insn]) {
    let end = first.len();
    for (i, insn) in first.iter_mut().enumerate() {
        if insn.code == RET_K && insn.k == pass {
            // The last return may simply fall through, but a jump over nothing is as right and needs no case of its own.
            *insn = Insn::new(JA, 0, 0, u32::try_from(end - i - 1).unwrap_or(u32::MAX));
        }
    }
    first.extend_from_slice(next);
}

/// Answers by call number alone, for one ABI.
#[derive(Debug, Clone, Default)]
pub(crate) struct Numbers {
    /// `AUDIT_ARCH_*`
    pub(crate) arch: u32,
    /// (number, seccomp return value); for two of one number the first counts.
    pub(crate) answers: Vec<(u32, u32)>,
    /// Every number above the first gets the second.
    pub(crate) above: Option<(u32, u32)>,
}

/// A filter of number tests, ending by answering `pass` for all that it does not know: for each ABI a binary tree of the ranges that get
/// one answer. Calls are a few hundred in some dozens of ranges, so each is found by six or seven comparisons.
pub(crate) fn numbers(blocks: &[Numbers], pass: u32) -> Vec<Insn> {
    let mut program = vec![Insn::load(OFF_ARCH)];
    for block in blocks {
        let mut body = vec![Insn::load(OFF_NR)];
        tree(&mut body, &ranges(block, pass));
        over(&mut program, JEQ_K, block.arch, body.len());
        program.extend(body);
    }
    program.push(Insn::ret(pass));
    program
}

/// Where each range of one answer begins, in order; the first one at 0.
fn ranges(block: &Numbers, pass: u32) -> Vec<(u32, u32)> {
    let mut known = BTreeMap::new();
    for &(number, answer) in &block.answers {
        known.entry(number).or_insert(answer);
    }
    // x32 is judged by the filter behind this one, but for what is listed here.
    let own = |number: u32| block.arch != AUDIT_X86_64 || number < X32_BIT;
    let answer = |number: u32| match (known.get(&number), block.above) {
        (Some(answer), _) => *answer,
        (None, Some((max, answer))) if number > max && own(number) => answer,
        (None, _) => pass,
    };
    let mut starts = vec![0, X32_BIT];
    starts.extend(block.above.map(|(max, _)| max.saturating_add(1)));
    starts.extend(known.keys().flat_map(|number| [*number, number.saturating_add(1)]));
    starts.sort_unstable();
    starts.dedup();
    let mut ranges: Vec<_> = starts.into_iter().map(|start| (start, answer(start))).collect();
    ranges.dedup_by_key(|(_, answer)| *answer);
    ranges
}

fn tree(out: &mut Vec<Insn>, ranges: &[(u32, u32)]) {
    let (below, above) = ranges.split_at(ranges.len() / 2);
    match (below, above) {
        (_, []) => {}
        ([], [(_, answer), ..]) => out.push(Insn::ret(*answer)),
        (_, [(start, _), ..]) => {
            let mut lower = Vec::new();
            tree(&mut lower, below);
            over_unless(out, *start, lower.len());
            out.extend(lower);
            tree(out, above);
        }
    }
}

/// Leads over the next `length` instructions where the test fails.
fn over(out: &mut Vec<Insn>, test: u16, k: u32, length: usize) {
    match u8::try_from(length) {
        Ok(length) => out.push(Insn::new(test, 0, length, k)),
        Err(_) => out.extend([Insn::new(test, 1, 0, k), far(length)]),
    }
}

/// Leads over the next `length` instructions for numbers from `start` on.
fn over_unless(out: &mut Vec<Insn>, start: u32, length: usize) {
    match u8::try_from(length) {
        Ok(length) => out.push(Insn::new(JGE_K, length, 0, start)),
        Err(_) => out.extend([Insn::new(JGE_K, 0, 1, start), far(length)]),
    }
}

/// A length beyond what a program can have is found by `validate`.
fn far(length: usize) -> Insn {
    Insn::new(JA, 0, 0, u32::try_from(length).unwrap_or(u32::MAX))
}
