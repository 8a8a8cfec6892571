//! `exec`: another process in a running container, never with more than the container has.

use std::path::PathBuf;

use crate::container::{
    self, AskNoNewPrivs, AskPrivileged, Detach, ExecLine, ExecOptions, ExecProcess, Paused, Terminal, User,
};
use gabion_common::cli::Global;
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
    pub(super) env: Vec<String>,
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
    /// In this cgroup below the container's
    #[arg(long, value_name = "PATH")]
    pub(super) cgroup: Option<String>,
    /// Also where the container is paused
    #[arg(long)]
    pub(super) ignore_paused: bool,
    /// The container's id
    #[arg(value_name = "ID")]
    pub(super) id: String,
    /// Program and arguments
    #[arg(value_name = "CMD", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(super) command: Vec<String>,
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
                args: vet(self.command, &self.env, self.cwd.as_deref())?,
                env: self.env,
                cwd: self.cwd,
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
            preserve_fds: self.preserve_fds,
            cgroup: self.cgroup,
            paused: if self.ignore_paused {
                Paused::Ignore
            } else {
                Paused::Refuse
            },
        })
    }
}

/// What process.json is checked for, for a command line. A NUL cannot be in an argument of ours.
fn vet(command: Vec<String>, env: &[String], cwd: Option<&std::path::Path>) -> Result<Vec<String>> {
    if command.first().is_none_or(String::is_empty) {
        return Err(Error::Usage(
            "exec needs a program to run, or --process FILE".to_owned(),
        ));
    }
    if let Some(bad) = env.iter().find(|pair| pair.find('=').is_none_or(|at| at == 0)) {
        return Err(Error::Usage(format!("--env {bad:?} is not NAME=VALUE")));
    }
    if let Some(cwd) = cwd.filter(|cwd| !cwd.is_absolute()) {
        return Err(Error::Usage(format!(
            "--cwd {:?} is not an absolute path",
            cwd.display()
        )));
    }
    Ok(command)
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
