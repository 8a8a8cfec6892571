//! `learn`: what a program needs beyond level hardened, found by running it.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gabion_common::cli::Global;
use gabion_common::cli::output::{self, Format};
use gabion_common::whole;
use gabion_core::learn::{Denied, Loosening, Seen, loosening, ready, words};
use gabion_core::policy::{Level, Policy};
use gabion_core::request::ContainerId;
use gabion_see::bundle;
use gabion_see::error::{Error, Result};
use gabion_see::policy::Loaded;
use gabion_see::roots;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use serde::Serialize;
use serde_json::{Value, json};

use crate::learn::{ARCHITECTURES, Asked, Ended, How, Prepared, Stage, Until, judge, of, once};

mod toml;

/// It still fails; 1 is «could not look».
const FAILS: u8 = 3;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  gabion learn -b ./bundle web                    until it ends, or ^C\n  \
    gabion learn -b ./bundle --ask 'gabion exec web curl -fs localhost' web\n  \
    gabion learn -b ./bundle --merge web.json web   add this run to what others showed\n  \
    gabion learn --merge web.json                   what they come to\n  \
    gabion learn -b ./bundle --merge web.json --prove web\n  \
    gabion learn --of web                           what podman's, Docker's or containerd's `web` has written below its root\n\n\
    The program runs as at level permissive, on a writable layer that is gone afterwards; its output goes to stderr. Where it ends with an \
    error, what it last could not do is made possible and it is run again. A run shows what the program did in that run, and no more: \
    docs/LEARN.md says what is not seen. Needs root.\n\n\
    Exit code: 0 the outcome was found, or proved; 3 it does not run, or something still fails; 1 it could not be looked at."
)]
pub(super) struct Args {
    /// The container's id, unique on this host; without one, what --merge FILE comes to
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// Directory with config.json
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// Of a container that podman, Docker or containerd made with gabion, by its name or id: what it has written below its root until now
    #[arg(long, value_name = "CONTAINER", conflicts_with_all = ["id", "ask", "seconds", "prove"])]
    of: Option<String>,
    /// A record of runs: read where it is there, and written with this run in it. Of several the first is written
    #[arg(long, value_name = "FILE")]
    merge: Vec<PathBuf>,
    /// Ask the program by this command of the host's, again and again, until it succeeds: that ends the run. GABION_ID is the id
    #[arg(long, value_name = "COMMAND")]
    ask: Option<String>,
    /// End the run after so many seconds
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<u64>,
    /// How often it is run again after it ended with an error
    #[arg(long, value_name = "N", default_value_t = 12)]
    rounds: u32,
    /// Run it at level hardened (or --level) with the outcome, and say what still fails
    #[arg(long)]
    prove: bool,
    /// With --prove: run the bundle as it is, without any outcome
    #[arg(long, requires = "prove")]
    as_is: bool,
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    format: Format,
}

/// All that --format json prints.
#[derive(Serialize)]
struct Report<'a> {
    needs: &'a Loosening,
    levels: Vec<judge::Verdict>,
    ready: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<Proof>,
    seen: &'a Seen,
}

/// How the run at the level went.
#[derive(Serialize)]
struct Proof {
    level: Level,
    holds: bool,
    exit_code: i32,
    /// What it was kept from that it could do without a level, in words.
    kept_from: Vec<String>,
    /// The loosening that is missing.
    missing: Loosening,
}

