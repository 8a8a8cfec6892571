//! `exec`: another process in a running container, through the same door as the first.

use std::path::Path;
use std::time::Duration;

use nix::unistd::Pid;
use oci_spec::runtime::{Capabilities, ExecCPUAffinity, Process};

use crate::cgroup::{Below, Cgroup};
use crate::container::foreground::{self, Terminal};
use crate::container::options::{
    AskNoNewPrivs, AskPrivileged, Detach, ExecLine, ExecOptions, ExecProcess, Paused, Settings, Terminal as Tty,
};
use crate::container::pid_file::PidFile;
use crate::container::pidfd_socket::{Of, PidfdSocket};
use crate::container::spawn::{self, Born};
use crate::container::{affinity, as_host, create, own_limits, precheck};
use crate::contract::channel::{Channel, Message};
use crate::contract::setup::{Kind, Setup};
use crate::state::StateDir;
use crate::wait;
use gabion_common::audit::Trail;
use gabion_common::cli::log;
use gabion_core::control::capabilities;
use gabion_core::control::exec as vet;
use gabion_core::control::exec::{ExecRequest, Here, Widening};
use gabion_core::hardened::{Amendment, ExecPlan, Hardened};
use gabion_core::id::ControlId;
use gabion_core::policy::Level;
use gabion_core::request::{ContainerId, Read, caller_of_container};
use gabion_see::error::{Error, Result, Step};
use gabion_see::procfs::Proc;
use gabion_see::state::{Init, Record, Status};

mod joined;

use joined::entry;

/// Runs a process in the container; its exit code, or 0 when detached.
///
/// # Errors
/// «container not running»; a refusal; whatever fails before the process runs.
pub(crate) fn exec(settings: &Settings, id: &ContainerId, options: ExecOptions) -> Result<u8> {
    let dir = StateDir::open(&settings.root, id)?;
    let init = running(&dir, options.paused)?;
    let detach = options.detach;
    let (pid, terminal) = begin(settings, &dir, init, options).map_err(|error| ended_meanwhile(error, id, init))?;
    match detach {
        Detach::Detached => Ok(0),
        Detach::Foreground => foreground::wait(pid, terminal),
    }
}

/// How long the first process's end may come after that of a process beside it, where both were killed.
const BOTH_ENDED: Duration = Duration::from_millis(200);

/// Tells that the container has ended where a step failed because of that: it looks like any failure (a process that dies without a word, a
/// namespace or file of /proc that is gone), and callers wait for the words.
fn ended_meanwhile(error: Error, id: &ContainerId, init: Init) -> Error {
    if error.may_follow_an_end() && init.has_ended_within(BOTH_ENDED) {
        tracing::debug!(%error, "the container ended before exec was done");
        Error::NotRunning { id: id.to_string() }
    } else {
        error
    }
}

/// Makes the process and sees it to its program.
fn begin(settings: &Settings, dir: &StateDir, init: Init, options: ExecOptions) -> Result<(Pid, Terminal)> {
    let record = dir.record()?;
    let caller = caller_of_container(record.id.as_str(), &record.bundle, record.hardened.spec());
    if record.hardened.plan().exec == ExecPlan::Deny {
        return Err(Error::RefusedCall {
            code: "exec.denied",
            what: "the policy closes exec into this container".to_owned(),
            remedy: vet::closed_remedy(caller).to_owned(),
        });
    }
    let asked = asked(record, options.process)?;
    let here = Here {
        user_ns: record.user_ns,
        oom_score_adj: gabion_see::caller::oom_score_adj(),
        caller,
    };
    let vetted = vet::intersect(&asked, &record.hardened, here)?;
    log::warn_of(&asked.odd);
    let process = if record.hardened.enforces(ControlId::Exec) {
        vetted.process
    } else {
        as_runc(vetted.process, &asked, record)
    };
    log::warn_of_ambient(&process);
    // Before anything of it is made: a process without its record must not be, where the policy says so.
    if let Some(trail) = Trail::load(dir)? {
        trail.exec(dir, &process, &vetted.decision)?;
    }
    let mut filters = create::filters(settings, &record.hardened)?;
    let listener = create::listener_again(record)?;
    filters.notify = create::notify_target(record, &filters, (listener.as_ref(), Some(init.pid)))?;
    let preserved = precheck::preserved(options.preserve_fds, None)?;
    let pidfd = PidfdSocket::connect(options.pidfd_socket.as_deref())?;
    let (ours, theirs) = Channel::pair()?;
    let (entry, joins) = entry(dir, init)?;
    let terminal = Terminal::prepare(&process, options.console_socket.as_deref(), options.detach)?;
    // exec may name another user than the first process's: what was vetted is what must be in force. Where exec is only
    // observed nothing was, and the stored one stays the measure.
    let governing = if record.hardened.enforces(ControlId::Exec) {
        record.hardened.clone().amend(Amendment::User(process.user().clone()))
    } else {
        record.hardened.clone()
    };
    let setup = Setup {
        hardened: &governing,
        kind: Kind::Exec,
        process: &process,
        channel: theirs,
        proc: Proc::open()?,
        joins,
        console: terminal.for_child()?,
        preserved,
        filters,
        annotations_state: None,
    };
    wait::hold_ends()?;
    if options.detach == Detach::Foreground {
        foreground::hold_signals()?;
    }
    let cgroup = cgroup(record, options.cgroup, options.paused)?;
    // CPUs that are chosen for the time before the cgroup want a time before it.
    let affinity = process.exec_cpu_affinity().as_ref();
    let cradle = match affinity.and_then(|a| a.initial().as_ref()) {
        Some(_) => None,
        None => cgroup.cradle_of_another()?,
    };
    let settle = |pid| move_in(&cgroup, (pid, Pid::from_raw(init.pid)), affinity);
    let spawn::Spawned {
        pid,
        born,
        channel: ours,
    } = spawn::spawn(&entry, setup, ours, cradle, &settle)?;
    let settled = match born {
        Born::Inside => Ok(()),
        Born::Outside => settle(pid),
    };
    settled
        .and_then(|()| {
            enter(
                (record, &governing),
                &cgroup,
                &ours,
                pid,
                affinity,
                (options.pid_file.as_deref(), pidfd.as_ref()),
            )
        })
        .inspect_err(|_| wait::end(pid))?;
    Ok((pid, terminal))
}

