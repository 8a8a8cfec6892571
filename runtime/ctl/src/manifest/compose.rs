//! Compose files: the containers that Docker, or podman, would be asked for.

use std::path::{Path, PathBuf};

use serde_json::Value;

use gabion_core::namespace::NsType;
use gabion_core::request::normalize;

use super::at::{At, Wrong};
use super::wish::{Filter, Mounted, Origin, Wish, World};
use super::{Found, options};

const SERVICE: &[&str] = &[
    "annotations",
    "attach",
    "blkio_config",
    "build",
    "cap_add",
    "cap_drop",
    "cgroup",
    "cgroup_parent",
    "command",
    "configs",
    "container_name",
    "cpu_count",
    "cpu_percent",
    "cpu_period",
    "cpu_quota",
    "cpu_rt_period",
    "cpu_rt_runtime",
    "cpu_shares",
    "cpus",
    "cpuset",
    "credential_spec",
    "depends_on",
    "deploy",
    "develop",
    "device_cgroup_rules",
    "devices",
    "dns",
    "dns_opt",
    "dns_search",
    "domainname",
    "entrypoint",
    "env_file",
    "environment",
    "expose",
    "extends",
    "external_links",
    "extra_hosts",
    "gpus",
    "group_add",
    "healthcheck",
    "hostname",
    "image",
    "init",
    "ipc",
    "isolation",
    "label_file",
    "labels",
    "links",
    "logging",
    "mac_address",
    "mem_limit",
    "mem_reservation",
    "mem_swappiness",
    "memswap_limit",
    "models",
    "network_mode",
    "networks",
    "oom_kill_disable",
    "oom_score_adj",
    "pid",
    "pids_limit",
    "platform",
    "ports",
    "post_start",
    "pre_stop",
    "privileged",
    "profiles",
    "provider",
    "pull_policy",
    "read_only",
    "restart",
    "runtime",
    "scale",
    "secrets",
    "security_opt",
    "shm_size",
    "stdin_open",
    "stop_grace_period",
    "stop_signal",
    "storage_opt",
    "sysctls",
    "tmpfs",
    "tty",
    "ulimits",
    "use_api_socket",
    "user",
    "userns_mode",
    "uts",
    "volumes",
    "volumes_from",
    "working_dir",
];

/// Takes a compose file apart.
pub(super) fn file(value: &Value, folder: &Path, engine: World, found: &mut Found) {
    let top = At::top(value);
    let services = match top.get("services").map() {
        Ok(services) => services,
        Err(wrong) => return found.failed("services", wrong),
    };
    if top.get("include").is_there() {
        found.failed("include", top.get("include").wrong(WHOLE));
    }
    for (name, at) in services {
        match service(&name, &at, folder, engine) {
            Ok(wish) => found.wishes.push(wish),
            Err(wrong) => found.failed(&format!("service {name}"), wrong),
        }
    }
}

const WHOLE: &str = "it is in another file; give what `docker compose config` prints";

fn service(name: &str, at: &At<'_>, folder: &Path, engine: World) -> Result<Wish, Wrong> {
    let world = if engine == World::Podman {
        World::Podman
    } else {
        World::Compose
    };
    let mut wish = Wish::new(world, format!("service {name}"));
    at.unknown(SERVICE, &mut wish.assumed)?;
    for key in ["extends", "volumes_from"] {
        if at.get(key).is_there() {
            return Err(at.get(key).wrong(WHOLE));
        }
    }
    unset(at, "")?;
    // Where no profile is named, the engine has one of its own.
    wish.filter = Filter::OfEngine;
    namespaces(at, &mut wish)?;
    rights(at, &mut wish)?;
    limits(at, &mut wish)?;
    volumes(at, folder, &mut wish)?;
    let program = if at.get("entrypoint").is_there() {
        "entrypoint"
    } else {
        "command"
    };
    if let Value::Array(_) = at.get("entrypoint").value {
        wish.args = at.get("entrypoint").texts()?;
    } else {
        wish.assume("that the image's own program lies in the image, where it may be run");
    }
    wish.note("process.args", &at.get(program).place);
    if let Some(cwd) = at.get("working_dir").text()? {
        wish.cwd = cwd;
        wish.note("process.cwd", &at.get("working_dir").place);
    }
    for (key, value) in pairs(&at.get("annotations"))? {
        wish.note(&key, &at.get("annotations").place);
        wish.annotations.insert(key, value);
    }
    if let Some(runtime) = at.get("runtime").text()? {
        if !runtime.contains("gabion") {
            wish.assume(format!(
                "{}: {runtime}: that this runtime is gabion; else gabion is not asked",
                at.get("runtime").place
            ));
        }
    } else {
        wish.assume("no `runtime`: that gabion is the engine's default runtime");
    }
    Ok(wish)
}

