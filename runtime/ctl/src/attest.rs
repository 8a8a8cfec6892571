//! `attest`: what was decided for a live container beside what the kernel shows of it now, for every process in it.
//!
//! Nothing of the container is asked: all is read from the host's procfs and cgroup files. What cannot be seen from there
//! reads `unknown`, never `true`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

use gabion_common::audit::Trail;
use gabion_core::control::CONTROLS;
use gabion_core::fact::{Fact, Holds};
use gabion_core::id::ControlId;
use gabion_core::ids::Maps;
use gabion_core::observed::{IdsSeen, Observed};
use gabion_core::request::ContainerId;
use gabion_see::error::{Error, Result};
use gabion_see::procfs::Proc;
use gabion_see::state::StateView;
use gabion_see::state::{Init, Record, Status};
use gabion_see::{caller, readback, status};

mod cgroup;
mod process;
mod root;

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

/// What `attest` found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    pub(crate) id: String,
    /// `false`: a fact differs. `unknown`: something that could have been seen was not, so that a difference may be hidden.
    /// `true`: neither.
    pub(crate) holds: Holds,
    pub(crate) facts: Vec<Attested>,
    #[serde(skip)]
    pub(crate) processes: BTreeSet<i32>,
}

impl Report {
    pub(crate) fn count(&self, holds: Holds) -> usize {
        self.facts.iter().filter(|f| f.fact.holds == holds).count()
    }
}

/// Looks at a container.
///
/// # Errors
/// It is not there, does not run, or its state or first process cannot be read.
pub(crate) fn attest(root: &Path, id: &ContainerId) -> Result<Report> {
    let dir = StateView::open(root, id)?;
    let record = dir.record()?;
    let init = running(&dir, id)?;
    let report = look(record, init)?;
    if report.holds == Holds::No
        && let Some(trail) = Trail::load(&dir)?
    {
        let differs = report.facts.iter().map(|f| &f.fact).filter(|f| f.holds == Holds::No);
        trail.differs(&differs.collect::<Vec<_>>());
    }
    Ok(report)
}

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

fn look(record: &Record, init: Init) -> Result<Report> {
    let proc = Proc::open()?;
    let mut findings = Findings::default();
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
    let mut processes: BTreeSet<i32> = members.into_keys().collect();
    processes.insert(init.pid);
    Ok(findings.report(record, processes))
}

/// The thread whose directory in procfs this is: PID, or PID/task/TID.
fn task_of(who: &str) -> i32 {
    who.rsplit('/').next().and_then(|tid| tid.parse().ok()).unwrap_or(0)
}

/// The first process, by a thread of it that lives, and what is the whole container's: mounts, masks, cgroup.
fn first(proc: &Proc, record: &Record, (init, who): (Init, &str), findings: &mut Findings) -> Result<Observed> {
    let own = process::Task {
        pid: init.pid,
        tid: task_of(who),
    };
    let mut seen = readback::of(proc, who)?;
    seen.ids = numbers(record).unwrap_or_default();
    // Only before execve does it say something.
    seen.label_on_exec = None;
    seen.cgroup = cgroup::files(proc, record, who)?;
    match root::open(proc, who) {
        Ok(root) => seen.masked = root::masked(&root, &record.hardened),
        Err(errno) => findings.partial(format!("/proc/{who}/root: {errno:?}")),
    }
    for control in CONTROLS {
        if !record.hardened.enforces(control.id()) {
            continue;
        }
        for fact in control.facts(&record.hardened, &seen) {
            let fact = visible(fact, record);
            let task = process::is_of_process(fact.control).then_some(own);
            findings.push(fact, task);
        }
    }
    if let Some(fact) = cgroup::place(proc, record, (init.pid, who)) {
        findings.push(fact, Some(own));
    }
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
        ControlId::Fds => Fact::unknown(
            fact.control,
            fact.expected,
            "only shown before the program runs; verified then",
        ),
        _ => fact,
    }
}

/// Facts, each once, and what could not be read.
#[derive(Debug, Default)]
struct Findings {
    facts: Vec<Attested>,
    missed: Vec<String>,
}

impl Findings {
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

    fn report(mut self, record: &Record, processes: BTreeSet<i32>) -> Report {
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
        let differs = self.facts.iter().any(|f| f.fact.holds == Holds::No);
        let holds = match (differs, self.missed.is_empty()) {
            (true, _) => Holds::No,
            (false, false) => Holds::Unknown,
            (false, true) => Holds::Yes,
        };
        Report {
            id: record.id.to_string(),
            holds,
            facts: self.facts,
            processes,
        }
    }
}
