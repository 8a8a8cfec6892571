//! Runtime options: what a containerd handler, or `ctr --runtime-config-path`, says about the runtime to use.

use std::path::{Path, PathBuf};

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{CodedInputStream, Message};
use containerd_shim_protos::shim::oci;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files::{self, Links};

/// More than any sane options file; a bound, since the path is a client's word.
const LIMIT: u64 = 64 * 1024;

/// The options of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// The runtime: an absolute path, or a name on PATH. Unset: `gabion` beside the shim, else on PATH.
    pub binary: Option<PathBuf>,
    /// The runtime's state directory; the namespace is added to it.
    pub root: Option<PathBuf>,
    /// The policy file for gabion.
    pub policy: Option<PathBuf>,
    /// The level for gabion.
    pub level: Option<String>,
    /// Whether systemd makes the cgroups.
    pub systemd_cgroup: bool,
}

impl Options {
    /// Reads the options of a request.
    pub fn from_any(any: Option<&Any>) -> Result<Self> {
        let Some(any) = any.filter(|any| !any.type_url.is_empty()) else {
            return Ok(Self::default());
        };
        // They are kept with the container, for `delete` to read.
        if any.value.len() as u64 > LIMIT {
            return Err(Error::BadRequest("runtime options of more than 64 KiB"));
        }
        match any.type_url.rsplit('/').next().unwrap_or_default() {
            "runtimeoptions.v1.Options" => Self::from_runtime_options(&any.value),
            "containerd.runc.v1.Options" => {
                let this = own_path()?;
                let name = this.file_name().and_then(std::ffi::OsStr::to_str).unwrap_or_default();
                // The file of a program that was upgraded while it ran.
                let name = name.strip_suffix(" (deleted)").unwrap_or(name);
                Self::from_runc(&any.value, Self::of_name(name, Path::new("/etc/gabion"))?)
            }
            other => Err(Error::OptionsType(other.to_owned())),
        }
    }

    /// `runtimeoptions.v1.Options`: a type (1), the path of a file (2), and since containerd 1.7 the file's content itself (3).
    fn from_runtime_options(bytes: &[u8]) -> Result<Self> {
        let mut input = CodedInputStream::from_bytes(bytes);
        let (mut path, mut body) = (PathBuf::new(), Vec::new());
        while let Some(tag) = input.read_raw_tag_or_eof()? {
            match tag {
                0x12 => path = PathBuf::from(input.read_string()?),
                0x1a => body = input.read_bytes()?,
                0x0a => drop(input.read_string()?),
                _ => {
                    return Err(Error::BadRequest(
                        "runtime options hold a field that gabion does not know",
                    ));
                }
            }
        }
        if !body.is_empty() {
            let text = String::from_utf8(body).map_err(|_| Error::BadRequest("runtime options are not UTF-8"))?;
            return Self::parse(&text, None);
        }
        if path.as_os_str().is_empty() {
            return Ok(Self::default());
        }
        // A link is followed: the path stands in containerd's configuration, and only root can say it.
        Self::parse(&files::read_text(&path, Links::Follow, LIMIT)?, Some(path))
    }

    /// What a handler of runc's type says. Of gabion's own options runc's have no policy and no level: those stand in the file of the shim's name.
    fn from_runc(bytes: &[u8], own: Self) -> Result<Self> {
        let runc = oci::Options::parse_from_bytes(bytes)?;
        if runc.no_pivot_root || runc.no_new_keyring {
            return Err(Error::BadRequest(
                "gabion always pivots the root and makes a new session keyring",
            ));
        }
        let path = |text: String| (!text.is_empty()).then(|| PathBuf::from(text));
        Ok(Self {
            binary: path(runc.binary_name).or(own.binary),
            root: path(runc.root).or(own.root),
            systemd_cgroup: runc.systemd_cgroup || own.systemd_cgroup,
            ..own
        })
    }

    /// The options that a shim of this name has of its own: containerd-shim-gabion-v2 has /etc/gabion/containerd.toml, where that is there, and
    /// containerd-shim-gabion-NAME-v2 has /etc/gabion/containerd-NAME.toml.
    fn of_name(name: &str, directory: &Path) -> Result<Self> {
        let handler = name
            .strip_prefix("containerd-shim-gabion-")
            .and_then(|rest| rest.strip_suffix("-v2"));
        let Some(handler) = handler else {
            let path = directory.join("containerd.toml");
            return if path.symlink_metadata().is_ok() {
                Self::parse(&files::read_text(&path, Links::Follow, LIMIT)?, Some(path))
            } else {
                Ok(Self::default())
            };
        };
        let path = directory.join(format!("containerd-{handler}.toml"));
        Self::parse(&files::read_text(&path, Links::Follow, LIMIT)?, Some(path))
    }

    fn parse(text: &str, path: Option<PathBuf>) -> Result<Self> {
        toml::from_str(text).map_err(|source| Error::OptionsToml { path, source })
    }

