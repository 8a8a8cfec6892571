//! `policy`: what is in force and why, and all that is wrong with a file.

use std::path::{Path, PathBuf};

use crate::origin::{self, Flags};
use gabion_common::cli::Global;
use gabion_common::cli::output::{self, Format};
use gabion_core::digest::sha256_hex;
use gabion_core::policy::narrow::NARROW;
use gabion_core::policy::validate::{Gravity, validate};
use gabion_core::policy::{Date, Exception, here, parse, text};
use gabion_core::request::PodType;
use gabion_see::caller::reader;
use gabion_see::error::{Error, Result};
use gabion_see::policy::{self, Source};

/// The file cannot be used; 1 is «could not look».
const INVALID: u8 = 3;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  gabion policy show\n  gabion --policy ./p.toml --level restricted policy show --format json\n  \
    gabion policy validate ./p.toml\n\nExit code of validate: 0 it can be used (with --host: on this machine), 3 it cannot, 1 it could not be read.\n\
    Without --host it asks nothing of the machine that it runs on: for policies of other machines, in CI."
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Every key with its value and where that comes from
    Show {
        /// table or json
        #[arg(short, long, value_name = "FORMAT", default_value = "table")]
        format: Format,
    },
    /// Every error of a file, with line, column and the nearest valid key
    Validate {
        /// The policy file
        #[arg(value_name = "FILE", default_value = policy::SYSTEM)]
        file: PathBuf,
        /// Also what cannot work on this host: missing paths, sysctls and devices, what its kernel has not
        #[arg(long)]
        host: bool,
    },
}

impl Args {
    pub(super) fn run(self, global: &Global) -> Result<u8> {
        match self.command {
            Command::Show { format } => show(global, format),
            Command::Validate { file, host } => check(&file, host),
        }
    }
}

fn show(global: &Global, format: Format) -> Result<u8> {
    let loaded = global.policy()?;
    let text = match &loaded.source {
        Source::BuiltIn => None,
        Source::File(path) => {
            let text = std::fs::read_to_string(path).map_err(Error::file("read the policy", path))?;
            if sha256_hex(text.as_bytes()) != loaded.digest {
                let why = "it was changed while it was looked at: try again".to_owned();
                return Err(Error::Policy {
                    path: path.clone(),
                    why,
                });
            }
            Some(text)
        }
    };
    let flags = Flags {
        level: global.level,
        audit_log: global.audit_log.as_ref().map(|_| "--audit-log"),
    };
    let shown = origin::show(&loaded, text.as_deref(), flags, reader());
    match format {
        Format::Json => output::print_json(&shown)?,
        Format::Table => output::print(&table(&shown))?,
    }
    Ok(0)
}

fn table(shown: &origin::Policy) -> String {
    let mut rows = vec![["KEY", "VALUE", "FROM"].map(str::to_owned).to_vec()];
    for key in &shown.keys {
        let value = if key.value.is_null() {
            "-".to_owned()
        } else {
            output::clean(&key.value.to_string())
        };
        rows.push(vec![key.key.clone(), value, key.from.clone()]);
    }
    let mut text = format!("{}, level {}, SHA-256 {}\n\n", shown.source, shown.level, shown.digest);
    text.push_str(&output::columns(&rows));
    let listed = [("", &shown.exceptions), ("EXPIRED ", &shown.expired)];
    if listed.iter().any(|(_, list)| !list.is_empty()) {
        let head = ["EXCEPTION FOR", "WHAT", "UNTIL", "REASON"].map(str::to_owned).to_vec();
        let rows = listed
            .iter()
            .flat_map(|(what, list)| list.iter().map(|e| exception(what, e)));
        let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
        text = text + "\n" + &output::columns(&rows);
    }
    text
}

/// One exception as a row: whom it is for, what it lets them, how long, and why.
fn exception(what: &str, exception: &Exception) -> Vec<String> {
    let matches = &exception.matches;
    let mut of = format!("{what}{}/{}", matches.namespace, matches.name);
    if let Some(typ) = matches.typ {
        of += if typ == PodType::Sandbox {
            " sandbox"
        } else {
            " container"
        };
    }
    for (word, glob) in [("container", &matches.container), ("image", &matches.image)] {
        of += &glob.as_ref().map_or_else(String::new, |glob| format!(" {word} {glob}"));
    }
    let mut lets: Vec<String> = exception
        .level
        .map(|level| format!("level {level}"))
        .into_iter()
        .collect();
    if !exception.loosen.is_empty() {
        let controls: Vec<&str> = exception.loosen.iter().map(|id| id.as_str()).collect();
        lets.push(format!("loosen {}", controls.join(" ")));
    }
    let said = serde_json::to_value(exception).unwrap_or_default();
    for key in NARROW {
        if let Some(value) = said.pointer(&format!("/{}", key.replace('.', "/"))) {
            lets.push(format!("{key} {value}"));
        }
    }
    let until = exception.expires.map_or_else(|| "-".to_owned(), |day| day.to_string());
    let row = [of, lets.join("; "), until, exception.reason.clone()];
    row.map(|cell| output::clean(&cell)).to_vec()
}

fn check(file: &Path, host: bool) -> Result<u8> {
    let bytes = policy::read_to_judge(file)?;
    let (mut problems, here) = match text::text(&bytes) {
        Err(problem) => (vec![problem], Vec::new()),
        Ok(text) => {
            let parsed = parse(text).ok().filter(|_| host);
            let here = parsed.map(|policy| here::judge(&policy, text, &gabion_see::here::look(&policy)));
            (
                validate(text, Date::of(gabion_see::clock::now())),
                here.unwrap_or_default(),
            )
        }
    };
    let mut bad = problems.iter().any(|p| p.gravity == Gravity::Error);
    let lacks = !here.is_empty();
    problems.extend(here);
    problems.sort_by_key(|p| (p.line, p.column));
    let mut said: Vec<String> = problems.iter().map(|p| format!("{}:{p}\n", file.display())).collect();
    // The text may be good and the file not to be believed: owner and mode, and the lock. Those of a copy elsewhere say nothing of its place.
    let in_place = host || file.starts_with("/etc/gabion");
    if !bad && let Err(error) = policy::load(Some(file), None, reader()) {
        let word = if in_place {
            ""
        } else {
            "here it would not be believed: "
        };
        said.push(format!("{word}{error}\n"));
        bad = in_place;
    }
    if said.is_empty() {
        said.push(format!("{}: good\n", file.display()));
    }
    output::print(&output::clean(&said.concat()))?;
    Ok(if bad || lacks { INVALID } else { 0 })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_is_a_row() {
        let text = "cri = \"containerd\"\n[[exception]]\nreason = \"why\"\nmatch = { namespace = \"n\", name = \"db-*\", type = \"container\", image = \"r/*\" }\n\
                    level = \"hardened\"\nloosen = [\"mounts\", \"user\"]\nseccomp.allow = [\"io_uring\"]\nsysctl.memfd_noexec = \"observe\"\nexpires = 2027-01-02\n";
        let policy = gabion_core::policy::parse(text).unwrap();
        let row = exception("EXPIRED ", &policy.exceptions[0]);
        assert_eq!(
            row,
            [
                "EXPIRED n/db-* container image r/*",
                "level hardened; loosen mounts user; sysctl.memfd_noexec \"observe\"; seccomp.allow [\"io_uring\"]",
                "2027-01-02",
                "why"
            ]
        );
    }
}
