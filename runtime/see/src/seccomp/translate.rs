//! The words of the runtime spec in libseccomp's and the kernel's.

use libseccomp::{ScmpAction, ScmpArgCompare, ScmpCompareOp};
use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator as Op,
};

use super::{Flags, SeccompError};

const EPERM: u32 = 1;
const MAX_ERRNO: u32 = 4095;

pub(super) fn comparison(name: &str, arg: &LinuxSeccompArg) -> Result<(u32, ScmpArgCompare), SeccompError> {
    let bad = SeccompError::ArgIndex {
        name: name.to_owned(),
        index: arg.index(),
    };
    let index = u32::try_from(arg.index()).ok().filter(|index| *index < 6).ok_or(bad)?;
    let (op, value) = match arg.op() {
        Op::ScmpCmpNe => (ScmpCompareOp::NotEqual, arg.value()),
        Op::ScmpCmpLt => (ScmpCompareOp::Less, arg.value()),
        Op::ScmpCmpLe => (ScmpCompareOp::LessOrEqual, arg.value()),
        Op::ScmpCmpEq => (ScmpCompareOp::Equal, arg.value()),
        Op::ScmpCmpGe => (ScmpCompareOp::GreaterEqual, arg.value()),
        Op::ScmpCmpGt => (ScmpCompareOp::Greater, arg.value()),
        // The runtime spec: `value` is the mask, `valueTwo` what must be left.
        Op::ScmpCmpMaskedEq => (ScmpCompareOp::MaskedEqual(arg.value()), arg.value_two().unwrap_or(0)),
    };
    Ok((index, ScmpArgCompare::new(index, op, value)))
}

pub(super) fn action(action: Action, errno: Option<u32>) -> Result<ScmpAction, SeccompError> {
    let value = errno.unwrap_or(EPERM);
    let out_of_range = SeccompError::ErrnoRet(value);
    Ok(match action {
        Action::ScmpActKill | Action::ScmpActKillThread => ScmpAction::KillThread,
        Action::ScmpActKillProcess => ScmpAction::KillProcess,
        Action::ScmpActTrap => ScmpAction::Trap,
        Action::ScmpActErrno if value > MAX_ERRNO => return Err(out_of_range),
        Action::ScmpActErrno => ScmpAction::Errno(value.cast_signed()),
        Action::ScmpActTrace => ScmpAction::Trace(u16::try_from(value).map_err(|_| out_of_range)?),
        Action::ScmpActNotify => ScmpAction::Notify,
        Action::ScmpActLog => ScmpAction::Log,
        Action::ScmpActAllow => ScmpAction::Allow,
    })
}

/// The same as the kernel's return value; `action` has judged the errno.
pub(super) fn raw(action: Action, errno: Option<u32>) -> u32 {
    action.as_u32(Some(errno.unwrap_or(EPERM)))
}

/// The kernel's order of answers (seccomp(2)): of two filters the stricter answer counts.
pub(super) fn strictness(action: Action) -> u8 {
    match action {
        Action::ScmpActKillProcess => 7,
        Action::ScmpActKill | Action::ScmpActKillThread => 6,
        Action::ScmpActTrap => 5,
        Action::ScmpActErrno => 4,
        Action::ScmpActNotify => 3,
        Action::ScmpActTrace => 2,
        Action::ScmpActLog => 1,
        Action::ScmpActAllow => 0,
    }
}

pub(super) fn flags(profile: &LinuxSeccomp, listener: bool) -> Flags {
    let start = if listener { Flags::NEW_LISTENER } else { Flags::NONE };
    profile.flags().iter().flatten().fold(start, |flags, flag| match flag {
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => flags.with(Flags::LOG),
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync => flags.with(Flags::TSYNC),
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => flags.with(Flags::SPEC_ALLOW),
        // Says how a listener is waited for: without one the kernel refuses it, and nothing is lost.
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv if !listener => flags,
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => flags.with(Flags::WAIT_KILLABLE_RECV),
    })
}
