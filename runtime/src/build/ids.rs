//! Who the process is: keyring, working directory, descriptors, user and groups.

use std::ffi::CString;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{Gid, Uid};

use crate::contract::setup::Setup;
use crate::faults;
use gabion_core::id::ControlId;
use gabion_see::error::{Error, Result, Step};

/// A session keyring of its own: keys of the caller's session are not for the container (keyctl(2)). Anonymous: by a name that
/// all containers share, one could find another's.
pub(crate) fn keyring(setup: &Setup<'_>) -> Result<()> {
    faults::at(Step::Keyring)?;
    if !setup.hardened.plan().new_keyring {
        return Ok(());
    }
    let failed = |e| Error::step(Step::Keyring, "join a new session keyring", e);
    let before = match gabion_sys::session_keyring() {
        // A kernel without keyrings, or a session without one, has none to inherit.
        Err(Errno::ENOSYS) => return Ok(()),
        // SELinux: the caller's is not for the runtime to look at. The new one is.
        before @ (Ok(_) | Err(Errno::ENOKEY | Errno::EACCES)) => before,
        Err(e) => return Err(failed(e)),
    };
    if crate::faults::not_skipped_by_a_test(ControlId::Fds) {
        let label = setup.selinux_label();
        // SELinux: keys that are made from here on are the workload's, not the runtime's (runc).
        label_keys(setup, label)?;
        gabion_sys::new_session_keyring().map_err(failed)?;
        // A line end is how the kernel is told «no label» (selinux_setprocattr).
        label_keys(setup, label.map(|_| "\n"))?;
        keyring_is_labelled(label)?;
    }
    if before != Err(Errno::ENOKEY) && gabion_sys::session_keyring() == before {
        let (expected, observed) = ("a session keyring of its own".to_owned(), "its caller's".to_owned());
        return Err(Error::Mismatch {
            control: ControlId::Fds,
            expected,
            observed,
        });
    }
    Ok(())
}

fn label_keys(setup: &Setup<'_>, label: Option<&str>) -> Result<()> {
    let Some(label) = label else { return Ok(()) };
    let written = setup.proc.write("self/attr/keycreate", label);
    written.map_err(|e| Error::step(Step::Keyring, format!("label new keys {label:?}"), e))
}

fn keyring_is_labelled(expected: Option<&str>) -> Result<()> {
    let Some(expected) = expected else { return Ok(()) };
    let observed =
        gabion_sys::session_keyring_label().map_err(|e| Error::step(Step::Keyring, "read the keyring's label", e))?;
    if observed == expected.as_bytes() {
        return Ok(());
    }
    Err(Error::Mismatch {
        control: ControlId::Lsm,
        expected: format!("a session keyring labelled {expected}"),
        observed: String::from_utf8_lossy(&observed).into_owned(),
    })
}

/// Pipes and sockets on stdio become the user's, so that `/dev/stdout` can be opened again (runc: fixStdioPermissions).
pub(crate) fn stdio_owner(setup: &Setup<'_>) -> Result<()> {
    let uid = setup.process.user().uid();
    if uid == 0 {
        return Ok(());
    }
    for fd in 0..3 {
        let Ok(stat) = nix::sys::stat::fstat(fd) else { continue };
        // Not devices: a terminal that is inherited is the caller's own, and /dev/zero everybody's.
        let ours = matches!(stat.st_mode & libc::S_IFMT, libc::S_IFIFO | libc::S_IFSOCK);
        if !ours || stat.st_uid == uid {
            continue;
        }
        match nix::unistd::fchown(fd, Some(Uid::from_raw(uid)), None) {
            // Another user namespace's, or a file system without owners: the descriptor itself still works.
            Ok(()) | Err(Errno::EINVAL | Errno::EPERM | Errno::EROFS) => {}
            Err(e) => return Err(Step::Ids.failing("give stdio to the user")(e)),
        }
    }
    Ok(())
}

/// A working directory that the image does not have is made (runc), as long as the root can be written.
pub(crate) fn make_cwd(setup: &Setup<'_>) -> Result<()> {
    let cwd = setup.process.cwd();
    if std::fs::symlink_metadata(cwd).is_ok() {
        return Ok(());
    }
    let failed = |why: &dyn std::fmt::Display| {
        Error::failed(
            Step::Ids,
            format!("cannot make the working directory {}: {why}", cwd.display()),
        )
    };
    let root = pathrs::Root::open("/").map_err(|e| failed(&e))?;
    root.mkdir_all(cwd, &std::fs::Permissions::from_mode(0o755))
        .map(drop)
        .map_err(|e| failed(&e))
}

/// Whether the working directory was entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entered {
    Yes,
    /// Root squashed away (NFS) or a directory of the user's own: tried again as the user.
    NotYet,
}

