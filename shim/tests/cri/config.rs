//! A node's settings: its network, containerd's handlers, gabion's policy.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::common::image;

/// The name of a bridge that no other test has.
pub fn bridge(dir: &Path) -> String {
    format!("gb{}", &dir.to_str().unwrap()["/tmp/gst-".len()..])
}

/// One network for pods: a bridge that is connected to nothing.
pub fn write_network(dir: &Path) {
    let network = json!({ "cniVersion": "0.4.0", "name": "net", "plugins": [{
        "type": "bridge", "bridge": bridge(dir),
        "ipam": { "type": "host-local", "subnet": "10.97.0.0/24", "dataDir": dir.join("ipam") },
    }] });
    fs::create_dir(dir.join("cni")).unwrap();
    fs::write(dir.join("cni/net.conflist"), network.to_string()).unwrap();
}

/// What containerd needs to know, with the handlers `gabion` (the default one) and `gabion-restricted`.
pub fn containerd(dir: &Path, annotations: &str) -> String {
    let pause = image::PAUSE;
    let dir = dir.display();
    let handler = |name: &str, options: &str| {
        let table = format!("[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.{name}");
        format!(
            "{table}]\nruntime_type = \"io.containerd.gabion.v2\"\npod_annotations = {annotations}\n\
             container_annotations = {annotations}\n\
             {table}.options]\nConfigPath = \"{dir}/{options}\"\n"
        )
    };
    format!(
        "[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"{pause}\"\nstream_server_address = \"127.0.0.1\"\n\
         stream_server_port = \"0\"\nnetns_mounts_under_state_dir = true\nrestrict_oom_score_adj = true\n\
         [plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"/usr/lib/cni\"\nconf_dir = \"{dir}/cni\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd]\ndefault_runtime_name = \"gabion\"\n{}{}",
        handler("gabion", "options.toml"),
        handler("gabion-restricted", "restricted.toml")
    )
}

/// A handler whose options stand in containerd's own configuration (1.7 and later), instead of in a file that it names.
pub fn inline_handler(dir: &Path, name: &str, level: &str) -> String {
    let table = format!("[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.{name}");
    let options = super::common::settings::options(dir, &super::common::runtime());
    format!(
        "{table}]\nruntime_type = \"io.containerd.gabion.v2\"\npod_annotations = [\"dev.gabion.*\"]\n\
         {table}.options]\n{options}{level}\n"
    )
}

/// The policy of a node whose directories lie where this test's do.
pub fn policy(dir: &Path, text: &str) -> String {
    let dir = dir.display();
    format!(
        "{text}\n[mounts]\nkubelet_root = \"{dir}/kubelet\"\n\
         containerd_root = \"{dir}/root\"\ncontainerd_state = \"{dir}/state\"\n"
    )
}
