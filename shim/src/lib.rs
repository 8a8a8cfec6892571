//! `containerd-shim-gabion-v2`: stands between containerd and the runtime, one process a pod.
//!
//! It runs the runtime's binary for every action, reaps what that leaves behind, copies stdio and tells containerd. One thread, one
//! poll loop; see docs/BUDGETS.md for why.

pub mod bootstrap;
pub mod budget;
pub mod bundle;
pub mod cli;
pub mod console;
pub mod container;
pub mod copy;
pub mod edges;
pub mod error;
pub mod events;
pub mod exits;
pub mod files;
pub mod frame;
pub mod idle;
pub mod io;
pub mod kept;
pub mod log;
pub mod logger;
pub mod mounts;
pub mod oom;
pub mod options;
pub mod pipe;
pub mod process;
pub mod reactor;
pub mod root;
pub mod rpc;
pub mod runtime;
pub mod serve;
pub mod service;
pub mod socket;
pub mod stats;
pub mod sync;
pub mod sys;
pub mod task_state;
pub mod tasks;
pub mod time;
pub mod watched;

use cli::{Action, Arguments};
use error::{Error, Result};

/// Does what the command line says.
pub fn run(arguments: impl IntoIterator<Item = String>) -> Result<()> {
    let arguments = Arguments::parse(arguments)?;
    match arguments.action {
        Action::Start => bootstrap::start(&arguments),
        Action::Delete => bootstrap::delete(&arguments),
        Action::Info => bootstrap::info(),
        Action::Serve => serve::serve(&arguments),
        Action::Stats(pid) => stats::print(pid, &mut std::io::stdout().lock()),
        Action::Version => {
            println!("{}:\n  Version:  {}", bootstrap::NAME, env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Action::None => Err(Error::BadRequest(
            "containerd runs this: the actions are start and delete, the flags -info and -v",
        )),
    }
}
