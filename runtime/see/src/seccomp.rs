//! Seccomp filters: the floor, the default profile, the spec's own.
//!
//! Threat: the kernel's less used calls, each a way out of the container once there is a hole in it.
//! Rule: `policy/seccomp.toml`. Enforced by: the kernel, seccomp(2) filters. Kernel floor: 3.17; 5.0 for NOTIFY.
//!
//! Order of use, in a process with `no_new_privs` or `CAP_SYS_ADMIN`:
//! `install(floor)` → [`probe_floor`] → `install(profile)` → execve, or with our own profile, which contains the floor,
//! `install(default)` → [`probe_floor`] → execve. The probe comes before the spec's profile because that may kill for the calls
//! that the probe makes. The floor's errnos outrank ALLOW, LOG, TRACE and NOTIFY of any profile, and the kernel keeps filters
//! through execve and fork.

mod aside;
pub mod ask;
pub mod bpf;
mod compile;
mod direct;
mod memory;
mod newer;
mod numbers;
mod open;
pub mod sockets;
mod translate;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use nix::errno::Errno;
use oci_spec::runtime::LinuxSeccomp;

pub use compile::{compile, validate};

use crate::error::{Error, Step};
use gabion_core::control::seccomp::sockets::rules;
use gabion_core::hardened::{Hardened, SeccompPlan};
use gabion_core::policy::SeccompGroup;
use gabion_core::sockets::SocketRules;
use numbers::{Numbers, tree_of};

const RET_ALLOW: u32 = 0x7fff_0000;
/// Never reaches the kernel: `bpf::chain` puts a jump in its place.
const PASS_TO_OWN: u32 = 0x7ff0_6762;

/// The tables of `policy/seccomp.toml` that are needed at run time, written by build.rs.
pub mod tables {
    #[cfg(target_arch = "aarch64")]
    include!(concat!(env!("OUT_DIR"), "/numbers-aarch64.rs"));
    #[cfg(target_arch = "x86_64")]
    include!(concat!(env!("OUT_DIR"), "/numbers-x86_64.rs"));
}

#[cfg(target_arch = "x86_64")]
static DEFAULT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/default-x86_64.bpf"));
#[cfg(target_arch = "x86_64")]
static FLOOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/floor-x86_64.bpf"));
#[cfg(target_arch = "aarch64")]
static DEFAULT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/default-aarch64.bpf"));
#[cfg(target_arch = "aarch64")]
static FLOOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/floor-aarch64.bpf"));

/// A checked BPF program: 1 to 4096 instructions of 8 bytes, every jump inside, a return at the end.
#[derive(Clone, PartialEq, Eq)]
pub struct Program(std::borrow::Cow<'static, [u8]>);

impl Program {
    /// The profile of a container whose spec has none. It contains the floor's rules and its marker, so it needs no floor under it:
    /// one filter in the place of two saves their installation, a tenth of a millisecond.
    pub fn default_profile() -> Self {
        Self(DEFAULT.into())
    }

    /// The deny list that goes under every profile.
    pub fn floor() -> Self {
        Self(FLOOR.into())
    }

    /// Lets these groups of calls through, whatever this program answers to them: they are found by number in front of it.
    #[must_use]
    pub fn opening(self, groups: &BTreeSet<SeccompGroup>) -> Self {
        if groups.is_empty() {
            return self;
        }
        let mut blocks: BTreeMap<u32, Numbers> = BTreeMap::new();
        let named = |name: &str| groups.iter().any(|group| group.as_str() == name);
        let rows = tables::GROUPS.iter().filter(|(name, _)| named(name));
        for &(arch, numbers) in rows.flat_map(|(_, arches)| *arches) {
            let block = blocks.entry(arch).or_default();
            block.arch = arch;
            block.answers.extend(numbers.iter().map(|number| (*number, RET_ALLOW)));
        }
        let blocks: Vec<Numbers> = blocks.into_values().collect();
        let Ok(own) = bpf::decode(&self.0) else { return self };
        let mut program = tree_of(&blocks, PASS_TO_OWN);
        bpf::chain(&mut program, PASS_TO_OWN, &own);
        Self(bpf::encode(&program).into())
    }

    /// What this program denies, and nothing else: to be installed over it with [`Flags::LOG`], which logs every errno of its filter. Of two filters
    /// that both answer with an errno the later one is heard, and logged. ENOSYS is no denial: programs ask so what the kernel has.
    #[must_use]
    pub fn denials(&self) -> Self {
        let Ok(mut program) = bpf::decode(&self.0) else {
            return self.clone();
        };
        let (marker, enosys) = (tables::MARKER.1.unsigned_abs(), 38);
        for insn in &mut program {
            let denies = insn.k & 0xffff_0000 == bpf::RET_ERRNO && ![marker, enosys].contains(&(insn.k & 0xffff));
            if insn.is_return() && !denies {
                insn.k = RET_ALLOW;
            }
        }
        Self(bpf::encode(&program).into())
    }

    /// This one of gabion's two, for a container of other sockets than the usual ones.
    ///
    /// # Errors
    /// [`SeccompError::Program`] where the two do not fit each other, which tests rule out.
    pub fn with_sockets(self, rules: &SocketRules) -> Result<Self, SeccompError> {
        let rules = open::rules(rules);
        if rules == open::usual() {
            return Ok(self);
        }
        let (at, length) = tables::SECTION;
        let invalid = |invalid: bpf::Invalid| SeccompError::Program(invalid.to_string());
        let program = bpf::decode(&self.0).map_err(invalid)?;
        let section = sockets::section(&rules, &tables::CALLS);
        let program = sockets::replace(&program, at, length, &section);
        bpf::validate(&program).map_err(invalid)?;
        Ok(Self(bpf::encode(&program).into()))
    }

    /// Check raw instructions in native byte order, as [`Program::as_bytes`] gives them.
    ///
    /// # Errors
    /// [`SeccompError::Program`] says at which instruction they are no filter.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, SeccompError> {
        let checked = bpf::decode(&bytes).and_then(|program| bpf::validate(&program));
        checked.map_err(|invalid| SeccompError::Program(invalid.to_string()))?;
        Ok(Self(bytes.into()))
    }

    /// The raw instructions.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Number of instructions.
    pub fn instructions(&self) -> usize {
        self.0.len() / bpf::INSN_SIZE
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Program({} instructions)", self.instructions())
    }
}

