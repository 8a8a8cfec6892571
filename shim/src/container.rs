//! One container: every action on it, in turn, under its own lock.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use containerd_shim_protos::events::task::{
    TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit, TaskOOM, TaskPaused, TaskResumed, TaskStart,
};
use containerd_shim_protos::shim::shim::DeleteResponse;

use crate::console::Console;
use crate::error::{Error, Result};
use crate::events::{self, Events};
use crate::exits::{Exit, Exits};
use crate::io::{Copying, Stdio};
use crate::log;
use crate::logger::Owner;
use crate::mounts;
use crate::oom;
use crate::process::Process;
use crate::reactor::{Handle, spawn, within};
use crate::runtime::{Runtime, read_pid};
use crate::sync::{Lock, Once};
use crate::task_state::Action;

/// How long output may take to be read after a container's, and after an exec's, end.
const DRAIN: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(2));
/// How long processes may take to die of SIGKILL before we go on without them.
const DEATH: Duration = Duration::from_secs(10);

/// What all containers of a shim share.
pub struct Context {
    /// containerd's namespace.
    pub namespace: String,
    /// The reaper's table.
    pub exits: Rc<Exits>,
    /// The way to containerd.
    pub events: Events,
}

/// A container.
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its bundle.
    pub bundle: PathBuf,
    /// Its first process.
    pub init: Rc<Process>,
    execs: RefCell<BTreeMap<String, Exec>>,
    runtime: Runtime,
    own_pids: bool,
    context: Rc<Context>,
    /// Held by whatever changes the container; also by the publishing of an exit, so that it never overtakes the start's.
    lock: Lock,
    /// Signals do not wait for the lock: they are what ends an action that hangs.
    signals: Lock,
    oom: RefCell<Option<Handle>>,
}

/// An exec, and the JSON of its process until it is started.
type Exec = (Rc<Process>, Vec<u8>);

/// A process's way into the world: everything that `create` and `exec` have in common.
struct Birth {
    copying: Copying,
    console: Option<Console>,
    pid_file: PathBuf,
}

impl Container {
    /// A container in `bundle`, not made yet.
    pub fn new(id: &str, bundle: &Path, stdio: Stdio, runtime: Runtime, context: &Rc<Context>) -> Result<Self> {
        Ok(Self {
            id: id.to_owned(),
            bundle: bundle.to_owned(),
            init: Rc::new(Process::new("", stdio)),
            execs: RefCell::default(),
            runtime,
            own_pids: crate::bundle::has_own_pids(bundle)?,
            context: Rc::clone(context),
            lock: Lock::default(),
            signals: Lock::default(),
            oom: RefCell::default(),
        })
    }

    /// The process of an exec, or the first one for an empty id.
    pub fn process(&self, exec: &str) -> Result<Rc<Process>> {
        if exec.is_empty() {
            return Ok(Rc::clone(&self.init));
        }
        let missing = || Error::NoProcess {
            container: self.id.clone(),
            exec: exec.to_owned(),
        };
        self.execs
            .borrow()
            .get(exec)
            .map(|(process, _)| Rc::clone(process))
            .ok_or_else(missing)
    }

    fn exits(&self) -> &Rc<Exits> {
        &self.context.exits
    }

    async fn birth(&self, stdio: &Stdio, pid_file: PathBuf) -> Result<(Birth, crate::runtime::ChildStdio)> {
        let owner = Owner {
            id: &self.id,
            namespace: &self.context.namespace,
        };
        let (copying, child) = Copying::prepare(stdio, &owner, self.exits()).await?;
        let console = if stdio.terminal { Some(Console::bind()?) } else { None };
        Ok((
            Birth {
                copying,
                console,
                pid_file,
            },
            child,
        ))
    }

    /// Makes the container with the runtime.
    pub async fn create(self: &Rc<Self>) -> Result<()> {
        let _turn = self.lock.lock().await;
        let (birth, child) = self.birth(&self.init.stdio, self.bundle.join("init.pid")).await?;
        let expected = self.exits().expect();
        let console = birth.console.as_ref().map(Console::path);
        self.runtime
            .create(self.exits(), &self.id, &birth.pid_file, console, child)
            .await?;
        self.settle(&self.init, birth, &expected)
    }

