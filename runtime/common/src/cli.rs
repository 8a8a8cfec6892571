//! What both command lines share: the global options, how errors are told, how tables are printed.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use gabion_core::request::ContainerId;
use gabion_see::error::{Error, Result};

pub mod diagnostics;
pub mod global;
pub mod log;
pub mod output;

pub use global::{Global, Settings};

/// Parses a command line. What clap has to say (help, a version, a fault) is told here: then the exit code comes back.
///
/// # Errors
/// The process's exit code, where there is nothing to run.
pub fn parse<C: clap::Parser>(args: &[OsString]) -> std::result::Result<C, u8> {
    C::try_parse_from(args).map_err(|error| {
        if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            return u8::from(output::print(&error.render().to_string()).is_err());
        }
        log::report(&Error::Usage(one_line(&error)), &log::Target::guess(args));
        1
    })
}

/// Parses a container's id.
///
/// # Errors
/// It is not safe as a file name.
pub fn id(text: &str) -> Result<ContainerId> {
    Ok(text.parse::<ContainerId>()?)
}

/// Puts clap's message on one line, with what may have been meant, and without its usage.
pub fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let message = text.trim_start_matches("error: ");
    let message = message.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = message.split_whitespace().collect();
    format!("{}{}; see --help", words.join(" "), meant(error).unwrap_or_default())
}

/// What a word that is not known may have been meant for.
fn meant(error: &clap::Error) -> Option<String> {
    let text = |kind| match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        // clap puts the likeliest last.
        ContextValue::Strings(texts) => texts.last().cloned(),
        _ => None,
    };
    let unknown = text(ContextKind::InvalidArg).unwrap_or_default();
    let name = unknown.split('=').next().unwrap_or_default();
    if error.kind() == ErrorKind::UnknownArgument && global::NAMES.contains(&name) {
        return Some(format!("; {name} is a global option: it stands before the command"));
    }
    let kinds = [
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedArg,
        ContextKind::SuggestedValue,
    ];
    let near = kinds.into_iter().find_map(text)?;
    Some(format!("; did you mean {near}?"))
}
