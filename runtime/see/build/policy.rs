//! The form of `policy/seccomp.toml`, and what can be wrong with it.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;

use serde::Deserialize;

pub(crate) const POLICY: &str = "../policy/seccomp.toml";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Policy {
    pub(crate) foreign: String,
    pub(crate) unknown: String,
    pub(crate) numbers: BTreeMap<String, BTreeMap<String, u32>>,
    pub(crate) marker: Marker,
    pub(crate) groups: BTreeMap<String, Vec<String>>,
    pub(crate) sockets: Sockets,
    pub(crate) floor: Vec<Rule>,
    pub(crate) default: Default,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Marker {
    pub(crate) number: u32,
    pub(crate) errno: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sockets {
    pub(crate) reason: String,
    pub(crate) families: Vec<u32>,
    pub(crate) inet_reason: String,
    pub(crate) inet: Vec<u32>,
    pub(crate) netlink_reason: String,
    pub(crate) netlink: Vec<u32>,
    pub(crate) netlink_admin: Vec<u32>,
    /// By ABI.
    pub(crate) calls: BTreeMap<String, Calls>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Calls {
    pub(crate) socket: u32,
    pub(crate) socketpair: u32,
    pub(crate) listen: u32,
    pub(crate) setsockopt: u32,
    pub(crate) sendto: u32,
    pub(crate) sendmsg: u32,
    pub(crate) sendmmsg: u32,
    pub(crate) send: Option<u32>,
    pub(crate) socketcall: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Default {
    pub(crate) allow: Vec<Rule>,
    pub(crate) refuse: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    pub(crate) reason: String,
    pub(crate) calls: Vec<String>,
    pub(crate) errno: Option<String>,
    pub(crate) when: Option<When>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct When {
    pub(crate) arg: u32,
    #[serde(default)]
    pub(crate) values: Vec<u64>,
    #[serde(default)]
    pub(crate) bits: Vec<u64>,
}

#[derive(Debug)]
pub(crate) enum Fault {
    UnknownCall(String),
    UnknownErrno(String),
    NoErrno(String),
    NoReason(Vec<String>),
    Condition(String),
    NoCalls(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownCall(name) => write!(f, "{POLICY}: no architecture has a call {name}; is its number missing?"),
            Self::UnknownErrno(name) => write!(f, "{POLICY}: errno {name} is not in build.rs"),
            Self::NoErrno(name) => write!(
                f,
                "{POLICY}: the rule for {name} refuses and gives no errno, or allows and gives one"
            ),
            Self::NoReason(names) => write!(f, "{POLICY}: the rule for {names:?} has no reason"),
            Self::NoCalls(abi) => write!(f, "{POLICY}: [sockets.calls] has no numbers for {abi}"),
            Self::Condition(name) => write!(f, "{POLICY}: the condition on {name} cannot be put into a filter"),
        }
    }
}

impl Error for Fault {}

pub(crate) fn check(policy: &Policy) -> Result<(), Fault> {
    let sockets = &policy.sockets;
    for reason in [&sockets.reason, &sockets.inet_reason, &sockets.netlink_reason] {
        if reason.trim().is_empty() {
            return Err(Fault::NoReason(vec!["socket".to_owned()]));
        }
    }
    let refusing = policy
        .floor
        .iter()
        .chain(&policy.default.refuse)
        .map(|rule| (rule, true));
    for (rule, refuses) in refusing.chain(policy.default.allow.iter().map(|rule| (rule, false))) {
        if rule.reason.trim().is_empty() || rule.calls.is_empty() {
            return Err(Fault::NoReason(rule.calls.clone()));
        }
        if rule.errno.is_some() != refuses {
            return Err(Fault::NoErrno(rule.calls.join(", ")));
        }
    }
    Ok(())
}

pub(crate) fn errno(name: &str) -> Result<u32, Fault> {
    match name {
        "EPERM" => Ok(1),
        "ENOSYS" => Ok(38),
        "EDOTDOT" => Ok(73),
        _ => Err(Fault::UnknownErrno(name.to_owned())),
    }
}
