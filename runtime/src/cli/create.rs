//! `create`, and what `run` shares with it: from the command line to what the life cycle accepts.

use std::path::PathBuf;

use crate::container::{self, CreateOptions, Keyring, Settings};
use gabion_common::audit::Trail;
use gabion_common::cli::{Global, log};
use gabion_core::harden::harden;
use gabion_core::hardened::Hardened;
use gabion_core::request::{Channel, Leave};
use gabion_see::audit::record::Action;
use gabion_see::caller::reader;
use gabion_see::error::Result;
use gabion_see::survey::{Handles, collect};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  gabion create -b ./bundle --pid-file /run/web.pid web && gabion start web")]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) launch: Launch,
}

// What create and run have in common: no doc comment, which would become the help of both.
#[derive(Debug, clap::Args)]
pub(super) struct Launch {
    /// The container's id, unique on this host
    #[arg(value_name = "ID")]
    pub(super) id: String,
    /// Directory with config.json
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub(super) bundle: PathBuf,
    /// Write the first process's pid to this file
    #[arg(long, value_name = "FILE")]
    pub(super) pid_file: Option<PathBuf>,
    /// Unix socket that receives the terminal's master end
    #[arg(long, value_name = "SOCKET")]
    pub(super) console_socket: Option<PathBuf>,
    /// Unix socket that receives a pidfd of the process
    #[arg(long, value_name = "SOCKET")]
    pub(super) pidfd_socket: Option<PathBuf>,
    /// Do not use pivot_root(2): for a root on a ramdisk; refused where the control rootfs is enforced
    #[arg(long)]
    pub(super) no_pivot: bool,
    /// Keep the caller's session keyring; only where the control fds is not enforced
    #[arg(long)]
    pub(super) no_new_keyring: bool,
    /// How many descriptors above stderr the program keeps
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) preserve_fds: u32,
    /// The shim's own: containerd's namespace of this container. A command's option, so that no engine's option for global ones reaches it
    #[arg(long, value_name = "NAMESPACE", hide = true)]
    pub(super) from_shim: Option<String>,
}

/// All that create and run hand to the life cycle.
pub(super) struct Prepared {
    pub(super) settings: Settings,
    pub(super) options: CreateOptions,
    pub(super) hardened: Hardened,
    pub(super) handles: Handles,
}

impl Launch {
    /// Reads, collects, decides. Nothing of the container exists yet.
    pub(super) fn prepare(self, global: &Global, action: Action) -> Result<Prepared> {
        let settings = global.settings();
        let policy = global.policy()?;
        let mut request = gabion_see::bundle::from_bundle(super::id(&self.id)?, &self.bundle)?;
        request.channel = channel(self.from_shim);
        if self.no_pivot {
            request.leave = Leave::MoveRoot;
        }
        let (host, handles) = collect(&request, &policy, &settings.root, settings.cgroup_driver)?;
        let effective = policy.policy.effective(&request, &host, &policy.digest);
        let trail = Trail::begin(&request, &effective, reader());
        let hardened = harden(&request, &effective, &host).inspect_err(|denial| trail.refused(action, denial))?;
        tracing::debug!(id = %request.id, level = %effective.level, "decided");
        trail.created(action, &request, &hardened)?;
        log::warn_of(&request.odd);
        if let Some(process) = hardened.spec().process() {
            log::warn_of_ambient(process);
        }
        let options = CreateOptions {
            id: request.id,
            bundle: request.bundle,
            pid_file: self.pid_file,
            console_socket: self.console_socket,
            pidfd_socket: self.pidfd_socket,
            leave: request.leave,
            keyring: if self.no_new_keyring {
                Keyring::Inherit
            } else {
                Keyring::New
            },
            preserve_fds: self.preserve_fds,
            audit: trail,
        };
        Ok(Prepared {
            settings,
            options,
            hardened,
            handles,
        })
    }
}

/// Tells through which door this call came: nothing in the bundle has a word in it. CRI-O is root; whoever is root in a user namespace alone may
/// call us by any name.
fn channel(from_shim: Option<String>) -> Channel {
    let name = || std::env::args_os().next().unwrap_or_default();
    match from_shim {
        Some(namespace) => Channel::Shim { namespace },
        None if gabion_see::caller::is_host_root() => Channel::of_name(&name()),
        None => Channel::Direct,
    }
}

impl Args {
    pub(super) fn run(self, global: &Global) -> Result<u8> {
        let Prepared {
            settings,
            options,
            hardened,
            handles,
        } = self.launch.prepare(global, Action::Create)?;
        let pid = container::create(&settings, &options, hardened, handles)
            .inspect_err(|error| options.audit.failed(Action::Create, error))?;
        tracing::debug!(pid, "created");
        Ok(0)
    }
}
