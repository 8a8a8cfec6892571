//! This host's CDI files, and what they name that a request has.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::fs::Metadata;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use gabion_core::caller::{OwnUserNs, Reader};
use gabion_core::cdi::{Cdi, DIRECTORIES, File, Way, parse};
use gabion_core::host::{Above, FileKind};
use gabion_core::policy::Policy;
use gabion_core::request::Request;

use super::{files, hooks};
use crate::caller::reader;
use crate::vetted::{self, DIRECTORY, FILES, Fault, Owner, Rules};

/// How many files are read of a directory, and how large one may be. A machine has one a vendor; one of eight cards, each in seven parts, is 200 kB.
const MOST: usize = 64;
const LARGEST: u64 = 2 << 20;

/// The overflow uid: the host's root, seen from inside a user namespace.
const UNMAPPED: u32 = 65534;

/// More links than any path has.
const MOST_LINKS: usize = 40;

/// Reads the files, where there may be something for them to vouch for.
pub(super) fn look(request: &Request, policy: &Policy) -> Cdi {
    if !is_needed(request, policy) {
        return Cdi::default();
    }
    look_in(&DIRECTORIES.map(Path::new), request)
}

/// Every container has mounts; devices of its own and hooks few have.
fn is_needed(request: &Request, policy: &Policy) -> bool {
    let kinds = policy
        .exceptions
        .iter()
        .map(|e| &e.cdi.allow)
        .chain([&policy.cdi.allow]);
    let named = kinds.into_iter().any(|kinds| !kinds.is_empty());
    let linux = request.spec.linux().as_ref();
    let devices = linux
        .and_then(|l| l.devices().as_ref())
        .is_some_and(|list| !list.is_empty());
    named || devices || hooks::paths(request).next().is_some()
}

fn look_in(directories: &[&Path], request: &Request) -> Cdi {
    let mut cdi = Cdi::default();
    for directory in directories {
        read_all(directory, &mut cdi.files);
    }
    let (mut nodes, mut ways) = (BTreeMap::new(), BTreeMap::new());
    let mounts = request.spec.mounts().iter().flatten();
    let mut asked: Vec<&Path> = mounts.filter_map(|mount| mount.source().as_deref()).collect();
    asked.extend(hooks::paths(request).map(PathBuf::as_path));
    for (_, _, _, edits) in cdi.each() {
        for node in edits.device_nodes.iter().filter(|node| node.is_left_to_the_host()) {
            let kind = || node.on_host().symlink_metadata().map(|meta| files::kind(&meta));
            nodes.extend(kind().ok().map(|kind: FileKind| (node.on_host().to_owned(), kind)));
        }
        let named = edits.mounts.iter().map(|mount| &mount.host_path);
        for path in named.chain(edits.hooks.iter().map(|hook| &hook.path)) {
            if asked.contains(&path.as_path()) && !ways.contains_key(path) {
                ways.extend(way(path).map(|way| (path.clone(), way)));
            }
        }
    }
    Cdi { nodes, ways, ..cdi }
}

/// Files that only root can have written: also where root has no number here.
fn rules(rules: Rules, largest: u64) -> Rules {
    Rules {
        owner: match reader().user_ns {
            OwnUserNs::Nested => Owner::CallerRootOrUnmapped,
            OwnUserNs::Initial => rules.owner,
        },
        largest,
        ..rules
    }
}

/// Reads each file of one directory, in the order of their names.
fn read_all(directory: &Path, files: &mut Vec<File>) {
    let unbelieved = |why: String| File {
        path: directory.to_owned(),
        says: Err(why),
    };
    let dir = match vetted::open(directory, &rules(DIRECTORY, 0)) {
        Ok(dir) => dir,
        Err(Fault::Missing) => return,
        Err(fault) => return files.push(unbelieved(fault.to_string())),
    };
    let entries = match std::fs::read_dir(format!("/proc/self/fd/{}", dir.as_raw_fd())) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.file_name())),
        Err(error) => return files.push(unbelieved(error.to_string())),
    };
    let mut names = Vec::new();
    for name in entries {
        match name.map(OsString::into_string) {
            Ok(Ok(name)) if is_spec(&name) && names.len() == MOST => {
                return files.push(unbelieved(format!("it has more than {MOST} files")));
            }
            Ok(Ok(name)) if is_spec(&name) => names.push(name),
            Ok(_) => {}
            Err(error) => return files.push(unbelieved(error.to_string())),
        }
    }
    names.sort();
    files.extend(names.into_iter().map(|name| {
        let text = vetted::read_at(&dir.as_fd(), &name, &rules(FILES, LARGEST));
        File {
            path: directory.join(&name),
            says: text.map_err(|fault| fault.to_string()).and_then(|text| parse(&text)),
        }
    }));
}

/// As the library of the engines knows its files: by these endings and no other.
fn is_spec(name: &str) -> bool {
    let path = Path::new(name);
    path.extension().is_some_and(|end| end == "json" || end == "yaml")
}

