//! `check`: what would be changed or refused, before anything runs. Needs no root, and the bundle may be another machine's.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use serde::Serialize;

use gabion_common::cli::Global;
use gabion_common::cli::Settings;
use gabion_common::cli::log;
use gabion_common::cli::output::{self, Format};
use gabion_core::decision::{Change, Decision, Mode, Verdict};
use gabion_core::harden::harden;
use gabion_core::hardened::Hardened;
use gabion_core::host::{CgroupDriver, CriFiles, Host, MadeByCri};
use gabion_core::policy::{Level, Policy};
use gabion_core::request::{BadInput, CRI_NAMESPACE, Channel, ContainerId, INVALID, Request};
use gabion_core::valid;
use gabion_see::bundle;
use gabion_see::error::{Error, Result};
use gabion_see::named::Names;
use gabion_see::policy::Loaded;
use gabion_see::seccomp;
use gabion_see::survey::{door_of_bundle, room, survey};

mod manifests;
mod summary;
mod table;

use crate::manifest::{self, Read, World};
use summary::Summary;

/// Refused; 1 is «could not look».
const REFUSED: u8 = 3;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  gabion check ./bundle\n  gabion --level restricted check config.json\n  \
    gabion check --format json - < config.json\n  \
    gabion check --summary /run/containerd/io.containerd.runtime.v2.task\n  \
    gabion check deployment.yaml                      (every pod, container by container; before it is applied)\n  \
    helm template ./chart | gabion --level restricted check -\n  \
    gabion check compose.yaml\n  \
    docker inspect web | gabion check -               (podman inspect, too)\n\n\
    Exit code: 0 it would run, 3 it would be refused, 1 it could not be looked at. Needs no root."
)]
pub(super) struct Args {
    /// A bundle, a config.json, a manifest of Kubernetes, a compose file, an engine's inspect, or - for stdin
    #[arg(value_name = "BUNDLE|FILE|-", default_value = ".")]
    inputs: Vec<PathBuf>,
    /// Count over all bundles below these folders
    #[arg(long)]
    summary: bool,
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    format: Format,
    /// Judge as if this CRI had called: for the config.json of a pod that is not on this node. docker or podman: who runs a compose file
    #[arg(long, value_name = "CRI")]
    called_by: Option<CalledBy>,
}

/// A CRI whose annotations are to be believed for once, or the engine of a compose file. Nothing runs by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum CalledBy {
    Containerd,
    CriO,
    Docker,
    Podman,
}

impl CalledBy {
    const fn is_cri(self) -> bool {
        matches!(self, Self::Containerd | Self::CriO)
    }
}

/// What was decided.
#[derive(Debug, Serialize)]
struct Report {
    level: Level,
    allowed: bool,
    decisions: Vec<Row>,
}

/// One control's decision, with its gravest change up front.
#[derive(Debug, Serialize)]
struct Row {
    control: String,
    verdict: Verdict,
    /// `observe`: only written down, not carried out.
    mode: Mode,
    path: Option<String>,
    from: Option<String>,
    to: Option<String>,
    reason: Option<String>,
    refs: Vec<String>,
    changes: Vec<Change>,
}

impl Args {
    pub(super) fn run(self, global: &Global) -> Result<u8> {
        let policy = global.policy()?;
        if self.summary {
            return self.summarize(global, &policy);
        }
        let [input] = self.inputs.as_slice() else {
            return Err(Error::Usage(
                "check takes one bundle; --summary takes many folders".to_owned(),
            ));
        };
        let request = match self.whatever(input)? {
            Input::Request(request) => self.called(*request, &policy.policy)?,
            Input::Found(found) => {
                let settings = global.settings();
                return manifests::check(&found, &policy, &settings, self.format, &name(input), &style());
            }
        };
        let judged = judge(&request, &policy, &global.settings(), self.called_by);
        let report = Report::from(&judged);
        if report.level == Level::Permissive {
            log::warn_of(&request.odd);
        }
        match self.format {
            Format::Json => output::print_json(&report)?,
            Format::Table => {
                let heading = format!("{}: level {}, policy {}", name(input), report.level, policy.source);
                output::print(&table::render(&heading, &report, &style()))?;
            }
        }
        Ok(if report.allowed { 0 } else { REFUSED })
    }

