//! Commands for people are gabionctl's. `gabion check` and the like hand over to it, so that nobody's scripts change.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use gabion_core::request::CalledAs;
use gabion_see::error::Error;

/// What gabionctl parses.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(super) struct Args {
    #[arg(value_name = "ARGUMENTS", trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// Runs gabionctl in our place, with our own arguments. It lies beside the program that we are.
///
/// # Errors
/// It is not there, or cannot be run.
pub(super) fn to_gabionctl(command: &str, arguments: &[OsString]) -> Error {
    let own = match std::env::current_exe() {
        Ok(own) => own,
        Err(e) => return Error::file("find", "/proc/self/exe")(e),
    };
    let path = own.with_file_name("gabionctl");
    let rest = arguments.iter().skip(1).cloned();
    // A second name has a policy of its own, which is to be shown and checked by, too.
    let called = arguments
        .first()
        .filter(|name| CalledAs::of_name(name) != CalledAs::Plain);
    let name = called.cloned().unwrap_or_else(|| OsString::from("gabionctl"));
    let words: Result<Vec<CString>, _> = std::iter::once(name)
        .chain(rest)
        .map(|word| CString::new(word.into_vec()))
        .collect();
    let (Ok(words), Ok(program)) = (words, CString::new(path.as_os_str().as_bytes())) else {
        return Error::Usage("an argument has a NUL byte".to_owned());
    };
    let Err(errno) = nix::unistd::execv(&program, &words);
    if errno == nix::errno::Errno::ENOENT {
        return Error::Usage(format!(
            "{command} is a command of gabionctl, which is not beside {}: hack/install puts it there, and so does gabion's package",
            own.display()
        ));
    }
    Error::file("run", path)(errno.into())
}