impl Args {
    pub(super) fn run(self, global: &Global) -> Result<u8> {
        let policy = global.policy()?;
        let mut seen = self.read_record()?;
        if let Some(container) = &self.of {
            return self.of(global, &policy, seen, container);
        }
        let Some(id) = &self.id else {
            if self.merge.is_empty() || self.prove {
                return Err(Error::Usage("learn needs the id of the container to run".to_owned()));
            }
            self.print(&seen, &conclude(&seen, &policy.policy), Vec::new(), None)?;
            return Ok(0);
        };
        let id = gabion_common::cli::id(id)?;
        let request = bundle::from_bundle(id.clone(), &self.bundle)?;
        let root = request
            .rootfs()
            .ok_or_else(|| Error::Usage("the spec has no root".to_owned()))?;
        drop(bundle::open_rootfs(&request)?);
        let prepared = self.prepare(global, &id, &request.bundle)?;
        let mut stage = Stage::new(&root)?;
        let mut failed = false;
        if !self.as_is && (!self.prove || seen.runs == 0) {
            failed = self.learn(&mut stage, &prepared, &mut seen)?;
            self.write_record(&seen)?;
        }
        let needs = if self.as_is {
            Loosening::default()
        } else {
            conclude(&seen, &policy.policy)
        };
        let levels = judge::levels(
            &id,
            &request.bundle,
            &prepared.config,
            &needs,
            &policy,
            &global.settings(),
        )?;
        let proof = self
            .prove
            .then(|| prove(&mut stage, prepared, &seen, &needs, &policy, global))
            .transpose()?;
        let fails = failed || proof.as_ref().is_some_and(|proof| !proof.holds);
        self.print(&seen, &needs, levels, proof)?;
        Ok(if fails { FAILS } else { 0 })
    }

    /// Looks at an engine's container, and adds that to the record.
    fn of(&self, global: &Global, policy: &Loaded, mut seen: Seen, container: &str) -> Result<u8> {
        let settings = global.settings();
        let roots = match &global.root {
            Some(root) => vec![root.clone()],
            None => roots::all(&settings.root),
        };
        let (root, id) = roots::find(&roots, container)?;
        let found = of(&root, &id)?;
        seen.merge(found.seen)
            .map_err(|other| Error::Usage(format!("a record of version {}", other.0)))?;
        self.write_record(&seen)?;
        let needs = conclude(&seen, &policy.policy);
        let levels = judge::levels(&id, &found.bundle, &found.config, &needs, policy, &settings)?;
        self.print(&seen, &needs, levels, None)?;
        Ok(0)
    }

    fn read_record(&self) -> Result<Seen> {
        let mut seen = Seen::new();
        for (at, path) in self.merge.iter().enumerate() {
            let text = match fs::read(path) {
                Ok(text) => text,
                // The one that is written.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && at == 0 && self.looks() => continue,
                Err(error) => return Err(Error::file("read", path)(error)),
            };
            let bad = |why: String| Error::Usage(format!("{}: {why}: it is no record of learn's", path.display()));
            let record: Seen = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
            seen.merge(record)
                .map_err(|other| bad(format!("its version is {}", other.0)))?;
        }
        Ok(seen)
    }

    /// Whether this call looks at anything but records.
    const fn looks(&self) -> bool {
        self.id.is_some() || self.of.is_some()
    }

    fn write_record(&self, seen: &Seen) -> Result<()> {
        let Some(path) = self.merge.first() else { return Ok(()) };
        let text = serde_json::to_vec_pretty(seen).map_err(|error| Error::file("write", path)(error.into()))?;
        let name = path
            .file_name()
            .ok_or_else(|| Error::Usage(format!("--merge {}: name a file", path.display())))?;
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let dir = gabion_sys::open_path(parent, OFlag::O_DIRECTORY);
        let mode = Mode::from_bits_truncate(0o600);
        let written = dir.and_then(|dir| whole::write_at(dir.as_fd(), Path::new(name), mode, &text));
        written.map_err(|errno| Error::file("write", path)(errno.into()))
    }

