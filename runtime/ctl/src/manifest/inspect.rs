//! What `docker inspect` and `podman inspect` say of a container.

use std::path::PathBuf;

use serde_json::Value;

use gabion_core::namespace::NsType;

use super::at::{At, Wrong};
use super::wish::{Filter, Mounted, Origin, Wish, World};
use super::{Found, options};

/// Takes one container apart.
pub(super) fn container(value: &Value, index: usize, found: &mut Found) {
    let at = At::top(value);
    let name = at
        .get("Name")
        .text()
        .ok()
        .flatten()
        .unwrap_or_else(|| format!("number {index}"));
    let name = format!("container {}", name.trim_start_matches('/'));
    match wish(&at, name.clone()) {
        Ok(wish) => found.wishes.push(wish),
        Err(wrong) => found.failed(&name, wrong),
    }
}

/// podman tells more than Docker does.
fn world(at: &At<'_>) -> World {
    let podmans = ["OCIConfigPath", "ConmonPidFile", "EffectiveCaps", "BoundingCaps"];
    if podmans.iter().any(|key| at.value.get(key).is_some()) {
        World::Podman
    } else {
        World::Docker
    }
}

fn wish(at: &At<'_>, name: String) -> Result<Wish, Wrong> {
    let world = world(at);
    let mut wish = Wish::new(world, name);
    let (host, config) = (at.get("HostConfig"), at.get("Config"));
    wish.filter = Filter::OfEngine;
    namespaces(&host, &mut wish)?;
    rights(&host, &config, &mut wish)?;
    limits(&host, &mut wish)?;
    mounts(at, &host, &mut wish)?;
    let program = at.get("Path").text()?.filter(|path| !path.is_empty());
    wish.args.extend(program);
    wish.args.extend(at.get("Args").texts()?);
    wish.note("process.args", "--entrypoint");
    if let Some(cwd) = config.get("WorkingDir").text()?.filter(|cwd| !cwd.is_empty()) {
        wish.cwd = cwd;
        wish.note("process.cwd", "--workdir");
    }
    // podman has its own among them; Docker's are below HostConfig.
    for annotations in [config.get("Annotations"), host.get("Annotations")] {
        for (key, value) in annotations.map()? {
            wish.note(&key, "--annotation");
            wish.annotations.insert(key, value.text()?.unwrap_or_default());
        }
    }
    Ok(wish)
}

fn namespaces(host: &At<'_>, wish: &mut Wish) -> Result<(), Wrong> {
    let keys = [
        ("NetworkMode", NsType::Network, "--network host"),
        ("PidMode", NsType::Pid, "--pid host"),
        ("IpcMode", NsType::Ipc, "--ipc host"),
        ("UTSMode", NsType::Uts, "--uts host"),
        ("CgroupnsMode", NsType::Cgroup, "--cgroupns host"),
        ("CgroupMode", NsType::Cgroup, "--cgroupns host"),
    ];
    for (key, typ, option) in keys {
        let at = host.get(key);
        let Some(word) = at.text()? else { continue };
        if word == "host" {
            wish.shared.insert(typ);
            wish.note(&format!("linux.namespaces.{}", typ.spec_name()), option);
        } else if word.starts_with("container:") || word.starts_with("ns:") {
            wish.assume(format!("{}: {word}: that it is not the host's", at.place));
        }
    }
    let users = host.get("UsernsMode").text()?.unwrap_or_default();
    if !users.is_empty() && users != "host" {
        wish.user_namespace = true;
        wish.assume(format!(
            "HostConfig.UsernsMode: {users}: that it maps nobody to the host's root"
        ));
    }
    Ok(())
}