pub(crate) fn enter_cwd(setup: &Setup<'_>) -> Result<Entered> {
    let cwd = setup.process.cwd();
    match nix::unistd::chdir(cwd) {
        Ok(()) => Ok(Entered::Yes),
        Err(Errno::EACCES | Errno::EPERM) => Ok(Entered::NotYet),
        Err(e) => Err(Step::Ids
            .failing(format!("enter the working directory {}", cwd.display()))(
            e
        )),
    }
}

pub(crate) fn enter_cwd_again(setup: &Setup<'_>, entered: Entered) -> Result<()> {
    match entered {
        Entered::Yes => Ok(()),
        Entered::NotYet => {
            let cwd = setup.process.cwd();
            nix::unistd::chdir(cwd).map_err(Step::Ids.failing(format!("enter the working directory {}", cwd.display())))
        }
    }
}

/// The working directory must lie inside the container: a descriptor of the host's in /proc/self/fd would not
/// (CVE-2024-21626). The kernel marks such a path «(unreachable)» (getcwd(2)).
pub(crate) fn verify_cwd(setup: &Setup<'_>) -> Result<()> {
    let cwd = nix::unistd::getcwd().map_err(|e| match e {
        Errno::ENOENT => Error::failed(Step::Ids, "the working directory lies outside the container"),
        e => Step::Ids.failing("look at the working directory")(e),
    })?;
    if !cwd.is_absolute() {
        return Err(Error::failed(
            Step::Ids,
            "the working directory lies outside the container",
        ));
    }
    // It must be a directory of our own mounts, too: /proc/self/fd/N could pass through a preserved descriptor. It is not opened, since the
    // user may not be allowed to: who entered it was root.
    let target = nix::fcntl::readlinkat(Some(std::os::fd::AsFd::as_fd(&setup.proc).as_raw_fd()), "self/cwd")
        .map_err(Step::Ids.failing("look at the working directory"))?;
    if Path::new(&target) != cwd {
        return Err(Error::failed(
            Step::Ids,
            "the working directory lies outside the container",
        ));
    }
    Ok(())
}

/// Everything above stdio and the preserved descriptors ends at execve. The flag is set now; nothing is closed, since the
/// channel, the listener and procfs are still needed.
pub(crate) fn close_inherited(setup: &Setup<'_>) -> Result<()> {
    if !crate::faults::not_skipped_by_a_test(ControlId::Fds) {
        return Ok(());
    }
    gabion_sys::cloexec_from(setup.preserved.count.saturating_add(3))
        .map_err(Step::Ids.failing("mark descriptors close-on-exec"))
}

/// Groups, then group, then user, keeping the capabilities until they are set by name.
pub(crate) fn become_user(setup: &Setup<'_>) -> Result<()> {
    faults::at(Step::Ids)?;
    let user = setup.process.user();
    // The calls below would take it for «leave it as it is», and who was root would stay root.
    if let Some(field) = gabion_core::ids::no_id_of(user) {
        return Err(Error::failed(Step::Ids, format!("process.{field} is no id")));
    }
    if let Some(umask) = user.umask() {
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(umask));
    }
    let groups: Vec<Gid> = user
        .additional_gids()
        .iter()
        .flatten()
        .map(|g| Gid::from_raw(*g))
        .collect();
    set_groups(setup, &groups)?;
    gabion_sys::over_change_of_user(gabion_sys::Capabilities::Kept)
        .map_err(Step::Ids.failing("keep capabilities over the change of user"))?;
    let (gid, uid) = (Gid::from_raw(user.gid()), Uid::from_raw(user.uid()));
    nix::unistd::setresgid(gid, gid, gid).map_err(Step::Ids.failing(format!("become group {gid}")))?;
    nix::unistd::setresuid(uid, uid, uid).map_err(Step::Ids.failing(format!("become user {uid}")))?;
    gabion_sys::over_change_of_user(gabion_sys::Capabilities::Dropped)
        .map_err(Step::Ids.failing("keep capabilities no longer"))
}

fn set_groups(setup: &Setup<'_>, groups: &[Gid]) -> Result<()> {
    match nix::unistd::setgroups(groups) {
        Ok(()) => Ok(()),
        // A user namespace made by an ordinary user (user_namespaces(7), setgroups): there is nothing to drop by this call.
        Err(Errno::EPERM) if groups.is_empty() => match setup.proc.read("self/setgroups") {
            Ok(state) if state.trim() == "deny" => Ok(()),
            _ => Err(Step::Ids.failing("drop supplementary groups")(Errno::EPERM)),
        },
        Err(e) => Err(Step::Ids.failing("set supplementary groups")(e)),
    }
}

/// A C string of a spec's text.
pub(crate) fn c_string(what: &str, text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::failed(Step::Execve, format!("{what} holds a NUL byte")))
}
