//! `--debug`: tracing's spans and events as lines on stderr. Never in the `--log` file, which holds errors only.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::printable::printable;

thread_local! {
    /// The spans this thread is in, by id.
    static INSIDE: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// Prints from now on. A second call changes nothing: there is one subscriber for a process.
pub(super) fn to_stderr() {
    drop(tracing::subscriber::set_global_default(Lines {
        next: AtomicU64::new(1),
        spans: Mutex::new(Vec::new()),
        started: Instant::now(),
    }));
}

/// The smallest subscriber that shows spans: tracing-subscriber would be a dozen crates.
struct Lines {
    next: AtomicU64,
    /// Id, references, name with fields. A call has a handful of spans.
    spans: Mutex<Vec<(u64, u32, String)>>,
    started: Instant,
}

impl Lines {
    fn with_spans<T>(&self, work: impl FnOnce(&mut Vec<(u64, u32, String)>) -> T) -> T {
        // A panic elsewhere must not silence the rest.
        work(&mut self.spans.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::DEBUG
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut text = Text(span.metadata().name().to_owned());
        span.record(&mut text);
        self.with_spans(|spans| spans.push((id, 1, text.0)));
        Id::from_u64(id)
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        self.with_spans(|spans| {
            if let Some((_, _, name)) = spans.iter_mut().find(|s| s.0 == id.into_u64()) {
                let mut text = Text(std::mem::take(name));
                values.record(&mut text);
                *name = text.0;
            }
        });
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let inside = INSIDE.with_borrow(Clone::clone);
        let path = self.with_spans(|spans| {
            let names = inside.iter().filter_map(|id| spans.iter().find(|s| s.0 == *id));
            names.fold(String::new(), |path, s| path + &s.2 + ": ")
        });
        let since = self.started.elapsed().as_micros();
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        // stderr may be closed; diagnostics are no reason to fail.
        drop(writeln!(
            io::stderr().lock(),
            "gabion: {level} +{since}µs {path}{}",
            text.0.trim()
        ));
    }

    fn enter(&self, id: &Id) {
        INSIDE.with_borrow_mut(|inside| inside.push(id.into_u64()));
    }

    fn exit(&self, id: &Id) {
        INSIDE.with_borrow_mut(|inside| {
            if let Some(at) = inside.iter().rposition(|i| *i == id.into_u64()) {
                inside.remove(at);
            }
        });
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.with_spans(|spans| {
            if let Some(span) = spans.iter_mut().find(|s| s.0 == id.into_u64()) {
                span.1 += 1;
            }
        });
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        self.with_spans(|spans| {
            let Some(at) = spans.iter().position(|s| s.0 == id.into_u64()) else {
                return false;
            };
            spans[at].1 -= 1;
            let last = spans[at].1 == 0;
            if last {
                spans.remove(at);
            }
            last
        })
    }
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
