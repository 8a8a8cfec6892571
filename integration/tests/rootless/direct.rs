//! A user's own bundle, without an engine and without a systemd session.

use integration::{Bundle, Done, Runtime, User};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// A user with a bundle as a `spec --rootless` wrote it.
struct Rootless {
    user: User,
    gabion: PathBuf,
}

impl Rootless {
    fn new(test: &str) -> Self {
        let rootless = Self::without_config(test);
        let bundle = rootless.user.bundle.bundle();
        let path = bundle.display().to_string();
        rootless.gabion(&["spec", "--rootless", "--bundle", &path]).ok();
        rootless
    }

    fn without_config(test: &str) -> Self {
        let user = User::new(Bundle::with_busybox(test));
        let gabion = user.install(&Runtime::gabion().program);
        Self { user, gabion }
    }

    fn gabion(&self, args: &[&str]) -> Done {
        self.user.run(&self.gabion, args)
    }

    fn id(&self) -> &str {
        &self.user.bundle.name
    }

    fn change(&self, change: impl FnOnce(&mut Value)) {
        let path = self.user.bundle.bundle().join("config.json");
        let mut config = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        change(&mut config);
        fs::write(path, config.to_string()).unwrap();
    }

    fn args(&self, args: &[&str]) {
        self.change(|config| {
            config["process"]["terminal"] = json!(false);
            config["process"]["args"] = json!(args);
        });
    }

    /// `run` in the foreground with these options.
    fn run(&self, global: &[&str]) -> Done {
        let bundle = self.user.bundle.bundle().display().to_string();
        let words = [global, &["run", "--bundle", &bundle, self.id()]].concat();
        self.gabion(&words)
    }

    fn run_detached(&self) {
        let bundle = self.user.bundle.bundle().display().to_string();
        self.gabion(&["run", "--detach", "--bundle", &bundle, self.id()]).ok();
    }

    fn state(&self) -> Value {
        serde_json::from_str(&self.gabion(&["state", self.id()]).ok().out).unwrap()
    }
}

impl Drop for Rootless {
    fn drop(&mut self) {
        self.gabion(&["delete", "--force", self.id()]);
        if !std::thread::panicking() {
            self.user.nothing_left();
        }
    }
}

#[test]
fn gabion_s_own_rootless_spec_runs_hardened() {
    let rootless = Rootless::new("rootless-spec");
    rootless.args(&["/bin/sh", "-c", "id -u; ls /sys/class/net; exit 5"]);
    let done = rootless.run(&[]).fails_with(5);
    assert_eq!(done.out, "0\nlo\n", "{done}");
}

#[test]
fn runc_s_rootless_spec_is_refused_with_its_remedy_and_runs_permissive() {
    let rootless = Rootless::without_config("rootless-runc");
    let bundle = rootless.user.bundle.bundle().display().to_string();
    let runc = Path::new("/usr/sbin/runc");
    assert!(runc.exists(), "runc is installed");
    rootless
        .user
        .run(runc, &["spec", "--rootless", "--bundle", &bundle])
        .ok();
    rootless.args(&["/bin/echo", "in there"]);
    rootless.run(&[]).fails_with(1).says(&[
        "refused [namespaces.host-network]",
        r#"put {"type": "network"} without a host path into `linux.namespaces`"#,
    ]);
    assert_eq!(rootless.run(&["--level", "permissive"]).ok().out, "in there\n");
    rootless.change(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({ "type": "network" }));
    });
    assert_eq!(rootless.run(&[]).ok().out, "in there\n");
}