    fn prepare(&self, global: &Global, id: &ContainerId, bundle: &Path) -> Result<Prepared> {
        let path = bundle.join("config.json");
        let text = bundle::read_any(&path)?;
        let config = serde_json::from_slice(&text).map_err(|error| Error::file("read", &path)(error.into()))?;
        let own = std::env::current_exe().map_err(Error::file("find", "/proc/self/exe"))?;
        Ok(Prepared {
            id: id.to_string(),
            bundle: bundle.to_owned(),
            config,
            program: own.with_file_name("gabion"),
            globals: globals(global, Level::Permissive, global.policy.as_deref())?,
            until: Until {
                ask: self.ask.clone(),
                longest: self.seconds.or(self.ask.as_ref().map(|_| 60)).map(Duration::from_secs),
            },
        })
    }

    /// Runs it until it does not end with an error, or nothing is left to try. Says whether it failed in the end.
    fn learn(&self, stage: &mut Stage, prepared: &Prepared, seen: &mut Seen) -> Result<bool> {
        for round in 0..=self.rounds {
            let mut ended = once(stage, prepared, &Asked::Learn(&seen.needed))?;
            let why = reason(&ended, seen);
            let (code, how) = (ended.code, ended.how);
            if how == How::NotStarted {
                return Err(Error::Usage(format!(
                    "{} did not start: it ended with {code}",
                    prepared.id
                )));
            }
            let failed = match how {
                How::Alone => code != 0,
                How::Unanswered => true,
                How::Stopped | How::Answered | How::NotStarted => false,
            };
            if failed && why.is_some() {
                // What it failed over, and on the way to that, says nothing of what it does without.
                ended.seen.denied.clear();
            }
            seen.merge(ended.seen)
                .map_err(|other| Error::Usage(format!("a record of version {}", other.0)))?;
            if !failed {
                return Ok(false);
            }
            let Some(why) = why.filter(|_| round < self.rounds) else {
                tell(&format!(
                    "it ended with {code}, and nothing was seen that kept it from anything: it may be its own affair"
                ));
                return Ok(true);
            };
            tell(&format!(
                "it ended with {code}: {}; once more, with that",
                words::denied(&why)
            ));
            seen.needed.insert(why);
        }
        Ok(true)
    }

    fn print(&self, seen: &Seen, needs: &Loosening, levels: Vec<judge::Verdict>, proof: Option<Proof>) -> Result<()> {
        if self.format == Format::Json {
            return output::print_json(&Report {
                needs,
                levels,
                ready: ready_things(seen, needs, self.id.as_deref()),
                proof,
                seen,
            });
        }
        let says = levels.into_iter().map(|verdict| {
            let refused = verdict.refused.into_iter().map(|refused| (refused.code, refused.why));
            (verdict.level, refused.collect())
        });
        let mut text = words::report(seen, needs, &says.collect::<Vec<_>>());
        if let Some(proof) = proof {
            text.push_str(&told(&proof));
        }
        output::print(&text)
    }
}

/// Runs it at the level, with the outcome.
fn prove(
    stage: &mut Stage,
    mut prepared: Prepared,
    seen: &Seen,
    needs: &Loosening,
    policy: &Loaded,
    global: &Global,
) -> Result<Proof> {
    let level = match global.level {
        Some(level) if level != Level::Permissive => level,
        _ => Level::Hardened,
    };
    let mut with = policy.policy.clone();
    with.level = level;
    judge::allow(&mut with, needs);
    with.level = policy.policy.level;
    let file = stage.path("policy.toml");
    let own = if with == policy.policy {
        global.policy.clone()
    } else {
        // Exceptions match nothing here.
        with.exceptions.clear();
        fs::write(&file, toml::of(&with)?).map_err(Error::file("write", &file))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).map_err(Error::file("write", &file))?;
        Some(file)
    };
    prepared.globals = globals(global, level, own.as_deref())?;
    let ended = once(stage, &prepared, &Asked::Prove(needs))?;
    Ok(judge_proof(level, &ended, seen, needs, &policy.policy))
}

fn conclude(seen: &Seen, policy: &Policy) -> Loosening {
    loosening(seen, policy.holes.default_size, policy.holes.max_size)
}

