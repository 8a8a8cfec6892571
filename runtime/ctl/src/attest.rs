//! `attest`: what was decided for a live container beside what the kernel shows of it now, for every process in it.
//!
//! Nothing of the container is asked: all is read from the host's procfs and cgroup files. What cannot be seen from there
//! reads `unknown`, never `true`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use gabion_common::audit::Trail;
use gabion_core::attest::{Row, State, Told, Verdict, rows, verdict};
use gabion_core::control::CONTROLS;
use gabion_core::fact::{Fact, Holds};
use gabion_core::id::ControlId;
use gabion_core::ids::Maps;
use gabion_core::observed::{IdsSeen, Observed};
use gabion_core::policy::Level;
use gabion_core::request::ContainerId;
use gabion_see::error::{Error, Result};
use gabion_see::procfs::Proc;
use gabion_see::state::StateView;
use gabion_see::state::{Init, Record, Status};
use gabion_see::{caller, readback, status};

mod about;
mod act;
mod cgroup;
mod devices;
mod filters;
mod helper;
mod process;
mod root;
mod sysctl;
mod transit;

pub(crate) use about::About;
pub(crate) use act::OnDiffer;
pub(crate) use filters::Stop;

/// One fact, and the processes that it is true of; none: of the container as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Attested {
    #[serde(flatten)]
    pub(crate) fact: Fact,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) pids: BTreeSet<i32>,
    /// Of which threads, where it is true of others than a process's first one.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) threads: BTreeSet<i32>,
}

impl Attested {
    /// Names the processes and threads, where it is not true of all.
    fn whom(&self, all: &BTreeSet<i32>) -> String {
        let list = |numbers: &BTreeSet<i32>| {
            let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
            numbers.join(", ")
        };
        if !self.threads.is_empty() {
            format!("process {}, thread {}", list(&self.pids), list(&self.threads))
        } else if self.pids.is_empty() || self.pids == *all {
            String::new()
        } else {
            format!("process {}", list(&self.pids))
        }
    }
}

/// What `attest` found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) id: String,
    /// Whether it holds: exactly where the exit code is 0.
    pub(crate) holds: bool,
    pub(crate) verdict: Verdict,
    #[serde(flatten)]
    pub(crate) about: About,
    /// The level that was required, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) required: Option<Level>,
    /// What was done about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) act: Option<Done>,
    /// Controls that are only observed.
    pub(crate) not_enforced: Vec<ControlId>,
    pub(crate) controls: Vec<Row>,
    pub(crate) facts: Vec<Attested>,
    pub(crate) processes: BTreeSet<i32>,
}

impl Report {
    pub(crate) fn count(&self, state: State) -> usize {
        self.controls.iter().filter(|row| row.state == state).count()
    }

    /// Which container, under which policy, made and looked at by whom: name and value.
    pub(crate) fn heading(&self) -> Vec<(&'static str, String)> {
        let about = &self.about;
        let level = match self.required {
            Some(required) if about.level < required => format!("{}, and {required} was required", about.level),
            _ => about.level.to_string(),
        };
        let mut lines = vec![("container", self.id.clone())];
        if let Some(pod) = &about.pod {
            lines.push(("pod", format!("{}/{}", pod.namespace, pod.name)));
        }
        if let Some(named) = &about.named {
            let name = named.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
            lines.push(("named", format!("{}{name}", named.engine.as_str())));
            lines.extend(named.image.iter().map(|image| ("image", image.to_string())));
        }
        lines.extend([("level", level), ("policy", format!("sha256 {}", about.policy))]);
        lines.extend(about.exceptions.iter().map(|reason| ("exception", reason.clone())));
        let host = format!("{}, kernel {}, boot {}", about.host, about.kernel, about.boot);
        lines.extend([
            ("created", format!("{} by gabion {}", about.created, about.made_by)),
            ("looked at", format!("{} by gabion {}", about.time, about.attested_by)),
            ("host", host),
        ]);
        lines
    }

    /// What differs, as the audit log has it.
    pub(crate) fn differs(&self) -> Vec<&Fact> {
        let facts = self.facts.iter().map(|f| &f.fact);
        facts.filter(|f| f.holds == Holds::No).collect()
    }
}

