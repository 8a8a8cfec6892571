//! containerd's configuration, with the files that it imports, and its shim.

use std::path::{Path, PathBuf};

use gabion_core::caller::Reader;
use gabion_core::doctor::containerd;
use gabion_core::doctor::node::{Program, Seen};

use super::root::Root;

/// containerd's configuration, where distributions have it.
const CONTAINERD: [&str; 3] = [
    containerd::CONFIG,
    "/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
    "/etc/k0s/containerd.toml",
];

/// containerd's files, those that they import after them.
pub(super) fn configuration(root: &Root) -> Seen<Vec<(PathBuf, String)>> {
    let mut files: Vec<(PathBuf, String)> = Vec::new();
    for path in CONTAINERD {
        let text = match root.text(path) {
            Seen::Is(text) => text,
            Seen::Absent => continue,
            Seen::Unknown(why) => return Seen::Unknown(why),
        };
        // A text that is no TOML the table names.
        let imports = containerd::imports(&text).unwrap_or_default();
        let directory = Path::new(path).parent().unwrap_or(Path::new("/"));
        files.push((path.into(), text));
        for import in imports {
            match imported(root, &directory.join(import)) {
                Seen::Is(more) => files.extend(more),
                Seen::Absent => {}
                Seen::Unknown(why) => return Seen::Unknown(why),
            }
        }
    }
    if files.is_empty() {
        Seen::Absent
    } else {
        Seen::Is(files)
    }
}

/// The files that one import means: a path, or a pattern in its last part.
fn imported(root: &Root, import: &Path) -> Seen<Vec<(PathBuf, String)>> {
    let (Some(directory), Some(pattern)) = (
        import.parent().and_then(Path::to_str),
        import.file_name().and_then(|n| n.to_str()),
    ) else {
        return Seen::Unknown(format!("containerd imports {}, which is no path", import.display()));
    };
    let Some((before, after)) = pattern.split_once('*') else {
        let text = root.text(&format!("{directory}/{pattern}"));
        return match text {
            Seen::Is(text) => Seen::Is(vec![(import.to_owned(), text)]),
            Seen::Absent => Seen::Absent,
            Seen::Unknown(why) => Seen::Unknown(why),
        };
    };
    if directory.contains(['*', '?', '[']) || after.contains(['*', '?', '[']) {
        return Seen::Unknown(format!(
            "containerd imports {}, a pattern that gabion does not follow",
            import.display()
        ));
    }
    match root.texts(directory) {
        Seen::Is(texts) => {
            let meant = |name: &str| {
                name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after)
            };
            let found = texts.into_iter().filter(|(name, _)| meant(name));
            Seen::Is(
                found
                    .map(|(name, text)| (Path::new(directory).join(name), text))
                    .collect(),
            )
        }
        Seen::Absent => Seen::Absent,
        Seen::Unknown(why) => Seen::Unknown(why),
    }
}

/// The shim that a handler names, else the one that a service finds.
pub(super) fn shim(root: &Root, containerd: &Seen<Vec<(PathBuf, String)>>, reader: Reader) -> Seen<Program> {
    if let Seen::Is(files) = containerd
        && let Ok(config) = containerd::read(files.iter().map(|(path, text)| (path.as_path(), text.as_str())))
    {
        let named = config.handlers.iter().filter_map(|handler| handler.shim.as_deref());
        let seen: Vec<_> = named.map(|path| root.program_at(path, reader)).collect();
        // The one that is amiss is the one to tell of.
        if let Some(amiss) = seen.iter().find(|one| !matches!(one, Seen::Is(_))) {
            return amiss.clone();
        }
        if let Some(first) = seen.into_iter().next() {
            return first;
        }
    }
    root.program(containerd::SHIM, reader)
}
