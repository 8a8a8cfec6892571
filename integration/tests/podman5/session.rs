//! A login session of a user that the machine has, made by systemd and logind as a login makes one: with a systemd and a bus of
//! the user's own, and cgroups delegated to them.

use crate::left_out;
use integration::command::{limit, until};
use integration::unified;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

static SERIAL: AtomicU32 = AtomicU32::new(0);

/// The nodes' ordinary user.
const NAME: &str = "user";

pub(crate) struct Session {
    pub(crate) uid: u32,
    pub(crate) home: PathBuf,
    unit: String,
    scope: PathBuf,
    /// What a login's process may have open, and run: podman gives containers as much, and the user's systemd, which runs health
    /// checks, has no more. A test of root's may have.
    limits: String,
}

impl Session {
    /// None where there is no systemd, cgroup v2 or such a user.
    pub(crate) fn new() -> Option<Self> {
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        let line = passwd.lines().find(|line| line.starts_with("user:"));
        let systemd = unified() && Path::new("/run/systemd/system").is_dir();
        let (Some(line), true) = (line, systemd) else {
            left_out(&format!("needs systemd, cgroup v2 and a user called {NAME}"));
            return None;
        };
        let fields: Vec<&str> = line.split(':').collect();
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let mut session = Self {
            uid: fields[2].parse().unwrap(),
            home: PathBuf::from(fields[5]),
            unit: format!("git-login-{}-{serial}.service", std::process::id()),
            scope: PathBuf::new(),
            limits: String::new(),
        };
        let login = Command::new("systemd-run")
            .args([
                "--quiet",
                "--uid",
                NAME,
                "--property=PAMName=login",
                "--unit",
                &session.unit,
            ])
            .args(["sleep", "infinity"])
            .status();
        assert!(login.unwrap().success());
        let ready = until(limit(30), || {
            session.scope = session.find_scope().unwrap_or_default();
            session.scope.is_dir() && session.run_dir().join("bus").exists()
        });
        assert!(ready, "no session of {NAME} came up");
        session.limits = session.find_limits();
        Some(session)
    }

    fn first_process(&self) -> String {
        let words = ["show", "--value", "--property=MainPID", &self.unit];
        let asked = Command::new("systemctl").args(words).output().unwrap();
        String::from_utf8_lossy(&asked.stdout).trim().to_owned()
    }

    /// As words for prlimit(1).
    fn find_limits(&self) -> String {
        let text = fs::read_to_string(format!("/proc/{}/limits", self.first_process())).unwrap();
        let found = [("nofile", "Max open files"), ("nproc", "Max processes")].map(|(name, called)| {
            let line = text.lines().find_map(|line| line.strip_prefix(called)).unwrap();
            let (soft, hard) = line.trim().split_once(' ').unwrap();
            let hard = hard.split_whitespace().next().unwrap();
            format!("--{name}={soft}:{hard}")
        });
        found.join(" ")
    }

    /// Where logind put the session's first process.
    fn find_scope(&self) -> Option<PathBuf> {
        let text = fs::read_to_string(format!("/proc/{}/cgroup", self.first_process())).ok()?;
        let place = text.trim().strip_prefix("0::/")?;
        place
            .contains("/session-")
            .then(|| Path::new("/sys/fs/cgroup").join(place))
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        PathBuf::from(format!("/run/user/{}", self.uid))
    }

    /// The cgroup that is delegated to the user.
    pub(crate) fn delegated(&self) -> PathBuf {
        let uid = self.uid;
        PathBuf::from(format!("/sys/fs/cgroup/user.slice/user-{uid}.slice/user@{uid}.service"))
    }

    /// The program, in the session, as the user, with what a login sets.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, env: &[String], program: &Path, args: &[S]) -> Command {
        const ENTER: &str = r#"echo $$ > "$1/cgroup.procs"; uid=$2 home=$3; prlimit --pid $$ $4; shift 4; cd "$home"
exec setpriv --reuid "$uid" --regid "$uid" --init-groups --inh-caps=-all env -i "$@""#;
        let run = self.run_dir();
        let mut command = Command::new("bash");
        command
            .args(["-c", ENTER, "enter"])
            .arg(&self.scope)
            .arg(self.uid.to_string())
            .arg(&self.home)
            .arg(&self.limits)
            .arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .arg(format!("USER={NAME}"))
            .arg(format!("HOME={}", self.home.display()))
            .arg(format!("XDG_RUNTIME_DIR={}", run.display()))
            .arg(format!("DBUS_SESSION_BUS_ADDRESS=unix:path={}/bus", run.display()))
            .args(env)
            .arg(program)
            .args(args);
        command
    }

    /// What a test makes for the user.
    pub(crate) fn give(&self, path: &Path) {
        let owner = format!("{0}:{0}", self.uid);
        let given = Command::new("chown").args(["-R", &owner]).arg(path).status();
        assert!(given.unwrap().success());
    }
}

/// With their last session the user's own systemd ends as well, and all that it runs.
impl Drop for Session {
    fn drop(&mut self) {
        let ended = Command::new("systemctl").args(["stop", &self.unit]).status();
        assert!(ended.is_ok_and(|s| s.success()) || std::thread::panicking());
    }
}
