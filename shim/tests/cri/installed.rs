//! docs/INSTALL.md followed to the letter on a machine of its own, a node: containerd as systemd's service with Debian's own
//! configuration, `hack/install`, what that asks the operator to do, pods by both handlers, `hack/uninstall`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::common::host::{Ran, run, until};
use super::common::{IMAGE, SHIM, SOON, image};
use super::grpc::{Status, call};
use super::kubelet::assert_refused;
use super::pods::Config;

const HACK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../hack");
const CONFIG: &str = "/etc/containerd/config.toml";
const SOCKET: &str = "/run/containerd/containerd.sock";
const SELINUX: &str = "/sys/fs/selinux/enforce";
/// A node's image has it, so that containerd runs where a test asks for it only.
const MASK: &str = "/etc/systemd/system/containerd.service";
const PROGRAMS: [&str; 2] = ["/usr/local/bin/gabion", "/usr/local/bin/containerd-shim-gabion-v2"];

/// The machine, and what of it is put back in the end.
struct Machine {
    dir: PathBuf,
    programs: PathBuf,
}

impl Machine {
    fn new() -> Self {
        let dir = PathBuf::from(format!("/tmp/gabion-installed-{}", std::process::id()));
        let programs = dir.join("programs");
        fs::create_dir_all(&programs).unwrap();
        // Nothing of ours is installed; the node has them without any installation.
        for program in PROGRAMS {
            fs::copy(program, programs.join(Path::new(program).file_name().unwrap())).unwrap();
            fs::remove_file(program).unwrap();
        }
        fs::remove_file(MASK).unwrap();
        let machine = Self { dir, programs };
        // SELinux: what containerd says must not be lost, and it writes to few kinds of a caller's files.
        if Path::new(SELINUX).exists() {
            machine.prepare_for_selinux();
        }
        machine.systemctl(&["daemon-reload"]);
        machine.systemctl(&["start", "containerd"]);
        machine
    }

    /// As docs/INSTALL.md has it for nodes with SELinux.
    fn prepare_for_selinux(&self) {
        let dir = self.dir.to_str().unwrap();
        self.command("chcon", &["-t", "container_file_t", dir]).ok();
        self.command("chcon", &["-R", "-t", "bin_t", "/usr/lib/cni"]).ok();
        let text = fs::read_to_string(CONFIG).unwrap();
        let section = "[plugins.\"io.containerd.grpc.v1.cri\"]\n";
        assert!(text.contains(section), "{text}");
        let more = format!("{section}    enable_selinux = true\n");
        fs::write(CONFIG, text.replace(section, &more)).unwrap();
    }

    /// Whether hack/install's module is loaded. By a pipe: semodule may not write to a test's file.
    fn has_module(&self) -> bool {
        let loaded = self.command("sh", &["-c", "semodule -l | cat"]).out;
        loaded.lines().any(|module| module.trim() == "gabion-debian")
    }

    fn command(&self, program: &str, words: &[&str]) -> Ran {
        let mut command = Command::new(program);
        command.args(words);
        run(command, &self.dir, None, 5 * SOON)
    }

    fn systemctl(&self, words: &[&str]) {
        let ran = self.command("systemctl", words);
        let journal = self
            .command("journalctl", &["--no-pager", "-n", "40", "-u", "containerd"])
            .out;
        assert!(ran.status.success(), "{words:?}: {ran:?}\n{journal}");
    }

    fn install(&self, more: &[&str]) -> Ran {
        let from = Path::new(SHIM).parent().unwrap().to_str().unwrap();
        let words = [&["--from", from, "--containerd", "--podman"], more].concat();
        self.command(&format!("{HACK}/install"), &words).ok()
    }

    /// What hack/install asks for stands between blank lines: the lines that are TOML.
    fn obey(said: &str) {
        let text = fs::read_to_string(CONFIG).unwrap();
        if let Some(at) = said.find("imports = [") {
            let line = said[at..].lines().next().unwrap();
            fs::write(CONFIG, format!("{line}\n{text}")).unwrap();
        } else {
            // At a line's beginning: above it stands, set in, what the file says already.
            let at = said
                .find("\n[plugins.")
                .unwrap_or_else(|| panic!("nothing is asked for: {said}"));
            let lines = &said[at + 1..];
            let lines = &lines[..lines.find("\n\n").unwrap()];
            fs::write(CONFIG, format!("{text}\n{lines}\n")).unwrap();
        }
    }

    fn ctr(&self, words: &[&str]) {
        self.command("ctr", &[&["--namespace", "k8s.io"], words].concat()).ok();
    }

