//! The life cycle of a container: what each command does, in terms of state, cgroup and the first process.

mod affinity;
mod as_host;
mod create;
mod delete;
pub(crate) mod events;
mod exec;
mod foreground;
mod id_maps;
mod kill;
mod label;
pub(crate) mod options;
mod own_limits;
mod pause;
mod pid_file;
mod pidfd_socket;
mod precheck;
mod query;
mod spawn;
mod start;
mod update;

pub(crate) use create::create;
pub(crate) use delete::{Deleted, Left, delete};
pub(crate) use exec::exec;
pub(crate) use foreground::{Ended, run};
pub(crate) use kill::kill;
pub(crate) use options::*;
pub(crate) use pause::{pause, resume};
pub(crate) use query::{list, list_all, pids, state};
pub(crate) use start::start;
pub(crate) use update::update;