/// Says no to a variable that has no value here, wherever something is decided by it.
fn unset(at: &At<'_>, key: &str) -> Result<(), Wrong> {
    const OF_NO_MATTER: [&str; 8] = [
        "command",
        "environment",
        "image",
        "labels",
        "ports",
        "container_name",
        "healthcheck",
        "hostname",
    ];
    if OF_NO_MATTER.contains(&key) {
        return Ok(());
    }
    match at.value {
        Value::String(text)
            if text.contains('$') && !text.replace("$$", "").is_empty() && text.replace("$$", "").contains('$') =>
        {
            Err(at.wrong(format!(
                "{text:?} has a variable; give what `docker compose config` prints"
            )))
        }
        Value::Array(_) => at.list()?.iter().try_for_each(|member| unset(member, "")),
        Value::Object(_) => at.map()?.iter().try_for_each(|(key, member)| unset(member, key)),
        _ => Ok(()),
    }
}

fn namespaces(at: &At<'_>, wish: &mut Wish) -> Result<(), Wrong> {
    let keys = [
        ("network_mode", NsType::Network),
        ("pid", NsType::Pid),
        ("ipc", NsType::Ipc),
        ("uts", NsType::Uts),
        ("cgroup", NsType::Cgroup),
    ];
    for (key, typ) in keys {
        let at = at.get(key);
        let Some(word) = at.text()? else { continue };
        if word == "host" {
            wish.shared.insert(typ);
        } else if word.starts_with("container:") || word.starts_with("service:") {
            wish.assume(format!(
                "{}: {word}: that the other container does not share it with the host",
                at.place
            ));
        }
        wish.note(&format!("linux.namespaces.{}", typ.spec_name()), &at.place);
    }
    let users = at.get("userns_mode");
    if users.text()?.is_some_and(|word| word != "host" && !word.is_empty()) {
        wish.user_namespace = true;
    }
    Ok(())
}

fn rights(at: &At<'_>, wish: &mut Wish) -> Result<(), Wrong> {
    let privileged = at.get("privileged");
    wish.privileged = privileged.is_true()?;
    wish.note_if("process.capabilities", &at.get("cap_drop"));
    if wish.privileged {
        for part in ["linux.resources.devices", "linux.maskedPaths", "linux.readonlyPaths"] {
            wish.note(part, &privileged.place);
        }
    }
    for name in at.get("cap_add").texts()? {
        let bare = options::bare(&name);
        wish.note(&format!("process.capabilities.CAP_{bare}"), &at.get("cap_add").place);
        wish.add.push(bare);
    }
    wish.drop = at
        .get("cap_drop")
        .texts()?
        .iter()
        .map(|name| options::bare(name))
        .collect();
    for option in at.get("security_opt").list()? {
        if let Some(word) = option.text()? {
            options::security(&word, &option.place, wish);
        }
    }
    if let Some(user) = at.get("user").text()? {
        options::user(&user, &at.get("user").place, wish);
    } else {
        wish.note("process.user", &format!("{} (not set)", at.get("user").place));
        wish.assume("no `user`: the image's user is not known; judged as root");
    }
    for group in at.get("group_add").list()? {
        match group.text()?.and_then(|text| text.parse().ok()) {
            Some(gid) => wish.groups.push(gid),
            None => wish.assume(format!("{}: that this group is not root's", group.place)),
        }
    }
    wish.note("process.user.additionalGids", &at.get("group_add").place);
    wish.read_only_root = at.get("read_only").is_true()?;
    wish.note("root.readonly", &at.get("read_only").place);
    for (name, value) in pairs(&at.get("sysctls"))? {
        wish.note(&format!("linux.sysctl.{name}"), &at.get("sysctls").place);
        wish.sysctls.insert(name, value);
    }
    devices(at, wish)
}

fn devices(at: &At<'_>, wish: &mut Wish) -> Result<(), Wrong> {
    for device in at.get("devices").list()? {
        let long = device.get("source").text()?;
        let Some(word) = long.map_or_else(|| device.text(), |source| Ok(Some(source)))? else {
            continue;
        };
        let path = word.split(':').next().unwrap_or_default().to_owned();
        if path.starts_with('/') {
            wish.note(&path, &device.place);
            wish.devices.push((path, device.place));
        } else {
            wish.assume(format!("{}: what CDI would add for {path} is not known", device.place));
        }
    }
    wish.note("linux.devices", &at.get("devices").place);
    for key in ["gpus", "device_cgroup_rules", "use_api_socket", "configs", "secrets"] {
        if at.get(key).is_there() {
            wish.assume(format!(
                "{}: what the engine adds for it is not known",
                at.get(key).place
            ));
        }
    }
    Ok(())
}

