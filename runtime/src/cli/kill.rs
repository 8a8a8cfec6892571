//! `kill`.

use std::ops::RangeInclusive;

use nix::sys::signal::Signal;

use crate::container::{self, KillScope};
use gabion_common::cli::Global;
use gabion_see::audit::record::Event;
use gabion_see::audit::record::To;
use gabion_see::error::{Error, Result};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  gabion kill web\n  gabion kill web HUP\n  gabion kill --all web 9")]
pub(super) struct Args {
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
    /// By number or by name, with or without SIG
    #[arg(value_name = "SIGNAL", default_value = "TERM", allow_hyphen_values = true)]
    signal: String,
    /// To every process of the container
    #[arg(short, long)]
    all: bool,
}

impl Args {
    pub(super) fn run(self, global: &Global) -> Result<u8> {
        let signal = parse(&self.signal)
            .ok_or_else(|| Error::Usage(format!("unknown signal {:?}: use a number or a name", self.signal)))?;
        let scope = if self.all { KillScope::All } else { KillScope::Init };
        let (settings, id) = (global.settings(), super::id(&self.id)?);
        // Read before: a container that is killed may be gone at once. Stopping one never depends on a log.
        let trail = super::trail(&settings, &id);
        container::kill(&settings, &id, signal, scope)?;
        // Signal 0 only asks whether the process is there.
        if let (Ok(Some(trail)), true) = (trail, signal != 0) {
            let to = if scope == KillScope::All { To::All } else { To::Init };
            trail.after(Event::Kill { signal, to });
        }
        Ok(0)
    }
}

/// runc's, moby's and systemd's RTMIN and RTMAX. Not libc's: each keeps others of the kernel's 32 to 64 for itself.
const REAL_TIME: RangeInclusive<i32> = 34..=64;

/// `9`, `-9`, `KILL`, `SIGKILL`, `kill`, `RTMIN+3`, `SIGRTMAX-1` (signal(7)). 0 asks whether the process is there.
fn parse(text: &str) -> Option<i32> {
    let text = text.strip_prefix('-').unwrap_or(text);
    if let Ok(number) = text.parse::<i32>() {
        return (0..=*REAL_TIME.end()).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(rest) = name.strip_prefix("RT") {
        return real_time(rest);
    }
    format!("SIG{name}").parse::<Signal>().ok().map(|signal| signal as i32)
}

fn real_time(rest: &str) -> Option<i32> {
    let (low, high) = REAL_TIME.into_inner();
    let offset = |text: &str, sign| match text.strip_prefix(sign) {
        Some(number) => number.parse::<i32>().ok(),
        None if text.is_empty() => Some(0),
        None => None,
    };
    let number = match (rest.strip_prefix("MIN"), rest.strip_prefix("MAX")) {
        (Some(after), _) => low.checked_add(offset(after, '+')?)?,
        (_, Some(after)) => high.checked_sub(offset(after, '-')?)?,
        _ => return None,
    };
    (low..=high).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn signals_by_number_and_by_name() {
        for (text, number) in [
            ("9", Some(9)),
            ("-9", Some(9)),
            ("0", Some(0)),
            ("KILL", Some(9)),
            ("SIGKILL", Some(9)),
            ("sigterm", Some(15)),
            ("Hup", Some(1)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("RTMIN", Some(34)),
            ("RTMAX-30", Some(34)),
            ("RTMAX-31", None),
            ("64", Some(64)),
            ("RTMAX+1", None),
            ("RTMIN+99", None),
            ("65", None),
            ("--9", None),
            ("WHAT", None),
            ("", None),
        ] {
            assert_eq!(parse(text), number, "{text}");
        }
    }
}
