//! `delete`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::container::{self, Deleted, Force, Left};
use gabion_common::cli::{Global, log};
use gabion_core::request::{CalledAs, ContainerId};
use gabion_see::audit::record::Event;
use gabion_see::audit::record::How;
use gabion_see::error::Result;
use gabion_see::state::StateView;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  gabion delete web\n  gabion delete --force web   (kills it first; 0 where it is already gone)"
)]
pub(super) struct Args {
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
    /// Kill it first, where it still runs
    #[arg(short, long)]
    force: bool,
}

/// The second name of the runtime under which what containers have written is kept: its policy, /etc/gabion/runtimes/learn.toml, is root's word for that.
const LEARN: &str = "learn";
const LEARNED: &str = "/var/lib/gabion/learned";
/// How long gabionctl may take to look through a writable layer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Has gabionctl write down what the container wrote below its root, before its engine takes the layer away. The container is deleted whatever comes of it.
fn learn(root: &Path, id: &ContainerId) {
    let record = Path::new(LEARNED).join(format!("{id}.json"));
    let kept = fs::create_dir_all(LEARNED)
        .and_then(|()| std::env::current_exe())
        .and_then(|own| {
            let mut child = Command::new(own.with_file_name("gabionctl"))
                .arg("--root")
                .arg(root)
                .args(["learn", "--of", id.as_str(), "--format", "json", "--merge"])
                .arg(&record)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()?;
            let begun = Instant::now();
            while begun.elapsed() < PATIENCE {
                if child.try_wait()?.is_some() {
                    return Ok(());
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            child.kill()?;
            child.wait().map(drop)
        });
    if let Err(error) = kept {
        log::warn(&format!(
            "what container {id} wrote is not in {}: {error}",
            record.display()
        ));
    }
}

impl Args {
    pub(super) fn run(self, global: &Global) -> Result<u8> {
        let force = if self.force { Force::Kill } else { Force::Refuse };
        let (settings, id) = (global.settings(), super::id(&self.id)?);
        if CalledAs::of_name(&std::env::args_os().next().unwrap_or_default()) == CalledAs::Runtime(LEARN) {
            learn(&settings.root, &id);
        }
        // It goes with the state. Deleting never depends on a log.
        let trail = super::trail(&settings, &id);
        let repeats = match (&trail, StateView::open(&settings.root, &id)) {
            (Ok(Some(trail)), Ok(dir)) => trail.repeats(&dir),
            _ => 0,
        };
        if let Deleted::Unread { damage, left } = container::delete(&settings, &id, force)? {
            log::warn(&match left {
                Left::Nothing => format!(
                    "{damage}; container {id} was found by its pid file: nothing of it is left, but its poststop hooks did not run"
                ),
                Left::Unknown => format!(
                    "{damage}; the directory was removed, and what may still run of container {id} was let be: look for a cgroup with its id"
                ),
            });
        }
        if let Ok(Some(trail)) = trail {
            let how = if force == Force::Kill {
                How::Forced
            } else {
                How::Stopped
            };
            trail.after(Event::Delete { how, repeats });
        }
        Ok(0)
    }
}
