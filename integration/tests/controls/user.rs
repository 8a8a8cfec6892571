//! `user`: root is warned of at hardened, refused at restricted.

use crate::hardens;
use integration::command::{limit, until};
use integration::{Bundle, Container, Policy, Runtime, User};
use serde_json::{Value, json};

#[test]
fn root_runs_at_hardened_and_not_at_restricted() {
    if !hardens() {
        return;
    }
    Container::new(Bundle::new("user-hardened"))
        .policy(&Policy::hardened())
        .acts(&["id"])
        .ok("id");
    let restricted = Container::new(Bundle::new("user-restricted")).policy(&Policy::level("restricted"));
    restricted.run().fails_with(1).says(&["refused [", "user."]);
}

#[test]
fn an_ordinary_user_runs_at_restricted() {
    if !hardens() {
        return;
    }
    let mut bundle = Bundle::new("user-1000");
    bundle.config.user(1000).capabilities(&[]);
    let outcome = Container::new(bundle)
        .policy(&Policy::level("restricted"))
        .acts(&["id", "caps"]);
    assert!(
        outcome.ok("id").starts_with("Uid=1000,1000,1000,1000 Gid=1000"),
        "{outcome:?}"
    );
    let zero = "0000000000000000";
    assert_eq!(
        outcome.ok("caps"),
        format!("CapInh={zero} CapPrm={zero} CapEff={zero} CapBnd={zero} CapAmb={zero}")
    );
}

/// A process that waits in a user namespace of its own, and is gone with the test.
struct Sleeper(std::process::Child);

impl Sleeper {
    /// By unshare(1), with these options. Without a mapping nobody ever writes its maps.
    fn new(options: &[&str], ready: impl Fn(&str) -> bool) -> Self {
        let child = std::process::Command::new("unshare")
            .arg("--user")
            .args(options)
            .args(["sleep", "60"])
            .spawn()
            .expect("unshare");
        let sleeper = Self(child);
        let own = std::fs::read_link("/proc/self/ns/user").unwrap();
        assert!(until(limit(10), || {
            let map = std::fs::read_to_string(format!("/proc/{}/uid_map", sleeper.0.id())).unwrap_or_default();
            std::fs::read_link(sleeper.namespace()).is_ok_and(|seen| seen != own) && ready(map.trim())
        }));
        sleeper
    }

    fn namespace(&self) -> String {
        format!("/proc/{}/ns/user", self.0.id())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.0.kill().expect("kill");
        self.0.wait().expect("wait");
    }
}

fn joining(name: &str, namespace: &str, level: &'static str) -> Container {
    let mut bundle = Bundle::new(name);
    bundle.config.namespace_path("user", namespace).capabilities(&[]);
    // The namespace has one group.
    bundle
        .config
        .mount_options("/dev/pts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666"]);
    Container::new(bundle).policy(&Policy::level(level))
}

#[test]
fn a_joined_user_namespace_is_judged_by_its_own_maps() {
    if !hardens() {
        return;
    }
    let root = Sleeper::new(&["--map-root-user"], |map| !map.is_empty());
    let refused = joining("user-joined-root", &root.namespace(), "restricted").run();
    refused.fails_with(1).says(&["refused [user.root]"]);
    // With the rule off it runs, and is root.
    let seen = joining("user-joined-warned", &root.namespace(), "hardened").acts(&["id"]);
    assert!(seen.ok("id").starts_with("Uid=0,"), "{seen:?}");
    let status = std::fs::read_to_string(format!("/proc/{}/uid_map", root.0.id())).unwrap();
    assert_eq!(status.split_whitespace().collect::<Vec<_>>(), ["0", "0", "1"]);

    // A name of the same namespace that says nothing of who is in it.
    let link = Bundle::new("user-joined-link");
    let name = link.dir.join("ns");
    std::os::unix::fs::symlink(root.namespace(), &name).unwrap();
    let refused = joining("user-joined-name", name.to_str().unwrap(), "restricted").run();
    refused.fails_with(1).says(&["refused [user.root]"]);

    // One whose maps nobody has written says nothing, whatever the spec claims of it.
    let silent = Sleeper::new(&[], str::is_empty);
    let mut container = joining("user-joined-silent", &silent.namespace(), "restricted");
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    container
        .bundle
        .config
        .user(1000)
        .set("/linux/uidMappings", map.clone());
    container.bundle.config.set("/linux/gidMappings", map);
    container.bundle.write_config();
    container.run().fails_with(1).says(&["refused [user.unknown]"]);
}

