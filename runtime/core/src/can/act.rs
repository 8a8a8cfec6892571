//! What is asked of a container, as people write it.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Capability;

use super::capability_of;
use crate::policy::keys::nearest;
use crate::request::normalize;

/// Something that a program may want to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    Exec(PathBuf),
    Write(PathBuf),
    Read(PathBuf),
    /// A device.
    Open(PathBuf),
    Call {
        name: String,
        /// None: not said, so that several are asked about.
        args: Option<[u64; 6]>,
    },
    /// A TCP port. The address is the network's affair.
    Connect(u16),
    Bind(u16),
    Cap(Capability),
}

/// Why words are no act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAnAct(pub String);

const VERBS: [&str; 8] = ["exec", "write", "read", "call", "connect", "bind", "cap", "open"];

impl Act {
    /// Reads an act: a verb, and of what.
    ///
    /// # Errors
    /// It is none; the text says why.
    pub fn parse(words: &[String]) -> Result<Self, NotAnAct> {
        let [verb, what, rest @ ..] = words else {
            return Err(NotAnAct(format!("an act is a verb ({}) and of what", VERBS.join(", "))));
        };
        if !rest.is_empty() && verb != "call" {
            return Err(NotAnAct(format!("{verb} takes one word")));
        }
        match verb.as_str() {
            "exec" => path(what).map(Self::Exec),
            "write" => path(what).map(Self::Write),
            "read" => path(what).map(Self::Read),
            "open" => path(what).map(Self::Open),
            "call" => Ok(Self::Call {
                name: what.trim_end_matches("()").to_owned(),
                args: arguments(rest)?,
            }),
            "connect" => port(what).map(Self::Connect),
            "bind" => port(what).map(Self::Bind),
            "cap" => capability_of(what)
                .map(Self::Cap)
                .ok_or_else(|| NotAnAct(format!("{what:?} is no capability"))),
            other => {
                let near = nearest(other, VERBS).map(|near| format!("; did you mean {near}?"));
                let verbs = VERBS.join(", ");
                Err(NotAnAct(format!(
                    "{other:?} is none of {verbs}{}",
                    near.unwrap_or_default()
                )))
            }
        }
    }
}

fn path(word: &str) -> Result<PathBuf, NotAnAct> {
    let path = Path::new(word);
    if !path.is_absolute() {
        return Err(NotAnAct(format!("{word:?} is not an absolute path in the container")));
    }
    Ok(normalize(path))
}

/// `80`, `host:80`, `[::1]:80`.
fn port(word: &str) -> Result<u16, NotAnAct> {
    let digits = word.rsplit_once(':').map_or(word, |(_, port)| port);
    digits
        .parse()
        .map_err(|_| NotAnAct(format!("{word:?} is no TCP port, nor HOST:PORT")))
}

fn arguments(words: &[String]) -> Result<Option<[u64; 6]>, NotAnAct> {
    if words.is_empty() {
        return Ok(None);
    }
    let mut all = [0; 6];
    if words.len() > all.len() {
        return Err(NotAnAct("a call has six arguments at most".to_owned()));
    }
    for (slot, word) in all.iter_mut().zip(words) {
        let number = match word.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16),
            None => word.parse(),
        };
        *slot = number.map_err(|_| NotAnAct(format!("{word:?} is no number")))?;
    }
    Ok(Some(all))
}
