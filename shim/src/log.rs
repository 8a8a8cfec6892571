//! The shim's own log: lines in containerd's form, into the FIFO `log` of the bundle that containerd reads.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;

use crate::error::one_line;
use crate::time;

thread_local! {
    static SINK: RefCell<Option<File>> = const { RefCell::new(None) };
    static DEBUG: Cell<bool> = const { Cell::new(false) };
}

/// How much a line matters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Only with `-debug`.
    Debug,
    /// Worth knowing.
    Info,
    /// Something was lost or is odd.
    Warning,
    /// Something failed that nobody else is told of.
    Error,
}

/// Opens the log FIFO in `bundle`. Without one, and while nobody reads and it is full, lines are dropped: a log never blocks a
/// container.
pub fn open(bundle: &Path, debug: bool) {
    DEBUG.set(debug);
    // For reading too: a restart of containerd must not be a broken pipe, and what was written meanwhile is read afterwards.
    let fifo = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
        .open(bundle.join("log"));
    SINK.set(fifo.ok());
    // No panic is expected; should there be one, its message must not go to a stderr that is /dev/null.
    std::panic::set_hook(Box::new(|info| write(Level::Error, format_args!("{info}"))));
}

/// Writes one line.
pub fn write(level: Level, message: fmt::Arguments<'_>) {
    if level == Level::Debug && !DEBUG.get() {
        return;
    }
    let word = match level {
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warning => "warning",
        Level::Error => "error",
    };
    let text = one_line(&message.to_string())
        .replace('\\', "\\\\")
        .replace('"', "\\\"");
    let line = format!(
        "time=\"{}\" level={word} msg=\"{text}\" runtime=io.containerd.gabion.v2\n",
        time::now_rfc3339()
    );
    SINK.with_borrow_mut(|sink| {
        if let Some(file) = sink {
            // Less than PIPE_BUF is written whole or not at all; a full FIFO drops the line.
            match file.write_all(line.as_bytes()) {
                Ok(()) | Err(_) => {}
            }
        }
    });
}

/// A line for `-debug`.
macro_rules! debug { ($($arg:tt)*) => { $crate::log::write($crate::log::Level::Debug, format_args!($($arg)*)) } }
/// A line worth knowing.
macro_rules! info { ($($arg:tt)*) => { $crate::log::write($crate::log::Level::Info, format_args!($($arg)*)) } }
/// A line about something lost or odd.
macro_rules! warning { ($($arg:tt)*) => { $crate::log::write($crate::log::Level::Warning, format_args!($($arg)*)) } }
/// A line about a failure that nobody else is told of.
macro_rules! error { ($($arg:tt)*) => { $crate::log::write($crate::log::Level::Error, format_args!($($arg)*)) } }
pub(crate) use {debug, error, info, warning};
