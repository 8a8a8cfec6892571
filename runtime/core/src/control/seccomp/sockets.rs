//! Which sockets one container may make: the words of its policy, the capabilities that it keeps, its rules for TCP ports.

use oci_spec::runtime::Capability;

use crate::hardened::Hardened;
use crate::id::ControlId;
use crate::sockets::{May, SocketRules};

/// Gives what holds for a container: its words, the capabilities that it keeps, its rules for TCP ports.
///
/// Where capabilities are only observed a later exec may bring more of them than the container has: the kernel asks for them then,
/// and this second look stands aside.
pub fn rules(hardened: &Hardened) -> SocketRules {
    let unbounded = !hardened.enforces(ControlId::Capabilities);
    let held = |capability| May::from(unbounded || holds(hardened, capability));
    let ports = hardened.plan().landlock.as_ref();
    let ports = ports.filter(|_| hardened.enforces(ControlId::Landlock));
    let (bind, connect) = ports.map_or((None, None), |p| (p.tcp_bind.as_ref(), p.tcp_connect.as_ref()));
    let ruled = bind.is_some() || connect.is_some();
    let words = hardened.plan().sockets.iter().copied();
    SocketRules {
        words: words.filter(|word| !(ruled && word.passes_tcp_rules())).collect(),
        raw: held(Capability::NetRaw),
        admin: held(Capability::NetAdmin),
        fast_open: May::from(connect.is_none()),
        // A socket that was never bound listens on a port of the kernel's choice.
        listen: May::from(bind.is_none_or(|ports| !ports.is_empty())),
    }
}

fn holds(hardened: &Hardened, capability: Capability) -> bool {
    let process = hardened.spec().process().as_ref();
    let sets = process.and_then(|process| process.capabilities().as_ref());
    sets.is_some_and(|sets| {
        [sets.bounding(), sets.permitted(), sets.effective()]
            .into_iter()
            .flatten()
            .any(|set| set.contains(&capability))
    })
}
