//! Bundles that no containerd made: for what it would never ask of a shim, and for what an older shim left.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{CodedOutputStream, MessageField};
use containerd_shim_protos::shim::shim::CreateTaskRequest;
use containerd_shim_protos::types::mount::Mount;

use super::{Node, SHIM};

/// A mount as a request has it.
pub fn mount(kind: &str, source: &Path, target: &str, options: &[&str]) -> Mount {
    Mount {
        type_: kind.into(),
        source: source.display().to_string(),
        target: target.into(),
        options: options.iter().map(ToString::to_string).collect(),
        ..Mount::default()
    }
}

/// Options by the path of a file.
pub fn config_path(path: &Path) -> Any {
    let mut value = Vec::new();
    let mut out = CodedOutputStream::vec(&mut value);
    out.write_string(2, path.to_str().unwrap()).unwrap();
    out.flush().unwrap();
    drop(out);
    Any {
        type_url: "runtimeoptions.v1.Options".into(),
        value,
        ..Any::default()
    }
}

impl Node {
    /// A bundle for `id` with the configuration of the container `like`, and an empty root file system.
    pub fn bundle(&self, like: &str, id: &str) -> PathBuf {
        let bundle = self.dir.join("bundles").join(id);
        fs::create_dir_all(bundle.join("rootfs")).unwrap();
        let config = fs::read_to_string(self.bundles().join(like).join("config.json")).unwrap();
        fs::write(bundle.join("config.json"), config.replace(like, id)).unwrap();
        bundle
    }

    /// A request to make the container of such a bundle, by this node's own options.
    pub fn create_request(&self, id: &str, bundle: &Path, rootfs: Vec<Mount>) -> CreateTaskRequest {
        CreateTaskRequest {
            id: id.into(),
            bundle: bundle.display().to_string(),
            rootfs,
            options: MessageField::some(config_path(&self.dir.join("options.toml"))),
            ..CreateTaskRequest::default()
        }
    }

    /// What containerd runs when a shim is dead.
    pub fn shim_delete(&self, id: &str, bundle: &Path) -> Output {
        let mut command = Command::new(SHIM);
        command.args(["-namespace", "default", "-address"]).arg(self.socket());
        command.args(["-publish-binary", "", "-id", id, "-bundle"]).arg(bundle);
        command.arg("delete").current_dir(bundle).stdin(Stdio::null());
        command.output().unwrap()
    }
}
