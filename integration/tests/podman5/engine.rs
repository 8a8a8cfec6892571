//! podman, as root or as a user in a session, with storage, containers and secrets of the test's own.

use crate::image;
use crate::left_out;
use crate::session::Session;
use integration::command::{Running, limit, until};
use integration::{Bundle, Done, Runtime, leaks, unified};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) struct Podman {
    /// Only its directory and its name are used.
    pub(crate) bundle: Bundle,
    pub(crate) session: Option<Session>,
    places: Places,
    level: &'static str,
    /// A user has one process that holds podman's namespaces, wherever their storage is.
    _alone: Option<MutexGuard<'static, ()>>,
}

/// Whose podman it is: every test here is run for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Root,
    /// The nodes' ordinary user, in a session of systemd's.
    User,
}

/// Where images, containers and configuration are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Places {
    /// Below a directory of the test.
    Own,
    /// Where podman keeps them by itself.
    Default,
}

static ALONE: Mutex<()> = Mutex::new(());

/// Whether systemd makes the containers' cgroups.
pub(crate) fn systemd() -> bool {
    unified() && Path::new("/run/systemd/system").is_dir()
}

impl Podman {
    /// None where there is no podman, or no user with a session.
    pub(crate) fn of(who: Who, test: &str) -> Option<Self> {
        Self::new(who, test, Places::Own)
    }

    /// With the machine's own places: only on a node, which is thrown away afterwards.
    pub(crate) fn with_its_own(who: Who, test: &str) -> Option<Self> {
        thrown_away().then(|| Self::new(who, test, Places::Default))?
    }

    fn new(who: Who, test: &str, places: Places) -> Option<Self> {
        let there = Command::new("podman").arg("--version").output();
        if !there.is_ok_and(|o| o.status.success()) {
            left_out("no podman here");
            return None;
        }
        let session = match who {
            Who::Root => None,
            Who::User => Some(Session::new()?),
        };
        // One that failed leaves nothing that another minds.
        let alone = session
            .is_some()
            .then(|| ALONE.lock().unwrap_or_else(PoisonError::into_inner));
        let podman = Self {
            bundle: Bundle::with_busybox(&format!("{test}-{who:?}").to_lowercase()),
            session,
            places,
            level: "hardened",
            _alone: alone,
        };
        let dir = &podman.bundle.dir;
        // What cargo builds may lie where only root can reach it.
        fs::copy(&Runtime::gabion().program, dir.join("gabion")).unwrap();
        fs::write(podman.conf(), podman.containers_conf()).unwrap();
        let tar = image::pack(&podman.bundle);
        fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
        if let Some(session) = &podman.session {
            let own = podman.below("own");
            fs::create_dir(&own).unwrap();
            session.give(&own);
        }
        let change = r#"CMD ["/bin/sleep", "600"]"#;
        podman
            .call(&["import", "--change", change, tar.to_str().unwrap(), "img"])
            .ok();
        Some(podman)
    }

    fn conf(&self) -> PathBuf {
        self.bundle.dir.join("containers.conf")
    }

    /// As `hack/install --podman` writes it; and locks of the test's own, and pods whose first container needs no image from outside.
    fn containers_conf(&self) -> String {
        format!(
            "[engine]\nlock_type = \"file\"\ninfra_image = \"localhost/img\"\n\
             [engine.runtimes]\ngabion = [\"{}\"]\n",
            self.bundle.dir.join("gabion").display()
        )
    }

    /// A place that podman itself may write to.
    pub(crate) fn below(&self, name: &str) -> PathBuf {
        match (&self.session, name) {
            (Some(_), "own") | (None, _) => self.bundle.dir.join(name),
            _ => self.bundle.dir.join("own").join(name),
        }
    }

    /// What makes podman keep everything below the test's directory.
    fn own_places(&self) -> Vec<String> {
        let place = |name: &str| self.below(name).display().to_string();
        let manager = if systemd() { "systemd" } else { "cgroupfs" };
        let mut words = vec!["--root".to_owned(), place("p"), "--runroot".to_owned(), place("r")];
        words.extend(["--tmpdir".to_owned(), place("t"), "--storage-driver=vfs".to_owned()]);
        words.extend([
            format!("--cgroup-manager={manager}"),
            "--events-backend=file".to_owned(),
            "--runtime=gabion".to_owned(),
            format!("--runtime-flag=level={}", self.level),
        ]);
        words
    }

