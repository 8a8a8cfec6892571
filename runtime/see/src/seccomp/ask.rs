//! What a container's filters answer to one call: the programs themselves are asked, and no second table of rules.

use gabion_core::control::seccomp::sockets;
use gabion_core::hardened::{Hardened, SeccompPlan};
use libseccomp::ScmpSyscall;

use super::{Program, bpf, compile, in_use, refused};
use crate::error::Result;

/// One call of the host's own family: its number, and its arguments as far as filters see them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub number: u32,
    pub args: [u64; 6],
}

/// What a filter answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Answer {
    Allow,
    Errno(i32),
    /// The process ends by SIGSYS.
    Kill,
    /// SIGSYS, which the program may catch.
    Trap,
    /// A supervisor decides.
    Supervisor,
}

/// Which filter of a container answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// gabion's default profile, with the floor in it.
    Default,
    /// The floor under the spec's profile.
    Floor,
    /// The spec's own profile.
    Profile,
    /// The rules of the control `memory`.
    Memory,
}

#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = bpf::AUDIT_X86_64;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = bpf::AUDIT_AARCH64;

/// Gives a call's number on this host.
pub fn number(name: &str) -> Option<u32> {
    let newer = super::tables::NEWER.iter().chain(super::tables::NEWER_NATIVE);
    let known = ScmpSyscall::from_name(name).ok().map(i32::from);
    known.and_then(|number| u32::try_from(number).ok()).or_else(|| {
        newer
            .clone()
            .find(|(known, _)| *known == name)
            .map(|(_, number)| *number)
    })
}

/// Gives the filters of a container, each with what it is.
///
/// # Errors
/// The spec's profile cannot be compiled.
pub fn layers(hardened: &Hardened) -> Result<Vec<(Layer, Program)>> {
    let plan = hardened.plan();
    let own = match plan.seccomp {
        SeccompPlan::AsAsked => None,
        SeccompPlan::Default => Some((Layer::Default, Program::default_profile())),
        SeccompPlan::ProfileAndFloor => Some((Layer::Floor, Program::floor())),
    };
    let mut all = Vec::new();
    if let Some((layer, program)) = own {
        let program = program
            .with_sockets(&sockets::rules(hardened))
            .map_err(|error| refused(&error))?;
        all.push((layer, program.opening(&plan.opened)));
    }
    all.extend(Program::of_memory(&plan.memory).map(|program| (Layer::Memory, program)));
    if let Some(profile) = in_use(hardened) {
        let compiled = compile(profile).map_err(|error| refused(&error))?;
        all.push((Layer::Profile, compiled.program));
    }
    Ok(all)
}

impl Program {
    /// Runs the program over a call, as the kernel would.
    pub fn answer(&self, call: &Call) -> Answer {
        let Ok(program) = bpf::decode(self.as_bytes()) else {
            return Answer::Kill;
        };
        let value = run(&program, call).unwrap_or(0);
        match value & 0xffff_0000 {
            super::RET_ALLOW | 0x7ffc_0000 => Answer::Allow,
            bpf::RET_ERRNO => Answer::Errno(i32::try_from(value & 0xffff).unwrap_or(0)),
            0x0003_0000 => Answer::Trap,
            0x7fc0_0000 => Answer::Supervisor,
            // TRACE without a tracer.
            0x7ff0_0000 => Answer::Errno(38),
            _ => Answer::Kill,
        }
    }
}

fn run(program: &[bpf::Insn], call: &Call) -> Option<u32> {
    let (mut a, mut pc) = (0_u32, 0_usize);
    // Jumps go forward alone: a program ends.
    loop {
        let bpf::Insn { code, jt, jf, k } = *program.get(pc)?;
        pc += 1;
        let jump = |taken: bool| usize::from(if taken { jt } else { jf });
        match code {
            0x20 => a = word(call, k)?,
            bpf::AND_K => a &= k,
            bpf::JA => pc += usize::try_from(k).ok()?,
            bpf::JEQ_K => pc += jump(a == k),
            bpf::JGT_K => pc += jump(a > k),
            bpf::JGE_K => pc += jump(a >= k),
            bpf::JSET_K => pc += jump(a & k != 0),
            _ => return Some(k),
        }
    }
}

/// A word of `struct seccomp_data`; little endian, as both of our families are.
fn word(call: &Call, offset: u32) -> Option<u32> {
    match offset {
        bpf::OFF_NR => Some(call.number),
        bpf::OFF_ARCH => Some(NATIVE),
        8..16 => Some(0),
        _ => {
            let at = usize::try_from(offset.checked_sub(16)?).ok()?;
            let arg = call.args.get(at / 8)?;
            let half = if at.is_multiple_of(8) { *arg } else { arg >> 32 };
            u32::try_from(half & 0xffff_ffff).ok()
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn ask(program: &Program, name: &str, args: &[u64]) -> Answer {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        let number = number(name).unwrap();
        program.answer(&Call { number, args: all })
    }

    #[test]
    fn programs_answer_as_their_rules_say() {
        let (default, floor) = (Program::default_profile(), Program::floor());
        assert_eq!(ask(&default, "read", &[]), Answer::Allow);
        assert_eq!(ask(&default, "unshare", &[0x1000_0000]), Answer::Errno(1));
        assert_eq!(ask(&floor, "unshare", &[0]), Answer::Allow);
        assert_eq!(ask(&default, "io_uring_setup", &[]), Answer::Errno(38));
        assert_eq!(ask(&default, "socket", &[38, 5, 0]), Answer::Errno(97));
        assert_eq!(ask(&default, "socket", &[2, 1, 0]), Answer::Allow);
        assert_eq!(ask(&default, "listns", &[]), Answer::Errno(38));
        assert_eq!(number("no_such_call"), None);
    }
}