/// How a look is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// The lowest level that is good enough.
    pub(crate) required: Option<Level>,
    pub(crate) stop: Stop,
}

/// Looks at a container.
///
/// # Errors
/// It is not there, does not run, or its state or first process cannot be read.
fn attest(root: &Path, id: &ContainerId, look: Look) -> Result<Report> {
    let started = Instant::now();
    let mut first_on_their_way: Option<BTreeSet<(i32, u64)>> = None;
    loop {
        // Anew each time: `update` may have changed what is to hold.
        let dir = StateView::open(root, id)?;
        let record = dir.record()?;
        let init = running(&dir, id)?;
        let mut findings = look_at(record, init)?;
        let still = match &first_on_their_way {
            None => findings.on_their_way.clone(),
            Some(first) => first.intersection(&findings.on_their_way).copied().collect(),
        };
        let settled = still.is_empty() && findings.missed.is_empty();
        if !settled && started.elapsed() < PATIENCE {
            first_on_their_way = Some(still);
            std::thread::sleep(BETWEEN);
            continue;
        }
        let stop = look.stop;
        let (first, others): (Vec<_>, Vec<_>) = findings.tasks.iter().copied().partition(|task| task.pid == init.pid);
        let proc = Proc::open()?;
        let status = status::status(&dir)?;
        for (task, fact) in filters::compare((&proc, record), (&first, &others), stop, status) {
            findings.push(fact, Some(task));
        }
        for (pid, _) in still {
            findings.partial(format!(
                "process {pid} is gabion's, on its way into the container, and does not get there"
            ));
        }
        let trail = Trail::load(&dir)?;
        let about = About::of(record, trail.as_ref(), root);
        return Ok(findings.report(record, about, look.required));
    }
}

/// What was done about a container that differs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Done {
    pub(crate) what: OnDiffer,
    /// Why it could not be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

/// Looks at a container, writes what differs into its audit log, and does about it what `on_differ` says. Nothing is done to a container
/// because of one look: what differs must do so twice, since somebody may be changing it rightly at that moment.
///
/// # Errors
/// It is not there, does not run, or its state or first process cannot be read.
pub(crate) fn attest_and(root: &Path, id: &ContainerId, look: Look, on_differ: OnDiffer) -> Result<Report> {
    let mut report = attest(root, id, look)?;
    if report.verdict != Verdict::Differs {
        return Ok(report);
    }
    if on_differ.command().is_some() {
        std::thread::sleep(BETWEEN * 5);
        report = attest(root, id, look)?;
        if report.verdict != Verdict::Differs {
            return Ok(report);
        }
    }
    record(&report, on_differ.command())?;
    if on_differ.command().is_some() {
        let error = act::act(root, id, on_differ).err().map(|error| error.to_string());
        report.act = Some(Done { what: on_differ, error });
    }
    Ok(report)
}

/// Writes what differs into the container's audit log, with what is going to be done about it.
///
/// # Errors
/// It cannot be found out where that is.
fn record(report: &Report, act: Option<&'static str>) -> Result<()> {
    let id: ContainerId = report
        .id
        .parse()
        .map_err(|_| Error::NotFound { id: report.id.clone() })?;
    if let Some(trail) = Trail::load(&StateView::open(&report.about.root, &id)?)? {
        trail.differs(&report.differs(), act);
    }
    Ok(())
}

/// Lists the containers below these roots. A root that was `named` must be readable; one that was only searched may be another runtime's.
///
/// # Errors
/// A root that was named cannot be listed.
pub(crate) fn containers(roots: &[PathBuf], named: bool) -> Result<Vec<(PathBuf, ContainerId)>> {
    let mut all = Vec::new();
    for root in roots {
        if named {
            std::fs::metadata(root).map_err(Error::file("list", root))?;
        }
        let ids = match gabion_see::state::ids(root) {
            Err(error) if named => return Err(error),
            ids => ids.unwrap_or_default(),
        };
        for id in ids {
            let ours = named || !matches!(StateView::open(root, &id), Ok(dir) if !dir.is_in_our_form());
            if ours {
                all.push((root.clone(), id));
            }
        }
    }
    Ok(all)
}

