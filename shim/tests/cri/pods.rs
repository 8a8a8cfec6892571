//! Pods and containers as the kubelet asks for them.

use std::path::Path;

use serde_json::{Value, json};

use super::common::IMAGE;

/// A pod's configuration as the kubelet sends it.
#[derive(Clone)]
pub struct Pod {
    pub uid: String,
    pub config: Value,
}

/// A container's configuration as the kubelet sends it.
#[derive(Clone)]
pub struct Config(pub Value);

/// Sets what `pointer` names, making the objects on the way.
fn set(value: &mut Value, pointer: &str, new: Value) {
    let mut place = value;
    for part in pointer.trim_start_matches('/').split('/') {
        place = &mut place[part];
    }
    *place = new;
}

impl Pod {
    #[must_use]
    pub fn with(mut self, pointer: &str, value: Value) -> Self {
        set(&mut self.config, pointer, value);
        self
    }
}

impl Pod {
    /// hostNetwork: true. Such a pod has the node's name.
    #[must_use]
    pub fn host_network(self) -> Self {
        self.with("/hostname", json!(""))
            .with("/linux/security_context/namespace_options/network", json!("NODE"))
    }
}

impl Config {
    /// A container that runs `program`, as a pod's manifest would have it that says nothing else.
    pub fn new(name: &str, program: &[&str]) -> Self {
        Self(json!({
            "metadata": { "name": name }, "image": { "image": IMAGE }, "command": program,
            "log_path": format!("{name}.log"),
            "linux": { "security_context": {
                "namespace_options": { "pid": "CONTAINER" }, "seccomp": { "profile_type": "RuntimeDefault" },
                "masked_paths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                                 "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"],
                "readonly_paths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            } },
        }))
    }

    pub fn sleeper(name: &str) -> Self {
        Self::new(name, &["sleep", "1000"])
    }

    #[must_use]
    pub fn with(mut self, pointer: &str, value: Value) -> Self {
        set(&mut self.0, pointer, value);
        self
    }

    /// A key of the security context.
    #[must_use]
    pub fn security(self, key: &str, value: Value) -> Self {
        self.with(&format!("/linux/security_context/{key}"), value)
    }

    #[must_use]
    pub fn mount(mut self, host: &Path, container: &str, readonly: bool) -> Self {
        let mount = json!({ "host_path": host, "container_path": container, "readonly": readonly });
        let mounts = self.0.as_object_mut().unwrap().entry("mounts").or_insert(json!([]));
        mounts.as_array_mut().unwrap().push(mount);
        self
    }
}