    /// The runtime has made the process: takes over its number, its end and its terminal.
    fn settle(
        self: &Rc<Self>,
        process: &Rc<Process>,
        birth: Birth,
        expected: &crate::exits::Expectation,
    ) -> Result<()> {
        let pid = read_pid(&birth.pid_file)?;
        let orphan = || Error::Content {
            path: birth.pid_file.clone(),
            expected: "the number of a child of this shim",
        };
        let reaped = expected.claim(pid).ok_or_else(orphan)?;
        if let Some(console) = &birth.console {
            birth.copying.attach(console.receive()?)?;
        }
        process.born(pid, reaped, Rc::new(birth.copying))?;
        let (container, process) = (Rc::clone(self), Rc::clone(process));
        spawn(async move { container.supervise(&process).await });
        Ok(())
    }

    /// Waits for a process's end and publishes it.
    async fn supervise(&self, process: &Rc<Process>) {
        let exit = process.reaped().wait().await;
        if process.id.is_empty() {
            self.end_the_others().await;
        }
        let _turn = self.lock.lock().await;
        if let Err(error) = process.advance(&self.id, Action::Exit) {
            log::debug!("{error}");
        }
        self.publish_exit(process, exit);
        process.exited.set(exit);
    }

    /// The first process has ended. Its execs end before that is told: in a pid namespace of its own the kernel saw to that.
    async fn end_the_others(&self) {
        if !self.own_pids
            && let Err(error) = self.runtime_kill(9, true).await
        {
            log::debug!("nothing was left to kill in {}: {error}", self.id);
        }
        let running: Vec<_> = self
            .execs
            .borrow()
            .values()
            .map(|(process, _)| Rc::clone(process))
            .collect();
        for process in running.iter().filter(|process| process.pid().is_some()) {
            if within(DEATH, process.exited.wait()).await.is_none() {
                log::warning!("exec {} in {} outlives its container", process.id, self.id);
            }
        }
    }

    fn publish_exit(&self, process: &Process, exit: Exit) {
        let id = if process.id.is_empty() { &self.id } else { &process.id };
        let event = TaskExit {
            container_id: self.id.clone(),
            id: id.clone(),
            pid: process.raw_pid(),
            exit_status: exit.status,
            exited_at: crate::time::timestamp(exit.at),
            ..TaskExit::default()
        };
        self.context.events.publish(&events::EXIT, &event);
    }

    /// Watches for the OOM killer as long as the container lives.
    pub fn watch_oom(self: &Rc<Self>) {
        let Some(pid) = self.init.pid() else { return };
        let mut watch = match oom::Watch::new(pid) {
            Ok(watch) => watch,
            Err(error) => return log::warning!("no OOM events of {}: {error}", self.id),
        };
        let container = Rc::downgrade(self);
        let handle = spawn(async move {
            while watch.next().await.is_some() {
                let Some(container) = container.upgrade() else { return };
                let event = TaskOOM {
                    container_id: container.id.clone(),
                    ..TaskOOM::default()
                };
                container.context.events.publish(&events::OOM, &event);
            }
        });
        self.oom.replace(Some(handle));
    }

    /// Runs the program of the first process, or of an exec. Gives its number.
    pub async fn start(self: &Rc<Self>, exec: &str) -> Result<u32> {
        let _turn = self.lock.lock().await;
        let process = self.process(exec)?;
        process.check(&self.id, Action::Start)?;
        if exec.is_empty() {
            self.runtime.start(self.exits(), &self.id).await?;
            process.advance(&self.id, Action::Start)?;
            let event = TaskStart {
                container_id: self.id.clone(),
                pid: process.raw_pid(),
                ..TaskStart::default()
            };
            self.context.events.publish(&events::START, &event);
        } else {
            self.start_exec(&process).await?;
            process.advance(&self.id, Action::Start)?;
            let event = TaskExecStarted {
                container_id: self.id.clone(),
                exec_id: process.id.clone(),
                pid: process.raw_pid(),
                ..TaskExecStarted::default()
            };
            self.context.events.publish(&events::EXEC_STARTED, &event);
        }
        Ok(process.raw_pid())
    }

