//! The table, one file for each part of the runtime spec.

mod hooks;
mod life;
mod mounts;
mod namespaces;
mod process;
mod resources;
mod seccomp;
mod sockets;

use crate::case::Case;

pub(crate) fn all() -> Vec<Case> {
    [
        process::cases(),
        mounts::cases(),
        namespaces::cases(),
        resources::cases(),
        seccomp::cases(),
        sockets::cases(),
        hooks::cases(),
        life::cases(),
    ]
    .concat()
}