/// How long processes that gabion is bringing in are waited for, and how long between two looks.
const PATIENCE: Duration = Duration::from_secs(2);
const BETWEEN: Duration = Duration::from_millis(20);

/// Before `start` the last layers are not there yet.
fn running(dir: &StateView, id: &ContainerId) -> Result<Init> {
    let status = status::status(dir)?;
    match (status, dir.init()?) {
        (Status::Running | Status::Paused, Some(init)) => Ok(init),
        (Status::Stopped, _) => Err(Error::NotRunning { id: id.to_string() }),
        _ => Err(Error::WrongState {
            id: id.to_string(),
            status: status.as_str(),
            wanted: "running",
        }),
    }
}

fn look_at(record: &Record, init: Init) -> Result<Findings> {
    let proc = Proc::open()?;
    let mut findings = Findings::new();
    let who = init.living_task().ok_or_else(|| Error::NotRunning {
        id: record.id.to_string(),
    })?;
    let seen = first(&proc, record, (init, &who), &mut findings)?;
    let members = cgroup::members(&proc, record, init.pid, &seen)?;
    for (pid, place) in &members {
        let tasks = process::tasks(*pid).unwrap_or_else(|error| {
            findings.partial(format!("the threads of process {pid} cannot be listed: {error}"));
            Vec::new()
        });
        for task in tasks {
            if task.tid != task_of(&who) {
                process::other(&proc, record, (&who, &seen), (task, *place), &mut findings)?;
            }
        }
    }
    // What was read of a pid that somebody else has by now would be somebody else's.
    if !init.lives() {
        return Err(Error::NotRunning {
            id: record.id.to_string(),
        });
    }
    findings.processes = members.into_keys().collect();
    findings.processes.insert(init.pid);
    Ok(findings)
}

/// The thread whose directory in procfs this is: PID, or PID/task/TID.
fn task_of(who: &str) -> i32 {
    who.rsplit('/').next().and_then(|tid| tid.parse().ok()).unwrap_or(0)
}

/// The first process, by a thread of it that lives, and what is the whole container's: mounts, masks, cgroup, sysctls.
fn first(proc: &Proc, record: &Record, (init, who): (Init, &str), findings: &mut Findings) -> Result<Observed> {
    let own = process::Task {
        pid: init.pid,
        tid: task_of(who),
    };
    let before = findings.ours.runs(proc, who);
    let mut seen = readback::of(proc, who)?;
    seen.ids = numbers(record).unwrap_or_default();
    // Only before execve does it say something.
    seen.label_on_exec = None;
    seen.cgroup = cgroup::files(proc, record, who)?;
    match root::open(proc, who) {
        Ok(root) => seen.masked = root::masked(&root, &record.hardened),
        Err(errno) => findings.partial(format!("/proc/{who}/root: {errno:?}")),
    }
    if record.hardened.enforces(ControlId::Sysctl) {
        match sysctl::read(proc, who, &record.hardened) {
            Ok(sysctls) => seen.sysctls = sysctls,
            Err(errno) => {
                let why = format!("its namespaces could not be entered: {errno:?}");
                findings.push(Fact::unknown(ControlId::Sysctl, "sysctls as decided", why), None);
            }
        }
    }
    let mut of_process = Vec::new();
    for control in CONTROLS {
        if !record.hardened.enforces(control.id()) {
            continue;
        }
        let mut facts = control.facts(&record.hardened, &seen);
        if control.id() == ControlId::Devices
            && let Some(fact) = devices::fact(record)
        {
            facts = vec![fact];
        }
        for fact in facts {
            let fact = visible(fact, record);
            if process::is_of_process(fact.control) {
                of_process.push(fact);
            } else {
                findings.push(fact, None);
            }
        }
    }
    of_process.extend(cgroup::place(proc, record, (init.pid, who)));
    findings.task(proc, (who, before), own, of_process);
    Ok(seen)
}

/// Whose numbers the kernel shows us: the maker's, where our user namespace maps as the maker's does; the host's, where root looks at a
/// container of rootless podman. None: those of a third.
fn numbers(record: &Record) -> Option<IdsSeen> {
    let Some(ids) = &record.hardened.plan().ids else {
        // An older gabion wrote down no more than this.
        return (record.user_ns == caller::user_ns()).then_some(IdsSeen::Outside);
    };
    let ours = caller::own_ids().maps?;
    if ids.own.maps.as_ref() == Some(&ours) {
        Some(IdsSeen::Outside)
    } else {
        (ours == Maps::whole()).then_some(IdsSeen::Host)
    }
}

