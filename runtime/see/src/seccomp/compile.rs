//! A spec's profile to BPF, as runc reads profiles; where runc is lax in silence, this is not. What goes by number alone is told from
//! the rest, which is libseccomp's, in `direct`.

use std::collections::BTreeSet;
use std::io::{Read, Seek};

use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpFilterContext, ScmpSyscall, error};
use nix::sys::memfd::{MemFdCreateFlag, memfd_create};
use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSyscall};

use super::aside;
use super::direct::{number, single};
use super::newer;
use super::numbers;
use super::translate::{action, comparison, flags, raw, strictness};
use super::{Compiled, Program, SeccompError, bpf, uses_notify};

const ENOSYS: u32 = 38;
/// «Leave it to the next program»: the answer of no action, so of no rule. It never reaches the kernel, `bpf::chain` replaces it.
const PASS: u32 = 0x7ff1_6762;

/// What this host's kernel can run: (OCI, libseccomp, `AUDIT_ARCH`). The first is native.
#[cfg(target_arch = "x86_64")]
const HOST: [(Arch, ScmpArch, u32); 3] = [
    (Arch::ScmpArchX86_64, ScmpArch::X8664, bpf::AUDIT_X86_64),
    (Arch::ScmpArchX86, ScmpArch::X86, bpf::AUDIT_I386),
    (Arch::ScmpArchX32, ScmpArch::X32, bpf::AUDIT_X86_64),
];
#[cfg(target_arch = "aarch64")]
const HOST: [(Arch, ScmpArch, u32); 2] = [
    (Arch::ScmpArchAarch64, ScmpArch::Aarch64, bpf::AUDIT_AARCH64),
    (Arch::ScmpArchArm, ScmpArch::Arm, bpf::AUDIT_ARM),
];

/// Compile a spec's profile.
///
/// The native architecture is always in; those that the profile lists and this host has are added; the rest of the host's are
/// killed as a foreign ABI (the floor knows them all). Where the default is ERRNO and not ENOSYS, calls newer than any that the
/// profile names get ENOSYS, as with runc: their author cannot have meant to refuse what did not exist, and libcs need it.
///
/// # Errors
/// See [`SeccompError`]; none of the cache's kinds.
pub fn compile(profile: &LinuxSeccomp) -> Result<Compiled, SeccompError> {
    if aside::is_usual(profile.syscalls().as_deref().unwrap_or_default()) {
        return here(profile);
    }
    aside::compile(profile)
}

/// The same in this process, however long it takes.
pub(super) fn here(profile: &LinuxSeccomp) -> Result<Compiled, SeccompError> {
    let rules = profile.syscalls().as_deref().unwrap_or_default();
    compile_with(profile, &single(rules))
}

/// The same, with the names that are looked for by number alone.
pub(super) fn compile_with(profile: &LinuxSeccomp, single: &BTreeSet<&str>) -> Result<Compiled, SeccompError> {
    validate(profile)?;
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let mut work = Work {
        default,
        default_action: profile.default_action(),
        arches: Vec::new(),
        newer: newer::Calls::default(),
        skipped: Vec::new(),
        direct: Vec::new(),
        left: 0,
    };
    let mut filter = ScmpFilterContext::new(default).map_err(library("new filter"))?;
    filter
        .set_act_badarch(ScmpAction::KillProcess)
        .map_err(library("action for foreign architectures"))?;
    work.add_arches(&mut filter, profile.architectures().as_deref().unwrap_or_default())?;
    let rules = profile.syscalls().as_deref().unwrap_or_default();
    for rule in rules {
        work.add_rule(&mut filter, rule, single)?;
    }
    // The binary tree of libseccomp takes longer to make than all the rest, and up to 2.5.4 misbehaves without rules.
    if work.left > 128 {
        filter.set_ctl_optimize(2).map_err(library("binary tree"))?;
    }
    let program = work.join(&export(&filter)?, rules)?;
    let listener = uses_notify(profile);
    Ok(Compiled {
        program,
        listener,
        flags: flags(profile, listener),
        skipped: work.skipped,
    })
}