/// The container's, or those below it. Where a paused container is not to be waited for, a frozen one is an error.
fn cgroup(record: &Record, below: Below, paused: Paused) -> Result<Cgroup> {
    let cgroup = Cgroup::open_below(&record.cgroup, below)?;
    if paused == Paused::Refuse {
        cgroup.thawed()?;
    }
    Ok(cgroup)
}

/// The child waits for us: its CPUs are chosen from here, around its move into the cgroup (runtime-spec, config.md#process).
fn move_in(cgroup: &Cgroup, (pid, init): (Pid, Pid), affinity: Option<&ExecCPUAffinity>) -> Result<()> {
    affinity::set(pid, affinity.and_then(|a| a.initial().as_deref()))?;
    cgroup.enter(pid, init)
}

/// Lets it go on, and hears whether it came to its program. What can fail outside of it does so before.
fn enter(
    (record, governing): (&Record, &Hardened),
    cgroup: &Cgroup,
    ours: &Channel,
    pid: Pid,
    affinity: Option<&ExecCPUAffinity>,
    (pid_file, pidfd): (Option<&Path>, Option<&PidfdSocket>),
) -> Result<()> {
    cgroup.verify_member(&record.hardened, pid)?;
    match affinity
        .and_then(|a| a.cpu_affinity_final().as_deref())
        .filter(|l| !l.is_empty())
    {
        Some(list) => affinity::set(pid, Some(list))?,
        None => affinity::of_the_cgroup(pid),
    }
    if let Some(pidfd) = pidfd {
        pidfd.send(Of::Joining, pid)?;
    }
    let pid_file = pid_file.map(|path| PidFile::write(path, pid)).transpose()?;
    let ran = let_run((record, governing), ours, pid);
    if let (Err(_), Some(file)) = (&ran, pid_file) {
        file.remove();
    }
    ran
}

fn let_run((record, governing): (&Record, &Hardened), ours: &Channel, pid: Pid) -> Result<()> {
    ours.send(&Message::Go)?;
    ours.expect_within(&Message::Ready, Some(wait::STEP))?;
    // At the other levels its program may be somebody else by now, and may be.
    if governing.level() == Level::Restricted {
        as_host::verify(governing, pid.as_raw())?;
    }
    // execve closes the other end; a failure after Ready comes as a message.
    match ours.hear(Some(wait::STEP))? {
        None if Init::now(pid.as_raw())?.never_executed() => Err(Error::failed(
            Step::Execve,
            "the process ended before it ran its program",
        )),
        None => match record.hardened.labels() {
            Some(plan) => crate::container::label::took_effect(plan, pid.as_raw()),
            None => Ok(()),
        },
        Some((Message::Failed(report), _)) => Err(report.into()),
        Some((other, _)) => Err(Error::failed(Step::Execve, format!("unexpected message {other:?}"))),
    }
}