/// `SECCOMP_FILTER_FLAG_*` to install a program with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags(u32);

impl Flags {
    pub const NONE: Self = Self(0);
    /// All threads of the process.
    pub const TSYNC: Self = Self(1);
    /// Log every answer but ALLOW.
    pub const LOG: Self = Self(1 << 1);
    /// Leave the Speculative Store Bypass mitigation off. Only where the spec says so: runc adds it unasked.
    pub const SPEC_ALLOW: Self = Self(1 << 2);
    /// Return a listener for NOTIFY.
    pub const NEW_LISTENER: Self = Self(1 << 3);
    /// With TSYNC and a listener: a failed synchronisation is ESRCH, since the result is a descriptor.
    pub const TSYNC_ESRCH: Self = Self(1 << 4);
    /// A caller that waits for its supervisor can be killed, and by no other signal disturbed (Linux 5.19).
    pub const WAIT_KILLABLE_RECV: Self = Self(1 << 5);
    const ALL: u32 = 0x3f;

    /// Both sets.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Is all of `other` in here?
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// As seccomp(2) takes them.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Reads them as a file has them; None where a bit is unknown.
    pub const fn from_bits(bits: u32) -> Option<Self> {
        if bits & !Self::ALL == 0 { Some(Self(bits)) } else { None }
    }
}

/// A profile of a spec, ready to install.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    pub program: Program,
    /// The profile has NOTIFY rules: [`install`] returns a listener, which must reach `listenerPath`.
    pub listener: bool,
    /// With `NEW_LISTENER` where `listener` is set.
    pub flags: Flags,
    /// What of the profile is not in the program: names that neither libseccomp nor gabion knows, in rules whose absence refuses as
    /// much as the rule would; architectures that this host does not have. For the audit log.
    pub skipped: Vec<String>,
}

/// Why a profile cannot be used. The texts are for people; the caller adds code and remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeccompError {
    /// A call is to be refused that nobody knows, and without its rule it would pass.
    UnknownDenied { name: String, action: String },
    /// A condition on an argument that no call has (0 to 5).
    ArgIndex { name: String, index: usize },
    /// `errnoRet` is no errno (0 to 4095), or with TRACE more than 65535.
    ErrnoRet(u32),
    /// NOTIFY as the default action, or for a call that gabion must make to hand the listener over.
    NotifyForbidden(&'static str),
    /// NOTIFY without `listenerPath`.
    NoListenerPath,
    /// The native architecture is not one that gabion was built for.
    Architecture,
    /// libseccomp refused a step.
    Library { step: String, errno: Option<i32> },
    /// Bytes that are no filter.
    Program(String),
    /// It takes longer to compile, or more memory, than a profile may.
    TooComplex,
    /// What the process that compiled it said, or why there was none.
    Aside(String),
    /// The cache directory is not this user's alone.
    UnsafeCache { path: PathBuf, fault: CacheFault },
    /// A step on the cache directory failed.
    Io {
        path: PathBuf,
        step: &'static str,
        errno: Errno,
    },
}

/// What is wrong with the cache directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheFault {
    NotADirectory,
    Symlink,
    Owner(u32),
    Mode(u32),
}

impl fmt::Display for CacheFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotADirectory => write!(f, "is not a directory"),
            Self::Symlink => write!(f, "is a symlink"),
            Self::Owner(uid) => write!(f, "belongs to uid {uid}"),
            Self::Mode(mode) => write!(f, "has mode {mode:04o}, open to others"),
        }
    }
}

