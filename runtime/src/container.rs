//! The life cycle of a container: what each command does, in terms of state, cgroup and the first process.

pub mod affinity;
pub mod cgroup;
pub mod channel;
pub mod create;
pub mod delete;
pub mod events;
pub mod exec;
pub mod foreground;
pub mod hooks;
pub mod id_maps;
pub mod kill;
pub mod namespace;
pub mod options;
mod own_limits;
pub mod pause;
pub mod precheck;
pub mod query;
pub mod roots;
pub mod spawn;
pub mod start;
pub mod state;
pub mod stats;
pub mod update;
pub mod valid;

pub use create::create;
pub use delete::{Deleted, Left, delete};
pub use exec::exec;
pub use foreground::run;
pub use kill::kill;
pub use options::*;
pub use pause::{pause, resume};
pub use query::{list, list_all, pids, state};
pub use start::start;
pub use update::update;