fn rights(host: &At<'_>, config: &At<'_>, wish: &mut Wish) -> Result<(), Wrong> {
    wish.privileged = host.get("Privileged").is_true()?;
    if wish.privileged {
        for part in ["linux.resources.devices", "linux.maskedPaths", "linux.readonlyPaths"] {
            wish.note(part, "--privileged");
        }
    }
    for name in host.get("CapAdd").texts()? {
        let bare = options::bare(&name);
        wish.note(&format!("process.capabilities.CAP_{bare}"), "--cap-add");
        wish.add.push(bare);
    }
    wish.drop = host
        .get("CapDrop")
        .texts()?
        .iter()
        .map(|name| options::bare(name))
        .collect();
    for word in host.get("SecurityOpt").texts()? {
        options::security(&word, "--security-opt", wish);
    }
    if wish.world == World::Docker && host.get("MaskedPaths").value.as_array().is_some_and(Vec::is_empty) {
        wish.unmasked = true;
        wish.note("linux.maskedPaths", "--security-opt systempaths=unconfined");
    }
    match config.get("User").text()?.filter(|user| !user.is_empty()) {
        Some(user) => options::user(&user, "--user", wish),
        None => wish.note("process.user", "--user (not set, nor in the image)"),
    }
    for group in host.get("GroupAdd").texts()? {
        match group.parse() {
            Ok(gid) => wish.groups.push(gid),
            Err(_) => wish.assume(format!("--group-add {group}: that this group is not root's")),
        }
    }
    wish.read_only_root = host.get("ReadonlyRootfs").is_true()?;
    wish.note("root.readonly", "--read-only");
    for device in host.get("Devices").list()? {
        if let Some(path) = device.get("PathInContainer").text()? {
            wish.note(&path, "--device");
            wish.devices.push((path, "--device".to_owned()));
        }
    }
    wish.note("linux.devices", "--device");
    if !host.get("DeviceRequests").list()?.is_empty() {
        wish.assume("--gpus: what the engine adds for it is not known");
    }
    for (name, value) in host.get("Sysctls").map()? {
        wish.note(&format!("linux.sysctl.{name}"), "--sysctl");
        wish.sysctls.insert(name, value.text()?.unwrap_or_default());
    }
    Ok(())
}

fn limits(host: &At<'_>, wish: &mut Wish) -> Result<(), Wrong> {
    // 0 is «none», and podman's and Docker's -1 «without».
    wish.limits.memory = host.get("Memory").number()?.filter(|bytes| *bytes != 0);
    wish.note("linux.resources.memory", "--memory");
    wish.limits.pids = host.get("PidsLimit").number()?.filter(|pids| *pids != 0);
    wish.note("linux.resources.pids", "--pids-limit");
    for limit in host.get("Ulimits").list()? {
        let number =
            |key: &str| Ok::<_, Wrong>(u64::try_from(limit.get(key).number()?.unwrap_or(-1)).unwrap_or(u64::MAX));
        if let Some(name) = limit.get("Name").text()? {
            wish.note(&format!("process.rlimits.{}", options::rlimit(&name)), "--ulimit");
            wish.rlimits
                .push((options::rlimit(&name), number("Soft")?, number("Hard")?));
        }
    }
    Ok(())
}

fn mounts(at: &At<'_>, host: &At<'_>, wish: &mut Wish) -> Result<(), Wrong> {
    for mount in at.get("Mounts").list()? {
        let Some(target) = mount.get("Destination").text()? else {
            return Err(mount.wrong("it has no Destination"));
        };
        let source = mount.get("Source").text()?.unwrap_or_default();
        let from = match mount.get("Type").text()?.as_deref() {
            Some("tmpfs") => Origin::Tmpfs,
            Some("volume") => Origin::OfEngine(mount.get("Name").text()?.unwrap_or_else(|| "anonymous".to_owned())),
            Some("image") => Origin::OfEngine("image".to_owned()),
            _ => Origin::Host(PathBuf::from(source)),
        };
        let mut words = vec![
            if mount.get("RW").truth()? == Some(false) {
                "ro"
            } else {
                "rw"
            }
            .to_owned(),
        ];
        words.extend(mount.get("Propagation").text()?.filter(|word| !word.is_empty()));
        words.extend(options::of_mount(&mount.get("Mode").text()?.unwrap_or_default()));
        words.extend(
            mount
                .get("Options")
                .texts()?
                .iter()
                .flat_map(|word| options::of_mount(word)),
        );
        put(from, target, words, "--volume", wish);
    }
    for (target, words) in host.get("Tmpfs").map()? {
        let words = options::of_mount(&words.text()?.unwrap_or_default());
        put(Origin::Tmpfs, target, words, "--tmpfs", wish);
    }
    Ok(())
}

fn put(from: Origin, target: String, options: Vec<String>, place: &str, wish: &mut Wish) {
    if wish.mounts.iter().any(|mount| mount.target == target) {
        return;
    }
    wish.note(&format!("mounts.{target}"), place);
    wish.mounts.push(Mounted { from, target, options });
}
