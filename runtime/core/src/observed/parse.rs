//! Parsers of procfs text.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::{MountPoint, STATUS_KEYS};

/// proc_pid_status(5): `Key:\tvalue`, of the keys that any control looks at.
pub fn parse_status(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(key, _)| STATUS_KEYS.iter().any(|begin| key.starts_with(begin)))
        .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
        .collect()
}

/// proc_pid_mountinfo(5): `id parent major:minor root target options [tags…] - fstype source super`.
pub fn parse_mount(line: &str) -> Option<MountPoint> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ');
    let (id, parent) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let (major, minor) = fields.next()?.split_once(':')?;
    let dev = (major.parse().ok()?, minor.parse().ok()?);
    let (root, target) = (unescape(fields.next()?), unescape(fields.next()?));
    let options = set(fields.next()?);
    let propagation = fields.map(str::to_owned).collect();
    let mut fields = after.split(' ');
    let fstype = fields.next()?.to_owned();
    let super_options = fields.nth(1).map(set).unwrap_or_default();
    Some(MountPoint {
        id,
        parent,
        dev,
        target,
        root,
        fstype,
        options,
        super_options,
        propagation,
    })
}

fn set(options: &str) -> BTreeSet<String> {
    options.split(',').map(str::to_owned).collect()
}

/// Spaces and their like are written as `\040` there.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .and_then(|d| std::str::from_utf8(d).ok())
            .and_then(|d| u8::from_str_radix(d, 8).ok());
        if let (b'\\', Some(byte)) = (first, octal) {
            bytes.push(byte);
            rest = &tail[3..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    PathBuf::from(<std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(bytes))
}

/// Soft and hard value; None is unlimited.
pub type Limit = (Option<u64>, Option<u64>);

/// proc_pid_limits(5): the name ends where two spaces begin.
pub fn parse_limit(line: &str) -> Option<(String, Limit)> {
    let (name, rest) = line.split_once("  ")?;
    let mut values = rest.split_ascii_whitespace();
    let number = |text: &str| {
        if text == "unlimited" {
            Some(None)
        } else {
            text.parse().ok().map(Some)
        }
    };
    Some((name.to_owned(), (number(values.next()?)?, number(values.next()?)?)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_line_of_mountinfo() {
        let line = r"36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        let mount = parse_mount(line).unwrap();
        assert_eq!(mount.target, Path::new("/mnt 2"));
        assert_eq!(mount.root, Path::new("/mnt1"));
        assert_eq!(mount.dev, (98, 0));
        assert!(mount.has("noatime") && !mount.has("ro"));
        assert_eq!(mount.fstype, "ext3");
        assert_eq!(mount.propagation, ["master:1"]);
        assert!(mount.super_options.contains("errors=continue"));
    }

    #[test]
    fn limits_and_status() {
        let limit =
            parse_limit("Max open files            1024                 524288               files     ").unwrap();
        assert_eq!(limit, ("Max open files".to_owned(), (Some(1024), Some(524_288))));
        let core =
            parse_limit("Max core file size        0                    unlimited            bytes     ").unwrap();
        assert_eq!(core.1, (Some(0), None));
        assert_eq!(
            parse_status("Name:\ta:b\nCapEff:\t00:00\n").get("CapEff").unwrap(),
            "00:00"
        );
    }
}
