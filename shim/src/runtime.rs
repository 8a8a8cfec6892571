//! Runs the runtime binary: one process an action, its answer read from its status, its output and its log file.

mod blocking;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;

use crate::error::{Error, Result, one_line};
use crate::exits::Exits;
use crate::files::{self, Links};
use crate::options::Options;
use crate::pipe::{pipe, read_all};
use crate::reactor::within;
use crate::sync::both;

pub use blocking::features;

/// A runtime that takes longer than this is killed: a hook that hangs must not hold a container's lock for ever.
const LIMIT: Duration = Duration::from_mins(4);
/// The most that is read of a runtime's log.
const LOG_LIMIT: u64 = 1 << 20;
/// The most that a file with a process number holds.
const PID_LIMIT: u64 = 64;
/// A pipe holds this much, so a document up to this size needs no task that feeds it.
const STDIN_LIMIT: usize = 60 * 1024;

/// The runtime as one container's options name it.
pub struct Runtime {
    binary: PathBuf,
    root: PathBuf,
    options: Options,
    /// containerd's namespace of the container.
    namespace: String,
    bundle: PathBuf,
}

/// The three descriptors that a command, and the process it leaves behind, starts with. `None` is /dev/null.
pub type ChildStdio = [Option<OwnedFd>; 3];

/// What `--log` holds after a failure.
#[derive(Deserialize)]
struct LogLine {
    level: String,
    msg: String,
}

impl Runtime {
    /// Gives the runtime for the container whose bundle is `bundle`, of containerd's `namespace`, with its state below `root`.
    pub fn new(options: &Options, root: &Path, namespace: &str, bundle: &Path) -> Result<Self> {
        Ok(Self {
            binary: options.runtime()?,
            root: root.to_owned(),
            options: options.clone(),
            namespace: namespace.to_owned(),
            bundle: bundle.to_owned(),
        })
    }

    fn log(&self) -> PathBuf {
        self.bundle.join("log.json")
    }

