//! The device list.

use std::io::Write;
use std::path::Path;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use super::Directories;
use crate::cgroup::{open, put};
use gabion_see::error::{Error, Result};

/// What runc lets every container have: nodes of any number, the devices of config-linux.md, pseudo-terminals, /dev/net/tun.
const NEEDED: [&str; 11] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:8 rwm",
    "c 1:7 rwm",
    "c 5:0 rwm",
    "c 1:5 rwm",
    "c 1:9 rwm",
    "c 136:* rwm",
    "c 5:2 rwm",
    "c 10:200 rwm",
];

/// The same as rules, for v2's program.
pub(in crate::cgroup) fn needed() -> Vec<LinuxDeviceCgroup> {
    let parsed = NEEDED.iter().map(|line| {
        let mut fields = line.split([' ', ':']);
        let number = |text: Option<&str>| text.and_then(|t| t.parse::<i64>().ok());
        let typ = if fields.next() == Some("b") {
            LinuxDeviceType::B
        } else {
            LinuxDeviceType::C
        };
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(true)
            .set_typ(Some(typ))
            .set_major(number(fields.next()))
            .set_minor(number(fields.next()));
        rule.set_access(fields.next().map(str::to_owned));
        rule
    });
    parsed.collect()
}

impl Directories {
    /// The device list: the spec's rules, and behind them what every container needs, as runc has it.
    pub(in crate::cgroup) fn devices_as_asked(&self, rules: &[LinuxDeviceCgroup]) -> Result<()> {
        // Rules that every engine writes, and that a user can have nowhere (runc does the same).
        if !self.delegation.has("devices") {
            return Ok(());
        }
        let directory = self.need("devices")?;
        write(&directory, rules)?;
        let file = directory.join("devices.allow");
        NEEDED.iter().try_for_each(|rule| put(&file, rule))
    }

    /// The device list from nothing: the vetted rules and no others.
    pub(in crate::cgroup) fn devices_as_vetted(&self, rules: &[LinuxDeviceCgroup]) -> Result<()> {
        if rules.is_empty() && !self.delegation.has("devices") {
            return Ok(());
        }
        let directory = self.need("devices")?;
        put(&directory.join("devices.deny"), "a")?;
        // In their order, denials too: what the spec takes out of what is allowed.
        write(&directory, rules)
    }
}

/// Each rule is a write of its own; the file stays open while rules are of one kind.
fn write(directory: &Path, rules: &[LinuxDeviceCgroup]) -> Result<()> {
    for alike in rules.chunk_by(|a, b| a.allow() == b.allow()) {
        let allow = alike.first().is_some_and(LinuxDeviceCgroup::allow);
        let path = directory.join(if allow { "devices.allow" } else { "devices.deny" });
        let mut file = open(&path)?;
        for rule in alike {
            let rule = line(rule);
            tracing::debug!(path = %path.display(), rule, "cgroup");
            file.write_all(rule.as_bytes()).map_err(Error::file("write", &path))?;
        }
    }
    Ok(())
}

/// A rule as the kernel takes it: a number that is absent or below zero is every number (runc), as in v2's program.
fn line(rule: &LinuxDeviceCgroup) -> String {
    let mut rule = rule.clone();
    let (major, minor) = (rule.major().filter(|n| *n >= 0), rule.minor().filter(|n| *n >= 0));
    rule.set_major(major).set_minor(minor);
    rule.to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_number_below_zero_is_every_number() {
        for (major, wanted) in [
            ("-1", "c *:3 r"),
            ("null", "c *:3 r"),
            ("0", "c 0:3 r"),
            ("1", "c 1:3 r"),
        ] {
            let text = format!(r#"{{"allow": true, "type": "c", "major": {major}, "minor": 3, "access": "r"}}"#);
            assert_eq!(line(&serde_json::from_str(&text).unwrap()), wanted);
        }
    }
}
