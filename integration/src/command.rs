//! Running a program for a bounded time. Output goes to files, not pipes: a container that outlives its `create`
//! holds the descriptors, and a reader of a pipe would wait for it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use std::os::unix::process::ExitStatusExt as _;

static SERIAL: AtomicU32 = AtomicU32::new(0);

/// How a program ended, and what it said until then.
#[derive(Debug)]
pub struct Done {
    /// The exit status, or 128 + the signal.
    pub code: i32,
    pub out: String,
    pub err: String,
    /// The command line, for messages.
    pub line: String,
}

impl Done {
    /// The same, if it succeeded; fails the test with everything that is known otherwise.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.code == 0, "{self}");
        self
    }

    #[track_caller]
    pub fn fails_with(self, code: i32) -> Self {
        assert!(self.code == code, "expected exit code {code}: {self}");
        self
    }

    /// Fails the test unless stderr is one line that holds all these words.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.err.contains(word), "stderr does not say «{word}»: {self}");
        }
        self
    }
}

impl std::fmt::Display for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { code, out, err, line } = self;
        write!(
            f,
            "`{line}` ended with {code}\n  stdout: {}\n  stderr: {}",
            out.trim_end(),
            err.trim_end()
        )
    }
}

/// `base` seconds, more on a slow machine.
pub fn limit(base: u64) -> Duration {
    let factor = std::env::var("GABION_IT_SLOW")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1);
    Duration::from_secs(base * factor)
}

/// A program under way; killed if the test gives up on it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    out: PathBuf,
    err: PathBuf,
    line: String,
}

impl Running {
    /// Starts it with stdin empty and its output in new files below `dir`.
    pub fn start(mut command: Command, dir: &Path) -> Self {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let (out, err) = (dir.join(format!("out-{serial}")), dir.join(format!("err-{serial}")));
        let line = describe(&command);
        command
            .stdout(File::create(&out).expect("stdout file"))
            .stderr(File::create(&err).expect("stderr file"));
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start `{line}`: {e}"));
        Self { child, out, err, line }
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid")
    }

    /// What it has written to stdout so far.
    pub fn out(&self) -> String {
        read(&self.out)
    }

    /// Waits until stdout holds `text`.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        self.wait_until_said(&self.out, text);
    }

    /// The same for stderr.
    #[track_caller]
    pub fn wait_for_error(&self, text: &str) {
        self.wait_until_said(&self.err, text);
    }

    #[track_caller]
    fn wait_until_said(&self, file: &Path, text: &str) {
        let said = until(limit(20), || read(file).contains(text));
        assert!(
            said,
            "`{}` never said «{text}»: {}{}",
            self.line,
            self.out(),
            read(&self.err)
        );
    }

    /// Waits for the end; past the limit it is killed and the test fails.
    #[track_caller]
    pub fn wait(mut self, limit: Duration) -> Done {
        let deadline = Instant::now() + limit;
        let mut pause = Duration::from_millis(1);
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                break status;
            }
            assert!(
                Instant::now() < deadline,
                "`{}` took longer than {limit:?}: {}",
                self.line,
                read(&self.err)
            );
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        };
        let (out, err, line) = (read(&self.out), read(&self.err), std::mem::take(&mut self.line));
        Done {
            code: code(status),
            out,
            err,
            line,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Nobody is left who could be told of a failure here.
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// Runs to the end, within 20 seconds.
#[track_caller]
pub fn run(command: Command, dir: &Path) -> Done {
    Running::start(command, dir).wait(limit(20))
}

/// Asks every few milliseconds until it is so, or until the time is over.
pub fn until(limit: Duration, mut so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if so() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn code(status: ExitStatus) -> i32 {
    status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(-1)
}

fn read(path: &Path) -> String {
    fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