/// Follows a path by its links, of which each must be root's and lie where only root can exchange it.
fn way(path: &Path) -> Option<Way> {
    if !path.is_absolute() {
        return None;
    }
    let parts = |path: &Path| -> Vec<OsString> {
        let named = path
            .components()
            .filter(|c| matches!(c, Component::Normal(_) | Component::ParentDir));
        named.map(|c| c.as_os_str().to_owned()).collect()
    };
    let mut left: VecDeque<OsString> = parts(path).into();
    let (mut at, mut links) = (PathBuf::from("/"), 0);
    let mut closed = is_closed(&at.symlink_metadata().ok()?);
    while let Some(part) = left.pop_front() {
        if part == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&part);
        let meta = next.symlink_metadata().ok()?;
        if meta.is_symlink() {
            links += 1;
            if !closed || !is_roots(&meta) || links > MOST_LINKS {
                return None;
            }
            let target = next.read_link().ok()?;
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            for part in parts(&target).into_iter().rev() {
                left.push_front(part);
            }
            continue;
        }
        if meta.is_dir() {
            closed = closed && is_closed(&meta);
        }
        at = next;
    }
    Some(Way {
        leads: at,
        above: if closed { Above::Closed } else { Above::Open },
    })
}

fn is_roots(meta: &Metadata) -> bool {
    let Reader { euid, user_ns } = reader();
    meta.uid() == 0 || meta.uid() == euid || (user_ns == OwnUserNs::Nested && meta.uid() == UNMAPPED)
}

/// Whether only root can exchange what is in a directory: in a sticky one nobody can exchange what is another's.
fn is_closed(meta: &Metadata) -> bool {
    is_roots(meta) && (meta.mode() & 0o022 == 0 || meta.mode() & 0o1000 != 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    const JSON: &str = r#"{"cdiVersion":"0.6.0","kind":"vendor.com/x","devices":[{"name":"0","containerEdits":{
        "deviceNodes":[{"path":"/dev/v0","hostPath":"/dev/null"}],"mounts":[{"hostPath":"HERE/link","containerPath":"/lib"}]}}]}"#;

    fn directory(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("gabion-cdi-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        dir
    }

    fn request(source: &Path) -> Request {
        let text = format!(
            r#"{{"ociVersion":"1.0.2","root":{{"path":"rootfs"}},"process":{{"user":{{"uid":0,"gid":0}},"args":["sh"],"cwd":"/"}},
                "mounts":[{{"destination":"/lib","source":"{}","options":["bind"]}}]}}"#,
            source.display()
        );
        crate::bundle::from_reader("c".parse().unwrap(), Path::new("/tmp"), text.as_bytes(), Path::new("t")).unwrap()
    }

    #[test]
    fn files_are_read_and_what_they_leave_open_is_looked_up() {
        let dir = directory("read");
        let link = dir.join("link");
        symlink("/usr/..//etc/hosts", &link).unwrap();
        std::fs::write(dir.join("a.json"), JSON.replace("HERE", dir.to_str().unwrap())).unwrap();
        std::fs::write(dir.join("b.yaml"), "kind: vendor.com/y\n").unwrap();
        std::fs::write(dir.join("c.conf"), "no file of CDI's").unwrap();
        let cdi = look_in(&[&dir, Path::new("/nowhere")], &request(&link));
        let kinds: Vec<&str> = cdi
            .files
            .iter()
            .map(|f| f.says.as_ref().unwrap().kind.as_str())
            .collect();
        assert_eq!(kinds, ["vendor.com/x", "vendor.com/y"]);
        assert_eq!(cdi.nodes[Path::new("/dev/null")], FileKind::CharDevice(1, 3));
        assert!(cdi.leads_to(&link, &std::fs::canonicalize("/etc/hosts").unwrap()));
        assert!(!cdi.leads_to(&link, Path::new("/etc/shadow")));
        // What this spec does not have is not followed.
        assert!(look_in(&[&dir], &request(Path::new("/x"))).ways.is_empty());
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_file_that_others_may_have_written_is_not_believed() {
        let dir = directory("others");
        let file = dir.join("a.json");
        let why = |change: &dyn Fn()| {
            std::fs::write(&file, JSON).unwrap();
            change();
            let found = look_in(&[&dir], &request(Path::new("/x"))).files;
            std::fs::remove_file(&file).unwrap();
            std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
            found[0].says.clone().err().unwrap_or_default()
        };
        let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(why(&|| {}), "");
        assert!(why(&|| mode(&file, 0o664)).contains("others can write to it"));
        assert!(why(&|| mode(&dir, 0o777)).contains("others can write to it"));
        assert!(why(&|| std::fs::write(&file, vec![b' '; (2 << 20) + 1]).unwrap()).contains("larger than"));
        assert!(why(&|| std::fs::write(&file, "{").unwrap()).contains("EOF"));
        let aside = directory("aside").join("b.json");
        assert!(
            why(&|| std::fs::rename(&file, &aside)
                .and_then(|()| symlink(&aside, &file))
                .unwrap())
            .contains("link")
        );
        if nix::unistd::geteuid().is_root() {
            let owner = Some(nix::unistd::Uid::from_raw(1234));
            assert!(why(&|| nix::unistd::chown(&file, owner, None).unwrap()).contains("uid 1234"));
            assert!(why(&|| nix::unistd::chown(&dir, owner, None).unwrap()).contains("uid 1234"));
        }
        std::fs::remove_dir_all(aside.parent().unwrap()).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_link_where_others_write_leads_nowhere() {
        let dir = directory("way");
        let open = dir.join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::write(open.join("file"), "").unwrap();
        symlink("file", open.join("link")).unwrap();
        let led = |path: &Path| way(path).map(|way| (way.leads, way.above));
        let file = open.join("file");
        assert_eq!(led(&open.join("link")), Some((file.clone(), Above::Closed)));
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(led(&open.join("link")), None);
        assert_eq!(led(&file), Some((file.clone(), Above::Open)));
        assert_eq!(led(Path::new("relative")), None);
        symlink("ring", dir.join("ring")).unwrap();
        assert_eq!(led(&dir.join("ring")), None);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
