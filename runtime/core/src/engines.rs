//! Where engines keep what they have, and where they listen, as their own configuration says.
//!
//! Their usual places are known by name ([`crate::control`]); an operator may have chosen others.

use std::path::{Component, Path, PathBuf};

/// A configuration file of an engine, and how it is read.
#[derive(Clone, Copy, Debug)]
pub struct File {
    pub path: &'static str,
    form: Form,
    /// Keys that name a directory or a socket.
    keys: &'static [&'static [&'static str]],
}

#[derive(Clone, Copy, Debug)]
enum Form {
    Json,
    Toml,
}

/// The files, where distributions have them.
pub static FILES: [File; 6] = [
    File {
        path: "/etc/docker/daemon.json",
        form: Form::Json,
        keys: &[&["data-root"], &["graph"], &["exec-root"], &["hosts"], &["containerd"]],
    },
    File {
        path: "/etc/containerd/config.toml",
        form: Form::Toml,
        keys: &[
            &["root"],
            &["state"],
            &["grpc", "address"],
            &["ttrpc", "address"],
            &["debug", "address"],
        ],
    },
    File {
        path: "/etc/containers/storage.conf",
        form: Form::Toml,
        keys: &[&["storage", "graphroot"], &["storage", "runroot"]],
    },
    File {
        path: "/etc/containers/containers.conf",
        form: Form::Toml,
        keys: &[&["engine", "static_dir"], &["engine", "tmp_dir"]],
    },
    File {
        path: "/etc/crio/crio.conf",
        form: Form::Toml,
        keys: &[&["crio", "root"], &["crio", "runroot"], &["crio", "api", "listen"]],
    },
    File {
        path: "/etc/buildkit/buildkitd.toml",
        form: Form::Toml,
        keys: &[&["root"], &["grpc", "address"]],
    },
];

/// Gives the file that dockerd reads.
pub fn docker() -> &'static File {
    &FILES[0]
}

impl File {
    /// Reads the places off a file's text. What the engine itself could not read names none.
    pub fn places(&self, text: &str) -> Vec<PathBuf> {
        let root = match self.form {
            Form::Json => serde_json::from_str(text).ok(),
            Form::Toml => toml::from_str::<serde_json::Value>(text).ok(),
        };
        let Some(root) = root else { return Vec::new() };
        let values = self
            .keys
            .iter()
            .filter_map(|keys| keys.iter().try_fold(&root, |at, key| at.get(key)));
        let texts = values.flat_map(|value| match value {
            serde_json::Value::Array(all) => all.iter().collect(),
            one => vec![one],
        });
        texts.filter_map(|text| place(text.as_str()?)).collect()
    }
}

/// A path, or the path of a socket's address.
fn place(text: &str) -> Option<PathBuf> {
    let path = Path::new(text.strip_prefix("unix://").unwrap_or(text));
    let named = path.components().any(|part| matches!(part, Component::Normal(_)));
    let climbs = path.components().any(|part| part == Component::ParentDir);
    (path.is_absolute() && named && !climbs).then(|| path.to_owned())
}

/// Gives the state of the containerd that made a bundle: `<state>/io.containerd.runtime.v2.task/<namespace>/<id>`.
pub fn containerd_of(bundle: &Path) -> Option<&Path> {
    let tasks = bundle.parent()?.parent()?;
    let name = tasks.file_name()?.to_str()?;
    let state = tasks.parent()?;
    (name.starts_with("io.containerd.runtime.v") && state != Path::new("/")).then_some(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(path: &str, text: &str) -> Vec<PathBuf> {
        FILES
            .iter()
            .filter(|file| file.path == path)
            .flat_map(|file| file.places(text))
            .collect()
    }

    #[test]
    fn what_an_engine_is_told_is_known() {
        let docker = r#"{"data-root": "/srv/d", "hosts": ["unix:///srv/run/d.sock", "fd://", "tcp://127.0.0.1:1"], "exec-root": "/srv/e"}"#;
        let expected = ["/srv/d", "/srv/e", "/srv/run/d.sock"].map(PathBuf::from);
        assert_eq!(places("/etc/docker/daemon.json", docker), expected);
        let containerd = "version = 2\nroot = \"/c\"\n[grpc]\naddress = \"/c/sock\"\n";
        assert_eq!(
            places("/etc/containerd/config.toml", containerd),
            ["/c", "/c/sock"].map(PathBuf::from)
        );
        let storage = "[storage]\ndriver = \"overlay\"\ngraphroot = \"/g\"\n";
        assert_eq!(places("/etc/containers/storage.conf", storage), [PathBuf::from("/g")]);
        let crio = "[crio]\nroot = \"/o\"\n[crio.api]\nlisten = \"/o/sock\"\n";
        assert_eq!(
            places("/etc/crio/crio.conf", crio),
            ["/o", "/o/sock"].map(PathBuf::from)
        );
    }

    #[test]
    fn what_is_no_place_is_none() {
        for text in [
            "",
            "{",
            "[]",
            r#"{"data-root": 1}"#,
            r#"{"data-root": "/"}"#,
            r#"{"data-root": "d"}"#,
            r#"{"hosts": "/a/.."}"#,
        ] {
            assert!(places("/etc/docker/daemon.json", text).is_empty(), "{text}");
        }
    }

    #[test]
    fn a_bundle_tells_its_containerd() {
        let of = |path: &'static str| containerd_of(Path::new(path));
        let task = "/run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby/x";
        assert_eq!(of(task), Some(Path::new("/run/docker/containerd/daemon")));
        for other in ["/srv/moby/x", "/io.containerd.runtime.v2.task/moby/x", "/"] {
            assert_eq!(of(other), None);
        }
    }
}