    /// The runtime's binary: as the options name it, else beside the shim, else by PATH.
    pub fn runtime(&self) -> Result<PathBuf> {
        let why = "the option `binary` is an absolute path or a plain name";
        if let Some(binary) = &self.binary {
            let plain = binary.components().count() == 1;
            if binary.is_absolute() || plain {
                return Ok(binary.clone());
            }
            return Err(Error::BadPath {
                path: binary.clone(),
                why,
            });
        }
        let beside = own_path()?.with_file_name("gabion");
        Ok(if beside.is_file() {
            beside
        } else {
            PathBuf::from("gabion")
        })
    }
}

fn own_path() -> Result<PathBuf> {
    std::fs::read_link("/proc/self/exe").map_err(|error| Error::system("finding the shim's own path", error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use containerd_shim_protos::protobuf::CodedOutputStream;

    fn any(type_url: &str, value: Vec<u8>) -> Any {
        Any {
            type_url: type_url.into(),
            value,
            ..Any::default()
        }
    }

    fn runtime_options(path: &str, body: &str) -> Any {
        let mut value = Vec::new();
        let mut out = CodedOutputStream::vec(&mut value);
        out.write_string(2, path).unwrap();
        out.write_bytes(3, body.as_bytes()).unwrap();
        out.flush().unwrap();
        drop(out);
        any("runtimeoptions.v1.Options", value)
    }

    #[test]
    fn body_wins_over_path_and_unknown_keys_are_refused() {
        let options = Options::from_any(Some(&runtime_options("/nowhere", "level = \"restricted\"\n"))).unwrap();
        assert_eq!(options.level.as_deref(), Some("restricted"));
        assert!(matches!(
            Options::from_any(Some(&runtime_options("", "levle = 1"))),
            Err(Error::OptionsToml { path: None, .. })
        ));
        assert!(matches!(
            Options::from_any(Some(&runtime_options("/nowhere", ""))),
            Err(Error::System { .. })
        ));
    }

    #[test]
    fn options_in_the_request_are_bounded_as_a_file_is() {
        let length = |length: usize| {
            let text = format!("#{}", "x".repeat(length));
            Options::from_any(Some(&runtime_options("", &text)))
        };
        assert_eq!(length(60 << 10).unwrap(), Options::default());
        assert!(matches!(length(64 << 10), Err(Error::BadRequest(_))));
    }

    #[test]
    fn absent_options_are_the_default_and_foreign_ones_an_error() {
        assert_eq!(Options::from_any(None).unwrap(), Options::default());
        assert!(
            matches!(Options::from_any(Some(&any("x/y.Z", vec![]))), Err(Error::OptionsType(name)) if name == "y.Z")
        );
    }

    #[test]
    fn runc_options_are_understood() {
        let runc = oci::Options {
            binary_name: "crun".into(),
            systemd_cgroup: true,
            ..oci::Options::default()
        };
        let options =
            Options::from_any(Some(&any("containerd.runc.v1.Options", runc.write_to_bytes().unwrap()))).unwrap();
        assert_eq!(options.binary, Some("crun".into()));
        assert!(options.systemd_cgroup);
    }

    #[test]
    fn the_shim_s_name_says_what_runc_s_options_cannot() {
        let dir = std::env::temp_dir().join(format!("gabion-shim-name-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let of = |name: &str| Options::of_name(name, &dir);
        let (plain, named) = ("containerd-shim-gabion-v2", "containerd-shim-gabion-restricted-v2");
        assert_eq!(of(plain).unwrap(), Options::default());
        // Without its file nothing says what the name means.
        assert!(of(named).is_err());
        std::fs::write(dir.join("containerd.toml"), "systemd_cgroup = true\n").unwrap();
        std::fs::write(
            dir.join("containerd-restricted.toml"),
            "level = \"restricted\"\nroot = \"/a\"\n",
        )
        .unwrap();
        assert!(of(plain).unwrap().systemd_cgroup);
        let runc = oci::Options {
            root: "/b".into(),
            ..oci::Options::default()
        };
        let options = Options::from_runc(&runc.write_to_bytes().unwrap(), of(named).unwrap()).unwrap();
        assert_eq!(options.level.as_deref(), Some("restricted"));
        assert_eq!(options.root, Some("/b".into()));
        std::fs::write(dir.join("containerd.toml"), "levle = 1\n").unwrap();
        assert!(matches!(of(plain), Err(Error::OptionsToml { .. })));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_fifo_in_the_place_of_options_is_an_error_at_once() {
        let fifo = std::env::temp_dir().join(format!("gabion-shim-config-{}", std::process::id()));
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        // In a thread: where it waits, the test must not.
        let (send, receive) = std::sync::mpsc::channel();
        let path = fifo.clone();
        std::thread::spawn(move || {
            let options = Options::from_any(Some(&runtime_options(path.to_str().unwrap(), "")));
            send.send(options.map_err(|error| error.to_string())).unwrap();
        });
        let options = receive.recv_timeout(std::time::Duration::from_secs(10));
        std::fs::remove_file(&fifo).unwrap();
        let said = options.expect("it waits for a writer").unwrap_err();
        assert!(said.ends_with("not a regular file"), "{said}");
    }
}