/// What can be judged without libseccomp, so also before a cached program is used: NOTIFY's conditions.
pub fn validate(profile: &LinuxSeccomp) -> Result<(), SeccompError> {
    if profile.default_action() == Action::ScmpActNotify {
        return Err(SeccompError::NotifyForbidden("the default action"));
    }
    if !uses_notify(profile) {
        return Ok(());
    }
    if profile
        .listener_path()
        .as_ref()
        .is_none_or(|path| path.as_os_str().is_empty())
    {
        return Err(SeccompError::NoListenerPath);
    }
    let notify = profile
        .syscalls()
        .iter()
        .flatten()
        .filter(|rule| rule.action() == Action::ScmpActNotify);
    // runc's rule, and profiles are written to it: the process that is filtered must still be able to report.
    if notify.flat_map(LinuxSyscall::names).any(|name| name == "write") {
        return Err(SeccompError::NotifyForbidden("the write syscall"));
    }
    Ok(())
}

struct Work {
    default: ScmpAction,
    default_action: Action,
    arches: Vec<(ScmpArch, u32)>,
    /// Calls that libseccomp does not know and gabion does.
    newer: newer::Calls,
    skipped: Vec<String>,
    /// By architecture: answers for calls that no condition is attached to.
    direct: Vec<(ScmpArch, u32, u32)>,
    /// How many rules libseccomp has been given.
    left: usize,
}

impl Work {
    fn add_arches(&mut self, filter: &mut ScmpFilterContext, wanted: &[Arch]) -> Result<(), SeccompError> {
        let [(native, first, audit), ..] = HOST;
        if ScmpArch::native() != first {
            return Err(SeccompError::Architecture);
        }
        self.arches.push((first, audit));
        for want in wanted
            .iter()
            .filter(|want| **want != native && **want != Arch::ScmpArchNative)
        {
            match HOST.iter().find(|(arch, ..)| arch == want) {
                Some((_, arch, audit)) => {
                    filter.add_arch(*arch).map_err(library("architecture"))?;
                    self.arches.push((*arch, *audit));
                }
                // Calls of that ABI cannot happen here.
                None => self.skipped.push(want.to_string()),
            }
        }
        Ok(())
    }

    /// A call that has this one answer whatever its arguments is found by number (`numbers::tree_of`), without libseccomp: what it makes of hundreds of them
    /// takes it ten milliseconds. The rest is libseccomp's.
    fn add_rule(
        &mut self,
        filter: &mut ScmpFilterContext,
        rule: &LinuxSyscall,
        single: &BTreeSet<&str>,
    ) -> Result<(), SeccompError> {
        let answer = action(rule.action(), rule.errno_ret())?;
        let args = rule.args().as_deref().unwrap_or_default();
        for name in rule.names() {
            let tests = args
                .iter()
                .map(|arg| comparison(name, arg))
                .collect::<Result<Vec<_>, _>>()?;
            if answer == self.default {
                continue;
            }
            match ScmpSyscall::from_name(name) {
                Ok(_) if single.contains(name.as_str()) && self.add_direct(name, rule) => {}
                Ok(call) => {
                    self.left += 1;
                    add_known(filter, name, call, answer, &tests)?;
                }
                Err(_) => self.add_unknown(name, rule)?,
            }
        }
        Ok(())
    }

    /// Whether that is all there is to the call.
    fn add_direct(&mut self, name: &str, rule: &LinuxSyscall) -> bool {
        let answer = raw(rule.action(), rule.errno_ret());
        let mut whole = true;
        for (arch, _) in &self.arches {
            if *arch == ScmpArch::X86 && numbers::MULTIPLEXED.contains(&name) {
                whole = false;
            } else {
                self.direct
                    .extend(number(name, *arch).map(|number| (*arch, number, answer)));
            }
        }
        whole
    }

    /// A name that libseccomp does not know: by number where gabion knows it, else left out if that refuses as much.
    fn add_unknown(&mut self, name: &str, rule: &LinuxSyscall) -> Result<(), SeccompError> {
        if newer::number(name, HOST[0].1).is_some() {
            self.newer.add(name, rule);
            return Ok(());
        }
        if strictness(self.default_action) >= strictness(rule.action()) {
            self.skipped.push(name.to_owned());
            return Ok(());
        }
        Err(SeccompError::UnknownDenied {
            name: name.to_owned(),
            action: rule.action().to_string(),
        })
    }

