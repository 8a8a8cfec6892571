//! The command line that containerd gives a shim, in the form of Go's `flag`.

use std::path::PathBuf;

use crate::error::{Error, Result};

/// What the shim is called for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// Find or start the shim of a container's group.
    Start,
    /// Clean up after a dead shim.
    Delete,
    /// Say what the runtime can do.
    Info,
    /// Say the version.
    Version,
    /// Be the shim; `start` runs this.
    Serve,
    /// Read a cgroup's metrics; the shim runs this.
    Stats(u32),
    /// None was given.
    #[default]
    None,
}

/// The flags.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// containerd's namespace.
    pub namespace: String,
    /// containerd's gRPC socket.
    pub address: String,
    /// The container.
    pub id: String,
    /// The bundle; else it is the working directory.
    pub bundle: PathBuf,
    /// Whether to log more.
    pub debug: bool,
    /// What to do.
    pub action: Action,
}

impl Arguments {
    /// Parses what follows the program's name.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut parsed = Self::default();
        let mut rest = arguments.into_iter();
        while let Some(argument) = rest.next() {
            let Some(flag) = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) else {
                parsed.action = match argument.as_str() {
                    "start" => Action::Start,
                    "delete" => Action::Delete,
                    "serve" => Action::Serve,
                    _ => return Err(Error::BadRequest("the actions are start and delete")),
                };
                continue;
            };
            let (name, inline) = flag
                .split_once('=')
                .map_or((flag, None), |(name, value)| (name, Some(value.to_owned())));
            match name {
                "debug" => parsed.debug = inline.as_deref() != Some("false"),
                "info" => parsed.action = Action::Info,
                "v" | "version" => parsed.action = Action::Version,
                _ => {
                    let missing = Error::BadRequest("a flag without its value");
                    parsed.set(name, inline.or_else(|| rest.next()).ok_or(missing)?)?;
                }
            }
        }
        Ok(parsed)
    }

    fn set(&mut self, name: &str, value: String) -> Result<()> {
        match name {
            "namespace" => self.namespace = value,
            "address" => self.address = value,
            "id" => self.id = value,
            "bundle" => self.bundle = value.into(),
            "stats" => {
                self.action = Action::Stats(value.parse().map_err(|_| Error::BadRequest("not a process number"))?);
            }
            // Events go by ttrpc; a socket of the caller's making is not used: one listener, one place.
            "publish-binary" | "socket" => {}
            _ => return Err(Error::BadRequest("an unknown flag")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments> {
        Arguments::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn as_containerd_calls() {
        let parsed =
            parse("-namespace k8s.io -address /c.sock -publish-binary /containerd -id x -bundle /b -debug delete")
                .unwrap();
        assert_eq!((parsed.namespace.as_str(), parsed.id.as_str()), ("k8s.io", "x"));
        assert_eq!((parsed.action, parsed.debug), (Action::Delete, true));
        assert_eq!(parse("--id=x start").unwrap().id, "x");
        assert_eq!(parse("-info").unwrap().action, Action::Info);
        assert_eq!(parse("-stats 7").unwrap().action, Action::Stats(7));
        for bad in ["-id", "-what 1", "stop", "-stats x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
