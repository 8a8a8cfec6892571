//! The bundle that the runtime is given, and the calls of the runtime.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use gabion_core::control::holes::ANNOTATION;
use gabion_core::learn::{Denied, Executable, Loosening, ready, watch};
use gabion_core::request::{CalledAs, normalize};
use gabion_core::size::Size;
use gabion_see::error::{Error, Result};
use gabion_see::seccomp;
use serde_json::{Value, json};

use super::super::stage::Round;
use super::{Asked, Prepared, owned};

const LOW_PORTS: &str = "net.ipv4.ip_unprivileged_port_start";

/// The architectures whose programs this machine may run.
pub(crate) const ARCHITECTURES: [&str; 2] = if cfg!(target_arch = "aarch64") {
    ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
} else {
    ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
};

/// Makes the config.json: the one asked for, on the round's root, watched.
pub(super) fn config(prepared: &Prepared, round: &Round, socket: &Path, asked: &Asked<'_>) -> Value {
    let mut config = prepared.config.clone();
    config["root"]["path"] = round.root().display().to_string().into();
    absolute_sources(&mut config, &prepared.bundle);
    // The bundle's own may be in use by the container that it was made for.
    if let Some(linux) = config["linux"].as_object_mut() {
        linux.remove("cgroupsPath");
    }
    match asked {
        Asked::Learn(needed) => {
            // It would raise the level.
            if let Some(all) = config["annotations"].as_object_mut() {
                all.remove("dev.gabion.level");
            }
            for denied in *needed {
                match denied {
                    Denied::Port(_) => config["linux"]["sysctl"][LOW_PORTS] = "0".into(),
                    Denied::Capability { name, .. } => add_capability(&mut config, name),
                    _ => {}
                }
            }
        }
        Asked::Prove(needs) => apply(&mut config, needs),
    }
    let own = config["linux"].get("seccomp").filter(|own| !own.is_null());
    let listener = socket.display().to_string();
    let known = |name: &str| seccomp::call_number(name).is_some();
    config["linux"]["seccomp"] = watch::watching(own, &listener, &ARCHITECTURES, known);
    config
}

/// Writes an outcome into a config.json, as engines would.
pub(crate) fn apply(config: &mut Value, needs: &Loosening) {
    if let Some(value) = ready::annotation(needs, ",") {
        let own = config["annotations"][ANNOTATION].as_str().map(str::to_owned);
        let all = own.map_or_else(|| value.clone(), |own| format!("{value},{own}"));
        config["annotations"][ANNOTATION] = all.into();
    }
    for (name, value) in &needs.sysctls {
        config["linux"]["sysctl"][name.as_str()] = value.as_str().into();
    }
    for name in &needs.capabilities {
        add_capability(config, name);
    }
    let mut mounts = config["mounts"].as_array().cloned().unwrap_or_default();
    for volume in needs.volumes.iter().filter(|volume| !volume.mounted) {
        let mut options = vec!["nosuid".to_owned(), "nodev".to_owned(), "rw".to_owned()];
        options.push(if volume.exec { "exec" } else { "noexec" }.to_owned());
        options.extend((!volume.empty).then(|| "tmpcopyup".to_owned()));
        options.extend(volume.mode.map(|mode| format!("mode={mode:o}")));
        if volume.mode.is_none() && ["/tmp", "/var/tmp"].map(Path::new).contains(&volume.path.as_path()) {
            options.push("mode=1777".to_owned());
        }
        options.push(format!("size={}", Size(256 << 20)));
        mounts.push(json!({"destination": volume.path, "type": "tmpfs", "source": "tmpfs", "options": options}));
    }
    config["mounts"] = mounts.into();
}

/// Into the sets of a program that root starts; somebody else's gets it as an ambient one.
fn add_capability(config: &mut Value, name: &str) {
    let name = Value::from(format!("CAP_{name}"));
    for set in ["bounding", "effective", "permitted"] {
        let set = &mut config["process"]["capabilities"][set];
        let mut all = set.as_array().cloned().unwrap_or_default();
        if !all.contains(&name) {
            all.push(name.clone());
        }
        *set = all.into();
    }
}

/// Relative sources hang from the bundle, and ours lies elsewhere.
fn absolute_sources(config: &mut Value, bundle: &Path) {
    for mount in config["mounts"].as_array_mut().into_iter().flatten() {
        let options = mount["options"].as_array();
        let bind = mount["type"] == "bind" || options.into_iter().flatten().any(|o| o == "bind" || o == "rbind");
        if let Some(source) = mount["source"]
            .as_str()
            .filter(|source| bind && !source.starts_with('/'))
        {
            mount["source"] = bundle.join(source).display().to_string().into();
        }
    }
}

/// The first port that anybody may bind.
pub(super) fn free_port(config: &Value) -> u16 {
    let set = config["linux"]["sysctl"][LOW_PORTS].as_str();
    set.and_then(|port| port.trim().parse().ok()).unwrap_or(1024)
}

/// The mounts that a program may write to.
pub(crate) fn volumes(config: &Value) -> BTreeMap<PathBuf, Executable> {
    let mut found = BTreeMap::new();
    for mount in config["mounts"].as_array().into_iter().flatten() {
        let options: Vec<&str> = mount["options"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let has = |word: &str| options.contains(&word);
        let kernels = ["proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue"].map(Value::from);
        let Some(at) = mount["destination"].as_str() else {
            continue;
        };
        let at = normalize(Path::new(at));
        if has("ro") || kernels.contains(&mount["type"]) || at == Path::new("/dev") {
            continue;
        }
        let exec = if has("exec") && !has("noexec") {
            Executable::Yes
        } else {
            Executable::No
        };
        found.insert(at, exec);
    }
    found
}

/// The runtime, with the options that stand before a command.
pub(super) fn command(prepared: &Prepared) -> Command {
    let mut command = Command::new(&prepared.program);
    let called = std::env::args_os().next().unwrap_or_default();
    // A second name has a policy of its own.
    if matches!(CalledAs::of_name(&called), CalledAs::Runtime(_)) {
        command.arg0(&called);
    }
    command.args(&prepared.globals);
    command
}

/// What the program prints goes to stderr: stdout is for the outcome.
pub(super) fn our_stderr() -> Result<Stdio> {
    let copy =
        gabion_sys::duplicate_number(2).map_err(|errno| Error::file("duplicate", "/dev/stderr")(errno.into()))?;
    Ok(owned(copy))
}

pub(super) fn start(prepared: &Prepared, round: &Round, config: &Value) -> Result<Child> {
    let mut command = command(prepared);
    command
        .args([OsStr::new("run"), OsStr::new("--keep"), OsStr::new("--bundle")])
        .arg(round.bundle())
        .arg(&prepared.id);
    // A terminal is copied by the runtime, and needs ours.
    if config["process"]["terminal"] != true {
        command.stdout(our_stderr()?);
    }
    command.spawn().map_err(Error::file("run", &prepared.program))
}

/// Deletes the container, of which the runtime kept the state so that its cgroup could be read.
pub(super) fn clear_away(prepared: &Prepared) -> Result<()> {
    let mut command = command(prepared);
    command.args(["delete", "--force", &prepared.id]);
    let status = command
        .stdout(our_stderr()?)
        .status()
        .map_err(Error::file("run", &prepared.program))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "the container {} could not be deleted",
        prepared.id
    )))
}
