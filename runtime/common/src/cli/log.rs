//! Where errors go: one line on stderr, always, and one record in the `--log` file, where there is one.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use gabion_core::capability;
use gabion_core::printable::{one_line, within};
use gabion_core::request::Odd;
use gabion_core::time::rfc3339;
use gabion_see::error::Error;
use oci_spec::runtime::Process;

/// What `--log-format` takes: how the log file is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    // No doc comments here: clap would turn them into a long help.
    #[default]
    Text,
    Json,
}

/// The caller's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    pub file: Option<PathBuf>,
    pub format: LogFormat,
}

impl Target {
    /// The log of a command line that could not be parsed: its caller reads the log all the same.
    pub fn guess(args: &[OsString]) -> Self {
        let value = |name: &str| {
            args.iter().enumerate().find_map(|(i, arg)| {
                let rest = arg.to_str()?.strip_prefix(name)?;
                match rest.strip_prefix('=') {
                    Some(value) => Some(OsString::from(value)),
                    None if rest.is_empty() => args.get(i + 1).cloned(),
                    None => None,
                }
            })
        };
        Self {
            file: value("--log").map(PathBuf::from),
            format: match value("--log-format") {
                Some(format) if format == "json" => LogFormat::Json,
                _ => LogFormat::Text,
            },
        }
    }
}

/// containerd's shim reads exactly these.
#[derive(Serialize)]
struct Record<'a> {
    level: &'a str,
    msg: &'a str,
    time: &'a str,
}

/// How long a line is at most, in bytes: what it quotes may be as long as a config.json.
const LONGEST: usize = 16 << 10;

fn line(text: &str) -> String {
    format!("gabion: {}", within(&one_line(text), LONGEST))
}

/// Says what went wrong.
pub fn report(error: &Error, target: &Target) {
    let line = line(&error.to_string());
    if let Some(path) = &target.file
        && let Err(why) = append(target, "error", &line)
    {
        say(&format!("gabion: cannot write the log {}: {why}", path.display()));
    }
    say(&line);
}

/// Says which ambient capabilities a process asks for and cannot have, in runc's words.
pub fn warn_of_ambient(process: &Process) {
    for cap in capability::not_raised(process) {
        warn(&format!(
            "can't raise ambient capability CAP_{cap}: it is not permitted and inheritable"
        ));
    }
}

/// Writes one record, where there is a log.
///
/// # Errors
/// It cannot be opened or written.
pub(super) fn append(target: &Target, level: &str, text: &str) -> io::Result<()> {
    let Some(path) = &target.file else { return Ok(()) };
    let record = record(level, text, target.format, gabion_see::clock::now());
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    file.write_all(record.as_bytes())
}

/// What a person should know of a command that did what it was asked. Not for the log: there is one record for each failure.
pub fn warn(text: &str) {
    say(&line(text));
}

/// Says what a caller's JSON has that only level permissive takes.
pub fn warn_of(odd: &[Odd]) {
    for odd in odd {
        warn(&odd.to_string());
    }
}

/// stderr may be closed: there is nobody else to tell then.
fn say(line: &str) {
    drop(writeln!(io::stderr().lock(), "{line}"));
}

fn record(level: &str, line: &str, format: LogFormat, now: Duration) -> String {
    let time = rfc3339(now);
    match format {
        LogFormat::Json => {
            let record = Record {
                level,
                msg: line,
                time: &time,
            };
            // Three strings always serialize.
            serde_json::to_string(&record).unwrap_or_default() + "\n"
        }
        LogFormat::Text => format!("time=\"{time}\" level={level} msg={line:?}\n"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_json_record_is_one_object_of_three_fields() {
        let text = record("error", "gabion: a \"quoted\" path", LogFormat::Json, Duration::ZERO);
        assert_eq!(
            text,
            "{\"level\":\"error\",\"msg\":\"gabion: a \\\"quoted\\\" path\",\"time\":\"1970-01-01T00:00:00Z\"}\n"
        );
    }

    #[test]
    fn a_text_record_is_logfmt() {
        assert_eq!(
            record("error", "gabion: a \"b\"", LogFormat::Text, Duration::ZERO),
            "time=\"1970-01-01T00:00:00Z\" level=error msg=\"gabion: a \\\"b\\\"\"\n"
        );
    }

    #[test]
    fn a_failure_is_one_line_in_the_file() {
        let path = std::env::temp_dir().join(format!("gabion-log-{}", std::process::id()));
        let target = Target {
            file: Some(path.clone()),
            format: LogFormat::Json,
        };
        report(&Error::Usage("a\nb\u{1b}[31m".to_owned()), &target);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["msg"], "gabion: a b\\u{1b}[31m");
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn the_log_of_a_bad_line_is_found() {
        let args = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        for line in [
            "gabion --log /l --log-format json frob",
            "gabion --log=/l --log-format=json frob",
        ] {
            let target = Target::guess(&args(line));
            assert_eq!((target.file, target.format), (Some("/l".into()), LogFormat::Json));
        }
        assert_eq!(Target::guess(&args("gabion frob")), Target::default());
    }
}
