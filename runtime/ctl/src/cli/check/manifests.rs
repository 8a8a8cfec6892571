//! `check` of what is no config.json yet: each container of a manifest, a compose file or an engine's description, judged by what create asks.

use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};

use gabion_common::cli::Settings;
use gabion_common::cli::output::{self, Format, clean};
use gabion_core::caller::OwnUserNs;
use gabion_core::decision::{Change, Mode, Verdict};
use gabion_core::host::{
    Backing, Connects, CriFiles, Delegation, FileKind, Host, MadeByCri, Source, SourceFs, SourcePath, SwapAccounting,
};
use gabion_core::ids::{OwnIds, SetGroups};
use gabion_core::policy::{Cri, Level};
use gabion_core::reach::Spot;
use gabion_core::request::Request;
use gabion_see::error::{Error, Result};
use gabion_see::policy::{Loaded, Source as PolicySource};
use gabion_see::survey::survey;

use super::table::{self, Style};
use super::{Judged, REFUSED, Report, Row, decide};
use crate::manifest::{ABSENT, Found, Origin, Role, Wish, World};

mod compose;

/// What would happen to one container.
#[derive(Debug)]
struct Outcome {
    name: String,
    report: Report,
    /// What would happen at the other levels.
    elsewhere: Vec<Elsewhere>,
    assumed: Vec<String>,
    /// Changes that no part of the person's file is about.
    unseen: usize,
    json: Value,
}

#[derive(Debug, Serialize)]
struct Elsewhere {
    level: Level,
    allowed: bool,
    codes: Vec<String>,
}

/// Judges all containers of a file and prints what would happen.
///
/// # Errors
/// One of them cannot be looked at, or there is none.
pub(super) fn check(
    found: &Found,
    policy: &Loaded,
    settings: &Settings,
    format: Format,
    name: &str,
    style: &Style,
) -> Result<u8> {
    let (policy, taken) = trusting(policy, &found.wishes);
    let mut outcomes = Vec::new();
    let mut failed: Vec<(String, String)> = Vec::new();
    failed.extend(
        found
            .failed
            .iter()
            .map(|(name, wrong)| (name.clone(), wrong.to_string())),
    );
    for wish in &found.wishes {
        match outcome(wish, &policy, settings) {
            Ok(mut outcome) => {
                outcome.assumed.extend(taken.clone());
                outcomes.push(outcome);
            }
            Err(error) => failed.push((wish.name.clone(), error.to_string())),
        }
    }
    if outcomes.is_empty() && failed.is_empty() {
        let others = if found.other.is_empty() {
            "it is empty".to_owned()
        } else {
            found.other.join(", ")
        };
        return Err(Error::Usage(format!("nothing in {name} starts a container: {others}")));
    }
    let refused = outcomes.iter().filter(|outcome| !outcome.report.allowed).count();
    match format {
        Format::Json => output::print_json(&as_json(&outcomes, &failed, found))?,
        Format::Table => output::print(&as_text(&outcomes, &failed, found, (name, &policy), style))?,
    }
    if refused > 0 {
        return Ok(REFUSED);
    }
    match failed.first() {
        Some((of, why)) => Err(Error::Usage(format!("{of} could not be looked at: {why}"))),
        None => Ok(0),
    }
}

/// A manifest is looked at where it is written, and a node has a policy that trusts its CRI: where there is no file here, that is taken for granted.
fn trusting(policy: &Loaded, wishes: &[Wish]) -> (Loaded, Option<String>) {
    let mut policy = policy.clone();
    let pods = wishes.iter().any(|wish| wish.world == World::Kubernetes);
    if !pods || policy.policy.cri == Cri::Containerd {
        return (policy, None);
    }
    if policy.policy.cri == Cri::None && policy.source != PolicySource::BuiltIn {
        // The file says so, and on its node no pod's volume is one.
        return (policy, None);
    }
    let what = match policy.policy.cri {
        Cri::None => "no policy file here: that the node's has `cri = \"containerd\"`",
        _ => "judged as containerd's pods are; CRI-O's differ in their files' places alone",
    };
    policy.policy.cri = Cri::Containerd;
    (policy, Some(what.to_owned()))
}

