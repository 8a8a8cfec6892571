//! `explain`: what a code of a message means, and what to do about it.

use gabion_common::cli::output;
use gabion_core::control::CONTROLS;
use gabion_core::explain;
use gabion_core::policy::keys::nearest;
use gabion_see::error::{Error, Result};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  gabion explain mounts.host-path\n  gabion explain EROFS\n  gabion explain seccomp   (a control)\n  \
    gabion explain           (all codes)"
)]
pub(super) struct Args {
    /// A code as it stands in [brackets] in a message, an errno, or a control
    #[arg(value_name = "CODE")]
    code: Option<String>,
}

impl Args {
    pub(super) fn run(self) -> Result<u8> {
        let Some(code) = self.code else {
            let mut list: Vec<&str> = explain::all().map(|e| e.code).collect();
            list.sort_unstable();
            output::print(&(list.join("\n") + "\n"))?;
            return Ok(0);
        };
        if let Some(entry) = explain::find(&code) {
            output::print(&format!(
                "{}\n\n{}\n\nTo see it:   {}\n\nWhat helps:  {}\n",
                entry.code,
                entry.what,
                entry.see(),
                entry.loosen
            ))?;
            return Ok(0);
        }
        if let Some(control) = CONTROLS.iter().find(|c| c.id().as_str() == code) {
            let about = control.about();
            let codes = explain::all().filter(|e| {
                e.code
                    .strip_prefix(code.as_str())
                    .is_some_and(|rest| rest.starts_with('.'))
            });
            let codes: Vec<&str> = codes.map(|e| e.code).collect();
            output::print(&format!(
                "{code}\n\nThreat:       {}\nRule:         {}\nEnforced by:  {}\nKernel:       {}\nReferences:   {}\nCodes:        {}\n",
                about.threat,
                about.rule,
                about.enforced_by,
                about.kernel_floor,
                about.refs.join("; "),
                codes.join(", ")
            ))?;
            return Ok(0);
        }
        let near = nearest(&code, explain::all().map(|e| e.code)).map(|near| format!("; did you mean {near}?"));
        Err(Error::Usage(format!(
            "nothing is known of {code:?}{}",
            near.unwrap_or_default()
        )))
    }
}