    fn command(&self, verb: &str, arguments: &[OsString], stdio: ChildStdio) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .arg("--root")
            .arg(&self.root)
            .arg("--log")
            .arg(self.log())
            .args(["--log-format", "json"]);
        if self.options.systemd_cgroup {
            command.arg("--systemd-cgroup");
        }
        if let Some(policy) = &self.options.policy {
            command.arg("--policy").arg(policy);
        }
        if let Some(level) = &self.options.level {
            command.arg("--level").arg(level);
        }
        let [input, output, errors] = stdio.map(|fd| fd.map_or_else(Stdio::null, Stdio::from));
        // In our own directory: with another one, `Command` would have to fork, and copy this process for nothing.
        command.arg(verb).args(arguments);
        command.stdin(input).stdout(output).stderr(errors);
        // containerd's own: a container's runtime has no business answering systemd in its name.
        command
            .env_remove("NOTIFY_SOCKET")
            .env_remove("LISTEN_FDS")
            .env_remove("LISTEN_PID");
        command
    }

    /// Runs `verb` and waits for its end.
    async fn run(&self, exits: &Exits, verb: &'static str, arguments: &[OsString], stdio: ChildStdio) -> Result<()> {
        self.forget_log()?;
        let child = self
            .command(verb, arguments, stdio)
            .spawn()
            .map_err(|error| Error::at("running", &self.binary, error))?;
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
        let exit = exits.child(pid);
        let Some(exit) = within(LIMIT, exit.wait()).await else {
            // It is our child and not yet reaped, so the number is still its own.
            kill(pid, Signal::SIGKILL).map_err(|errno| Error::system("killing the runtime", errno))?;
            return Err(Error::RuntimeTimeout { verb });
        };
        self.judge(verb, exit.status)
    }

    fn forget_log(&self) -> Result<()> {
        match fs::remove_file(self.log()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::at("removing", &self.log(), error)),
            _ => Ok(()),
        }
    }

    fn judge(&self, verb: &'static str, status: u32) -> Result<()> {
        if status == 0 {
            return Ok(());
        }
        match self.last_error() {
            Some(message) => Err(Error::Runtime { verb, message }),
            None => Err(Error::RuntimeSilent { verb, status }),
        }
    }

    /// The last error in the log. runc logs warnings before it; gabion writes exactly one object.
    fn last_error(&self) -> Option<String> {
        let mut text = Vec::new();
        let log = files::open_regular(&self.log(), Links::Refuse).ok()?;
        io::Read::read_to_end(&mut io::Read::take(log, LOG_LIMIT), &mut text).ok()?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let parse = |line: &str| {
            serde_json::from_str::<LogLine>(line)
                .ok()
                .filter(|line| line.level == "error")
        };
        text.lines().rev().find_map(parse).map(|line| one_line(&line.msg))
    }

    /// Makes the container; its first process is then a child of this shim, waiting for `start`.
    pub async fn create(
        &self,
        exits: &Exits,
        id: &str,
        pid_file: &Path,
        console: Option<&Path>,
        stdio: ChildStdio,
    ) -> Result<()> {
        let mut arguments = vec![
            "--bundle".into(),
            self.bundle.clone().into(),
            "--pid-file".into(),
            pid_file.into(),
            // Whose word names the pod: gabion believes it of nobody but us, and then looks at containerd's own files.
            "--from-shim".into(),
            (&self.namespace).into(),
        ];
        push_console(&mut arguments, console);
        arguments.push(id.into());
        let result = self.run(exits, "create", &arguments, stdio).await;
        if matches!(result, Err(Error::RuntimeTimeout { .. })) {
            // It was killed in the middle of its work: nobody else knows what it had made by then.
            self.delete(exits, id).await?;
        }
        result
    }

    /// Runs a process in the container; it is then a child of this shim.
    pub async fn exec(
        &self,
        exits: &Exits,
        id: &str,
        process: &Path,
        pid_file: &Path,
        console: Option<&Path>,
        stdio: ChildStdio,
    ) -> Result<()> {
        let mut arguments = vec!["--process".into(), process.into(), "--detach".into()];
        arguments.extend(["--pid-file".into(), pid_file.into()]);
        push_console(&mut arguments, console);
        arguments.push(id.into());
        self.run(exits, "exec", &arguments, stdio).await
    }

    /// Runs one of the commands that take the container's id alone.
    async fn simple(&self, exits: &Exits, verb: &'static str, id: &str) -> Result<()> {
        self.run(exits, verb, &[id.into()], [None, None, None]).await
    }

    /// Lets the first process run its program.
    pub async fn start(&self, exits: &Exits, id: &str) -> Result<()> {
        self.simple(exits, "start", id).await
    }

    /// Freezes the container.
    pub async fn pause(&self, exits: &Exits, id: &str) -> Result<()> {
        self.simple(exits, "pause", id).await
    }

    /// Thaws the container.
    pub async fn resume(&self, exits: &Exits, id: &str) -> Result<()> {
        self.simple(exits, "resume", id).await
    }

    /// Signals the first process, or all of them.
    pub async fn kill(&self, exits: &Exits, id: &str, signal: u32, all: bool) -> Result<()> {
        let mut arguments: Vec<OsString> = if all { vec!["--all".into()] } else { Vec::new() };
        arguments.extend([id.into(), signal.to_string().into()]);
        self.run(exits, "kill", &arguments, [None, None, None]).await
    }

    /// Takes the container away, killing what is left of it. One that is not there is no error.
    pub async fn delete(&self, exits: &Exits, id: &str) -> Result<()> {
        self.run(exits, "delete", &["--force".into(), id.into()], [None, None, None])
            .await
    }

    /// Gives the container the `resources` (JSON of the OCI spec).
    pub async fn update(&self, exits: &Exits, id: &str, resources: &[u8]) -> Result<()> {
        if resources.len() > STDIN_LIMIT {
            return Err(Error::BadRequest("resources are longer than 60 KiB"));
        }
        let (read, write) = pipe()?;
        io::Write::write_all(&mut fs::File::from(write), resources)
            .map_err(|error| Error::system("writing resources to a pipe", error))?;
        self.run(
            exits,
            "update",
            &["--resources=-".into(), id.into()],
            [Some(read), None, None],
        )
        .await
    }

    /// The process numbers in the container, as this shim's pid namespace has them.
    pub async fn ps(&self, exits: &Exits, id: &str) -> Result<Vec<u32>> {
        let (read, write) = pipe()?;
        let arguments = ["--format".into(), "json".into(), id.into()];
        let (result, text) = both(
            self.run(exits, "ps", &arguments, [None, Some(write), None]),
            read_all(read),
        )
        .await;
        result?;
        serde_json::from_slice(&text?).map_err(|source| Error::RuntimeOutput { verb: "ps", source })
    }
}

fn push_console(arguments: &mut Vec<OsString>, console: Option<&Path>) {
    if let Some(console) = console {
        arguments.extend(["--console-socket".into(), console.into()]);
    }
}

/// The process number in a pid file.
pub fn read_pid(path: &Path) -> Result<Pid> {
    let text = files::read_text(path, Links::Refuse, PID_LIMIT)?;
    match text.trim().parse() {
        Ok(pid) if pid > 1 => Ok(Pid::from_raw(pid)),
        _ => Err(Error::Content {
            path: path.to_owned(),
            expected: "a process number",
        }),
    }
}