    /// Calls newer than libseccomp, and than the profile, before libseccomp's program.
    fn join(&self, body: &[bpf::Insn], rules: &[LinuxSyscall]) -> Result<Program, SeccompError> {
        let enosys = matches!(self.default, ScmpAction::Errno(errno) if errno.cast_unsigned() != ENOSYS);
        let mut blocks = Vec::new();
        for (arch, audit) in self.arches.iter().filter(|(arch, _)| *arch != ScmpArch::X32) {
            let above = newest(*arch, rules)
                .filter(|_| enosys)
                .map(|max| (max, bpf::RET_ERRNO | ENOSYS));
            // x32 is told from x86_64 by its numbers alone.
            let here = |of: &ScmpArch| of == arch || (*of == ScmpArch::X32 && *audit == bpf::AUDIT_X86_64);
            let direct = self.direct.iter().filter(|(of, ..)| here(of));
            let mut answers: Vec<(u32, u32)> = direct.map(|(_, number, answer)| (*number, *answer)).collect();
            let arches = self.arches.iter().map(|(of, _)| of).filter(|of| here(of));
            answers.extend(arches.flat_map(|arch| self.newer.whole(*arch)));
            if above.is_some() || !answers.is_empty() {
                blocks.push(numbers::Numbers {
                    arch: *audit,
                    answers,
                    above,
                });
            }
        }
        let mut program = self.newer.program(&self.arches, PASS).unwrap_or_default();
        if !blocks.is_empty() {
            bpf::chain(&mut program, PASS, &numbers::tree_of(&blocks, PASS));
        }
        bpf::chain(&mut program, PASS, body);
        bpf::validate(&program).map_err(invalid)?;
        Program::from_bytes(bpf::encode(&program))
    }
}

fn add_known(
    filter: &mut ScmpFilterContext,
    name: &str,
    call: ScmpSyscall,
    answer: ScmpAction,
    tests: &[(u32, ScmpArgCompare)],
) -> Result<(), SeccompError> {
    let twice = tests
        .iter()
        .enumerate()
        .any(|(i, (index, _))| tests.iter().skip(i + 1).any(|(other, _)| other == index));
    let tests: Vec<_> = tests.iter().map(|(_, test)| *test).collect();
    // Several conditions on one argument are alternatives, as in runc: libseccomp cannot hold both in one rule.
    let groups: Vec<&[ScmpArgCompare]> = if twice { tests.chunks(1).collect() } else { vec![&tests] };
    for group in groups {
        let step = |fault| library("rule")(fault);
        filter
            .add_rule_conditional(answer, call, group)
            .map_err(step)
            .map_err(|fault| fault.for_call(name))?;
    }
    Ok(())
}

/// The highest number that the rules name on this architecture.
fn newest(arch: ScmpArch, rules: &[LinuxSyscall]) -> Option<u32> {
    let number = |name: &String| {
        let newer = || newer::number(name, arch);
        let known = ScmpSyscall::from_name_by_arch(name, arch).ok();
        known.map_or_else(newer, |call| u32::try_from(call.as_raw_syscall()).ok())
    };
    rules.iter().flat_map(LinuxSyscall::names).filter_map(number).max()
}

/// libseccomp 2.5 writes its program to a descriptor only.
fn export(filter: &ScmpFilterContext) -> Result<Vec<bpf::Insn>, SeccompError> {
    let scratch = |errno: nix::Error| SeccompError::Library {
        step: "scratch memory".to_owned(),
        errno: Some(errno as i32),
    };
    let fd = memfd_create(c"gabion-seccomp", MemFdCreateFlag::MFD_CLOEXEC).map_err(scratch)?;
    let mut file = std::fs::File::from(fd);
    filter.export_bpf(&file).map_err(library("export"))?;
    let mut bytes = Vec::new();
    let read = file.rewind().and_then(|()| file.read_to_end(&mut bytes));
    read.map_err(|fault| SeccompError::Library {
        step: "export".to_owned(),
        errno: fault.raw_os_error(),
    })?;
    bpf::decode(&bytes).map_err(invalid)
}

fn invalid(fault: bpf::Invalid) -> SeccompError {
    SeccompError::Program(fault.to_string())
}

fn library(step: &'static str) -> impl FnOnce(error::SeccompError) -> SeccompError {
    move |fault| SeccompError::Library {
        step: step.to_owned(),
        errno: fault.errno().map(|errno| errno as i32),
    }
}

impl SeccompError {
    fn for_call(self, name: &str) -> Self {
        match self {
            Self::Library { step, errno } => Self::Library {
                step: format!("{step} for {name}"),
                errno,
            },
            other => other,
        }
    }
}
