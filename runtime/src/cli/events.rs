//! `events`: one JSON object a line.

use std::time::Duration;

use crate::container::events;
use gabion_common::cli::{Global, Settings, output};
use gabion_core::request::ContainerId;
use gabion_see::error::{Error, Result};
use gabion_see::roots;
use gabion_see::state::StateView;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  gabion events --stats web          once\n  gabion events --interval 1s web    until the container ends"
)]
pub(super) struct Args {
    /// Print the statistics once
    #[arg(long)]
    stats: bool,
    /// How often: a number with ms, s, m or h
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse)]
    interval: Duration,
    /// The container's id, or the name that its engine gave it
    #[arg(value_name = "ID")]
    id: String,
}

impl Args {
    pub(super) fn run(self, global: &Global) -> Result<u8> {
        let (settings, id) = self.container(global)?;
        if self.stats {
            let event = events::once(&settings, &id)?;
            output::print(&format!("{event}\n"))?;
            return Ok(0);
        }
        let mut end = None;
        let told = events::follow(&settings, &id, self.interval, |event| {
            // A reader that has gone away ends it.
            output::print_or_gone(&format!("{event}\n")).inspect_err(|_| end = Some(()))
        });
        match (told, end) {
            (Err(Error::File { source, .. }), Some(())) if source.kind() == std::io::ErrorKind::BrokenPipe => Ok(0),
            (other, _) => other.map(|()| 0),
        }
    }

    /// Gives the container: by its id as every command has it; else by its name, or by an id that another root has.
    fn container(&self, global: &Global) -> Result<(Settings, ContainerId)> {
        let settings = global.settings();
        let by_id = super::id(&self.id).and_then(|id| StateView::open(&settings.root, &id).map(|_| id));
        let missing = match by_id {
            Ok(id) => return Ok((settings, id)),
            Err(error @ (Error::NotFound { .. } | Error::InvalidId(_))) => error,
            Err(other) => return Err(other),
        };
        let roots = match &global.root {
            Some(root) => vec![root.clone()],
            None => roots::all(&settings.root),
        };
        match roots::called(&roots, &self.id) {
            Ok((root, id)) => Ok((Settings { root, ..settings }, id)),
            Err(Error::NotFound { .. }) => Err(missing),
            Err(other) => Err(other),
        }
    }
}

/// `5s`, `100ms`, `1m30s` (Go's durations, as runc takes them).
fn parse(text: &str) -> std::result::Result<Duration, String> {
    let bad = || format!("{text:?} is not a time: use a number with ms, s, m or h");
    let (mut rest, mut total) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let number: u64 = number.parse().map_err(|_| bad())?;
        let seconds = match unit {
            "ms" => {
                return add(total, Duration::from_millis(number))
                    .filter(|_| after.is_empty())
                    .ok_or_else(bad);
            }
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(bad()),
        };
        total = number
            .checked_mul(seconds)
            .and_then(|s| total.checked_add(Duration::from_secs(s)))
            .ok_or_else(bad)?;
        rest = after;
    }
    add(total, Duration::ZERO).ok_or_else(bad)
}

/// No time at all is none to wait for.
fn add(a: Duration, b: Duration) -> Option<Duration> {
    a.checked_add(b).filter(|sum| !sum.is_zero())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn times_are_written_as_in_go() {
        for (text, milliseconds) in [
            ("5s", Some(5000)),
            ("100ms", Some(100)),
            ("1m30s", Some(90_000)),
            ("1s500ms", Some(1500)),
            ("0s", None),
            ("5", None),
            ("", None),
            ("-1s", None),
            ("1x", None),
        ] {
            assert_eq!(parse(text).ok().map(|d| d.as_millis()), milliseconds, "{text}");
        }
    }
}
