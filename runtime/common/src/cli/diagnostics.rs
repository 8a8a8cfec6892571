//! `--debug`: tracing's events as lines on stderr, or as records in the `--log` file where there is one, as runc has them.

use std::fmt;
use std::io::{self, Write};
use std::time::Instant;

use super::log::{self, Target};
use gabion_core::printable::printable;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Prints from now on. A second call changes nothing: there is one subscriber for a process.
pub fn tell(target: &Target) {
    drop(tracing::subscriber::set_global_default(Lines {
        started: Instant::now(),
        target: target.clone(),
        process: std::process::id(),
    }));
}

/// The smallest subscriber that shows events: tracing-subscriber would be a dozen crates. gabion has no spans.
struct Lines {
    started: Instant,
    target: Target,
    /// Which process may open the log: another one of ours, in a container, would find another file by its path.
    process: u32,
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= Level::DEBUG
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let since = self.started.elapsed().as_micros();
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        let text = text.0.trim();
        // stderr may be closed, and the log unwritable; diagnostics are no reason to fail.
        if self.target.file.is_some() && std::process::id() == self.process {
            drop(log::append(&self.target, &level, text));
        } else {
            drop(writeln!(io::stderr().lock(), "gabion: level={level} +{since}µs {text}"));
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Fields as ` name=value`, the message bare. Values may come from the spec: escapes must not reach the terminal.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        self.0.push(' ');
        if field.name() != "message" {
            self.0.push_str(field.name());
            self.0.push('=');
        }
        self.0.push_str(&printable(&text));
    }
}