fn outcome(wish: &Wish, policy: &Loaded, settings: &Settings) -> Result<Outcome> {
    let mut assumed = wish.assumed.clone();
    let request = wish.request(&policy.policy)?;
    let mut host = survey(&request, policy, &settings.root, settings.cgroup_driver);
    suppose(&mut host, wish, policy, &mut assumed);
    let judged = decide(&request, policy, &host);
    let elsewhere = [Level::Hardened, Level::Restricted, Level::Permissive]
        .into_iter()
        .filter_map(|level| at_level(level, &judged, &request, policy, &host));
    let elsewhere: Vec<Elsewhere> = elsewhere.collect();
    dropped(wish, &judged, &mut assumed);
    let mut report = Report::from(&judged);
    let json = json!({
        "name": wish.name,
        "world": word(wish.world),
        "level": judged.level,
        "allowed": report.allowed,
        "levels": elsewhere,
        "decisions": report.decisions.iter().map(|row| placed(row, wish)).collect::<Vec<_>>(),
        "assumed": assumed,
    });
    let mut unseen = 0;
    for row in &mut report.decisions {
        let before = row.changes.len();
        row.changes.retain(|change| is_of_interest(change, wish));
        unseen += before - row.changes.len();
        for change in &mut row.changes {
            if let Some(place) = wish.place_of(&change.path) {
                change.path = place.to_owned();
            }
            if wish.world == World::Compose {
                compose::remedy(change);
            }
        }
    }
    Ok(Outcome {
        name: wish.name.clone(),
        report,
        elsewhere,
        assumed,
        unseen,
        json,
    })
}

const fn word(world: World) -> &'static str {
    match world {
        World::Kubernetes => "kubernetes",
        World::Compose => "compose",
        World::Docker => "docker",
        World::Podman => "podman",
    }
}

/// Whether a person who wrote the file should read of a change: all but what gabion puts in whatever the file says.
fn is_of_interest(change: &Change, wish: &Wish) -> bool {
    match change.verdict {
        Verdict::Refused => true,
        Verdict::Kept | Verdict::Added => false,
        Verdict::Tightened | Verdict::Warned => wish.place_of(&change.path).is_some() && wish.role == Role::Container,
    }
}

/// A row with each change's place in the person's file.
fn placed(row: &Row, wish: &Wish) -> Value {
    let mut value = json!(row);
    if let Some(Value::Array(changes)) = value.get_mut("changes") {
        for (change, own) in changes.iter_mut().zip(&row.changes) {
            if let (Some(map), Some(place)) = (change.as_object_mut(), wish.place_of(&own.path)) {
                map.insert("place".to_owned(), json!(place));
            }
        }
    }
    value
}

fn at_level(level: Level, own: &Judged, request: &Request, policy: &Loaded, host: &Host) -> Option<Elsewhere> {
    let mut other = policy.clone();
    other.policy.level = level;
    let judged = decide(request, &other, host);
    // An annotation or an exception may have the last word: then there is nothing to tell.
    if judged.level != level || level == own.level {
        return None;
    }
    let mut codes: Vec<String> = judged.refusals().filter_map(|change| change.code.clone()).collect();
    codes.sort();
    codes.dedup();
    Some(Elsewhere {
        level,
        allowed: judged.is_allowed(),
        codes,
    })
}

/// Says which capabilities somebody asked for by name and would not have, though nothing is refused: engines give these to everybody, so that
/// a config.json does not tell who wanted them.
fn dropped(wish: &Wish, judged: &Judged, assumed: &mut Vec<String>) {
    let decision = judged.decisions.iter().find(|decision| {
        decision.control == gabion_core::id::ControlId::Capabilities && decision.mode == Mode::Enforce
    });
    let cut = decision.and_then(|decision| {
        let change = decision
            .changes
            .iter()
            .find(|change| change.path == "process.capabilities")?;
        Some((change.from.as_deref()?, change.to.as_deref()?))
    });
    let Some((from, to)) = cut else { return };
    let has = |list: &str, name: &str| list.split(' ').any(|word| word == name);
    let refused = |name: &str| {
        let part = format!("process.capabilities.CAP_{name}");
        wish.privileged || judged.refusals().any(|change| change.path == part)
    };
    let lost = |name: &&String| has(from, name) && !has(to, name) && !refused(name);
    for name in wish.add.iter().filter(lost) {
        let place = wish
            .place_of(&format!("process.capabilities.CAP_{name}"))
            .unwrap_or_default();
        assumed.push(format!("{place}: {name} is asked for by name, and would be taken away: [capabilities] allow = [\"CAP_{name}\"] keeps it"));
    }
}

