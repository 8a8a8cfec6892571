//! `attest`: what the kernel shows of a running container, beside what was decided for it.

use std::collections::BTreeSet;

use crate::attest::{self, Attested, Report};
use gabion_common::cli::Global;
use gabion_common::cli::output::{self, Format};
use gabion_core::fact::Holds;
use gabion_see::error::Result;
use gabion_see::roots;

/// Something differs; 1 is «could not look».
const DIFFERS: u8 = 3;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  gabion attest web\n  gabion attest --format json 3f9a\n\n\
    Exit code: 0 it holds, 3 something differs, 1 it could not be looked at. Without --root, containerd's, the system's and \
    the user's roots are searched, and the beginning of an id is enough."
)]
pub(super) struct Args {
    /// The container's id, or the beginning of it
    #[arg(value_name = "ID")]
    id: String,
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    format: Format,
}

impl Args {
    pub(super) fn run(self, global: &Global) -> Result<u8> {
        let settings = global.settings();
        let roots = match &global.root {
            Some(root) => vec![root.clone()],
            None => roots::all(&settings.root),
        };
        let (root, id) = roots::find(&roots, &self.id)?;
        let report = attest::attest(&root, &id)?;
        match self.format {
            Format::Json => output::print_json(&report)?,
            Format::Table => output::print(&table(&report))?,
        }
        Ok(match report.holds {
            Holds::Yes => 0,
            Holds::No => DIFFERS,
            Holds::Unknown => 1,
        })
    }
}

const fn word(holds: Holds) -> &'static str {
    match holds {
        Holds::Yes => "holds",
        Holds::No => "DIFFERS",
        Holds::Unknown => "unknown",
    }
}

fn table(report: &Report) -> String {
    let mut rows = vec![
        ["CONTROL", "", "DECIDED", "THE KERNEL SHOWS"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(report.facts.iter().map(|fact| row(fact, &report.processes)));
    let heading = match report.holds {
        Holds::Yes => "holds",
        Holds::No => "DIFFERS from what was decided",
        Holds::Unknown => "could not be looked at in full",
    };
    format!(
        "{}{}: {heading} ({}; {} facts hold, {} differ, {} unknown)\n",
        output::columns(&rows),
        report.id,
        match report.processes.len() {
            1 => "1 process".to_owned(),
            many => format!("{many} processes"),
        },
        report.count(Holds::Yes),
        report.count(Holds::No),
        report.count(Holds::Unknown),
    )
}

fn of_whom(attested: &Attested) -> String {
    let list = |numbers: &BTreeSet<i32>| {
        let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        numbers.join(", ")
    };
    let processes = format!("process {}", list(&attested.pids));
    if attested.threads.is_empty() {
        processes
    } else {
        format!("{processes}, thread {}", list(&attested.threads))
    }
}

fn row(attested: &Attested, all: &BTreeSet<i32>) -> Vec<String> {
    let fact = &attested.fact;
    // What is as expected need not be read twice.
    let mut observed = if fact.observed == fact.expected {
        String::new()
    } else {
        output::clean(&fact.observed)
    };
    let of_some = !attested.threads.is_empty() || (!attested.pids.is_empty() && attested.pids != *all);
    if of_some && fact.holds != Holds::Yes {
        observed = format!("{observed} ({})", of_whom(attested));
    }
    vec![
        fact.control.to_string(),
        word(fact.holds).to_owned(),
        output::clean(&fact.expected),
        observed,
    ]
}