    /// Reads a bundle or a file, whatever the file is.
    fn whatever(&self, input: &Path) -> Result<Input> {
        if input.is_dir() {
            return Ok(Input::Request(Box::new(read(input)?)));
        }
        let id = gabion_common::cli::id("check")?;
        let text = bundle::read_any(input)?;
        let folder = manifests::folder(input);
        let engine = if self.called_by == Some(CalledBy::Podman) {
            World::Podman
        } else {
            World::Docker
        };
        match manifest::read(&text, input, &folder, engine) {
            Ok(Read::Found(found)) => Ok(Input::Found(found)),
            Ok(Read::Config) => {
                let stdin = input == Path::new("-");
                let (dir, shown) = if stdin {
                    (Path::new("/"), Path::new("stdin"))
                } else {
                    (folder.as_path(), input)
                };
                let request = bundle::from_reader(id, dir, text.as_slice(), shown)?;
                Ok(Input::Request(Box::new(of_a_copy(request))))
            }
            Err(why) => Err(Error::Bundle(BadInput {
                path: name(input).into(),
                why,
                code: INVALID,
            })),
        }
    }

    /// Reads a bundle, and says who would call with it.
    fn read(&self, input: &Path, policy: &Policy) -> Result<Request> {
        self.called(read(input)?, policy)
    }

    /// Says who would call with a request: by `--called-by`, else by where the bundle lies.
    fn called(&self, mut request: Request, policy: &Policy) -> Result<Request> {
        room(&request)?;
        request.channel = match self.called_by {
            Some(CalledBy::CriO) => Channel::CriO,
            Some(CalledBy::Containerd) => Channel::Shim {
                namespace: CRI_NAMESPACE.to_owned(),
            },
            Some(CalledBy::Docker | CalledBy::Podman) | None => door_of_bundle(&request, policy),
        };
        // A sandbox's own container has the sandbox's id, which a file does not tell.
        if self.called_by == Some(CalledBy::Containerd)
            && let Some(Ok(id)) = request.claimed_sandbox().map(str::parse)
            && request.annotation("io.kubernetes.cri.container-type") == Some("sandbox")
        {
            request.id = id;
        }
        Ok(request)
    }

    fn summarize(&self, global: &Global, policy: &Loaded) -> Result<u8> {
        let mut summary = Summary::new(policy.policy.level);
        let mut names = Names::default();
        for dir in &self.inputs {
            for bundle in summary::bundles(dir).map_err(Error::file("look through", dir))? {
                let request = match self.read(&bundle, &policy.policy) {
                    Ok(request) => request,
                    Err(error) => {
                        summary.unreadable.insert(bundle, error.to_string());
                        continue;
                    }
                };
                if let Some(name) = summary::name_of(&mut names, &request) {
                    summary.names.insert(bundle.clone(), name);
                }
                if summary::has_ended(&request) {
                    summary.ended.insert(bundle);
                    continue;
                }
                let judged = judge(&request, policy, &settings_for(&request, global), self.called_by);
                summary.add(&bundle, &judged.decisions, &judged.invalid);
            }
        }
        if summary.is_empty() {
            return Err(Error::Usage("no config.json lies below these folders".to_owned()));
        }
        match self.format {
            Format::Json => output::print_json(&summary)?,
            Format::Table => output::print(&summary.table(&policy.source.to_string()))?,
        }
        Ok(match (summary.refused, summary.bundles) {
            // None could be read.
            (0, 0) if summary.ended.is_empty() => 1,
            (0, _) => 0,
            _ => REFUSED,
        })
    }
}

/// What create would say to a request, whether or not it would go on.
struct Judged {
    level: Level,
    decisions: Vec<Decision>,
    /// What no level may have.
    invalid: Vec<Change>,
}

/// Gives what create would decide for a bundle that does not run yet.
///
/// # Errors
/// It would be refused, or cannot be read.
pub(super) fn hardened(bundle: &Path, global: &Global) -> Result<Hardened> {
    let policy = global.policy()?;
    let mut request = if bundle.is_dir() {
        read(bundle)?
    } else {
        let text = bundle::read_any(bundle)?;
        let id = gabion_common::cli::id("check")?;
        of_a_copy(bundle::from_reader(
            id,
            &manifests::folder(bundle),
            text.as_slice(),
            bundle,
        )?)
    };
    room(&request)?;
    request.channel = door_of_bundle(&request, &policy.policy);
    let settings = settings_for(&request, global);
    let host = survey(&request, &policy, &settings.root, settings.cgroup_driver);
    Ok(harden(
        &request,
        &policy.policy.effective(&request, &host, &policy.digest),
        &host,
    )?)
}

/// Asks what create asks: `harden`, and whether the filters can be made.
fn judge(request: &Request, policy: &Loaded, settings: &Settings, called_by: Option<CalledBy>) -> Judged {
    let mut host = survey(request, policy, &settings.root, settings.cgroup_driver);
    if called_by.is_some_and(CalledBy::is_cri) {
        // What there would be at the call.
        host.euid = 0;
        host.cri = CriFiles {
            bundle: MadeByCri::Yes,
            sandbox: MadeByCri::Yes,
            container: MadeByCri::Yes,
        };
    }
    decide(request, policy, &host)
}

