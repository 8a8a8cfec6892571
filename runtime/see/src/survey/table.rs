//! mountinfo of the host: of a node with thousands of mounts a few lines are asked for.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use gabion_core::observed::{MountPoint, parse};
use gabion_core::reach::OnFs;

/// The mounts that we see, as text: of most nothing is asked.
pub(super) struct Table {
    text: String,
    by_id: BTreeMap<u64, Range<usize>>,
    /// Mount points as the kernel writes them, with their lines.
    by_target: BTreeMap<(String, u64), Range<usize>>,
}

impl Table {
    pub(super) fn read() -> Self {
        let bytes = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
        Self::new(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
    }

    fn new(text: String) -> Self {
        let (mut by_id, mut by_target) = (BTreeMap::new(), BTreeMap::new());
        let mut begin = 0;
        for line in text.split_inclusive('\n') {
            let at = begin..begin + line.trim_end_matches('\n').len();
            begin += line.len();
            let mut fields = line.split(' ');
            let id = fields.next().and_then(|id| id.parse().ok());
            if let (Some(id), Some(target)) = (id, fields.nth(3)) {
                by_id.insert(id, at.clone());
                by_target.insert((target.to_owned(), id), at);
            }
        }
        Self { text, by_id, by_target }
    }

    pub(super) fn by_id(&self, id: u64) -> Option<MountPoint> {
        parse::parse_mount(self.text.get(self.by_id.get(&id)?.clone())?)
    }

    /// Whether the file system of a mount is mounted once more, whole or in part.
    pub(super) fn has_another(&self, mount: &MountPoint) -> bool {
        // No other field holds a space: the kernel writes those of names as \\040.
        let number = format!(" {}:{} ", mount.dev.0, mount.dev.1);
        self.text.matches(&number).nth(1).is_some()
    }

    /// Gives the mounts below a place of the host.
    pub(super) fn below(&self, real: &Path) -> impl Iterator<Item = MountPoint> {
        let mut from = escaped(real);
        if !from.ends_with('/') {
            from.push('/');
        }
        let begin = self.by_target.range((from.clone(), 0)..);
        let lines = begin.take_while(move |((target, _), _)| target.starts_with(&from));
        lines.filter_map(|(_, at)| parse::parse_mount(self.text.get(at.clone())?))
    }

    /// Gives where `real`, which was reached by this mount, is in its file system.
    pub(super) fn spot_of(mount: &MountPoint, real: &Path) -> Option<OnFs> {
        let rest = real.strip_prefix(&mount.target).ok()?;
        Some(OnFs {
            fs: mount.dev,
            path: mount.root.join(rest).components().collect(),
        })
    }
}

/// As the kernel writes a mount point (proc_pid_mountinfo(5)).
fn escaped(path: &Path) -> String {
    let mut text = String::new();
    for c in path.to_string_lossy().chars() {
        match c {
            ' ' | '\t' | '\n' | '\\' => {
                let octal = format!("\\{:03o}", u32::from(c));
                text.push_str(&octal);
            }
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_by_number_and_by_what_they_lie_in() {
        let table = Table::new(
            "21 1 8:1 / / rw - ext4 /dev/a rw\n\
             30 21 8:1 /etc /srv/a\\040b/x rw - ext4 /dev/a rw\n\
             31 21 8:2 / /srv/a\\040bc rw - ext4 /dev/b rw\n\
             32 30 0:5 / /srv/a\\040b/x/proc rw - proc proc rw\n"
                .to_owned(),
        );
        let below = |path: &str| -> Vec<u64> { table.below(Path::new(path)).map(|m| m.id).collect() };
        assert_eq!(below("/srv/a b"), [30, 32]);
        assert_eq!(below("/srv/a b/x"), [32]);
        assert_eq!(below("/"), [21, 30, 32, 31]);
        let etc = table.by_id(30).unwrap();
        let spot = Table::spot_of(&etc, Path::new("/srv/a b/x/ssh")).unwrap();
        assert_eq!((spot.fs, spot.path.as_path()), ((8, 1), Path::new("/etc/ssh")));
        assert_eq!(Table::spot_of(&etc, Path::new("/elsewhere")), None);
        let another = [21, 31].map(|id| table.has_another(&table.by_id(id).unwrap()));
        assert_eq!(another, [true, false]);
    }
}
