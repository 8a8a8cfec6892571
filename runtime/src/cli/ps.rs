//! `ps`: the container's processes, by pid or as ps(1) shows them.

use std::ffi::OsString;
use std::process::{Command, Stdio};

use crate::container;
use gabion_common::cli::Global;
use gabion_common::cli::output::{self, Format};
use gabion_see::error::{Error, Result};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  gabion ps web\n  gabion ps --format json web\n  gabion ps web -o pid,user,args")]
pub(super) struct Args {
    /// table or json (pids only)
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(super) format: Format,
    /// The container's id
    #[arg(value_name = "ID")]
    pub(super) id: String,
    /// Options of ps(1) [default: -ef]
    #[arg(value_name = "PS OPTIONS", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(super) options: Vec<OsString>,
}

impl Args {
    pub(super) fn run(self, global: &Global) -> Result<u8> {
        let pids = container::pids(&global.settings(), &super::id(&self.id)?)?;
        match self.format {
            Format::Json => output::print_line_of_json(&pids)?,
            Format::Table => output::print(&only(&ps(&self.options)?, &pids)?)?,
        }
        Ok(0)
    }
}

/// ps(1)'s own words, of all processes.
fn ps(options: &[OsString]) -> Result<String> {
    let mut command = Command::new("ps");
    if options.is_empty() {
        command.arg("-ef");
    }
    let out = command
        .args(options)
        .stderr(Stdio::inherit())
        .output()
        .map_err(Error::file("run", "ps"))?;
    if !out.status.success() {
        return Err(Error::Usage(format!("ps failed with {}", out.status)));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// The heading and the lines of these pids.
fn only(table: &str, pids: &[i32]) -> Result<String> {
    let mut lines = table.lines();
    let heading = lines.next().unwrap_or_default();
    let column = heading
        .split_whitespace()
        .position(|name| name == "PID")
        .ok_or_else(|| Error::Usage("ps shows no PID column with these options: add pid".to_owned()))?;
    let mut text = format!("{heading}\n");
    for line in lines {
        let pid = line.split_whitespace().nth(column).and_then(|pid| pid.parse().ok());
        if pid.is_some_and(|pid: i32| pids.contains(&pid)) {
            text.push_str(line);
            text.push('\n');
        }
    }
    Ok(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::only;

    #[test]
    fn only_the_container_s_lines_are_shown() {
        let table = "UID   PID  PPID CMD\nroot  1  0 init\nroot  12 1 nginx 1\nroot  112 1 sh\n";
        assert_eq!(only(table, &[12]).unwrap(), "UID   PID  PPID CMD\nroot  12 1 nginx 1\n");
        assert!(only("USER CMD\n", &[1]).is_err());
    }
}