    fn command(&self, args: &[&str]) -> Command {
        let (mut words, mut env) = (Vec::new(), Vec::new());
        if self.places == Places::Own {
            words = self.own_places();
            env.push(format!("CONTAINERS_CONF={}", self.conf().display()));
        }
        words.extend(args.iter().map(|&word| word.to_owned()));
        if let Some(session) = &self.session {
            return session.command(&env, Path::new("podman"), &words);
        }
        // Without CAP_SYS_RESOURCE podman could not give containers its usual limits.
        let mut command = Command::new("bash");
        command
            .args(["-c", "ulimit -n 4096; ulimit -u 10000; exec env \"$@\"", "env"])
            .args(env)
            .arg("podman")
            .args(&words)
            // The conmon of an exec leaves a file `oom` where it is called.
            .current_dir(&self.bundle.dir);
        command
    }

    #[track_caller]
    pub(crate) fn call(&self, args: &[&str]) -> Done {
        Running::start(self.command(args), &self.bundle.dir).wait(limit(60))
    }

    /// `run --rm` in the foreground.
    #[track_caller]
    pub(crate) fn run(&self, words: &[&str]) -> Done {
        self.call(&[&["run", "--rm", "--network", "none"], words].concat())
    }

    /// `inspect` with a template.
    #[track_caller]
    pub(crate) fn tell(&self, name: &str, what: &str) -> String {
        let told = self.call(&["inspect", "--format", what, name]).ok().out;
        told.trim().to_owned()
    }

    /// Where the kernel says that a container's first process is, as a directory.
    pub(crate) fn cgroup(&self, name: &str) -> PathBuf {
        let pid = self.tell(name, "{{.State.Pid}}");
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let place = text.lines().find_map(|line| line.strip_prefix("0::/"));
        Path::new("/sys/fs/cgroup").join(place.unwrap())
    }

    /// After all containers are removed: neither podman nor gabion knows of one. State is where gabion keeps it by itself, since
    /// podman 4.3 does not tell `delete` another place.
    #[track_caller]
    pub(crate) fn nothing_runs(&self) {
        assert_eq!(self.call(&["ps", "--all", "--quiet"]).ok().out, "");
        let dir = self.bundle.dir.to_string_lossy().into_owned();
        let state = match &self.session {
            Some(session) => session.run_dir().join("gabion"),
            None => PathBuf::from("/run/gabion"),
        };
        for entry in fs::read_dir(state).into_iter().flatten().flatten() {
            let record = fs::read_to_string(entry.path().join("state.json")).unwrap_or_default();
            assert!(!record.contains(&dir), "{} is left", entry.path().display());
        }
    }
}

fn thrown_away() -> bool {
    let node = std::env::var_os("GABION_NODE").is_some();
    if !node {
        integration::left_out("only on a node of hack/node, for it changes the machine's own podman");
    }
    node
}

impl Drop for Podman {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.call(&["pod", "rm", "--all", "--force", "--time", "0"]);
            self.call(&["rm", "--all", "--force", "--time", "0"]);
        }
        if self.places == Places::Default {
            self.call(&["system", "reset", "--force"]);
        }
        // It holds the user's namespaces between calls.
        let pause = self.session.as_ref().map(|s| s.run_dir().join("libpod/tmp/pause.pid"));
        let pause = [Some(self.below("t").join("pause.pid")), pause].into_iter().flatten();
        for file in pause {
            let pid = fs::read_to_string(&file)
                .ok()
                .and_then(|pid| pid.trim().parse::<i32>().ok());
            let Some(pid) = pid else { continue };
            // The next podman of this user would look for the dead one's namespace.
            fs::remove_file(file).ok();
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).ok();
            until(limit(20), || !leaks::is_alive(pid.unsigned_abs()));
        }
        // Its storage is mounted over itself while it works.
        for line in leaks::mounts_below(&self.bundle.dir) {
            if let Some(place) = line.split(' ').nth(5) {
                nix::mount::umount2(Path::new(place), nix::mount::MntFlags::MNT_DETACH).ok();
            }
        }
        if !std::thread::panicking() {
            let left = leaks::of(&self.bundle);
            assert!(left.is_empty(), "left behind: {left:#?}");
        }
    }
}
