//! Compiles `policy/seccomp.toml` into the BPF that the binary carries: `{default,floor}-{x86_64,aarch64}.bpf` in `OUT_DIR`,
//! and `numbers-*.rs`, the calls newer than libseccomp and the tables about sockets. A name that cannot be resolved fails the build.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::error::Error;
use std::fmt::{self, Write as _};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use policy::{Fault, POLICY, Policy, Rule, When, check, errno};

#[allow(dead_code, unreachable_pub, reason = "the library uses the rest")]
#[path = "src/seccomp/bpf.rs"]
mod bpf;
#[path = "src/seccomp/numbers.rs"]
mod numbers;
#[path = "build/policy.rs"]
mod policy;
#[allow(unreachable_pub, reason = "the library shows it")]
#[path = "src/seccomp/sockets.rs"]
mod sockets;

/// What a layer answers for calls that it leaves to the next one: replaced by a jump, so no kernel ever sees it.
const PASS: ScmpAction = ScmpAction::Trace(0x6762);
const PASS_RET: u32 = sockets::PASS;
const RET_ALLOW: u32 = 0x7fff_0000;

struct Family {
    name: &'static str,
    /// With `AUDIT_ARCH_*`; the first is the native one.
    arches: [(ScmpArch, u32); 2],
    /// Their names in the policy's table of calls that make sockets.
    abis: [&'static str; 2],
}

const FAMILIES: [Family; 2] = [
    Family {
        name: "x86_64",
        arches: [(ScmpArch::X8664, bpf::AUDIT_X86_64), (ScmpArch::X86, bpf::AUDIT_I386)],
        abis: ["x86_64", "i386"],
    },
    Family {
        name: "aarch64",
        arches: [(ScmpArch::Aarch64, bpf::AUDIT_AARCH64), (ScmpArch::Arm, bpf::AUDIT_ARM)],
        abis: ["aarch64", "arm"],
    },
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={POLICY}");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build/policy.rs");
    println!("cargo::rerun-if-changed=src/seccomp/bpf.rs");
    println!("cargo::rerun-if-changed=src/seccomp/numbers.rs");
    println!("cargo::rerun-if-changed=src/seccomp/sockets.rs");
    println!("cargo::rerun-if-env-changed=GABION_COMMIT");
    let commit = env::var("GABION_COMMIT").unwrap_or_else(|_| "unknown".to_owned());
    println!("cargo::rustc-env=GABION_COMMIT={commit}");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let policy: Policy = toml::from_str(&fs::read_to_string(POLICY)?)?;
    check(&policy)?;
    for family in &FAMILIES {
        let build = Build {
            policy: &policy,
            family,
            scratch: out.join("layer.bpf"),
        };
        let (floor, _) = build.floor(ScmpAction::Allow)?;
        let (default, section) = build.default()?;
        write(&out.join(format!("floor-{}.bpf", family.name)), &floor)?;
        write(&out.join(format!("default-{}.bpf", family.name)), &default)?;
        let tables = numbers_source(&policy, &build, section)? + &groups_source(&policy, family)?;
        fs::write(out.join(format!("numbers-{}.rs", family.name)), tables)?;
    }
    Ok(())
}

fn write(path: &Path, program: &[bpf::Insn]) -> Result<(), Box<dyn Error>> {
    bpf::validate(program)?;
    fs::write(path, bpf::encode(program))?;
    Ok(())
}