/// In a new user namespace with these mappings.
fn mapped(name: &str, users: Value, groups: Value, level: &'static str) -> Container {
    let mut bundle = Bundle::new(name);
    bundle.give_to(100_000, 100_000);
    let config = &mut bundle.config;
    config.user_namespace(65536).user(1000).capabilities(&[]);
    config
        .set("/linux/uidMappings", users)
        .set("/linux/gidMappings", groups);
    Container::new(bundle).policy(&Policy::level(level))
}

#[test]
fn a_number_that_is_mapped_to_root_is_root() {
    if !hardens() {
        return;
    }
    let plain = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    let turned = json!([
        { "containerID": 0, "hostID": 100_000, "size": 1000 },
        { "containerID": 1000, "hostID": 0, "size": 1 },
    ]);
    for (name, users, groups, key) in [
        ("user-turned", turned.clone(), plain.clone(), "Uid:"),
        ("user-turned-group", plain.clone(), turned.clone(), "Gid:"),
    ] {
        let restricted = mapped(name, users.clone(), groups.clone(), "restricted");
        restricted.run().fails_with(1).says(&["refused [user.root]"]);
        // With the rule off: 1000 in there, 0 out here.
        let mut loose = mapped(&format!("{name}-warned"), users, groups, "hardened");
        loose.bundle.config.acts(&["sleep"]);
        loose.bundle.write_config();
        loose.run_detached().ok();
        let status = std::fs::read_to_string(format!("/proc/{}/status", loose.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        assert_eq!(line.split_whitespace().nth(1), Some("0"), "{line}");
    }
    let good = mapped("user-mapped", plain.clone(), plain, "restricted").acts(&["id"]);
    assert!(good.ok("id").starts_with("Uid=1000,"), "{good:?}");
}

#[test]
fn a_mount_makes_nobody_root_of_its_files() {
    if !hardens() {
        return;
    }
    let plain = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    let with = |name: &str, level, map: Value| {
        let mut container = mapped(name, plain.clone(), plain.clone(), level);
        let secret = container.bundle.host_dir("volume").join("secret");
        std::fs::write(&secret, "s").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&secret, mode).unwrap();
        let volume = secret.parent().unwrap().display().to_string();
        let config = &mut container.bundle.config;
        config.bind(&volume, "/data", &["rprivate", "rw"]);
        let last = config.0["mounts"].as_array().unwrap().len() - 1;
        config.set(&format!("/mounts/{last}/uidMappings"), map.clone());
        config.set(&format!("/mounts/{last}/gidMappings"), map);
        container.bundle.write_config();
        container
    };
    let to_1000 = json!([{ "containerID": 0, "hostID": 101_000, "size": 1 }]);
    let refused = with("user-idmap", "restricted", to_1000.clone()).run();
    refused.fails_with(1).says(&["refused [mounts.idmap]", "1000"]);
    let seen = with("user-idmap-warned", "hardened", to_1000).acts(&["read-file=/data/secret"]);
    seen.ok("read-file=/data/secret");
    // Other owners are nobody's concern.
    let others = json!([{ "containerID": 5000, "hostID": 101_000, "size": 1 }]);
    let seen = with("user-idmap-others", "restricted", others).acts(&["id", "read-file=/data/secret"]);
    assert!(seen.ok("id").starts_with("Uid=1000,"), "{seen:?}");
    assert!(seen.answer("read-file=/data/secret").contains("EACCES"), "{seen:?}");
}

#[test]
fn gabions_own_user_namespace_counts_by_what_it_maps() {
    if !hardens() {
        return;
    }
    let bundle = Bundle::new("user-own");
    bundle.write_config();
    bundle.give_to(100_000, 100_000);
    let config = bundle.bundle().join("config.json");
    let inside = |users: &str, groups: &str| {
        let outer = Sleeper::new(&[], str::is_empty);
        let pid = outer.0.id().to_string();
        std::fs::write(format!("/proc/{pid}/uid_map"), users).unwrap();
        std::fs::write(format!("/proc/{pid}/gid_map"), groups).unwrap();
        let mut command = std::process::Command::new("nsenter");
        command.args(["--user", "--target", &pid, "--setuid", "0", "--setgid", "0"]);
        command
            .arg(&Runtime::gabion().program)
            .arg("--root")
            .arg(bundle.state());
        command.args(["--level", "restricted", "check"]).arg(&config);
        integration::command::run(command, &bundle.dir)
    };
    for (users, groups) in [
        ("0 0 1", "0 0 1"),
        ("0 0 65536", "0 0 65536"),
        ("7 1000 1\n0 0 1", "0 100000 10"),
        ("0 100000 10", "0 0 1"),
    ] {
        let done = inside(users, groups).fails_with(3);
        assert!(done.out.contains("user.root"), "{done}");
    }
    let done = inside("0 100000 65536", "0 100000 65536");
    assert!(
        done.out.contains("level restricted") && !done.out.contains("user.root"),
        "{done}"
    );
}

#[test]
fn the_number_that_is_no_id_runs_nowhere() {
    if !hardens() {
        return;
    }
    let number = u32::MAX.to_string();
    for (at, field) in [
        ("/process/user/uid", "process.user.uid"),
        ("/process/user/gid", "process.user.gid"),
        ("/process/user/additionalGids", "process.user.additionalGids[0]"),
    ] {
        let mut bundle = Bundle::new("user-no-id");
        let value = if field.contains('[') {
            json!([u32::MAX])
        } else {
            json!(u32::MAX)
        };
        bundle.config.set(at, value).acts(&["id"]);
        let container = Container::new(bundle).policy(&Policy::permissive());
        container.run().fails_with(1).says(&[field, &number]);
    }
    let mut bundle = Bundle::new("user-no-id-exec");
    bundle.config.acts(&["sleep"]);
    let file = bundle.dir.join("process.json").display().to_string();
    let container = Container::new(bundle).policy(&Policy::permissive());
    container.run_detached().ok();
    for option in [["--user", &number], ["--user", "0:4294967295"], ["-g", &number]] {
        let done = container.op(&["exec", option[0], option[1], container.id(), "/usr/bin/probe", "id"]);
        assert_ne!(done.code, 0, "{done}");
        done.says(&[&number]);
    }
    let process = |uid: u32| json!({ "user": { "uid": uid, "gid": 7 }, "args": ["/usr/bin/probe", "id"], "cwd": "/" });
    std::fs::write(&file, process(u32::MAX).to_string()).unwrap();
    let done = container.op(&["exec", "--process", &file, container.id()]);
    done.fails_with(255).says(&["user.uid", &number]);
    std::fs::write(&file, process(7).to_string()).unwrap();
    container.op(&["exec", "--process", &file, container.id()]).ok();
}

#[test]
fn groups_of_a_user_that_stay_are_said_and_end_it_at_restricted() {
    if !hardens() {
        return;
    }
    let user = User::new(Bundle::new("user-groups"));
    let gabion = user.install(&Runtime::gabion().program);
    user.install(&Runtime::gabion().program.with_file_name("gabionctl"));
    let bundle = user.bundle.bundle();
    let run = |groups: &str, level: &str| {
        let state = user.run_dir().join("gabion");
        let mut command = std::process::Command::new("setpriv");
        let uid = user.uid.to_string();
        command
            .args(["--reuid", &uid, "--regid", &uid, groups, "--inh-caps=-all"])
            .arg(&gabion);
        command.arg("--root").arg(state).args(["--level", level]);
        command.env("XDG_RUNTIME_DIR", user.run_dir()).env("HOME", user.home());
        command
    };
    let check = |groups: &str, level: &str| {
        let mut command = run(groups, level);
        command.arg("check").arg(bundle.join("config.json"));
        integration::command::run(command, &user.bundle.dir)
    };
    let mut spec = run("--clear-groups", "hardened");
    std::fs::remove_file(bundle.join("config.json")).ok();
    spec.args(["spec", "--rootless", "--bundle"]).arg(&bundle);
    integration::command::run(spec, &user.bundle.dir).ok();
    let done = check("--groups=27", "restricted").fails_with(3);
    assert!(done.out.contains("user.groups") && done.out.contains("(27)"), "{done}");
    let done = check("--groups=27", "hardened");
    assert!(done.to_string().contains("groups (27) stay"), "{done}");
    let done = check("--clear-groups", "restricted");
    assert!(!done.to_string().contains("user.groups"), "{done}");
    user.nothing_left();
}

#[test]
fn nothing_that_is_made_has_the_modes_of_the_callers_umask() {
    if !hardens() {
        return;
    }
    let mut bundle = Bundle::new("user-umask");
    bundle.config.acts(&["id"]);
    let root = bundle.dir.join("a/b/state");
    let container = Container::new(bundle).policy(&Policy::hardened());
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "umask 0; exec \"$@\"", "sh"])
        .arg(&container.runtime.program);
    command
        .arg("--root")
        .arg(root)
        .arg("--policy")
        .arg(container.bundle.dir.join("policy.toml"));
    command.args(["run", "--bundle", &container.path(), container.id()]);
    integration::command::run(command, &container.bundle.dir).ok();
    for (dir, mode) in [("a", 0o755), ("a/b", 0o755), ("a/b/state", 0o700)] {
        let meta = container.bundle.dir.join(dir).metadata().unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&meta) & 0o7777, mode, "{dir}");
    }
}