/// What it last could not do, of what has not been tried yet.
fn reason(ended: &Ended, seen: &Seen) -> Option<Denied> {
    ended
        .denied
        .iter()
        .rev()
        .find(|denied| !seen.needed.contains(denied))
        .cloned()
}

fn tell(words: &str) {
    let written = writeln!(std::io::stderr(), "gabion learn: {}", output::clean(words));
    if let Err(error) = written {
        tracing::debug!(%error, "nobody reads stderr");
    }
}

/// The global options that the runtime is called with.
fn globals(global: &Global, level: Level, policy: Option<&Path>) -> Result<Vec<OsString>> {
    let mut words: Vec<OsString> = vec!["--level".into(), level.as_str().into()];
    if let Some(root) = &global.root {
        let root = std::path::absolute(root).map_err(Error::file("find", root))?;
        words.extend(["--root".into(), root.into()]);
    }
    if let Some(policy) = policy {
        let policy = std::path::absolute(policy).map_err(Error::file("find", policy))?;
        words.extend(["--policy".into(), policy.into()]);
    }
    if let Some(log) = &global.audit_log {
        words.extend(["--audit-log".into(), log.into()]);
    }
    if global.systemd_cgroup {
        words.push("--systemd-cgroup".into());
    }
    Ok(words)
}

fn judge_proof(level: Level, ended: &Ended, seen: &Seen, needs: &Loosening, policy: &Policy) -> Proof {
    let new = |denied: &&Denied| !seen.had(denied) && !needs.leaves(denied);
    let kept_from: Vec<Denied> = ended.denied.iter().filter(new).cloned().collect();
    let ran = match ended.how {
        How::Alone => ended.code == 0,
        How::Stopped | How::Answered => true,
        How::Unanswered | How::NotStarted => false,
    };
    let missing = Seen {
        needed: kept_from.iter().cloned().collect(),
        volumes: ended.seen.volumes.clone(),
        sizes: seen.sizes.clone(),
        ..Seen::new()
    };
    Proof {
        level,
        holds: ran && kept_from.is_empty(),
        exit_code: ended.code,
        kept_from: kept_from.iter().map(words::denied).collect(),
        missing: conclude(&missing, policy),
    }
}

fn told(proof: &Proof) -> String {
    let mut text = if proof.holds {
        format!("\nProved: it ran at {} and was kept from nothing.\n", proof.level)
    } else {
        format!("\nNot proved at {}: it ended with {}.\n", proof.level, proof.exit_code)
    };
    for what in &proof.kept_from {
        text.push_str(&format!("  {what}\n"));
    }
    if let Some(holes) = ready::annotation(&proof.missing, ",") {
        text.push_str(&format!("  missing: dev.gabion.holes = {holes}\n"));
    }
    for (key, value) in ready::keys(&proof.missing) {
        text.push_str(&format!("  missing: {key} = {value}\n"));
    }
    for (name, value) in &proof.missing.sysctls {
        text.push_str(&format!("  missing: the sysctl {name}={value}\n"));
    }
    output::clean(&text)
}

/// What can be copied as it is.
fn ready_things(seen: &Seen, needs: &Loosening, id: Option<&str>) -> Value {
    let profile = seen.calls.clone().map(|calls| ready::profile(calls, &ARCHITECTURES));
    let crd = profile
        .as_ref()
        .map(|profile| ready::yaml(&ready::seccomp_profile(profile, id.unwrap_or("learned"))));
    let line = |words: Vec<String>| {
        words
            .iter()
            .map(|word| ready::quoted(word))
            .collect::<Vec<_>>()
            .join(" ")
    };
    json!({
        "annotation": ready::annotation(needs, ","),
        "exception": ready::exception(needs, "what `gabion learn` saw it do"),
        "policy": ready::keys(needs).into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        "podman": line(ready::podman(needs)),
        "docker": line(ready::docker(needs)),
        "pod": ready::yaml(&ready::pod(needs)),
        "seccomp": profile,
        "seccomp_profile": crd,
    })
}
