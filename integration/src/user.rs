//! A user without privileges, with subordinate ids, whom only the test's own processes know: `/etc/passwd` and the rest are
//! covered in a mount namespace of theirs, and the machine's files stay as they are.

use crate::command::{Running, limit};
use crate::{Bundle, Done, leaks};
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

static SERIAL: AtomicU32 = AtomicU32::new(0);

/// How many subordinate ids the user has.
pub const SUBIDS: u32 = 65536;

/// Covers the files, lowers the limits that root could not hand on (podman raises them to the hard ones), becomes the user.
const BECOME: &str = r#"set -e
etc=$1 uid=$2 home=$3; shift 3
for file in passwd group subuid subgid; do mount --bind "$etc/$file" "/etc/$file"; done
ulimit -n 4096; ulimit -u 10000
cd "$home"
exec setpriv --reuid "$uid" --regid "$uid" --clear-groups --inh-caps=-all env -i "$@""#;

#[derive(Debug)]
pub struct User {
    pub bundle: Bundle,
    pub uid: u32,
    /// The first of the subordinate ids, users' and groups' alike.
    pub subids: u32,
    /// What is left of the environment.
    env: Vec<String>,
}

impl User {
    /// Owns everything of the bundle.
    pub fn new(bundle: Bundle) -> Self {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        // Of nobody else on this machine, and of no test beside this one.
        let uid = 1_000_000_000 + (std::process::id() % 4_000_000) * 32 + serial;
        let subids = 2_000_000_000 + ((std::process::id() % 900) * 32 + serial) * SUBIDS;
        let mut user = Self {
            bundle,
            uid,
            subids,
            env: Vec::new(),
        };
        for dir in ["etc", "home", "run", "bin"] {
            fs::create_dir(user.bundle.dir.join(dir)).expect("directory of the user");
        }
        fs::set_permissions(user.run_dir(), Permissions::from_mode(0o700)).expect("mode");
        user.write_etc();
        let own = Command::new("chown")
            .args(["-R", &format!("{uid}:{uid}")])
            .args([&user.home(), &user.run_dir(), &user.bundle.bundle()])
            .status();
        assert!(own.expect("chown").success());
        user.env = vec![
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            "USER=tester".to_owned(),
            format!("HOME={}", user.home().display()),
            format!("XDG_RUNTIME_DIR={}", user.run_dir().display()),
        ];
        user
    }

    fn write_etc(&self) {
        let (uid, home) = (self.uid, self.home());
        let with = |file: &str, line: String| {
            let known = fs::read_to_string(Path::new("/etc").join(file)).unwrap_or_default();
            fs::write(self.bundle.dir.join("etc").join(file), known + &line).expect("the user's /etc");
        };
        with("passwd", format!("tester:x:{uid}:{uid}::{}:/bin/sh\n", home.display()));
        with("group", format!("tester:x:{uid}:\n"));
        with("subuid", format!("tester:{}:{SUBIDS}\n", self.subids));
        with("subgid", format!("tester:{}:{SUBIDS}\n", self.subids));
    }

    pub fn home(&self) -> PathBuf {
        self.bundle.dir.join("home")
    }

    /// `XDG_RUNTIME_DIR`.
    pub fn run_dir(&self) -> PathBuf {
        self.bundle.dir.join("run")
    }

    /// Sets a variable, or without a value takes it away.
    pub fn set_env(&mut self, name: &str, value: Option<&str>) {
        self.env.retain(|pair| !pair.starts_with(&format!("{name}=")));
        self.env.extend(value.map(|value| format!("{name}={value}")));
    }

    /// A program where the user can reach it: what cargo builds may lie in a directory that is root's alone.
    pub fn install(&self, program: &Path) -> PathBuf {
        let installed = self.bundle.dir.join("bin").join(program.file_name().expect("a name"));
        if !installed.exists() {
            fs::copy(program, &installed).expect("a copy of the program");
            // gabion hands commands for people over to what lies beside it.
            let beside = program.with_file_name("gabionctl");
            if program.file_name().is_some_and(|name| name == "gabion") && beside.exists() {
                fs::copy(beside, installed.with_file_name("gabionctl")).expect("a copy of gabionctl");
            }
        }
        installed
    }

    /// The program, as the user, in their home.
    pub fn command<S: AsRef<OsStr>>(&self, program: &Path, args: &[S]) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "bash", "-c", BECOME, "become"])
            .arg(self.bundle.dir.join("etc"))
            .arg(self.uid.to_string())
            .arg(self.home())
            .args(&self.env)
            .arg(program)
            .args(args);
        command
    }

    #[track_caller]
    pub fn run<S: AsRef<OsStr>>(&self, program: &Path, args: &[S]) -> Done {
        Running::start(self.command(program, args), &self.bundle.dir).wait(limit(90))
    }

    /// Fails the test if a mount, cgroup, process or state is left.
    #[track_caller]
    pub fn nothing_left(&self) {
        let left = leaks::of(&self.bundle);
        assert!(left.is_empty(), "left behind: {left:#?}");
    }
}