    async fn start_exec(self: &Rc<Self>, process: &Rc<Process>) -> Result<()> {
        self.init.check(&self.id, Action::Exec)?;
        let file = self.bundle.join(format!("{}.process.json", process.id));
        let spec = self
            .execs
            .borrow()
            .get(&process.id)
            .map(|(_, spec)| spec.clone())
            .unwrap_or_default();
        write_private(&file, &spec)?;
        let result = self.exec_with(process, &file).await;
        fs::remove_file(&file).map_err(|error| Error::at("removing", &file, error))?;
        if result.is_ok()
            && let Some((_, spec)) = self.execs.borrow_mut().get_mut(&process.id)
        {
            *spec = Vec::new();
        }
        result
    }

    async fn exec_with(self: &Rc<Self>, process: &Rc<Process>, file: &Path) -> Result<()> {
        let pid_file = self.bundle.join(format!("{}.pid", process.id));
        let (birth, child) = self.birth(&process.stdio, pid_file.clone()).await?;
        let expected = self.exits().expect();
        let console = birth.console.as_ref().map(Console::path);
        self.runtime
            .exec(self.exits(), &self.id, file, &pid_file, console, child)
            .await?;
        let settled = self.settle(process, birth, &expected);
        fs::remove_file(&pid_file).map_err(|error| Error::at("removing", &pid_file, error))?;
        settled
    }

    /// Notes an exec; `start` runs it.
    pub fn add_exec(&self, exec: &str, stdio: Stdio, spec: Vec<u8>) -> Result<()> {
        self.init.check(&self.id, Action::Exec)?;
        if self.execs.borrow().contains_key(exec) {
            return Err(Error::ExecExists(exec.to_owned()));
        }
        let process = Rc::new(Process::new(exec, stdio));
        self.execs.borrow_mut().insert(exec.to_owned(), (process, spec));
        let event = TaskExecAdded {
            container_id: self.id.clone(),
            exec_id: exec.to_owned(),
            ..TaskExecAdded::default()
        };
        self.context.events.publish(&events::EXEC_ADDED, &event);
        Ok(())
    }

    /// Signals a process, or all of them.
    pub async fn kill(&self, exec: &str, signal: u32, all: bool) -> Result<()> {
        let process = self.process(exec)?;
        if process.has_ended(self.exits()) {
            return Err(Error::ProcessFinished);
        }
        process.check(&self.id, Action::Kill)?;
        if !exec.is_empty() {
            return process.signal(signal, self.exits());
        }
        match self.runtime_kill(signal, all).await {
            // The runtime cannot signal what has ended meanwhile; the kernel says whether that is why.
            Err(_) if process.has_ended(self.exits()) => Err(Error::ProcessFinished),
            result => result,
        }
    }

    async fn runtime_kill(&self, signal: u32, all: bool) -> Result<()> {
        let _turn = self.signals.lock().await;
        self.runtime.kill(self.exits(), &self.id, signal, all).await
    }

    /// Freezes all processes.
    pub async fn pause(&self) -> Result<()> {
        let _turn = self.lock.lock().await;
        self.init.check(&self.id, Action::Pause)?;
        self.runtime.pause(self.exits(), &self.id).await?;
        self.init.advance(&self.id, Action::Pause)?;
        let event = TaskPaused {
            container_id: self.id.clone(),
            ..TaskPaused::default()
        };
        self.context.events.publish(&events::PAUSED, &event);
        Ok(())
    }