/// No cgroup is delegated: what gabion would add is warned of, and nobody claims that it holds.
#[test]
fn without_a_cgroup_it_runs_and_says_so() {
    let rootless = Rootless::new("rootless-nocgroup");
    rootless.args(&[
        "/bin/sh",
        "-c",
        "trap 'exit 7' USR1; sleep 600 & while :; do sleep 0.1; done",
    ]);
    let bundle = rootless.user.bundle.bundle().display().to_string();
    let check = rootless.gabion(&["check", "--format", "json", &bundle]).ok();
    let checked: Value = serde_json::from_str(&check.out).unwrap();
    for control in ["cgroup", "devices"] {
        let decision = checked["decisions"]
            .as_array()
            .unwrap()
            .iter()
            .find(|d| d["control"] == control);
        assert_eq!(decision.unwrap()["verdict"], "warned", "{check}");
    }

    rootless.run_detached();
    let pid = rootless.state()["pid"].as_i64().unwrap();
    let place = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    assert_eq!(place, own, "it stays where its caller is");

    let attest = rootless.gabion(&["attest", "--format", "json", rootless.id()]).ok();
    let report: Value = serde_json::from_str(&attest.out).unwrap();
    let facts = report["facts"].as_array().unwrap();
    for control in ["cgroup", "devices"] {
        let about: Vec<&Value> = facts
            .iter()
            .filter(|f| f["control"] == control && !f["expected"].as_str().unwrap().contains("read-only"))
            .collect();
        assert!(!about.is_empty(), "{attest}");
        assert!(about.iter().all(|f| f["holds"] == "not_available"), "{about:#?}");
    }

    let audit = fs::read_to_string(rootless.user.home().join(".local/state/gabion/audit.jsonl")).unwrap();
    let created = audit
        .lines()
        .find(|line| line.contains(r#""event":"run""#) || line.contains(r#""event":"create""#));
    assert!(created.unwrap().contains("none is delegated to this caller"), "{audit}");

    let exec = rootless.gabion(&["exec", rootless.id(), "sh", "-c", "echo in; exit 3"]);
    assert_eq!(exec.fails_with(3).out, "in\n");
    let listed = rootless.gabion(&["ps", "--format", "json", rootless.id()]).ok();
    let pids: Vec<i64> = serde_json::from_str(&listed.out).unwrap();
    assert!(pids.contains(&pid) && pids.len() >= 2, "{pids:?}");
    for (command, words) in [
        (vec!["pause", rootless.id()], "no freezer"),
        (vec!["events", "--stats", rootless.id()], "no cgroup"),
        (
            vec!["update", "--pids-limit", "9", rootless.id()],
            "[cgroup.controller-missing]",
        ),
    ] {
        rootless.gabion(&command).fails_with(1).says(&[words]);
    }
    // The sleep in the background does not know the trap: it ends by the signal, and the shell sees to itself.
    rootless.gabion(&["kill", "--all", rootless.id(), "USR1"]).ok();
    let ended = integration::command::until(integration::command::limit(20), || {
        rootless.state()["status"] == "stopped"
    });
    assert!(ended);
}

#[test]
fn what_is_asked_and_cannot_be_had_is_refused() {
    let rootless = Rootless::new("rootless-asks");
    rootless.args(&["/bin/true"]);
    rootless.change(|config| config["linux"]["resources"] = json!({ "pids": { "limit": 20 } }));
    rootless
        .run(&[])
        .fails_with(1)
        .says(&["refused [cgroup.controller-missing]", "delegate the controller"]);
    rootless
        .run(&["--level", "permissive"])
        .fails_with(1)
        .says(&["no cgroup is delegated"]);

    let path = format!("/{}/c", rootless.id());
    rootless.change(|config| {
        config["linux"]["resources"] = json!({});
        config["linux"]["cgroupsPath"] = json!(path);
    });
    rootless
        .run(&[])
        .fails_with(1)
        .says(&["refused [cgroup.not-delegated]", "leave `linux.cgroupsPath` out"]);
}

/// A directory of one v1 controller, given to the user as a login manager would.
struct Given(PathBuf);

impl Given {
    fn new(user: &User) -> Option<Self> {
        let top = Path::new("/sys/fs/cgroup/pids");
        if !top.join("cgroup.procs").exists() {
            integration::left_out("no pids hierarchy of cgroup v1 here");
            return None;
        }
        let dir = top.join(format!("user-{}", user.uid));
        fs::create_dir(&dir).unwrap();
        std::os::unix::fs::chown(&dir, Some(user.uid), Some(user.uid)).unwrap();
        Some(Self(dir))
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        let gone = integration::command::until(integration::command::limit(10), || fs::remove_dir(&self.0).is_ok());
        assert!(gone || std::thread::panicking(), "{} stays", self.0.display());
    }
}

#[test]
fn a_controller_that_is_delegated_is_used() {
    let rootless = Rootless::new("rootless-given");
    let Some(given) = Given::new(&rootless.user) else {
        return;
    };
    // In this order they go.
    let (rootless, given) = &(rootless, given);
    rootless.args(&["/bin/sleep", "600"]);
    let path = format!("/user-{}/c", rootless.user.uid);
    rootless.change(|config| {
        config["linux"]["cgroupsPath"] = json!(path);
        config["linux"]["resources"] = json!({ "pids": { "limit": 33 } });
    });
    rootless.run_detached();
    let pid = rootless.state()["pid"].as_i64().unwrap();
    let file = |name: &str| {
        fs::read_to_string(given.0.join("c").join(name))
            .unwrap()
            .trim()
            .to_owned()
    };
    assert_eq!((file("pids.max"), file("cgroup.procs")), ("33".into(), pid.to_string()));
    let attest = rootless.gabion(&["attest", "--format", "json", rootless.id()]).ok();
    assert!(attest.out.contains("pids.max 33"), "{attest}");
    rootless.gabion(&["update", "--pids-limit", "44", rootless.id()]).ok();
    assert_eq!(file("pids.max"), "44");
    rootless
        .gabion(&["update", "--memory", "64m", rootless.id()])
        .fails_with(1)
        .says(&["[cgroup.controller-missing]"]);
    rootless.gabion(&["exec", rootless.id(), "true"]).ok();
    rootless.gabion(&["delete", "--force", rootless.id()]).ok();
    assert!(!given.0.join("c").exists());
}

/// newuidmap and newgidmap write what the user may not.
#[test]
fn several_ids_are_mapped() {
    let rootless = Rootless::new("rootless-ids");
    let (uid, subids) = (rootless.user.uid, rootless.user.subids);
    rootless.change(|config| {
        let map = json!([
            { "containerID": 0, "hostID": uid, "size": 1 },
            { "containerID": 1, "hostID": subids, "size": 1000 }
        ]);
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
        config["process"]["user"] = json!({ "uid": 7, "gid": 8, "additionalGids": [9] });
    });
    rootless.args(&["/bin/sleep", "600"]);
    rootless.run_detached();
    let pid = rootless.state()["pid"].as_i64().unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = |key: &str| status.lines().find(|l| l.starts_with(key)).unwrap().to_owned();
    let ids = |id: u32| format!("{0}\t{0}\t{0}\t{0}", subids + id - 1);
    assert!(line("Uid:").ends_with(&ids(7)), "{status}");
    assert!(line("Gid:").ends_with(&ids(8)), "{status}");
    assert!(line("Groups:").contains(&(subids + 8).to_string()), "{status}");
    let exec = rootless.gabion(&["exec", "--user", "0", rootless.id(), "id"]).ok();
    assert!(exec.out.starts_with("uid=0"), "{exec}");
}

#[test]
fn state_and_log_have_places_of_the_user_s_own() {
    let mut rootless = Rootless::new("rootless-places");
    rootless.args(&["/bin/sleep", "600"]);
    rootless.run_detached();
    let state = rootless.user.run_dir().join("gabion");
    assert!(state.join(rootless.id()).join("state.json").exists());
    rootless.gabion(&["delete", "--force", rootless.id()]).ok();

    // Nobody has logged in, and nobody says where.
    rootless.user.set_env("XDG_RUNTIME_DIR", None);
    let elsewhere = rootless.user.home().join("state");
    rootless
        .user
        .set_env("XDG_STATE_HOME", Some(&elsewhere.display().to_string()));
    rootless.args(&["/bin/true"]);
    rootless
        .run(&[])
        .fails_with(1)
        .says(&["set XDG_RUNTIME_DIR", "give --root"]);
    assert_eq!(rootless.gabion(&["list", "--quiet"]).ok().out, "");
    let root = rootless.user.home().join("root").display().to_string();
    rootless.run(&["--root", &root]).ok();
    assert!(elsewhere.join("gabion/audit.jsonl").exists());
}

/// A binary that the user could write is not what runs: the container would have it written (CVE-2019-5736).
#[test]
fn a_binary_of_the_user_s_own_runs_from_a_sealed_copy() {
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;
    let rootless = Rootless::new("rootless-self");
    std::os::unix::fs::chown(&rootless.gabion, Some(rootless.user.uid), None).unwrap();
    rootless.args(&["/bin/true"]);
    let bundle = rootless.user.bundle.bundle().display().to_string();
    rootless.gabion(&["create", "--bundle", &bundle, rootless.id()]).ok();
    // Its first process still is gabion. It is held, since what runs cannot be written anyway.
    let pid = rootless.state()["pid"].as_i64().unwrap();
    let exe = format!("/proc/{pid}/exe");
    assert_eq!(fs::read_link(&exe).unwrap(), Path::new("/memfd:gabion (deleted)"));
    let held = fs::OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_PATH)
        .open(&exe)
        .unwrap();
    rootless.gabion(&["delete", "--force", rootless.id()]).ok();
    let path = format!("/proc/self/fd/{}", held.as_raw_fd());
    let mut written = None;
    integration::command::until(integration::command::limit(20), || {
        written = Some(
            fs::OpenOptions::new()
                .write(true)
                .open(&path)
                .and_then(|mut file| file.write_all(b"x")),
        );
        // Busy as long as the process is on its way out.
        !matches!(&written, Some(Err(e)) if e.raw_os_error() == Some(nix::libc::ETXTBSY))
    });
    let error = written.unwrap().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(nix::libc::EPERM), "{error}");
}

/// The usual place of a user's audit log is gabion's own, also where no policy names it (walls2 M-4).
#[test]
fn the_log_of_a_user_is_not_bound() {
    for (below, good) in [
        ("", false),
        (".local/state", false),
        (".local/state/gabion", false),
        (".local/share/data", true),
    ] {
        let rootless = Rootless::new("rootless-log");
        rootless.args(&["/bin/true"]);
        // The log is there from the first container on.
        rootless.run(&[]).ok();
        let source = rootless.user.home().join(below);
        if good {
            fs::create_dir_all(&source).unwrap();
            let uid = Some(rootless.user.uid);
            for dir in [".local/share", ".local/share/data"] {
                std::os::unix::fs::chown(rootless.user.home().join(dir), uid, uid).unwrap();
            }
        }
        rootless.change(|config| {
            let mount = json!({ "destination": "/data", "type": "bind", "source": source, "options": ["rbind", "rw"] });
            config["mounts"].as_array_mut().unwrap().push(mount);
        });
        let done = rootless.run(&[]);
        let refused = done.err.contains("refused [mounts.host-path]");
        assert_eq!(refused, !good, "{below}: {done}");
        assert_eq!(done.code == 0, good, "{below}: {done}");
    }
}