impl fmt::Display for SeccompError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownDenied { name, action } => {
                write!(
                    f,
                    "the profile refuses {name} ({action}), a call unknown here that would pass without its rule"
                )
            }
            Self::ArgIndex { name, index } => {
                write!(f, "the rule for {name} tests argument {index}; a call has 0 to 5")
            }
            Self::ErrnoRet(value) => write!(f, "errnoRet {value} is out of range"),
            Self::NotifyForbidden(what) => write!(f, "SCMP_ACT_NOTIFY cannot be used for {what}"),
            Self::NoListenerPath => write!(f, "the profile uses SCMP_ACT_NOTIFY and gives no listenerPath"),
            Self::Architecture => write!(f, "no seccomp filters for this architecture"),
            Self::Library { step, errno } => match errno {
                Some(errno) => write!(f, "libseccomp: {step}: errno {errno}"),
                None => write!(f, "libseccomp: {step}"),
            },
            Self::Program(why) => write!(f, "not a seccomp filter: {why}"),
            Self::TooComplex => write!(
                f,
                "the profile takes too long to compile: its rules have too many conditions on the arguments of one call"
            ),
            Self::Aside(why) => f.write_str(why),
            Self::UnsafeCache { path, fault } => write!(f, "seccomp cache {} {fault}", path.display()),
            Self::Io { path, step, errno } => write!(f, "seccomp cache {}: {step}: {}", path.display(), errno.desc()),
        }
    }
}

impl std::error::Error for SeccompError {}

/// Gives the spec's profile, where it will be in use: create compiles this one, and `check` judges it.
pub fn in_use(hardened: &Hardened) -> Option<&LinuxSeccomp> {
    let profile = hardened.spec().linux().as_ref().and_then(|l| l.seccomp().as_ref());
    profile.filter(|_| hardened.plan().seccomp != SeccompPlan::Default)
}

/// gabion's own filters for a container: what does not depend on the spec's profile.
#[derive(Debug, Default)]
pub struct Own {
    /// That of the control `memory`.
    pub memory: Option<Program>,
    /// The floor, or the default profile with the floor in it.
    pub floor: Option<Program>,
}

/// Builds gabion's own filters.
///
/// # Errors
/// They cannot be put together.
pub fn own(hardened: &Hardened) -> Result<Own, SeccompError> {
    let floor = match hardened.plan().seccomp {
        SeccompPlan::AsAsked => None,
        SeccompPlan::Default => Some(Program::default_profile()),
        SeccompPlan::ProfileAndFloor => Some(Program::floor()),
    };
    let sockets = rules(hardened);
    let floor = floor.map(|floor| floor.with_sockets(&sockets)).transpose()?;
    Ok(Own {
        memory: Program::of_memory(&hardened.plan().memory),
        floor: floor.map(|program| program.opening(&hardened.plan().opened)),
    })
}

/// Puts a profile that cannot be used into the words and the code that create fails with.
pub fn refused(error: &SeccompError) -> Error {
    Error::failed(Step::Seccomp, error.to_string())
}

/// Judges the filters of a container that is not made: create would fail in the same words.
///
/// # Errors
/// The profile cannot be used.
pub fn judge(hardened: &Hardened) -> crate::error::Result<()> {
    in_use(hardened).map_or(Ok(()), |profile| {
        compile(profile).map(drop).map_err(|error| refused(&error))
    })
}

/// Gives the version of libseccomp that this is linked with.
pub fn library_version() -> Option<(u32, u32, u32)> {
    let version = libseccomp::ScmpVersion::current().ok()?;
    Some((version.major, version.minor, version.micro))
}

/// Gives the name of a call of this machine's own ABI; none for a number that libseccomp and the table of newer ones do not know.
pub fn call_name(number: u32) -> Option<String> {
    let newer = tables::NEWER
        .iter()
        .find(|(_, newer)| *newer == number)
        .map(|(name, _)| (*name).to_owned());
    newer.or_else(|| libseccomp::ScmpSyscall::from(number.cast_signed()).get_name().ok())
}

/// Gives the number of a call of this machine's own ABI, where it has one.
pub fn call_number(name: &str) -> Option<i32> {
    let newer = tables::NEWER
        .iter()
        .find(|(newer, _)| *newer == name)
        .and_then(|(_, number)| i32::try_from(*number).ok());
    let known = || {
        libseccomp::ScmpSyscall::from_name(name)
            .ok()
            .map(libseccomp::ScmpSyscall::as_raw_syscall)
    };
    newer.or_else(known).filter(|number| *number >= 0)
}

/// Does any rule hand calls to a supervisor?
pub fn uses_notify(profile: &LinuxSeccomp) -> bool {
    let notify = oci_spec::runtime::LinuxSeccompAction::ScmpActNotify;
    profile.syscalls().iter().flatten().any(|rule| rule.action() == notify)
}

#[cfg(test)]
mod tests;