    /// The images that the pods need, one of them under the name that this containerd's sandboxes have; and their network.
    fn provide(&self) {
        let archive = image::make(&self.dir);
        self.ctr(&["images", "import", archive.to_str().unwrap()]);
        let dump = self.command("containerd", &["config", "dump"]).ok().out;
        let sandbox = dump.lines().find_map(|line| {
            let (key, value) = line.trim().split_once(" = ")?;
            ["sandbox_image", "sandbox"]
                .contains(&key)
                .then(|| value.trim_matches(['"', '\'']))
        });
        let sandbox = sandbox.expect("the name of the sandbox's image");
        self.ctr(&["images", "tag", image::PAUSE, sandbox]);
        for image in [IMAGE, sandbox] {
            until(SOON, "the images are known", || {
                let answer = call(
                    Path::new(SOCKET),
                    "ImageStatus",
                    &json!({ "image": { "image": image } }),
                )
                .ok()?;
                answer["image"]["id"].is_string().then_some(())
            });
        }
        let network = json!({ "cniVersion": "0.4.0", "name": "net", "plugins": [{ "type": "bridge", "bridge": "cni-test",
            "ipam": { "type": "host-local", "subnet": "10.98.0.0/24" } }] });
        fs::create_dir_all("/etc/cni/net.d").unwrap();
        fs::write("/etc/cni/net.d/10-test.conflist", network.to_string()).unwrap();
        until(SOON, "containerd has the network", || {
            let status = call(Path::new(SOCKET), "Status", &json!({})).ok()?;
            let ready = |one: &Value| one["type"] == "NetworkReady" && one["status"] == true;
            status["status"]["conditions"]
                .as_array()?
                .iter()
                .any(ready)
                .then_some(())
        });
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for program in PROGRAMS {
            let name = Path::new(program).file_name().unwrap();
            let _put_back = fs::copy(self.programs.join(name), program);
        }
        let _stopped = Command::new("systemctl").args(["stop", "containerd"]).status();
        let _masked = std::os::unix::fs::symlink("/dev/null", MASK);
        let _gone = fs::remove_file("/etc/cni/net.d/10-test.conflist");
        let _gone = Command::new("ip").args(["link", "delete", "cni-test"]).status();
        let _gone = fs::remove_dir_all("/var/log/pods-of-the-test");
        let _gone = fs::remove_dir_all(&self.dir);
    }
}

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Every file below `dirs` with its content; symlinks with where they lead.
fn files(dirs: &[&str]) -> Files {
    let mut found = BTreeMap::new();
    let mut todo: Vec<PathBuf> = dirs.iter().map(PathBuf::from).collect();
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            if kind.is_dir() {
                todo.push(path);
            } else if kind.is_symlink() {
                let target = fs::read_link(&path).unwrap();
                found.insert(path, target.into_os_string().into_encoded_bytes());
            } else {
                let content = fs::read(&path).unwrap();
                found.insert(path, content);
            }
        }
    }
    found
}

fn cri(method: &str, request: &Value) -> Result<Value, Status> {
    call(Path::new(SOCKET), method, request)
}

fn pod(name: &str) -> Value {
    json!({ "metadata": { "name": name, "uid": format!("{name}-uid"), "namespace": "default" }, "hostname": name,
        "log_directory": "/var/log/pods-of-the-test", "linux": { "cgroup_parent": "/test.slice",
        "security_context": { "namespace_options": { "pid": "CONTAINER" } } } })
}

fn run_pod(config: &Value, handler: &str) -> Result<String, Status> {
    let answer = cri(
        "RunPodSandbox",
        &json!({ "config": config, "runtime_handler": handler }),
    )?;
    Ok(answer["pod_sandbox_id"].as_str().unwrap().to_owned())
}

fn start(config: &Value, sandbox: &str, container: &Config) -> Result<String, Status> {
    let request = json!({ "pod_sandbox_id": sandbox, "config": container.0, "sandbox_config": config });
    let id = cri("CreateContainer", &request)?["container_id"]
        .as_str()
        .unwrap()
        .to_owned();
    cri("StartContainer", &json!({ "container_id": id })).map(|_| id)
}