    /// Thaws all processes.
    pub async fn resume(&self) -> Result<()> {
        let _turn = self.lock.lock().await;
        self.init.check(&self.id, Action::Resume)?;
        self.runtime.resume(self.exits(), &self.id).await?;
        self.init.advance(&self.id, Action::Resume)?;
        let event = TaskResumed {
            container_id: self.id.clone(),
            ..TaskResumed::default()
        };
        self.context.events.publish(&events::RESUMED, &event);
        Ok(())
    }

    /// Changes the resources (JSON of the OCI spec).
    pub async fn update(&self, resources: &[u8]) -> Result<()> {
        let _turn = self.lock.lock().await;
        self.init.check(&self.id, Action::Update)?;
        self.runtime.update(self.exits(), &self.id, resources).await
    }

    /// The processes: their numbers, and the exec's id where they are one's.
    pub async fn pids(&self) -> Result<Vec<(u32, Option<String>)>> {
        let _turn = self.lock.lock().await;
        let pids = self.runtime.ps(self.exits(), &self.id).await?;
        let execs = self.execs.borrow();
        let exec = |pid| {
            execs
                .values()
                .find(|(process, _)| process.raw_pid() == pid)
                .map(|(process, _)| process.id.clone())
        };
        Ok(pids.into_iter().map(|pid| (pid, exec(pid))).collect())
    }

    /// The metrics of its cgroup.
    pub async fn stats(&self) -> Result<containerd_shim_protos::protobuf::well_known_types::any::Any> {
        let pid = self
            .init
            .pid()
            .filter(|_| !self.init.has_ended(self.exits()))
            .ok_or(Error::ProcessFinished)?;
        crate::stats::of(pid, self.exits()).await
    }

    /// Takes an exec away.
    pub async fn delete_exec(&self, exec: &str) -> Result<DeleteResponse> {
        let process = self.process(exec)?;
        self.catch_up(&process).await;
        process.check(&self.id, Action::Delete)?;
        process.finish_copying(DRAIN.1).await;
        let _turn = self.lock.lock().await;
        process.advance(&self.id, Action::Delete)?;
        self.execs.borrow_mut().remove(exec);
        Ok(process.deleted())
    }

    /// Takes the container away. One that was never started is killed first.
    pub async fn delete(&self) -> Result<DeleteResponse> {
        self.catch_up(&self.init).await;
        self.init.check(&self.id, Action::Delete)?;
        if self.init.exited.get().is_none() {
            self.kill_unstarted().await?;
        }
        self.init.finish_copying(DRAIN.0).await;
        let _turn = self.lock.lock().await;
        self.init.check(&self.id, Action::Delete)?;
        self.runtime.delete(self.exits(), &self.id).await?;
        mounts::unmount_all(&self.bundle.join("rootfs"))?;
        if let Some(oom) = self.oom.take() {
            oom.cancel();
        }
        self.init.advance(&self.id, Action::Delete)?;
        let response = self.init.deleted();
        let event = TaskDelete {
            container_id: self.id.clone(),
            pid: response.pid,
            exit_status: response.exit_status,
            exited_at: response.exited_at.clone(),
            ..TaskDelete::default()
        };
        self.context.events.publish(&events::DELETE, &event);
        Ok(response)
    }

    /// The kernel has said that the process ended, but it is not published yet: that comes first.
    async fn catch_up(&self, process: &Process) {
        if process.has_ended(self.exits()) && within(DEATH, process.exited.wait()).await.is_none() {
            log::warning!("the end of a process of {} was not published in time", self.id);
        }
    }

    async fn kill_unstarted(&self) -> Result<()> {
        let exited: &Once<Exit> = &self.init.exited;
        {
            let _turn = self.lock.lock().await;
            self.init.check(&self.id, Action::Delete)?;
            self.runtime.delete(self.exits(), &self.id).await?;
        }
        if within(DEATH, exited.wait()).await.is_none() {
            log::warning!("the process of {} did not end", self.id);
        }
        Ok(())
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let open = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    let written = open.and_then(|mut file| std::io::Write::write_all(&mut file, bytes));
    written.map_err(|error| Error::at("writing", path, error))
}