/// The same for a host that is known.
fn decide(request: &Request, policy: &Loaded, host: &Host) -> Judged {
    match harden(request, &policy.policy.effective(request, host, &policy.digest), host) {
        Ok(hardened) => Judged {
            level: hardened.level(),
            decisions: hardened.decisions().to_vec(),
            invalid: seccomp::judge(&hardened)
                .err()
                .map(|error| of_filters(&error))
                .into_iter()
                .collect(),
        },
        Err(denial) => Judged {
            level: denial.level,
            decisions: denial.decisions,
            invalid: denial.invalid,
        },
    }
}

fn of_filters(error: &Error) -> Change {
    Change {
        verdict: Verdict::Refused,
        path: "linux.seccomp".to_owned(),
        from: None,
        to: None,
        reason: error.to_string(),
        code: Some(error.code()),
        remedy: None,
    }
}

/// Engines on one node may differ in their cgroup driver: the path's form tells (systemd's is slice:prefix:name).
fn settings_for(request: &Request, global: &Global) -> Settings {
    let mut settings = global.settings();
    let path = request.spec.linux().as_ref().and_then(|l| l.cgroups_path().as_ref());
    if path.is_some_and(|p| p.to_string_lossy().matches(':').count() == 2) {
        settings.cgroup_driver = CgroupDriver::Systemd;
    }
    settings
}

impl Judged {
    /// All that would stop it.
    fn refusals(&self) -> impl Iterator<Item = &Change> {
        self.invalid
            .iter()
            .chain(self.decisions.iter().flat_map(Decision::refusals))
    }

    fn is_allowed(&self) -> bool {
        self.invalid.is_empty() && self.decisions.iter().all(|d| d.refusals().next().is_none())
    }
}

impl From<&Judged> for Report {
    fn from(judged: &Judged) -> Self {
        // First, since no policy and no level makes it run.
        let invalid = Some(&judged.invalid).filter(|changes| !changes.is_empty());
        let invalid =
            invalid.map(|changes| Row::new(valid::NAME, Verdict::Refused, Mode::Enforce, changes.clone(), &[]));
        Self {
            level: judged.level,
            allowed: judged.is_allowed(),
            decisions: invalid
                .into_iter()
                .chain(judged.decisions.iter().map(Row::from))
                .collect(),
        }
    }
}

impl Row {
    fn new(control: &str, verdict: Verdict, mode: Mode, changes: Vec<Change>, refs: &[String]) -> Self {
        let gravest = changes.iter().find(|c| c.verdict == verdict).cloned();
        Self {
            control: control.to_owned(),
            verdict,
            mode,
            path: gravest.as_ref().map(|c| c.path.clone()),
            from: gravest.as_ref().and_then(|c| c.from.clone()),
            to: gravest.as_ref().and_then(|c| c.to.clone()),
            reason: gravest.map(|c| c.reason),
            refs: refs.to_vec(),
            changes,
        }
    }
}

impl From<&Decision> for Row {
    fn from(decision: &Decision) -> Self {
        let Decision {
            control,
            verdict,
            mode,
            changes,
            refs,
        } = decision;
        Self::new(control.as_str(), *verdict, *mode, changes.clone(), refs)
    }
}

fn read(input: &Path) -> Result<Request> {
    let id = likely_id(input).map_or_else(|| gabion_common::cli::id("check"), Ok)?;
    bundle::from_bundle(id, input)
}

/// A config.json by itself is a copy: what it names is judged as where it comes from.
fn of_a_copy(mut request: Request) -> Request {
    if let Some(own) = gabion_core::control::rootfs::bundle_of_a_copy(&request) {
        request.bundle = own;
    }
    request
}

/// What a file turned out to be.
enum Input {
    Request(Box<Request>),
    Found(manifest::Found),
}

/// Engines name a bundle's folder after the container (podman: the one above `userdata`), and what belongs to a container is
/// told from what does not by its id.
fn likely_id(input: &Path) -> Option<ContainerId> {
    let dir = input.canonicalize().ok().filter(|dir| dir.is_dir())?;
    let dir = if dir.ends_with("userdata") { dir.parent()? } else { &dir };
    dir.file_name()?.to_str()?.parse().ok()
}

fn name(input: &Path) -> String {
    if input == Path::new("-") {
        "stdin".to_owned()
    } else {
        input.display().to_string()
    }
}

/// Colour for people only (no-color.org), and as wide as their terminal is.
fn style() -> table::Style {
    let out = io::stdout();
    let quiet = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    table::Style {
        colour: if out.is_terminal() && !quiet {
            table::Colour::Ansi
        } else {
            table::Colour::None
        },
        width: gabion_sys::window_size(out.as_fd())
            .ok()
            .map(|(_, columns)| columns)
            .filter(|c| *c > 0)
            .map_or(100, usize::from)
            .clamp(80, 120),
    }
}