fn pods_by_both_handlers(machine: &Machine) -> Vec<String> {
    machine.provide();
    let config = pod("web");
    let sandbox = run_pod(&config, "gabion").unwrap();
    let id = start(&config, &sandbox, &Config::sleeper("main")).unwrap();
    let request = json!({ "container_id": id, "cmd": ["sh", "-c", "touch /file || id -u"], "timeout": 60 });
    let answer = cri("ExecSync", &request).unwrap();
    let out = super::base64::decode(answer["stdout"].as_str().unwrap());
    assert_eq!(
        (answer["exit_code"].as_i64(), out.as_str()),
        (Some(0), "0\n"),
        "{answer}"
    );
    for container in [&sandbox, &id] {
        // Without `--root` it looks in every containerd's.
        let attested = machine.command(PROGRAMS[0], &["attest", container]);
        // Debian's SELinux policy does not show device programs to gabion: one row is unknown there, and the others hold.
        let blind = attested.out.contains("devices       unknown") && attested.out.contains(" 1 unknown)");
        if !(Path::new(SELINUX).exists() && attested.code() == Some(4) && blind) {
            attested.ok();
        }
    }
    let mut host = pod("host");
    host["hostname"] = json!("");
    host["linux"]["security_context"]["namespace_options"]["network"] = json!("NODE");
    assert_refused(run_pod(&host, "gabion"), "namespaces.host-network");
    let strict = pod("strict");
    let restricted = run_pod(&strict, "gabion-restricted").unwrap();
    assert_refused(start(&strict, &restricted, &Config::sleeper("root")), "user.root");
    vec![sandbox, restricted]
}

#[test]
fn a_node_installed_by_the_book_runs_pods_and_is_left_as_it_was() {
    if std::env::var_os("GABION_NODE").is_none() {
        println!("LEFT OUT: it changes this machine's /etc, and so runs in nodes only");
        return;
    }
    let machine = Machine::new();
    let dirs = ["/etc", "/usr/local", "/var/lib/gabion"];
    let files = |dirs: &[&str]| {
        let mut found = files(dirs);
        // Compiled anew with every module, and by Debian's tools in every state of it: what is loaded is asked for below.
        found.retain(|path, _| !path.starts_with("/etc/selinux"));
        // The head of the audit log: each record changes it, and it stays with the log.
        found.retain(|path, _| !path.ends_with("audit.head"));
        found
    };
    let before = files(&dirs);
    let would = machine.install(&["--dry-run"]);
    assert_eq!(differences(&files(&dirs), &before), [""; 0], "{would:?}");
    let first = machine.install(&[]);
    assert_containers_ran(&first);
    Machine::obey(&first.out);
    machine.systemctl(&["restart", "containerd"]);
    let installed = files(&dirs);
    // Nothing is left to do, and nothing to ask for.
    let second = machine.install(&[]);
    assert_eq!(differences(&files(&dirs), &installed), [""; 0], "{second:?}");
    assert!(
        !second.out.contains("plugins.") && !second.out.contains("imports ="),
        "{second:?}"
    );
    assert_containers_ran(&second);

    let sandboxes = pods_by_both_handlers(&machine);
    let uninstall = format!("{HACK}/uninstall");
    let refused = machine.command(&uninstall, &[]);
    assert!(
        refused.code() == Some(1) && refused.err.contains(&sandboxes[0]),
        "{refused:?}"
    );
    for sandbox in &sandboxes {
        cri("StopPodSandbox", &json!({ "pod_sandbox_id": sandbox })).unwrap();
        cri("RemovePodSandbox", &json!({ "pod_sandbox_id": sandbox })).unwrap();
    }
    assert_eq!(machine.has_module(), Path::new(SELINUX).exists());
    machine.command(&uninstall, &[]).ok();
    assert!(!machine.has_module());
    // What the operator did stays: it is not ours.
    let mut expected = before;
    for operators in [CONFIG, "/etc/cni/net.d/10-test.conflist"] {
        expected.insert(operators.into(), fs::read(operators).unwrap());
    }
    assert_eq!(differences(&files(&dirs), &expected), [""; 0]);
    // Its handlers may stand there without our shim, and others run.
    machine.systemctl(&["restart", "containerd"]);
    machine.ctr(&[
        "run",
        "--rm",
        "--runtime",
        "io.containerd.runc.v2",
        IMAGE,
        "after",
        "true",
    ]);
}

/// hack/install ends with a container by each of those that it installed gabion for.
fn assert_containers_ran(installed: &Ran) {
    for by in ["gabion", "podman", "containerd"] {
        let line = format!("ran            a container by {by}:");
        assert!(installed.out.contains(&line), "{by}: {installed:?}");
    }
}

/// The files that are in one only or not the same: binaries are not for messages.
fn differences(one: &Files, other: &Files) -> Vec<String> {
    let paths = one.keys().chain(other.keys());
    let differ = paths.filter(|path| one.get(*path) != other.get(*path));
    differ.map(|path| path.display().to_string()).collect()
}
