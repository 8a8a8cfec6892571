//! `list`.

use super::output::{self, Format};
use super::{Global, log};
use crate::container::{self, ListEntry};
use gabion_see::error::Result;
use gabion_see::named::Shown;
use gabion_see::roots;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  gabion list\n  gabion list -q\n  gabion list --format json")]
pub(super) struct Args {
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    format: Format,
    /// Only ids
    #[arg(short, long)]
    quiet: bool,
}

impl Args {
    pub(super) fn run(self, global: &Global) -> Result<u8> {
        let settings = global.settings();
        let all = match &global.root {
            Some(_) => {
                // One that is damaged does not hide the others (runc says the same, and 0).
                let (entries, damaged) = container::list(&settings)?;
                for error in &damaged {
                    log::warn(&error.to_string());
                }
                entries
            }
            None => container::list_all(&roots::all(&settings.root), &settings),
        };
        match self.format {
            _ if self.quiet => output::print(&all.iter().fold(String::new(), |text, c| text + &c.id + "\n"))?,
            Format::Json => output::print_line_of_json(&all)?,
            Format::Table => output::print(&table(&all))?,
        }
        Ok(0)
    }
}

/// runc's columns, and behind them the engine's words, where an engine's containers are among them.
fn table(all: &[ListEntry]) -> String {
    let with_names = all.iter().any(|c| c.named.is_some());
    let heading = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    if with_names {
        rows[0].extend(["ENGINE", "NAME", "IMAGE"].map(str::to_owned));
    }
    rows.extend(all.iter().map(|c| {
        let mut row = vec![
            c.id.clone(),
            c.pid.to_string(),
            c.status.clone(),
            c.bundle.display().to_string(),
            c.created.clone(),
            c.owner.clone(),
        ];
        if let Some(named) = &c.named {
            let word = |shown: &Option<Shown>| shown.as_ref().map_or_else(String::new, ToString::to_string);
            row.extend([named.engine.as_str().to_owned(), word(&named.name), word(&named.image)]);
        }
        row
    }));
    output::columns(&rows)
}
