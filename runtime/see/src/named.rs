//! What engines call containers: the bundle's own word, and the files in which Docker and podman have the rest.
//!
//! For people alone. A file that others than its engine could have written is passed over, and so is one that cannot be read: then a container
//! has its id, as before.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gabion_core::engines;
pub use gabion_core::named::{Engine, InPod, Named, Shown};
use gabion_core::named::{Source, storage_list};
use oci_spec::runtime::Spec;

use crate::state::Record;
use crate::vetted::{self, Kind, Links, Owner, Rules};

/// An engine's own file. In a user namespace the host's root shows as the overflow uid.
const RULES: Rules = Rules {
    kind: Kind::File,
    owner: Owner::CallerRootOrUnmapped,
    forbidden: 0o022,
    largest: 16 << 20,
    links: Links::Refuse,
};

/// Where Docker has its data unless it was told otherwise.
const DOCKERS_ROOT: &str = "/var/lib/docker";

/// The name and the image of each container of one list.
type List = BTreeMap<String, (Option<Shown>, Option<Shown>)>;

/// Gives containers their names. It reads each list of an engine once, so that one serves for all containers of a listing.
#[derive(Debug, Default)]
pub struct Names {
    lists: BTreeMap<PathBuf, List>,
}

impl Names {
    /// Gives what the engine calls a container of gabion's.
    pub fn of_record(&mut self, record: &Record) -> Option<Named> {
        self.of(record.id.as_str(), &record.bundle, record.hardened.spec())
    }

    /// Gives what the engine calls a container; None where no engine is known to have made it.
    pub fn of(&mut self, id: &str, bundle: &Path, spec: &Spec) -> Option<Named> {
        let (mut named, source) = Named::of(id, bundle, spec)?;
        match source {
            Source::None => {}
            Source::Dockers(dirs) => told_by_docker(&mut named, id, dirs),
            Source::Storage(lists) => {
                let told = lists.into_iter().find_map(|list| self.list(list).get(id).cloned());
                (named.name, named.image) = told.unwrap_or_default();
            }
        }
        Some(named)
    }

    fn list(&mut self, path: PathBuf) -> &List {
        self.lists.entry(path).or_insert_with_key(|path| {
            let all = read(path).map(|text| storage_list(&text)).unwrap_or_default();
            all.into_iter().map(|(id, name, image)| (id, (name, image))).collect()
        })
    }
}

/// Looks where the container's own files lie, then where Docker is configured to have them.
fn told_by_docker(named: &mut Named, id: &str, mut dirs: Vec<PathBuf>) {
    let configured = dockers_places().into_iter().chain([DOCKERS_ROOT.into()]);
    dirs.extend(configured.map(|root| root.join("containers")));
    for dir in dirs {
        if let Some(text) = read(&dir.join(id).join("config.v2.json")) {
            named.told_by_docker(id, &text);
            return;
        }
    }
}

/// Gives the directories that Docker's configuration names.
pub(crate) fn dockers_places() -> Vec<PathBuf> {
    let rules = Rules {
        links: Links::Follow,
        ..RULES
    };
    let file = engines::docker();
    let text = vetted::open(Path::new(file.path), &rules).and_then(|open| vetted::read(open, &rules));
    let text = text.ok().and_then(|text| String::from_utf8(text).ok());
    text.map(|text| file.places(&text)).unwrap_or_default()
}

fn read(path: &Path) -> Option<Vec<u8>> {
    vetted::open(path, &RULES)
        .and_then(|file| vetted::read(file, &RULES))
        .ok()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use serde_json::json;

    use super::*;

    const ID: &str = "4f5c1b2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d";

    struct Host(PathBuf);

    impl Host {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("gabion-named-{}-{name}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }

        fn write(&self, path: &str, text: &str) -> PathBuf {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            path
        }

        fn docker(&self) -> Option<String> {
            let hostname = self.0.join("containers").join(ID).join("hostname");
            let spec = json!({"ociVersion": "1.0.2", "mounts": [{"destination": "/etc/hostname", "source": hostname}]});
            let bundle = format!("/run/containerd/io.containerd.runtime.v2.task/moby/{ID}");
            let spec: Spec = serde_json::from_value(spec).unwrap();
            let named = Names::default().of(ID, Path::new(&bundle), &spec).unwrap();
            assert_eq!(named.engine, Engine::Docker);
            named.name.map(|name| name.to_string())
        }
    }

    impl Drop for Host {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn dockers_file_is_read_where_nobody_else_can_have_written_it() {
        let host = Host::new("docker");
        let place = format!("containers/{ID}/config.v2.json");
        let text = json!({"ID": ID, "Name": "/web", "Config": {"Image": "busybox"}}).to_string();
        let file = host.write(&place, &text);
        assert_eq!(host.docker().as_deref(), Some("web"));
        fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
        assert_eq!(host.docker(), None);
        let other = host.write("other", &text);
        fs::remove_file(&file).unwrap();
        symlink(other, &file).unwrap();
        assert_eq!(host.docker(), None);
        fs::remove_file(&file).unwrap();
        nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(host.docker(), None);
    }

    #[test]
    fn podmans_list_is_read_once_for_all() {
        let host = Host::new("podman");
        let list = host.write(
            "overlay-containers/volatile-containers.json",
            &json!([{"id": "a", "names": ["web"]}, {"id": "b", "names": ["db"]}]).to_string(),
        );
        let mut names = Names::default();
        let spec: Spec = serde_json::from_value(json!({"ociVersion": "1.0.2"})).unwrap();
        let mut name = |id: &str| {
            let bundle = host.0.join("overlay-containers").join(id).join("userdata");
            let named = names.of(id, &bundle, &spec).unwrap();
            named.name.map(|name| name.to_string())
        };
        assert_eq!(name("a").as_deref(), Some("web"));
        fs::remove_file(list).unwrap();
        assert_eq!(name("b").as_deref(), Some("db"));
        assert_eq!(name("c"), None);
    }
}
