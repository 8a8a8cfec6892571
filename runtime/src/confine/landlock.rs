//! Landlock: what may be executed and written, by path, under every other layer.
//!
//! Rights add up along a path, so a directory above a hole may never get EXECUTE: `/` gets reading, EXECUTE goes to the entries
//! below it, and further down only where something writable lies below.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use landlock::{
    AccessFs, AccessNet, CompatLevel, Compatible, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetStatus,
};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::contract::setup::Setup;
use gabion_core::id::ControlId;
use gabion_see::error::{Error, Result, Step};

mod rules;
use rules::{Rules, Target};

/// A ruleset with its paths open, not yet in force.
#[derive(Debug)]
pub(crate) struct Ruleset {
    created: RulesetCreated,
    /// Whether the kernel can write what it denies into its audit log, and says so by its ABI.
    logs: Logs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Logs {
    No,
    Yes,
}

/// LANDLOCK_RESTRICT_SELF_LOG_NEW_EXEC_ON came with ABI 7.
const ABI_LOG: u32 = 7;

fn cannot(doing: &'static str) -> impl Fn(&dyn std::fmt::Display) -> Error {
    move |e| Error::failed(Step::Landlock, format!("cannot {doing}: {e}"))
}

/// Opens the paths of the plan and makes the ruleset.
pub(crate) fn build(setup: &Setup<'_>) -> Result<Option<Ruleset>> {
    let Some(plan) = &setup.hardened.plan().landlock else {
        return Ok(None);
    };
    let handled = rules::handled(plan);
    let mut ruleset = landlock::Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(handled)
        .map_err(|e| cannot("handle its accesses")(&e))?;
    if plan.tcp_bind.is_some() {
        ruleset = ruleset
            .handle_access(AccessNet::BindTcp)
            .map_err(|e| cannot("handle TCP bind")(&e))?;
    }
    if plan.tcp_connect.is_some() {
        ruleset = ruleset
            .handle_access(AccessNet::ConnectTcp)
            .map_err(|e| cannot("handle TCP connect")(&e))?;
    }
    let created = ruleset.create().map_err(|e| cannot("make a ruleset")(&e))?;
    let mut rules = Rules::new(created, handled, plan);
    let root = Path::new("/");
    let open =
        gabion_sys::open_path(root, OFlag::empty()).map_err(|e| Error::step(Step::Landlock, "open the root", e))?;
    rules.add(open.as_fd(), Target::Directory, AccessFs::ReadFile | AccessFs::ReadDir)?;
    rules.writable()?;
    rules.executable(&open, root)?;
    rules.stdio(setup)?;
    let created = rules.ports()?;
    let logs = if plan.abi >= ABI_LOG { Logs::Yes } else { Logs::No };
    Ok(Some(Ruleset { created, logs }))
}

/// Puts the ruleset in force and tries a path that it must deny.
pub(crate) fn enforce(ruleset: &Ruleset, probe: Option<&OwnedFd>) -> Result<()> {
    // The control: the probe opens before, so that its failing afterwards is Landlock's doing.
    if let Some(probe) = probe {
        open_probe(probe).map_err(|e| Error::step(Step::Landlock, "open the probe directory beforehand", e))?;
    }
    if crate::faults::not_skipped_by_a_test(ControlId::Landlock) {
        let created = ruleset
            .created
            .try_clone()
            .map_err(|e| cannot("clone the ruleset")(&e))?;
        // no_new_privs is the control of that name's to set; where it is off CAP_SYS_ADMIN stands in for it.
        let mut created = created.no_new_privs(false);
        if ruleset.logs == Logs::Yes {
            // A domain of before execve logs nothing after it, unless it is told to: and after it comes all that this one is for.
            created = created
                .log_new_exec(true)
                .map_err(|e| cannot("have its denials logged")(&e))?;
        }
        let status = created.restrict_self().map_err(|e| cannot("restrict itself")(&e))?;
        if status.ruleset != RulesetStatus::FullyEnforced {
            return Err(mismatch(format!("{:?}", status.ruleset)));
        }
    }
    let Some(probe) = probe else { return Ok(()) };
    match open_probe(probe) {
        Err(Errno::EACCES) => Ok(()),
        Ok(_) => Err(mismatch("a path outside every rule could be opened".to_owned())),
        Err(e) => Err(mismatch(format!("a path outside every rule gave {e}"))),
    }
}

fn open_probe(probe: &OwnedFd) -> nix::Result<OwnedFd> {
    gabion_sys::openat(
        probe.as_fd(),
        ".",
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
}

fn mismatch(observed: String) -> Error {
    let expected = "a path outside every rule gives EACCES".to_owned();
    Error::Mismatch {
        control: ControlId::Landlock,
        expected,
        observed,
    }
}
