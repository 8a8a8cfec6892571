//! `exec`: another process in a running container, never with more than the container has.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::cgroup::Below;
use crate::container::{
    self, AskNoNewPrivs, AskPrivileged, Detach, ExecLine, ExecOptions, ExecProcess, Paused, Terminal, User,
};
use gabion_common::cli::{Global, log};
use gabion_core::ids::NO_ID;
use gabion_see::audit::record::Action;
use gabion_see::bundle::read_process;
use gabion_see::error::{Error, Result};

#[derive(Debug, clap::Args)]
// Flags of a command line; `options` turns them into what they mean.
#[allow(clippy::struct_excessive_bools)]
#[command(
    after_help = "Examples:\n  gabion exec web ps aux\n  gabion exec -t -e TERM=xterm web sh\n  \
    gabion exec --process process.json web\n\n\
    What follows the program's name is the program's own. Exit code: the program's; 255 where it could not be started."
)]
pub(super) struct Args {
    /// Read the process from this file (process.json)
    #[arg(short, long, value_name = "FILE")]
    pub(super) process: Option<PathBuf>,
    /// Set NAME=VALUE; may be given again
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(super) env: Vec<OsString>,
    /// Working directory in the container
    #[arg(long, value_name = "DIR")]
    pub(super) cwd: Option<PathBuf>,
    /// User and group, by number
    #[arg(short, long, value_name = "UID[:GID]", value_parser = parse_user)]
    pub(super) user: Option<User>,
    /// More groups, by number; may be given again
    #[arg(short = 'g', long, value_name = "GID", value_parser = parse_id)]
    pub(super) additional_gids: Vec<u32>,
    /// With a terminal
    #[arg(short, long)]
    pub(super) tty: bool,
    /// Return as soon as the program runs
    #[arg(short, long)]
    pub(super) detach: bool,
    /// Write the program's pid to this file
    #[arg(long, value_name = "FILE")]
    pub(super) pid_file: Option<PathBuf>,
    /// Unix socket that receives the terminal's master end
    #[arg(long, value_name = "SOCKET")]
    pub(super) console_socket: Option<PathBuf>,
    /// Unix socket that receives a pidfd of the process
    #[arg(long, value_name = "SOCKET")]
    pub(super) pidfd_socket: Option<PathBuf>,
    /// How many descriptors above stderr the program keeps
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) preserve_fds: u32,
    /// A capability; refused where the container does not have it
    #[arg(short, long, value_name = "CAP")]
    pub(super) cap: Vec<String>,
    /// AppArmor profile; refused where it is another than the container's
    #[arg(long, value_name = "PROFILE")]
    pub(super) apparmor: Option<String>,
    /// SELinux label; refused where it is another than the container's
    #[arg(long, value_name = "LABEL")]
    pub(super) process_label: Option<String>,
    /// Without new privileges (always so, unless permissive)
    #[arg(long)]
    pub(super) no_new_privs: bool,
    /// With all privileges; refused, unless permissive
    #[arg(long)]
    pub(super) privileged: bool,
    /// In this cgroup below the container's, which must be there; on cgroup v1 for some controllers, and given again for others
    #[arg(long, value_name = "[CONTROLLER:]PATH")]
    pub(super) cgroup: Vec<String>,
    /// Also where the container is paused
    #[arg(long)]
    pub(super) ignore_paused: bool,
    /// The container's id
    #[arg(value_name = "ID")]
    pub(super) id: String,
    /// Program and arguments
    #[arg(value_name = "CMD", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(super) command: Vec<OsString>,
}

impl Args {
    pub(super) fn run(self, global: &Global) -> Result<u8> {
        let id = super::id(&self.id)?;
        let options = self.options()?;
        let settings = global.settings();
        container::exec(&settings, &id, options).inspect_err(|error| {
            // That of a container which is not there is nobody's record.
            if let Ok(Some(trail)) = super::trail(&settings, &id) {
                trail.failed(Action::Exec, error);
            }
        })
    }

    pub(super) fn options(self) -> Result<ExecOptions> {
        let process = match self.process {
            // As runc: the file says it all, flags beside it are not looked at.
            Some(file) => ExecProcess::File(Box::new(read_process(&file)?)),
            None => ExecProcess::Line(Box::new(ExecLine {
                args: program(self.command.into_iter().map(text).collect())?,
                env: environment(self.env.into_iter().map(text).collect())?,
                cwd: self.cwd.map(absolute).transpose()?,
                user: self.user,
                additional_gids: self.additional_gids,
                terminal: if self.tty { Terminal::Tty } else { Terminal::None },
                caps: self.cap,
                apparmor: self.apparmor,
                process_label: self.process_label,
                privileged: if self.privileged {
                    AskPrivileged::All
                } else {
                    AskPrivileged::AsContainer
                },
                no_new_privs: if self.no_new_privs {
                    AskNoNewPrivs::Set
                } else {
                    AskNoNewPrivs::AsContainer
                },
            })),
        };
        Ok(ExecOptions {
            process,
            detach: if self.detach {
                Detach::Detached
            } else {
                Detach::Foreground
            },
            pid_file: self.pid_file,
            console_socket: self.console_socket,
            pidfd_socket: self.pidfd_socket,
            preserve_fds: self.preserve_fds,
            cgroup: Below::parse(&self.cgroup)?,
            paused: if self.ignore_paused {
                Paused::Ignore
            } else {
                Paused::Refuse
            },
        })
    }
}

/// A word as process.json could have it: runc puts U+FFFD where it is not UTF-8, and so is it here, with a word about it.
fn text(word: OsString) -> String {
    word.into_string().unwrap_or_else(|word| {
        let text = word.to_string_lossy().into_owned();
        log::warn(&format!(
            "{text:?} is not UTF-8: the program is given U+FFFD in the place of what is not"
        ));
        text
    })
}

/// Checks what process.json is checked for, of a command line. A NUL cannot be in an argument of ours.
fn program(command: Vec<String>) -> Result<Vec<String>> {
    if command.first().is_none_or(String::is_empty) {
        return Err(Error::Usage(
            "exec needs a program to run, or --process FILE".to_owned(),
        ));
    }
    Ok(command)
}

fn environment(env: Vec<String>) -> Result<Vec<String>> {
    match env.iter().find(|pair| pair.find('=').is_none_or(|at| at == 0)) {
        Some(bad) => Err(Error::Usage(format!("--env {bad:?} is not NAME=VALUE"))),
        None => Ok(env),
    }
}

fn absolute(cwd: PathBuf) -> Result<PathBuf> {
    if cwd.is_absolute() {
        Ok(cwd)
    } else {
        let why = format!("--cwd {:?} is not an absolute path", cwd.display());
        Err(Error::Usage(why))
    }
}

fn parse_user(text: &str) -> std::result::Result<User, String> {
    Ok(match text.split_once(':') {
        Some((uid, gid)) => User {
            uid: parse_id(uid)?,
            gid: Some(parse_id(gid)?),
        },
        None => User {
            uid: parse_id(text)?,
            gid: None,
        },
    })
}

/// A number that stands for a user or group. The last of all stands for none: the kernel would leave the process root.
fn parse_id(text: &str) -> std::result::Result<u32, String> {
    let id = text
        .parse::<u32>()
        .map_err(|_| format!("{text:?} is not a number: names are the image's, give UID[:GID]"))?;
    if id == NO_ID {
        return Err(format!("{NO_ID} is no id: the kernel takes it for «leave it as it is»"));
    }
    Ok(id)
}