/// A map, or a list of `name=value`.
fn pairs(at: &At<'_>) -> Result<Vec<(String, String)>, Wrong> {
    if let Value::Array(_) = at.value {
        let split = |text: String| {
            text.split_once('=')
                .map_or((text.clone(), String::new()), |(k, v)| (k.to_owned(), v.to_owned()))
        };
        return Ok(at.texts()?.into_iter().map(split).collect());
    }
    let of = |(key, value): (String, At<'_>)| Ok((key, value.text()?.unwrap_or_default()));
    at.map()?.into_iter().map(of).collect()
}

fn limits(at: &At<'_>, wish: &mut Wish) -> Result<(), Wrong> {
    let deploy = at.way(&["deploy", "resources", "limits"]);
    for memory in [at.get("mem_limit"), deploy.get("memory")] {
        if let Some(text) = memory.text()? {
            let bytes = options::bytes(&text).ok_or_else(|| memory.wrong(format!("{text:?} is no size")))?;
            wish.limits.memory = Some(bytes).filter(|bytes| *bytes != 0);
            wish.note("linux.resources.memory", &memory.place);
        }
    }
    for pids in [at.get("pids_limit"), deploy.get("pids")] {
        if let Some(number) = pids.number()? {
            wish.limits.pids = Some(number).filter(|number| *number != 0);
            wish.note("linux.resources.pids", &pids.place);
        }
    }
    for (name, limit) in at.get("ulimits").map()? {
        let both = |number: i64| u64::try_from(number).unwrap_or(u64::MAX);
        let (soft, hard) = match limit.value {
            Value::Object(_) => (limit.get("soft").number()?, limit.get("hard").number()?),
            _ => (limit.number()?, limit.number()?),
        };
        if let (Some(soft), Some(hard)) = (soft, hard) {
            wish.note(&format!("process.rlimits.{}", options::rlimit(&name)), &limit.place);
            wish.rlimits.push((options::rlimit(&name), both(soft), both(hard)));
        }
    }
    Ok(())
}

fn volumes(at: &At<'_>, folder: &Path, wish: &mut Wish) -> Result<(), Wrong> {
    for volume in at.get("volumes").list()? {
        let mounted = match volume.value {
            Value::Object(_) => long(&volume, folder)?,
            _ => short(&volume, folder)?,
        };
        wish.note(&format!("mounts.{}", mounted.target), &volume.place);
        wish.mounts.push(mounted);
    }
    let tmpfs = at.get("tmpfs");
    for word in tmpfs.one_or_more()? {
        let (target, words) = word.split_once(':').unwrap_or((&word, ""));
        wish.note(&format!("mounts.{target}"), &tmpfs.place);
        let mut options = vec!["nosuid".to_owned(), "nodev".to_owned(), "noexec".to_owned()];
        let asked = options::of_mount(words);
        if asked.iter().any(|word| word == "exec") {
            options.retain(|word| word != "noexec");
        }
        options.extend(asked);
        wish.mounts.push(Mounted {
            from: Origin::Tmpfs,
            target: target.to_owned(),
            options,
        });
    }
    Ok(())
}

fn short(volume: &At<'_>, folder: &Path) -> Result<Mounted, Wrong> {
    let word = volume.text()?.unwrap_or_default();
    let parts: Vec<&str> = word.split(':').collect();
    let (from, target, words) = match parts.as_slice() {
        [target] => (Origin::OfEngine("anonymous".to_owned()), *target, ""),
        [source, target] => (origin(source, folder), *target, ""),
        [source, target, words] => (origin(source, folder), *target, *words),
        _ => return Err(volume.wrong(format!("{word:?} is not SOURCE:TARGET[:OPTIONS]"))),
    };
    Ok(Mounted {
        from,
        target: target.to_owned(),
        options: options::of_mount(words),
    })
}

fn origin(source: &str, folder: &Path) -> Origin {
    if !options::is_path(source) {
        return Origin::OfEngine(source.to_owned());
    }
    let home = || std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
    let path = match source.strip_prefix('~') {
        Some(rest) => home().join(rest.trim_start_matches('/')),
        None => folder.join(source),
    };
    Origin::Host(normalize(&path))
}

fn long(volume: &At<'_>, folder: &Path) -> Result<Mounted, Wrong> {
    let Some(target) = volume.get("target").text()? else {
        return Err(volume.wrong("it has no target"));
    };
    let source = volume.get("source").text()?;
    let typ = volume.get("type").text()?.unwrap_or_else(|| "volume".to_owned());
    let from = match (typ.as_str(), source) {
        ("bind", Some(source)) => Origin::Host(normalize(&folder.join(source))),
        ("volume", source) => Origin::OfEngine(source.unwrap_or_else(|| "anonymous".to_owned())),
        ("tmpfs", _) => Origin::Tmpfs,
        ("image" | "cluster" | "npipe", _) => Origin::OfEngine("image".to_owned()),
        _ => return Err(volume.wrong(format!("a volume of type {typ:?} cannot be looked at"))),
    };
    let mut options = vec![if volume.get("read_only").is_true()? { "ro" } else { "rw" }.to_owned()];
    options.extend(volume.way(&["bind", "propagation"]).text()?);
    Ok(Mounted { from, target, options })
}