/// What cannot be told from here: descriptors that a running program has opened since from those that it was started with, and
/// ids, where we are in a user namespace whose numbers are neither the maker's nor the host's.
fn visible(fact: Fact, record: &Record) -> Fact {
    match fact.control {
        ControlId::User if numbers(record).is_none() => Fact::unknown(
            fact.control,
            fact.expected,
            "ids are shown as another user namespace than its maker's has them",
        ),
        ControlId::Fds => Fact::held(
            fact.control,
            fact.expected,
            "only shown before the program runs; verified then",
        ),
        _ => fact,
    }
}

/// Facts, each once, and what could not be read.
#[derive(Debug)]
struct Findings {
    facts: Vec<Attested>,
    missed: Vec<String>,
    ours: transit::Ours,
    /// Processes of gabion's own that are not confined yet: pid, and start time.
    on_their_way: BTreeSet<(i32, u64)>,
    processes: BTreeSet<i32>,
    /// Each task that was judged.
    tasks: Vec<process::Task>,
}

impl Findings {
    fn new() -> Self {
        Self {
            facts: Vec::new(),
            missed: Vec::new(),
            ours: transit::Ours::find(),
            on_their_way: BTreeSet::new(),
            processes: BTreeSet::new(),
            tasks: Vec::new(),
        }
    }

    /// Takes a task's facts. One that is gabion's own, on its way in, or that ends while it is looked at, is not judged. `before`: whether it
    /// was gabion's before it was looked at. By now it may have become its program, which is confined; what was read was not.
    fn task(&mut self, proc: &Proc, (who, before): (&str, bool), task: process::Task, facts: Vec<Fact>) {
        let bad = facts.iter().any(|f| matches!(f.holds, Holds::No | Holds::Unknown));
        if bad && process::ended(proc, who) {
            return;
        }
        if bad && (before || self.ours.runs(proc, who)) {
            if let Ok(Init { pid, start }) = Init::now(task.pid) {
                self.on_their_way.insert((pid, start));
            }
            return;
        }
        self.tasks.push(task);
        for fact in facts {
            self.push(fact, Some(task));
        }
    }

    fn push(&mut self, fact: Fact, task: Option<process::Task>) {
        let pid = task.map(|task| task.pid);
        let thread = task.filter(|task| task.tid != task.pid).map(|task| task.tid);
        match self.facts.iter_mut().find(|known| known.fact == fact) {
            Some(known) => {
                known.pids.extend(pid);
                known.threads.extend(thread);
            }
            None => self.facts.push(Attested {
                fact,
                pids: pid.into_iter().collect(),
                threads: thread.into_iter().collect(),
            }),
        }
    }

    fn partial(&mut self, what: String) {
        self.missed.push(what);
    }

    fn report(mut self, record: &Record, about: About, required: Option<Level>) -> Report {
        for what in &self.missed {
            let fact = Fact::unknown(ControlId::Exec, "every process can be looked at", what.clone());
            self.facts.push(Attested {
                fact,
                pids: BTreeSet::new(),
                threads: BTreeSet::new(),
            });
        }
        let order: BTreeMap<ControlId, usize> = CONTROLS.iter().enumerate().map(|(i, c)| (c.id(), i)).collect();
        self.facts.sort_by_key(|f| order.get(&f.fact.control).copied());
        let hardened = &record.hardened;
        let told = self.facts.iter().map(|attested| Told {
            fact: &attested.fact,
            whom: attested.whom(&self.processes),
        });
        let controls = rows(hardened, &told.collect::<Vec<_>>());
        let verdict = verdict(&controls, hardened.level(), required);
        let off = ControlId::ALL.into_iter().filter(|id| !hardened.enforces(*id));
        Report {
            id: record.id.to_string(),
            holds: verdict == Verdict::Holds,
            verdict,
            about,
            required,
            act: None,
            not_enforced: off.collect(),
            controls,
            facts: self.facts,
            processes: self.processes,
        }
    }
}
