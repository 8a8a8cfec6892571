//! A config.json that asks for no hardening, as an engine would write it, and edits to it.

use serde_json::{Value, json};

/// What docker, podman and containerd give a container that asks for nothing.
pub const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// config.json as a value: tests write what no type would let them.
#[derive(Debug, Clone)]
pub struct Config(pub Value);

impl Config {
    /// Writable root, 14 capabilities, no seccomp, no masked paths, no `no_new_privs`.
    pub fn unhardened(cgroup: &str) -> Self {
        let namespaces = ["pid", "network", "ipc", "uts", "mount"].map(|kind| json!({ "type": kind }));
        let mut config = Self(json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false,
                "user": { "uid": 0, "gid": 0 },
                "args": ["/usr/bin/probe", "sleep"],
                "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
                "cwd": "/",
                "noNewPrivileges": false
            },
            "root": { "path": "rootfs", "readonly": false },
            "hostname": "gabion-it",
            "mounts": standard_mounts(),
            "linux": {
                "cgroupsPath": cgroup,
                "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
                "namespaces": namespaces
            }
        }));
        config.capabilities(&DEFAULT_CAPABILITIES);
        config
    }

    /// Sets what a JSON pointer names, making objects on the way.
    pub fn set(&mut self, pointer: &str, value: Value) -> &mut Self {
        let mut at = &mut self.0;
        for key in pointer.trim_start_matches('/').split('/') {
            at = match at {
                Value::Array(items) => &mut items[key.parse::<usize>().expect("an index")],
                other => &mut other[key],
            };
        }
        *at = value;
        self
    }

    /// Appends to the array that a JSON pointer names, making it where it is not there.
    pub fn push(&mut self, pointer: &str, value: Value) -> &mut Self {
        if !self.0.pointer(pointer).is_some_and(Value::is_array) {
            self.set(pointer, json!([]));
        }
        self.0
            .pointer_mut(pointer)
            .and_then(Value::as_array_mut)
            .expect("an array")
            .push(value);
        self
    }

    /// Takes a key away.
    pub fn remove(&mut self, pointer: &str) -> &mut Self {
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        if let Some(object) = self.0.pointer_mut(parent).and_then(Value::as_object_mut) {
            object.remove(key);
        }
        self
    }

    pub fn args(&mut self, args: &[&str]) -> &mut Self {
        self.set("/process/args", json!(args))
    }

    /// The probe as the workload.
    pub fn acts(&mut self, acts: &[&str]) -> &mut Self {
        let args: Vec<&str> = std::iter::once("/usr/bin/probe").chain(acts.iter().copied()).collect();
        self.args(&args)
    }

    pub fn user(&mut self, uid: u32) -> &mut Self {
        self.set("/process/user", json!({ "uid": uid, "gid": uid }))
    }

    /// Bounding, permitted and effective, as engines write them for root.
    pub fn capabilities(&mut self, names: &[&str]) -> &mut Self {
        self.set(
            "/process/capabilities",
            json!({ "bounding": names, "effective": names, "permitted": names }),
        )
    }

    /// One more than the default 14.
    pub fn add_capability(&mut self, name: &str) -> &mut Self {
        for set in ["bounding", "effective", "permitted"] {
            self.push(&format!("/process/capabilities/{set}"), json!(name));
        }
        self
    }

    pub fn mount(&mut self, destination: &str, kind: &str, source: &str, options: &[&str]) -> &mut Self {
        let mount = json!({ "destination": destination, "type": kind, "source": source, "options": options });
        self.push("/mounts", mount)
    }

    pub fn bind(&mut self, source: &str, destination: &str, options: &[&str]) -> &mut Self {
        let options: Vec<&str> = std::iter::once("rbind").chain(options.iter().copied()).collect();
        self.mount(destination, "bind", source, &options)
    }

    /// Replaces the options of one of the standard mounts.
    pub fn mount_options(&mut self, destination: &str, options: &[&str]) -> &mut Self {
        let mounts = self.0["mounts"].as_array_mut().expect("mounts");
        let found = mounts
            .iter_mut()
            .find(|mount| mount["destination"] == destination)
            .expect("that mount");
        found["options"] = json!(options);
        self
    }

    pub fn without_mount(&mut self, destination: &str) -> &mut Self {
        self.0["mounts"]
            .as_array_mut()
            .expect("mounts")
            .retain(|mount| mount["destination"] != destination);
        self
    }

    pub fn without_namespace(&mut self, kind: &str) -> &mut Self {
        let list = self.0["linux"]["namespaces"].as_array_mut().expect("namespaces");
        list.retain(|namespace| namespace["type"] != kind);
        self
    }

    pub fn namespace_path(&mut self, kind: &str, path: &str) -> &mut Self {
        self.without_namespace(kind)
            .push("/linux/namespaces", json!({ "type": kind, "path": path }))
    }

    /// A new user namespace, with the ids from 100000 and 200000 on.
    pub fn user_namespace(&mut self, size: u32) -> &mut Self {
        let from = |host: u32| json!([{ "containerID": 0, "hostID": host, "size": size }]);
        self.push("/linux/namespaces", json!({ "type": "user" }))
            .set("/linux/uidMappings", from(100_000))
            .set("/linux/gidMappings", from(200_000))
    }

    pub fn annotation(&mut self, key: &str, value: &str) -> &mut Self {
        if !self.0["annotations"].is_object() {
            self.0["annotations"] = json!({});
        }
        self.0["annotations"][key] = json!(value);
        self
    }
}

fn standard_mounts() -> Value {
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": source, "options": options });
    let private = ["nosuid", "noexec", "nodev"];
    json!([
        mount("/proc", "proc", "proc", &private),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"]
        ),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
        ),
        mount(
            "/dev/shm",
            "tmpfs",
            "shm",
            &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &private),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime", "ro"]
        ),
    ])
}
