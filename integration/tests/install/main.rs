//! hack/install and hack/uninstall: below a directory of their own, and on a machine of their own, which is a mount namespace
//! with its own /etc, /usr/local, /var and /run, the real containerd and the real podman.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code: a panic is how a test fails"
)]

mod engines;
mod kept;

use integration::binaries;
use integration::command::{Done, Running, limit, run, until};
use integration::{Bundle, Runtime};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const HACK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../hack");
const DROP_IN: &str = "etc/containerd/conf.d/gabion.toml";
/// What an operator of containerd 1.x commonly has said of CRI.
const CRI_SECTION: &str = "[plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = \"registry.example/pause:1\"\n";

/// A directory of the test's own, the programs to install, and a root to install below.
struct Place {
    bundle: Bundle,
    root: PathBuf,
}

impl Place {
    fn new(test: &str) -> Self {
        Self::new_with(test, |at, name| {
            let own = match name {
                "containerd-shim-gabion-v2" => binaries::shim(),
                name => Runtime::gabion().program.with_file_name(name),
            };
            fs::copy(own, at).unwrap();
        })
    }

    fn new_with(test: &str, program: impl Fn(&Path, &str)) -> Self {
        let bundle = Bundle::new(test);
        let (root, from) = (bundle.dir.join("root"), bundle.dir.join("from"));
        fs::create_dir_all(root.join("etc/apparmor.d")).unwrap();
        fs::create_dir(&from).unwrap();
        for name in ["gabion", "gabionctl", "containerd-shim-gabion-v2"] {
            if name != "gabionctl" || binaries::has_ctl() {
                program(&from.join(name), name);
                fs::set_permissions(from.join(name), fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        Self { bundle, root }
    }

    /// With programs of a line each: where nothing runs them, hashing and copying real ones only takes time.
    fn small(test: &str) -> Self {
        let place = Self::new_with(test, |at, name| {
            fs::write(at, format!("#!/bin/sh\n# {name}\n")).unwrap();
        });
        // As on every machine.
        fs::create_dir_all(place.root.join("var/lib")).unwrap();
        place
    }

    fn script(&self, name: &str, args: &[&str]) -> Done {
        let mut command = Command::new(Path::new(HACK).join(name));
        if name == "install" {
            command.arg("--from").arg(self.bundle.dir.join("from"));
        }
        command.args(args);
        // Where who runs the tests keeps such things is nothing to them.
        for name in [
            "CONTAINERS_CONF",
            "CONTAINERS_STORAGE_CONF",
            "STORAGE_DRIVER",
            "STORAGE_OPTS",
        ] {
            command.env_remove(name);
        }
        Running::start(command, &self.bundle.dir).wait(limit(300))
    }

    /// Below the root, as the tree of a machine.
    fn below(&self, name: &str, args: &[&str]) -> Done {
        let root = self.root.to_str().unwrap();
        self.script(name, &[&["--image", root], args].concat())
    }

    /// With programs of the test's own before the machine's.
    fn with_path(&self, name: &str, args: &[&str], path: &str) -> Done {
        let mut command = Command::new(Path::new(HACK).join(name));
        command.arg("--image").arg(&self.root).args(args).env("PATH", path);
        if name == "install" {
            command.arg("--from").arg(self.bundle.dir.join("from"));
        }
        Running::start(command, &self.bundle.dir).wait(limit(60))
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap()
    }

    fn config(&self, text: &str) {
        fs::create_dir_all(self.root.join("etc/containerd")).unwrap();
        fs::write(self.root.join("etc/containerd/config.toml"), text).unwrap();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Only a machine of its own has it, and this thread is still in there.
        umount2(&self.bundle.dir.join("layers"), MntFlags::MNT_DETACH).ok();
        fs::remove_dir_all(&self.root).ok();
    }
}

/// Every file and directory below `dirs`, with a hash of the files' content: binaries are not for failure messages.
fn tree(dirs: &[&Path]) -> BTreeMap<PathBuf, Option<u64>> {
    let mut found = BTreeMap::new();
    let mut todo: Vec<PathBuf> = dirs.iter().map(|dir| dir.to_path_buf()).collect();
    while let Some(dir) = todo.pop() {
        // One that is not there is as empty as it can be.
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                todo.push(path.clone());
                found.insert(path, None);
            } else {
                let content = hash(&fs::read(&path).unwrap_or_default());
                found.insert(path, Some(content));
            }
        }
    }
    found
}

fn hash(content: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}

fn verbs(done: &Done) -> Vec<&str> {
    let words = |line: &str| line.contains(" /") && !line.starts_with(' ');
    let lines = done.out.lines().filter(|line| words(line));
    lines.map(|line| line.split_whitespace().next().unwrap()).collect()
}

#[test]
fn a_second_run_changes_nothing_and_uninstall_takes_back_exactly_what_was_written() {
    let place = Place::small("install-twice");
    place.config("version = 2\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n");
    let before = tree(&[&place.root]);
    let all = ["--containerd", "--podman", "--prefix", "/opt/gabion"];

    place.below("install", &[&all[..], &["--dry-run"]].concat()).ok();
    assert_eq!(tree(&[&place.root]), before, "--dry-run writes nothing");

    let first = place.below("install", &all).ok();
    // The binaries, and six files.
    let files = if binaries::has_ctl() { 9 } else { 8 };
    assert_eq!(verbs(&first), vec!["write"; files], "{first}");
    let installed = tree(&[&place.root]);
    let record = place.root.join("var/lib/gabion/installed");
    let mut check = Command::new("sha256sum");
    // As an administrator would: the record is sha256sum's own format.
    let text = fs::read_to_string(&record).unwrap();
    let here = place.bundle.dir.join("sums");
    fs::write(&here, text.replace("  /", &format!("  {}/", place.root.display()))).unwrap();
    check.arg("--check").arg(&here);
    run(check, &place.bundle.dir).ok();
    let drop_in = fs::read_to_string(place.root.join(DROP_IN)).unwrap();
    assert!(
        drop_in.contains("runtime_path = \"/opt/gabion/bin/containerd-shim-gabion-v2\""),
        "{drop_in}"
    );

    let second = place.below("install", &all).ok();
    assert_eq!(verbs(&second), vec!["unchanged"; files], "{second}");
    assert_eq!(tree(&[&place.root]), installed);

    // An upgrade: a new binary replaces ours; a policy that somebody changed stays.
    fs::write(place.bundle.dir.join("from/gabion"), "#!/bin/sh\n").unwrap();
    let policy = place.root.join("etc/gabion/policy.toml");
    fs::write(&policy, "lock = true\ncri = \"containerd\"\n").unwrap();
    let third = place.below("install", &all).ok();
    assert!(third.out.contains("replace        /opt/gabion/bin/gabion"), "{third}");
    assert!(third.out.contains("left           /etc/gabion/policy.toml"), "{third}");
    assert_eq!(
        fs::read(place.root.join("opt/gabion/bin/gabion")).unwrap(),
        b"#!/bin/sh\n"
    );

    let gone = place.below("uninstall", &[]).ok();
    assert!(gone.out.contains("left           /etc/gabion/policy.toml"), "{gone}");
    let mut expected = before;
    expected.insert(place.root.join("etc/gabion"), None);
    expected.insert(policy, Some(hash(b"lock = true\ncri = \"containerd\"\n")));
    assert_eq!(tree(&[&place.root]), expected);
    place
        .below("uninstall", &[])
        .fails_with(1)
        .says(&["nothing was installed"]);
}

#[test]
fn somebody_else_s_program_is_refused_before_anything_is_written() {
    let place = Place::small("install-foreign");
    fs::create_dir_all(place.root.join("usr/local/bin")).unwrap();
    fs::write(place.root.join("usr/local/bin/gabion"), "another").unwrap();
    let before = tree(&[&place.root]);
    place
        .below("install", &["--podman"])
        .fails_with(1)
        .says(&["/usr/local/bin/gabion is not what hack/install wrote", "remedy"]);
    assert_eq!(tree(&[&place.root]), before);
}

#[test]
fn what_containerd_would_lose_by_a_drop_in_is_never_written() {
    let place = Place::small("install-cri");
    let config = format!("version = 2\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n{CRI_SECTION}");
    place.config(&config);
    let done = place.below("install", &["--containerd"]).ok();
    assert!(!place.root.join(DROP_IN).exists(), "{done}");
    let lines = asked_lines(&done);
    // As the operator is asked to: then containerd has both, and the next run asks for nothing.
    place.config(&format!("{config}{lines}\n"));
    let mut dump = Command::new("containerd");
    dump.arg("--config").arg(place.root.join("etc/containerd/config.toml"));
    dump.args(["config", "dump"]);
    let dump = run(dump, &place.bundle.dir).ok();
    for part in [
        "registry.example/pause:1",
        "runtimes.gabion]",
        // Without a word of its own it would be gone as soon as another handler is named.
        "runtimes.runc]",
        "runtimes.gabion-restricted]",
        "/etc/gabion/containerd-restricted.toml",
    ] {
        assert!(dump.out.contains(part), "{part}: {dump}");
    }
    let again = place.below("install", &["--containerd"]).ok();
    assert!(again.out.contains("has the handlers"), "{again}");
    assert!(!place.root.join(DROP_IN).exists());
}

#[test]
fn an_import_of_somebody_s_cri_section_is_not_masked_either() {
    let place = Place::small("install-import");
    // It is imported by its real path, so that containerd finds it.
    let other = place.root.join("other.toml");
    let text = format!("version = 2\n{CRI_SECTION}");
    fs::write(&other, &text).unwrap();
    let config = format!("version = 2\nimports = [\"{}\"]\n", other.display());
    place.config(&config);
    let done = place.below("install", &["--containerd"]).ok();
    assert!(!place.root.join(DROP_IN).exists(), "{done}");
    // In config.toml the handlers would be masked by that file.
    assert!(done.out.contains("/other.toml"), "{done}");
    fs::write(&other, format!("{text}{}\n", asked_lines(&done))).unwrap();
    let again = place.below("install", &["--containerd"]).ok();
    assert!(again.out.contains("has the handlers"), "{again}");
}

#[test]
fn a_handler_that_is_there_already_is_not_asked_for_twice() {
    let place = Place::small("install-half");
    let config = format!(
        "version = 2\n{CRI_SECTION}\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.gabion]\n  runtime_type = \"io.containerd.gabion.v2\"\n"
    );
    place.config(&config);
    let done = place.below("install", &["--containerd"]).ok();
    place.config(&format!("{config}{}\n", asked_lines(&done)));
    let again = place.below("install", &["--containerd"]).ok();
    assert!(again.out.contains("has the handlers"), "{again}");
}

/// The lines that hack/install asks the operator to add: from the first handler to the blank line.
fn asked_lines(done: &Done) -> &str {
    let start = done
        .out
        .find("\n[plugins.")
        .unwrap_or_else(|| panic!("no handlers: {done}"));
    let lines = &done.out[start + 1..];
    &lines[..lines.find("\n\n").unwrap()]
}

#[test]
fn uninstall_waits_for_the_last_container() {
    let place = Place::small("install-busy");
    place.below("install", &[]).ok();
    let state = place.root.join("run/gabion/web");
    fs::create_dir_all(&state).unwrap();
    fs::write(state.join("state.json"), "{}").unwrap();
    place
        .below("uninstall", &[])
        .fails_with(1)
        .says(&["containers of gabion: web", "remedy"]);
    assert!(place.root.join("usr/local/bin/gabion").exists());
    place.below("uninstall", &["--force"]).ok();
    assert!(!place.root.join("usr/local/bin/gabion").exists());
}

/// What engines keep, what is said to them, and what hack/install writes: no machine of a test's own has any of it yet.
const NOT_YET: [&str; 13] = [
    "etc/apparmor.d/gabion-default",
    "etc/containerd",
    "etc/containers/containers.conf",
    "etc/containers/containers.conf.d",
    "etc/containers/storage.conf",
    "etc/gabion",
    "usr/local/bin/containerd-shim-gabion-v2",
    "usr/local/bin/gabion",
    "usr/local/bin/gabionctl",
    "var/lib/cni",
    "var/lib/containerd",
    "var/lib/containers",
    "var/lib/gabion",
];

/// podman's storage as it works on every file system: on an overlay, which the machine's /var is, no other overlay may lie. By the
/// machine's configuration, for podman 4.3 forgets what STORAGE_DRIVER says as soon as it finds an `overlay` in its storage, and leaves one there itself.
const STORAGE: &str =
    "[storage]\ndriver = \"vfs\"\nrunroot = \"/run/containers/storage\"\ngraphroot = \"/var/lib/containers/storage\"\n";

/// This thread's own view of the machine from here on, and that of everything it starts.
fn own_machine(dir: &Path) {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    // In memory: where /tmp is an overlay itself, nothing can be written on top of it.
    let layers = dir.join("layers");
    fs::create_dir(&layers).unwrap();
    mount(Some("tmpfs"), &layers, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    for name in ["etc", "usr/local", "var"] {
        let (upper, work) = (layers.join("upper").join(name), layers.join("work").join(name));
        fs::create_dir_all(&upper).unwrap();
        fs::create_dir_all(&work).unwrap();
        for hidden in NOT_YET
            .iter()
            .filter_map(|path| Path::new(path).strip_prefix(name).ok())
        {
            // A whiteout: as if the layer below had nothing of that name.
            let at = upper.join(hidden);
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            mknod(&at, SFlag::S_IFCHR, Mode::empty(), makedev(0, 0)).unwrap();
        }
        let data = format!(
            "lowerdir=/{name},upperdir={},workdir={}",
            upper.display(),
            work.display()
        );
        mount(
            Some("overlay"),
            &Path::new("/").join(name),
            Some("overlay"),
            MsFlags::empty(),
            Some(&*data),
        )
        .unwrap();
    }
    // podman's locks are in /dev/shm, and a podman that finds an empty /run frees all that it finds there.
    for (place, mode) in [
        ("/run", "mode=755"),
        ("/var/log", "mode=755"),
        ("/dev/shm", "mode=1777"),
    ] {
        mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::empty(), Some(mode)).unwrap();
    }
    fs::create_dir_all("/etc/containers").unwrap();
    fs::write("/etc/containers/storage.conf", STORAGE).unwrap();
}

/// containerd with the machine's own config, as its service starts it.
struct Containerd(Child);

impl Containerd {
    fn start(dir: &Path) -> Self {
        let log = fs::File::create(dir.join("containerd.log")).unwrap();
        let child = Command::new("containerd")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let answers = || {
            let done = Command::new("ctr").arg("version").output();
            done.is_ok_and(|output| output.status.success())
        };
        let this = Self(child);
        assert!(
            until(limit(60), answers),
            "containerd does not answer: {}",
            fs::read_to_string(dir.join("containerd.log")).unwrap()
        );
        this
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// What the CRI plugin says of its configuration: `Status` with `verbose`, in gRPC by hand.
fn cri_status(dir: &Path) -> String {
    let request = dir.join("status-request");
    fs::write(&request, [0, 0, 0, 0, 2, 8, 1]).unwrap();
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", "20", "--http2-prior-knowledge"]);
    curl.args(["--unix-socket", "/run/containerd/containerd.sock"]);
    curl.args([
        "-H",
        "content-type: application/grpc",
        "-H",
        "te: trailers",
        "--data-binary",
    ]);
    curl.arg(format!("@{}", request.display()));
    curl.args(["--output", "-", "http://containerd/runtime.v1.RuntimeService/Status"]);
    String::from_utf8_lossy(&curl.output().unwrap().stdout).into_owned()
}

/// In a thread that ends with the test: the harness may use its own for the next one.
fn on_a_machine_of_its_own(test: fn()) {
    let machine = std::thread::Builder::new().name("machine".into()).spawn(test);
    if let Err(panic) = machine.unwrap().join() {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn a_machine_gets_its_handlers_and_runs_containers_by_all_three() {
    on_a_machine_of_its_own(install_on_a_machine);
}

#[test]
fn a_config_that_containerd_cannot_read_is_neither_made_nor_built_upon() {
    on_a_machine_of_its_own(install_beside_a_broken_config);
}

#[test]
fn a_second_name_has_a_policy_of_its_own_also_after_a_restart() {
    on_a_machine_of_its_own(run_by_a_second_name);
}

/// Does something at a test's end, however it ends.
struct Gone<F: Fn()>(F);
impl<F: Fn()> Drop for Gone<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// podman stores the path of a container's runtime, and none of its flags.
fn run_by_a_second_name() {
    if Command::new("podman").arg("--version").output().is_err() {
        integration::left_out("no podman here");
        return;
    }
    let bundle = Bundle::with_busybox("second-name");
    own_machine(&bundle.dir);
    let own = &Runtime::gabion().program;
    for name in ["gabion", "gabionctl"] {
        fs::copy(own.with_file_name(name), Path::new("/usr/local/bin").join(name)).unwrap();
    }
    let second = "/usr/local/bin/gabion-ci";
    std::os::unix::fs::symlink("gabion", second).unwrap();
    let call = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        command.args(args);
        for name in [
            "CONTAINERS_CONF",
            "CONTAINERS_STORAGE_CONF",
            "STORAGE_DRIVER",
            "STORAGE_OPTS",
        ] {
            command.env_remove(name);
        }
        Running::start(command, &bundle.dir).wait(limit(60))
    };
    let rootfs = bundle.rootfs().display().to_string();
    let name = bundle.name.clone();
    let run = |runtime: &str| {
        let fixed = [
            "--cgroup-manager=cgroupfs",
            "--events-backend=file",
            "--runtime",
            runtime,
        ];
        let container = [
            "run",
            "-d",
            "--name",
            &name,
            "--network",
            "none",
            "--cap-add",
            "NET_ADMIN",
        ];
        let limits = ["--ulimit", "nofile=1024", "--ulimit", "nproc=1024", "--rootfs", &rootfs];
        let words = [&fixed[..], &container, &limits, &["/usr/bin/sleep", "600"]].concat();
        call("podman", &words)
    };
    let podman = |args: &[&str]| {
        call(
            "podman",
            &[&["--cgroup-manager=cgroupfs", "--events-backend=file"][..], args].concat(),
        )
    };
    // Whatever fails below, the container ends here, where podman can be asked.
    let _gone = Gone(|| {
        podman(&["rm", "--force", "--time", "0", "--ignore", &name]);
        umount2(&bundle.dir.join("layers"), MntFlags::MNT_DETACH).ok();
    });

    let failed = |done: Done| {
        assert_ne!(done.code, 0, "{done}");
        done
    };

    // A name without its file starts nothing.
    fs::create_dir_all("/etc/gabion/runtimes").unwrap();
    failed(run(second)).says(&["/etc/gabion/runtimes/ci.toml", "the file is missing"]);
    podman(&["rm", "--force", "--ignore", &name]).ok();
    let file = Path::new("/etc/gabion/runtimes/ci.toml");
    fs::write(file, "[capabilities]\nallow = [\"CAP_NET_ADMIN\"]\n").unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    // By the plain name it is refused: the second name's file is nobody else's.
    failed(run("/usr/local/bin/gabion")).says(&["refused [capabilities.not-allowed]"]);
    podman(&["rm", "--force", "--ignore", &name]).ok();

    run(second).ok();
    podman(&["restart", "--time", "0", &name]).ok();
    let state = podman(&["inspect", "--format", "{{.State.Status}}", &name]).ok();
    assert_eq!(state.out.trim(), "running");
    let show = call(second, &["policy", "show"]).ok();
    assert!(
        show.out.starts_with("/etc/gabion/runtimes/ci.toml, level hardened"),
        "{show}"
    );

    // A broken policy keeps new containers from starting, and what runs goes on, can be entered, listed and ended.
    fs::write(file, "levle = \"hardened\"\n").unwrap();
    podman(&["exec", &name, "/usr/bin/true"]).ok();
    let listed = call(second, &["list", "--quiet"]).ok();
    assert!(!listed.out.trim().is_empty(), "{listed}");
    podman(&["stop", "--time", "0", &name]).ok();
    failed(podman(&["start", &name])).says(&["line 1, column 1", "levle"]);

    // The lock binds the name as it binds a flag.
    fs::write(file, "lock = true\n[capabilities]\nallow = [\"CAP_NET_ADMIN\"]\n").unwrap();
    fs::write("/etc/gabion/policy.toml", "lock = true\n").unwrap();
    failed(podman(&["start", &name])).says(&["is locked, and this one is weaker: `capabilities.allow`"]);
}

fn install_beside_a_broken_config() {
    let place = Place::new("install-broken");
    own_machine(&place.bundle.dir);
    let config = Path::new("/etc/containerd/config.toml");
    fs::create_dir_all("/etc/containerd/conf.d").unwrap();
    let places = ["/etc/containerd", "/etc/gabion", "/usr/local/bin"].map(Path::new);

    fs::write(config, "version = 2\n[x\n").unwrap();
    let before = tree(&places);
    let refused = place.script("install", &["--containerd"]).fails_with(1);
    refused.says(&["containerd cannot read /etc/containerd/config.toml", "remedy"]);
    assert_eq!(tree(&places), before, "nothing is written");

    // A containerd that reads what it is shown, and not what is then there: no more is believed of it than what it prints.
    let real = Command::new("sh")
        .args(["-c", "command -v containerd"])
        .output()
        .unwrap();
    let real = String::from_utf8(real.stdout).unwrap();
    let fake = place.bundle.dir.join("bin/containerd");
    fs::create_dir(fake.parent().unwrap()).unwrap();
    let text = format!(
        "#!/bin/sh\n[ ! -e /{DROP_IN} ] || {{ echo 'containerd: it does not like that' >&2; exit 1; }}\nexec {} \"$@\"\n",
        real.trim()
    );
    fs::write(&fake, text).unwrap();
    fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
    for text in [
        "version = 2\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n",
        "version = 2\n",
        "",
    ] {
        match text {
            "" => fs::remove_file(config).unwrap(),
            text => fs::write(config, text).unwrap(),
        }
        let before = tree(&places[..1]);
        let path = format!(
            "{}:{}",
            fake.parent().unwrap().display(),
            std::env::var("PATH").unwrap()
        );
        let mut install = Command::new(Path::new(HACK).join("install"));
        install.arg("--from").arg(place.bundle.dir.join("from"));
        install.arg("--containerd").env("PATH", path);
        let refused = Running::start(install, &place.bundle.dir)
            .wait(limit(300))
            .fails_with(1)
            .says(&["containerd: it does not like that", "remedy"]);
        assert_eq!(tree(&places[..1]), before, "{text}: {refused}");
    }
}

fn install_on_a_machine() {
    let place = Place::new("install-machine");
    let dir = place.bundle.dir.clone();
    own_machine(&dir);
    let private = format!(
        "root = \"{0}/croot\"\nstate = \"{0}/cstate\"\n\
         disabled_plugins = [\"io.containerd.snapshotter.v1.btrfs\", \"io.containerd.snapshotter.v1.zfs\", \
         \"io.containerd.snapshotter.v1.devmapper\", \"io.containerd.snapshotter.v1.aufs\"]\n",
        dir.display()
    );
    let config = Path::new("/etc/containerd/config.toml");
    fs::create_dir_all("/etc/containerd").unwrap();
    fs::write(config, format!("version = 2\n{private}")).unwrap();
    // Not all of /etc: below the overlay the machine's own may change meanwhile.
    let places = [
        "/etc/apparmor.d",
        "/etc/containerd",
        "/etc/containers",
        "/etc/gabion",
        "/usr/local/bin",
        "/var/lib/gabion",
    ];
    let places = places.map(Path::new);
    // The head of the audit log changes with each container, and stays with the log.
    let seen = || {
        let mut seen = tree(&places);
        seen.remove(Path::new("/var/lib/gabion/audit.head"));
        seen
    };
    let before = seen();

    let podman = Command::new("podman").arg("--version").output().is_ok();
    let mut all = vec!["--containerd"];
    all.extend(podman.then_some("--podman"));
    let first = place.script("install", &all).ok();
    assert!(first.out.contains("ran            a container by gabion"), "{first}");
    assert_eq!(
        first.out.contains("ran            a container by podman"),
        podman,
        "{first}"
    );
    assert!(
        first.out.contains("not tried      a container by containerd"),
        "{first}"
    );
    let import = "imports = [\"/etc/containerd/conf.d/*.toml\"]";
    assert!(first.out.contains(import), "{first}");

    // As the operator is asked to.
    fs::write(config, format!("version = 2\n{import}\n{private}")).unwrap();
    let installed = seen();
    let containerd = Containerd::start(&dir);
    let second = place.script("install", &all).ok();
    assert!(
        second.out.contains("ran            a container by containerd"),
        "{second}"
    );
    assert!(!second.out.contains("does not import"), "{second}");
    assert_eq!(seen(), installed, "{second}");
    let audit = fs::read_to_string("/var/log/gabion/audit.jsonl").unwrap();
    let created = audit
        .lines()
        .filter(|line| line.contains("\"event\":\"create\""))
        .count();
    assert_eq!(created, if podman { 3 } else { 1 }, "{audit}");

    let status = cri_status(&dir);
    for part in [
        "\"gabion\":{\"runtimeType\":\"io.containerd.gabion.v2\"",
        "\"gabion-restricted\":{\"runtimeType\":\"io.containerd.gabion.v2\"",
        "\"runc\":{\"runtimeType\":\"io.containerd.runc.v2\"",
        "/etc/gabion/containerd-restricted.toml",
    ] {
        assert!(status.contains(part), "{part} is not in {status}");
    }
    drop(containerd);

    fs::write("/etc/gabion/containerd.toml", "level = \"restricted\"\n").unwrap();
    let gone = place.script("uninstall", &[]).ok();
    assert!(gone.out.contains("/var/lib/gabion/audit.head"), "{gone}");
    let mut expected = before;
    expected.insert(config.into(), Some(hash(&fs::read(config).unwrap())));
    expected.insert(
        "/etc/gabion/containerd.toml".into(),
        Some(hash(b"level = \"restricted\"\n")),
    );
    assert_eq!(seen(), expected);
}
