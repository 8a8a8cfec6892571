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
        Some(session)
    }

    /// Where logind put the session's first process.
    fn find_scope(&self) -> Option<PathBuf> {
        let asked = Command::new("systemctl")
            .args(["show", "--value", "--property=MainPID", &self.unit])
            .output()
            .ok()?;
        let pid = String::from_utf8_lossy(&asked.stdout).trim().to_owned();
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
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
        const ENTER: &str = r#"echo $$ > "$1/cgroup.procs"; uid=$2 home=$3; shift 3; cd "$home"
exec setpriv --reuid "$uid" --regid "$uid" --init-groups --inh-caps=-all env -i "$@""#;
        let run = self.run_dir();
        let mut command = Command::new("bash");
        command
            .args(["-c", ENTER, "enter"])
            .arg(&self.scope)
            .arg(self.uid.to_string())
            .arg(&self.home)
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