fn running(dir: &StateDir, paused: Paused) -> Result<Init> {
    let status = gabion_see::status::status(dir)?;
    let id = || {
        dir.path()
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    match (status, dir.init()?) {
        (Status::Running | Status::Created, Some(init)) => Ok(init),
        (Status::Paused, Some(init)) if paused == Paused::Ignore => Ok(init),
        (Status::Paused, _) => Err(Error::Paused { id: id() }),
        _ => Err(Error::NotRunning { id: id() }),
    }
}

/// The process that was asked for, and the flags that would widen it.
fn asked(record: &Record, process: ExecProcess) -> Result<ExecRequest> {
    let stored = record.hardened.spec().process().as_ref();
    match process {
        ExecProcess::File(read) => {
            let Read {
                value: mut process,
                odd,
            } = *read;
            if let Some(stored) = stored {
                own_limits::fill(&mut process, stored)?;
            }
            Ok(ExecRequest {
                process,
                widening: Vec::new(),
                odd,
            })
        }
        ExecProcess::Line(line) => {
            // Its limits with it, as with runc.
            let base = stored
                .cloned()
                .ok_or_else(|| Error::failed(Step::Execve, "the container has no process"))?;
            let widening = widening(&line);
            Ok(ExecRequest {
                process: from_line(base, &line),
                widening,
                odd: Vec::new(),
            })
        }
    }
}

/// Where exec is only observed: flags are done as they say, and what process.json leaves out is the container's, as with runc.
fn as_runc(mut process: Process, asked: &ExecRequest, record: &Record) -> Process {
    let Some(stored) = record.hardened.spec().process() else {
        return process;
    };
    if process.capabilities().is_none() {
        process.set_capabilities(stored.capabilities().clone());
    }
    if process.no_new_privileges().is_none() {
        process.set_no_new_privileges(stored.no_new_privileges());
    }
    if process.rlimits().is_none() {
        process.set_rlimits(stored.rlimits().clone());
    }
    if process.apparmor_profile().is_none() {
        process.set_apparmor_profile(stored.apparmor_profile().clone());
    }
    if process.selinux_label().is_none() {
        process.set_selinux_label(stored.selinux_label().clone());
    }
    for flag in &asked.widening {
        match flag {
            Widening::Capability(name) => add_capability(&mut process, name),
            Widening::AppArmor(profile) => drop(process.set_apparmor_profile(Some(profile.clone()))),
            Widening::ProcessLabel(label) => drop(process.set_selinux_label(Some(label.clone()))),
            // No flags of our command line.
            Widening::Privileged | Widening::NewPrivileges => {}
        }
    }
    process
}

fn add_capability(process: &mut Process, name: &str) {
    let Some(cap) = gabion_core::capability::parse(name) else {
        log::warn(&format!(
            "--cap {name:?} is no capability that is known here: it is left out"
        ));
        return;
    };
    // Not oci-spec's default, which is three capabilities.
    let mut caps = process.capabilities().clone().unwrap_or_else(capabilities::none);
    let with = |set: &Option<Capabilities>| {
        let mut set = set.clone().unwrap_or_default();
        set.insert(cap);
        Some(set)
    };
    let (bounding, effective, permitted) = (with(caps.bounding()), with(caps.effective()), with(caps.permitted()));
    // As runc from 1.2: what the spec made inheritable.
    if caps.inheritable().as_ref().is_some_and(|set| set.contains(&cap)) {
        let ambient = with(caps.ambient());
        caps.set_ambient(ambient);
    }
    caps.set_bounding(bounding)
        .set_effective(effective)
        .set_permitted(permitted);
    process.set_capabilities(Some(caps));
}

fn widening(line: &ExecLine) -> Vec<Widening> {
    let caps = line.caps.iter().cloned().map(Widening::Capability);
    let profile = line.apparmor.iter().cloned().map(Widening::AppArmor);
    let label = line.process_label.iter().cloned().map(Widening::ProcessLabel);
    let all = (line.privileged == AskPrivileged::All).then_some(Widening::Privileged);
    caps.chain(profile).chain(label).chain(all).collect()
}

/// The container's own process, with what the command line changes (runc exec).
fn from_line(mut process: Process, line: &ExecLine) -> Process {
    process
        .set_args(Some(line.args.clone()))
        .set_terminal(Some(line.terminal == Tty::Tty))
        .set_console_size(None);
    if let Some(cwd) = &line.cwd {
        process.set_cwd(cwd.clone());
    }
    let mut env = process.env().clone().unwrap_or_default();
    env.extend(line.env.iter().cloned());
    process.set_env(Some(env));
    if let Some(user) = line.user {
        // What is not named stays the container's.
        let mut new = process.user().clone();
        let gid = user.gid.unwrap_or(new.gid());
        new.set_uid(user.uid).set_gid(gid);
        process.set_user(new);
    }
    if !line.additional_gids.is_empty() {
        let mut user = process.user().clone();
        let mut gids = user.additional_gids().clone().unwrap_or_default();
        gids.extend(&line.additional_gids);
        user.set_additional_gids(Some(gids));
        process.set_user(user);
    }
    if line.no_new_privs == AskNoNewPrivs::Set {
        process.set_no_new_privileges(Some(true));
    }
    process
}
