//! A node as `gabion doctor` sees it: the facts that were looked up, with what engines say of their versions, and what they come to.

use std::collections::BTreeMap;
use std::path::Path;

use gabion_core::doctor::node::{Engine, Program, Seen};
use gabion_core::doctor::{self, Line, State};
use gabion_core::time::rfc3339;
use gabion_see::caller::reader;
use gabion_see::error::Result;
use gabion_see::node::{self, Asked, Root};
use serde::Serialize;

mod version;

/// What was found on one node, as `--format json` has it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The node's name.
    pub(crate) node: String,
    pub(crate) time: String,
    /// gabion's version.
    pub(crate) gabion: &'static str,
    /// The gravest of the lines.
    pub(crate) state: State,
    pub(crate) lines: Vec<Line>,
}

/// Looks at the machine whose root is at `root`.
///
/// # Errors
/// There is no such directory.
pub(crate) fn examine(root: &Path) -> Result<Report> {
    let (opened, reader) = (Root::open(root)?, reader());
    let mut node = node::look(&opened, Asked::now(), reader);
    let own = root == Path::new("/");
    node.engines = node::engines(&opened, reader)
        .into_iter()
        .map(|(engine, program)| (engine, said(&program, own)))
        .collect::<BTreeMap<Engine, Seen<String>>>();
    let lines = doctor::examine(&node);
    Ok(Report {
        node: name(&opened, own),
        time: rfc3339(gabion_see::clock::now()),
        gabion: env!("CARGO_PKG_VERSION"),
        state: doctor::worst(&lines),
        lines,
    })
}

/// What an engine's program says of its version. One of another root is not run: it was made for that machine, and is its word on ours.
fn said(program: &Seen<Program>, own: bool) -> Seen<String> {
    match program {
        Seen::Is(_) if !own => {
            Seen::Unknown("programs below another root are not run to ask for their version".to_owned())
        }
        Seen::Is(program) => version::ask(program),
        Seen::Absent => Seen::Absent,
        Seen::Unknown(why) => Seen::Unknown(why.clone()),
    }
}

fn name(root: &Root, own: bool) -> String {
    if own && let Ok(name) = nix::unistd::gethostname() {
        return name.to_string_lossy().into_owned();
    }
    match root.text("/etc/hostname") {
        Seen::Is(name) => name.trim().chars().take(64).collect(),
        _ => "unknown".to_owned(),
    }
}
