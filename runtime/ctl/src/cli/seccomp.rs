//! `seccomp`: gabion's own filters, their rules, and what they answer to one call.

use gabion_common::cli::output::{self, Format};
use gabion_core::explain::calls::needed_by;
use gabion_core::policy::keys::nearest;
use gabion_see::error::{Error, Result};
use serde_json::json;

use crate::calls::{self, Known, Part, word};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  gabion seccomp show\n  gabion seccomp show --call unshare\n  gabion seccomp show --call socket --format json\n\n\
    What the filters of one container answer: `gabion can ID call unshare`."
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print the rules with their reasons, or what the filters answer to one call
    Show(Show),
}

#[derive(Debug, clap::Args)]
struct Show {
    /// A system call by its name
    #[arg(long, value_name = "NAME")]
    call: Option<String>,
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    format: Format,
}

impl Args {
    pub(super) fn run(self) -> Result<u8> {
        let Command::Show(show) = self.command;
        let Some(name) = show.call else {
            output::print(calls::RULES)?;
            return Ok(0);
        };
        let Some(known) = calls::find(&name) else {
            let names = calls::names();
            let near = nearest(&name, names.iter().map(String::as_str));
            let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            return Err(Error::Usage(format!("no call {name:?} is known{near}")));
        };
        match show.format {
            Format::Json => output::print_json(&as_json(&known))?,
            Format::Table => output::print(&page(&known))?,
        }
        Ok(0)
    }
}

fn as_json(known: &Known) -> serde_json::Value {
    let answers = known.answers().into_iter();
    let answers =
        answers.map(|(asked, default, floor)| json!({"asked": asked, "default": word(default), "floor": word(floor)}));
    let rules = known
        .rules
        .iter()
        .map(|(part, rule)| json!({"part": name(*part), "reason": rule.reason, "errno": rule.errno}));
    json!({
        "call": known.name,
        "answers": answers.collect::<Vec<_>>(),
        "rules": rules.collect::<Vec<_>>(),
        "group": known.group().map(gabion_core::policy::SeccompGroup::as_str),
        "capability": needed_by(&known.name).map(|needed| format!("CAP_{needed}")),
    })
}

const fn name(part: Part) -> &'static str {
    match part {
        Part::Floor => "floor",
        Part::Allow => "default.allow",
        Part::Refuse => "default.refuse",
    }
}

/// What is known of a call, for people.
pub(super) fn page(known: &Known) -> String {
    let row = |cells: [String; 3]| cells.to_vec();
    let mut rows = vec![row(["ASKED", "DEFAULT PROFILE", "FLOOR"].map(str::to_owned))];
    rows.extend(
        known
            .answers()
            .into_iter()
            .map(|(asked, default, floor)| row([asked, word(default), word(floor)])),
    );
    let mut text = format!(
        "{}: the system call, and what gabion's filters answer. A container has the default profile where its spec brings none, else the floor \
         under the spec's own (which may refuse more).\n\n{}\n",
        known.name,
        output::columns(&rows)
    );
    for (part, rule) in &known.rules {
        text.push_str(&format!("{:<15} {}\n", name(*part), rule.reason));
    }
    if known.rules.is_empty() {
        text.push_str("No rule names it: ENOSYS by the default profile, let through by the floor.\n");
    }
    if let Some(needed) = needed_by(&known.name) {
        text.push_str(&format!(
            "\nThe kernel asks for CAP_{needed} beside it: without that it is EPERM, whatever the filters say.\n"
        ));
    }
    text.push_str(&format!("\nWhat helps:  {}\n", helps(known)));
    text
}

/// The smallest loosening.
pub(crate) fn helps(known: &Known) -> String {
    let denied = known.answers();
    let floor = denied
        .iter()
        .any(|(_, _, floor)| *floor != gabion_see::seccomp::ask::Answer::Allow);
    let default = denied
        .iter()
        .any(|(_, default, _)| *default != gabion_see::seccomp::ask::Answer::Allow);
    if matches!(known.name.as_str(), "socket" | "socketpair") {
        return "[seccomp] sockets = [\"…\"] in the policy, or `seccomp.sockets` in an exception, names what is opened (docs/POLICY.md)".to_owned();
    }
    match (known.group(), floor, default) {
        (Some(group), true, _) => format!(
            "[seccomp] allow = [\"{}\"] in the policy, or `seccomp.allow` in an exception for that container alone",
            group.as_str()
        ),
        (_, true, _) => "the floor has no key for it: most programs do without; else `loosen = [\"seccomp\"]` in an exception for that container".to_owned(),
        (_, false, true) => "a profile of the spec's own that allows it (securityContext.seccompProfile, --security-opt seccomp=FILE): the floor lets it through".to_owned(),
        _ => "nothing: the filters let it through".to_owned(),
    }
}