/// Puts into what was seen of this machine what would be on the one where the container is to run.
fn suppose(host: &mut Host, wish: &Wish, policy: &Loaded, assumed: &mut Vec<String>) {
    // Root calls there, with every controller, and nothing above that has a limit of its own.
    host.euid = 0;
    host.egid = 0;
    host.groups = Vec::new();
    host.user_ns = OwnUserNs::Initial;
    host.own_ids = OwnIds::default();
    host.set_groups = SetGroups::Allowed;
    host.delegation = Delegation::Whole;
    host.controllers = [
        "blkio", "cpu", "cpuset", "devices", "freezer", "hugetlb", "memory", "pids",
    ]
    .map(str::to_owned)
    .into();
    host.swap_accounting = SwapAccounting::Present;
    host.cgroup_neighbour = None;
    // How large that machine is nobody knows here.
    host.tasks_total = 0;
    let asked = wish.limits.memory.and_then(|bytes| u64::try_from(bytes).ok());
    host.memory_total = host.memory_total.max(asked.unwrap_or_default());
    (host.parent_memory, host.parent_pids) = (None, None);
    (host.nofile, host.nofile_soft) = (1_048_576, None);
    host.oom_score_adj = 0;
    if wish.world == World::Kubernetes {
        host.cri = CriFiles {
            bundle: MadeByCri::Yes,
            sandbox: MadeByCri::Yes,
            container: MadeByCri::Yes,
        };
    }
    for (index, path, from) in wish.sources(&policy.policy) {
        let own = matches!(from, Origin::Host(_));
        let seen = matches!(host.sources.get(&index), Some(SourcePath::Open(_)));
        if own && seen {
            continue;
        }
        if own {
            assumed.push(format!(
                "{} is not to be seen here: judged by its name, as a directory (a link, a socket or a mount there may be refused)",
                path.display()
            ));
        }
        host.sources.insert(index, SourcePath::Open(supposed(path)));
    }
    for (path, place) in &wish.devices {
        let path = PathBuf::from(path);
        if let Entry::Vacant(absent) = host.devices.entry(path) {
            assumed.push(format!(
                "{place}: {} is no device here: judged by its name",
                absent.key().display()
            ));
            absent.insert(FileKind::CharDevice(ABSENT.0, ABSENT.1));
        }
    }
}

/// A directory that is nothing but what it is called.
fn supposed(real: PathBuf) -> Source {
    Source {
        real,
        kind: FileKind::Directory,
        filesystem: SourceFs::Ordinary,
        spot: Spot::default(),
        links: 1,
        along: Vec::new(),
        layers: Vec::new(),
        backing: Backing::Volume,
        connects: Connects::Others,
    }
}

fn as_json(outcomes: &[Outcome], failed: &[(String, String)], found: &Found) -> Value {
    json!({
        "allowed": failed.is_empty() && outcomes.iter().all(|outcome| outcome.report.allowed),
        "containers": outcomes.iter().map(|outcome| &outcome.json).collect::<Vec<_>>(),
        "failed": failed.iter().map(|(name, why)| json!({"name": name, "why": why})).collect::<Vec<_>>(),
        "skipped": found.other,
    })
}

fn as_text(
    outcomes: &[Outcome],
    failed: &[(String, String)],
    found: &Found,
    of: (&str, &Loaded),
    style: &Style,
) -> String {
    let (name, policy) = of;
    let mut text = clean(&format!("{name}: policy {}\n", policy.source));
    let mut assumed: Vec<&str> = Vec::new();
    for outcome in outcomes {
        text.push('\n');
        let heading = format!("{}: level {}", outcome.name, outcome.report.level);
        text.push_str(&table::render_brief(&heading, &outcome.report, style));
        let others: Vec<String> = outcome.elsewhere.iter().map(at).collect();
        if !others.is_empty() {
            text.push_str(&clean(&format!("  {}\n", others.join("; "))));
        }
        for what in &outcome.assumed {
            if !assumed.contains(&what.as_str()) {
                assumed.push(what);
            }
        }
    }
    if !assumed.is_empty() {
        text.push_str("\nAssumed, or to be known:\n");
        text.extend(assumed.iter().map(|what| clean(&format!("  {what}\n"))));
    }
    for (name, why) in failed {
        text.push_str(&clean(&format!("\n{name}: COULD NOT BE LOOKED AT: {why}\n")));
    }
    if !found.other.is_empty() {
        text.push_str(&clean(&format!("\nStarts nothing: {}\n", found.other.join(", "))));
    }
    let unseen: usize = outcomes.iter().map(|outcome| outcome.unseen).sum();
    if unseen > 0 {
        text.push_str("\nWhat gabion puts into every container beside this: `--format json`.\n");
    }
    let refused = outcomes.iter().filter(|outcome| !outcome.report.allowed).count();
    let total = format!(
        "\n{} of {} would run; {refused} would be REFUSED\n",
        outcomes.len() - refused,
        outcomes.len()
    );
    text + &total
}

fn at(elsewhere: &Elsewhere) -> String {
    match (elsewhere.allowed, elsewhere.codes.is_empty()) {
        (true, _) => format!("at {}: would run", elsewhere.level),
        (false, true) => format!("at {}: REFUSED", elsewhere.level),
        (false, false) => format!("at {}: REFUSED ({})", elsewhere.level, elsewhere.codes.join(", ")),
    }
}

/// The folder that relative paths of a file hang from.
pub(super) fn folder(input: &Path) -> PathBuf {
    let parent = input.parent().filter(|_| input != Path::new("-"));
    let parent = parent
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    parent
        .canonicalize()
        .or_else(|_| std::env::current_dir())
        .unwrap_or_else(|_| PathBuf::from("/"))
}

#[cfg(test)]
#[path = "manifests/tests.rs"]
mod tests;
