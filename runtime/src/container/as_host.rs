//! Who a process of the container is, read from outside before its program runs: what it sees of itself are its own namespace's numbers.

use gabion_core::control::Control;
use gabion_core::control::user::User;
use gabion_core::hardened::Hardened;
use gabion_core::id::ControlId;
use gabion_core::ids::{IdMap, Kind, Users, users};
use gabion_core::observed::{Observed, parse};
use gabion_core::policy::Level;
use gabion_see::error::{Error, Result, Step};
use gabion_see::procfs::Proc;
use gabion_see::readback::all_hold;

/// Compares the maps of its user namespace, and its ids as ours has them, with what was decided.
///
/// # Errors
/// They differ, or cannot be read.
pub(crate) fn verify(hardened: &Hardened, pid: i32) -> Result<()> {
    let own = users(hardened.spec()) != Users::Runtime;
    // Without a namespace of its own and at the other levels the process's own look said the same.
    if !hardened.enforces(ControlId::User) || !(own || hardened.level() == Level::Restricted) {
        return Ok(());
    }
    let proc = Proc::open()?;
    let read = |file: &str| {
        proc.read(&format!("{pid}/{file}"))
            .map_err(|e| Error::step(Step::Verify, format!("read {file} of the container's process"), e))
    };
    if own && let Some(here) = hardened.plan().ids.as_ref().and_then(|ids| ids.here.as_ref()) {
        for (kind, file) in [(Kind::User, "uid_map"), (Kind::Group, "gid_map")] {
            let text = read(file)?;
            let seen = IdMap::parse(&text);
            if !seen.as_ref().is_some_and(|seen| seen.same_as(here.of(kind))) {
                return Err(Error::Mismatch {
                    control: ControlId::User,
                    expected: format!("{file} {}", here.of(kind)),
                    observed: seen.map_or_else(|| format!("{file} {text:?}"), |seen| format!("{file} {seen}")),
                });
            }
        }
    }
    let seen = Observed {
        status: parse::parse_status(&read("status")?),
        ..Observed::default()
    };
    all_hold(User.facts(hardened, &seen))
}