/// The tables that the module includes: for profiles that name calls which libseccomp does not know, for the probe, and for the sockets
/// of containers that may make others than most.
fn numbers_source(policy: &Policy, build: &Build<'_>, section: Section) -> Result<String, Box<dyn Error>> {
    let rows = |table: Option<&BTreeMap<String, u32>>| -> Result<String, fmt::Error> {
        let mut rows = String::new();
        for (name, number) in table.into_iter().flatten() {
            writeln!(rows, "    (\"{name}\", {number}),")?;
        }
        Ok(rows)
    };
    let sockets = &policy.sockets;
    Ok(format!(
        "/// Calls that libseccomp may not know, with their number on every architecture. From {POLICY}.\n\
         pub const NEWER: &[(&str, u32)] = &[\n{}];\n\
         /// The same, with numbers of the native architecture alone.\n\
         pub const NEWER_NATIVE: &[(&str, u32)] = &[\n{}];\n\
         /// The call that only the floor answers so: number, errno. From {POLICY}.\n\
         pub const MARKER: (u32, i32) = (0x{:04x}_{:04x}, {});\n\
         /// Where floor and default profile have their section about sockets: from which instruction on, and how many.\n\
         pub const SECTION: (usize, usize) = ({}, {});\n\
         /// The families and protocols of sockets that every container may make; those of netlink that need CAP_NET_ADMIN. From {POLICY}.\n\
         pub const FAMILIES: &[u32] = &{:?};\n\
         pub const INET: &[u32] = &{:?};\n\
         pub const NETLINK: &[u32] = &{:?};\n\
         pub const NETLINK_ADMIN: &[u32] = &{:?};\n\
         /// The calls that the section judges. From {POLICY}.\n\
         #[allow(clippy::unreadable_literal, reason = \"generated\")]\n\
         pub const CALLS: [super::sockets::Calls; 2] = {};\n",
        rows(policy.numbers.get("all"))?,
        rows(policy.numbers.get(build.family.name))?,
        policy.marker.number >> 16,
        policy.marker.number & 0xffff,
        errno(&policy.marker.errno)?,
        section.at,
        section.length,
        sockets.families,
        sockets.inet,
        sockets.netlink,
        sockets.netlink_admin,
        format!("{:?}", build.calls()?).replace("Calls {", "super::sockets::Calls {"),
    ))
}

/// The table of the groups that a policy may open: of each its calls' numbers on both architectures of a family.
fn groups_source(policy: &Policy, family: &Family) -> Result<String, Box<dyn Error>> {
    let build = Build {
        policy,
        family,
        scratch: PathBuf::new(),
    };
    let mut rows = String::new();
    for (name, calls) in &policy.groups {
        let mut columns = String::new();
        for (index, (_, arch)) in family.arches.iter().enumerate() {
            let mut numbers = Vec::new();
            for call in calls {
                numbers.extend(build.number(call, index)?);
            }
            if numbers.is_empty() {
                return Err(Fault::NoReason(calls.clone()).into());
            }
            write!(columns, "(0x{arch:x}, &{numbers:?}), ")?;
        }
        writeln!(rows, "    (\"{name}\", &[{columns}]),")?;
    }
    Ok(format!(
        "/// Groups of calls that a policy may open: name, and for each `AUDIT_ARCH` the numbers. From {POLICY}.\n\
         #[allow(clippy::unreadable_literal, clippy::type_complexity, reason = \"generated\")]\n\
         pub const GROUPS: &[(&str, &[(u32, &[u32])])] = &[\n{rows}];\n"
    ))
}

/// Where a program has its section about sockets.
#[derive(Clone, Copy)]
struct Section {
    at: usize,
    length: usize,
}

fn refusal(name: &str) -> Result<ScmpAction, Box<dyn Error>> {
    Ok(ScmpAction::Errno(i32::try_from(errno(name)?)?))
}

struct Build<'a> {
    policy: &'a Policy,
    family: &'a Family,
    scratch: PathBuf,
}

