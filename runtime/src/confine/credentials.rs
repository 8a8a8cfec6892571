//! Capabilities and no_new_privs, by the `caps` crate and prctl(2).

use std::str::FromStr;

use caps::{CapSet, CapsHashSet};
use oci_spec::runtime::{Capabilities, LinuxCapabilities};

use crate::contract::setup::Setup;
use crate::faults;
use gabion_core::id::ControlId;
use gabion_core::policy::MemoryRule;
use gabion_see::error::{Error, Result, Step};

/// When the capabilities go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Privileges {
    DropNow,
    /// no_new_privs is off: Landlock and seccomp need CAP_SYS_ADMIN first (seccomp(2), landlock_restrict_self(2)).
    DropAfterConfinement,
}

impl Privileges {
    pub(crate) fn of(setup: &Setup<'_>) -> Self {
        let nnp = setup.process.no_new_privileges().unwrap_or(false);
        let confined = setup.hardened.plan().landlock.is_some()
            || setup.filters.memory.is_some()
            || setup.filters.floor.is_some()
            || setup.filters.profile.is_some();
        if nnp || !confined {
            Self::DropNow
        } else {
            Self::DropAfterConfinement
        }
    }
}

fn cannot(doing: &'static str) -> impl Fn(caps::errors::CapsError) -> Error {
    move |e| Error::failed(Step::Capabilities, format!("cannot {doing}: {e}"))
}

/// Sets all five sets as the spec has them.
pub(crate) fn drop_capabilities(setup: &Setup<'_>) -> Result<()> {
    faults::at(Step::Capabilities)?;
    if !crate::faults::not_skipped_by_a_test(ControlId::Capabilities) {
        return Ok(());
    }
    // A process that names none has none (runc), and not all of ours.
    let none = gabion_core::control::capabilities::none();
    let wanted = setup.process.capabilities().as_ref().unwrap_or(&none);
    raise()?;
    bounding(&convert(wanted.bounding())?)?;
    // Inheritable first: it may hold what permitted no longer has, as long as it once had (capset(2)). Effective before permitted, which it may
    // not exceed. Ambient last: it needs both.
    let inheritable = convert(wanted.inheritable())?;
    caps::set(None, CapSet::Inheritable, &inheritable).map_err(cannot("set the inheritable set"))?;
    let effective = convert(wanted.effective())?;
    let permitted = convert(wanted.permitted())?;
    caps::set(
        None,
        CapSet::Effective,
        &effective.intersection(&permitted).copied().collect(),
    )
    .map_err(cannot("set the effective set"))?;
    caps::set(None, CapSet::Permitted, &permitted).map_err(cannot("set the permitted set"))?;
    ambient(wanted, &permitted, &inheritable)
}

/// Looks with the privileges that the program will have, not with all that we still hold: what only root can reach, or what a capability of the
/// program's opens, is told as execve(2) will tell it.
pub(crate) fn as_the_program<T>(setup: &Setup<'_>, look: impl FnOnce() -> T) -> Result<T> {
    let none = gabion_core::control::capabilities::none();
    let wanted = setup.process.capabilities().as_ref().unwrap_or(&none);
    let (effective, permitted) = (convert(wanted.effective())?, convert(wanted.permitted())?);
    let wanted: CapsHashSet = effective.intersection(&permitted).copied().collect();
    let held = caps::read(None, CapSet::Permitted).map_err(cannot("read the permitted set"))?;
    let before = caps::read(None, CapSet::Effective).map_err(cannot("read the effective set"))?;
    let during = wanted.intersection(&held).copied().collect();
    caps::set(None, CapSet::Effective, &during).map_err(cannot("set the effective set"))?;
    let seen = look();
    caps::set(None, CapSet::Effective, &before).map_err(cannot("set the effective set again"))?;
    Ok(seen)
}

/// After the change of user the effective set is empty: what is permitted is raised once more, to confine and drop with.
pub(crate) fn raise() -> Result<()> {
    let permitted = caps::read(None, CapSet::Permitted).map_err(cannot("read the permitted set"))?;
    caps::set(None, CapSet::Effective, &permitted).map_err(cannot("raise the effective set"))
}

fn bounding(wanted: &CapsHashSet) -> Result<()> {
    let current = caps::read(None, CapSet::Bounding).map_err(cannot("read the bounding set"))?;
    for cap in current.difference(wanted) {
        caps::drop(None, CapSet::Bounding, *cap).map_err(cannot("drop from the bounding set"))?;
    }
    Ok(())
}

/// An ambient capability must be permitted and inheritable (capabilities(7)); runc skips the others too.
fn ambient(wanted: &LinuxCapabilities, permitted: &CapsHashSet, inheritable: &CapsHashSet) -> Result<()> {
    gabion_sys::prctl_ambient_clear().map_err(|e| Error::step(Step::Capabilities, "clear the ambient set", e))?;
    for cap in convert(wanted.ambient())? {
        if permitted.contains(&cap) && inheritable.contains(&cap) {
            caps::raise(None, CapSet::Ambient, cap).map_err(cannot("raise an ambient capability"))?;
        }
    }
    Ok(())
}

fn convert(set: &Option<Capabilities>) -> Result<CapsHashSet> {
    set.iter()
        .flatten()
        .map(|cap| {
            caps::Capability::from_str(&format!("CAP_{cap}"))
                .map_err(|e| Error::failed(Step::Capabilities, format!("CAP_{cap}: {e}")))
        })
        .collect()
}

/// no_new_privs (prctl(2) PR_SET_NO_NEW_PRIVS): for good, and for all children.
pub(crate) fn no_new_privs(setup: &Setup<'_>) -> Result<()> {
    faults::at(Step::NoNewPrivs)?;
    if setup.process.no_new_privileges() != Some(true) || !crate::faults::not_skipped_by_a_test(ControlId::NoNewPrivs) {
        return Ok(());
    }
    nix::sys::prctl::set_no_new_privs().map_err(|e| Error::step(Step::NoNewPrivs, "set no_new_privs", e))
}

/// PR_SET_MDWE: for good, for all children, and for what they execute.
pub(crate) fn memory(setup: &Setup<'_>) -> Result<()> {
    faults::at(Step::Memory)?;
    let held = setup.hardened.plan().memory.contains(&MemoryRule::Mdwe);
    if !held || !crate::faults::not_skipped_by_a_test(ControlId::Memory) {
        return Ok(());
    }
    gabion_sys::refuse_exec_gain().map_err(|e| Error::step(Step::Memory, "set PR_SET_MDWE", e))
}