impl Build<'_> {
    /// Marker and numbers, sockets, then the rules; `rest` answers what is left.
    fn floor(&self, rest: ScmpAction) -> Result<(Vec<bpf::Insn>, Section), Box<dyn Error>> {
        let rules: Vec<&Rule> = self.policy.floor.iter().collect();
        let marker = (
            self.policy.marker.number,
            bpf::RET_ERRNO | errno(&self.policy.marker.errno)?,
        );
        let calls = self.calls()?;
        let direct = self.direct(&rules);
        let mut program = self.numbers(&rules, &direct, |arch| {
            let judged = calls.iter().filter(|calls| calls.arch == arch);
            let judged = judged
                .flat_map(sockets::Calls::numbers)
                .map(|number| (number, sockets::HERE));
            std::iter::once(marker).chain(judged).collect()
        })?;
        let section = sockets::section(&self.usual_sockets(), &calls);
        let place = Section {
            at: program.len(),
            length: section.len(),
        };
        sockets::append(&mut program, &section);
        bpf::chain(&mut program, PASS_RET, &self.layer(&rules, &direct, rest)?);
        Ok((program, place))
    }

    fn default(&self) -> Result<(Vec<bpf::Insn>, Section), Box<dyn Error>> {
        let allow: Vec<&Rule> = self.policy.default.allow.iter().collect();
        let refuse: Vec<&Rule> = self.policy.default.refuse.iter().collect();
        let both: Vec<&Rule> = allow.iter().chain(&refuse).copied().collect();
        let direct = self.direct(&both);
        let unknown = refusal(&self.policy.unknown)?;
        let (mut program, place) = self.floor(PASS)?;
        bpf::chain(&mut program, PASS_RET, &self.numbers(&both, &direct, |_| Vec::new())?);
        bpf::chain(&mut program, PASS_RET, &self.layer(&allow, &direct, PASS)?);
        bpf::chain(&mut program, PASS_RET, &self.layer(&refuse, &direct, unknown)?);
        Ok((program, place))
    }

    /// What a container may make that has none of the capabilities, words and annotations which change it.
    fn usual_sockets(&self) -> sockets::Rules {
        let table = &self.policy.sockets;
        sockets::Rules {
            families: table.families.clone(),
            inet: table.inet.clone(),
            netlink: table.netlink.clone(),
            raw: sockets::May::No,
            fast_open: sockets::May::Yes,
            listen: sockets::May::Yes,
        }
    }

    fn calls(&self) -> Result<[sockets::Calls; 2], Fault> {
        let of = |index: usize| {
            let abi = self.family.abis[index];
            let table = self.policy.sockets.calls.get(abi).ok_or(Fault::NoCalls(abi))?;
            Ok(sockets::Calls {
                arch: self.family.arches[index].1,
                socket: table.socket,
                socketpair: table.socketpair,
                listen: table.listen,
                setsockopt: table.setsockopt,
                sendto: table.sendto,
                sendmsg: table.sendmsg,
                sendmmsg: table.sendmmsg,
                send: table.send,
                socketcall: table.socketcall,
            })
        };
        Ok([of(0)?, of(1)?])
    }

    /// Calls that these rules give one answer whatever their arguments: found by number alone, since a tree is half the length of what
    /// libseccomp makes of them, and the kernel checks and compiles a filter anew for each container.
    fn direct<'r>(&self, rules: &[&'r Rule]) -> BTreeSet<&'r str> {
        let named = rules
            .iter()
            .flat_map(|rule| rule.calls.iter().map(|name| (name.as_str(), rule.when.is_none())));
        let (numbered, others): (Vec<_>, Vec<_>) = named.partition(|(name, _)| self.is_numbered(name));
        let mut direct = numbers::single(others);
        direct.retain(|name| !numbers::MULTIPLEXED.contains(name));
        direct.extend(numbered.into_iter().map(|(name, _)| name));
        direct
    }

    /// A call's number on one architecture of the family.
    fn number(&self, name: &str, index: usize) -> Result<Option<u32>, Fault> {
        if self.is_numbered(name) {
            return Ok(self.number_given(name, index));
        }
        ScmpSyscall::from_name(name).map_err(|_| Fault::UnknownCall(name.to_owned()))?;
        let (arch, _) = self.family.arches[index];
        let call = ScmpSyscall::from_name_by_arch(name, arch)
            .ok()
            .filter(|call| is_real(*call));
        Ok(call.map(|call| call.as_raw_syscall().cast_unsigned()))
    }

    /// The number of a call that libseccomp is not asked for.
    fn number_given(&self, name: &str, arch: usize) -> Option<u32> {
        let own = if arch == 0 {
            self.policy.numbers.get(self.family.name)
        } else {
            None
        };
        let tables = [self.policy.numbers.get("all"), own];
        tables.into_iter().flatten().find_map(|table| table.get(name)).copied()
    }

    fn is_numbered(&self, name: &str) -> bool {
        self.policy.numbers.values().any(|table| table.contains_key(name))
    }

    fn numbers(
        &self,
        rules: &[&Rule],
        direct: &BTreeSet<&str>,
        first: impl Fn(u32) -> Vec<(u32, u32)>,
    ) -> Result<Vec<bpf::Insn>, Box<dyn Error>> {
        let mut blocks = Vec::new();
        for (index, &(_, arch)) in self.family.arches.iter().enumerate() {
            let mut answers = first(arch);
            for rule in rules {
                let answer = rule
                    .errno
                    .as_deref()
                    .map_or(Ok(RET_ALLOW), |name| errno(name).map(|e| bpf::RET_ERRNO | e))?;
                for name in rule.calls.iter().filter(|name| direct.contains(name.as_str())) {
                    if rule.when.is_some() {
                        return Err(Fault::Condition(name.clone()).into());
                    }
                    answers.extend(self.number(name, index)?.map(|number| (number, answer)));
                }
            }
            blocks.push(numbers::Numbers {
                arch,
                answers,
                above: None,
            });
        }
        Ok(numbers::tree_of(&blocks, PASS_RET))
    }

    /// What is left to libseccomp: conditions, and the calls that i386 has two ways to make.
    fn layer(
        &self,
        rules: &[&Rule],
        direct: &BTreeSet<&str>,
        rest: ScmpAction,
    ) -> Result<Vec<bpf::Insn>, Box<dyn Error>> {
        let mut filter = ScmpFilterContext::new(rest)?;
        for (arch, _) in self.family.arches {
            filter.add_arch(arch)?;
        }
        if !self.family.arches.iter().any(|(arch, _)| *arch == ScmpArch::native()) {
            filter.remove_arch(ScmpArch::Native)?;
        }
        filter.set_act_badarch(refusal(&self.policy.foreign)?)?;
        filter.set_ctl_optimize(2)?;
        for rule in rules {
            let action = rule.errno.as_deref().map_or(Ok(ScmpAction::Allow), refusal)?;
            // libseccomp takes no rule that says what it does anyway; the name is still looked up.
            let same = action == rest;
            for name in rule.calls.iter().filter(|name| !direct.contains(name.as_str())) {
                self.add(&mut filter, name, (!same).then_some(action), rule.when.as_ref())?;
            }
        }
        filter.export_bpf(File::create(&self.scratch)?)?;
        Ok(bpf::decode(&fs::read(&self.scratch)?)?)
    }

    fn add(
        &self,
        filter: &mut ScmpFilterContext,
        name: &str,
        action: Option<ScmpAction>,
        when: Option<&When>,
    ) -> Result<(), Box<dyn Error>> {
        // A call of no architecture of this family would stay in the filter as a number that never comes.
        let here = |(arch, _): &(ScmpArch, u32)| ScmpSyscall::from_name_by_arch(name, *arch).is_ok_and(is_real);
        let call = ScmpSyscall::from_name(name).map_err(|_| Fault::UnknownCall(name.to_owned()))?;
        let Some(action) = action.filter(|_| self.family.arches.iter().any(here)) else {
            return Ok(());
        };
        let Some(when) = when else {
            filter.add_rule(action, call)?;
            return Ok(());
        };
        let values = when.values.iter().map(|value| (u64::from(u32::MAX), *value));
        let tests: Vec<_> = values.chain(when.bits.iter().map(|bit| (*bit, *bit))).collect();
        if tests.is_empty() || when.arg > 5 || tests.iter().any(|(mask, value)| value & !mask != 0) {
            return Err(Fault::Condition(name.to_owned()).into());
        }
        for (mask, value) in tests {
            let test = ScmpArgCompare::new(when.arg, ScmpCompareOp::MaskedEqual(mask), value);
            filter.add_rule_conditional(action, call, &[test])?;
        }
        Ok(())
    }
}

fn is_real(call: ScmpSyscall) -> bool {
    call.as_raw_syscall() >= 0
}
