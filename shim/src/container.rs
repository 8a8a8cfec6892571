//! One container: every action on it, in turn, under its own lock.

mod birth;
mod exec;

pub use exec::EXECS_HOLD;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use containerd_shim_protos::events::task::{TaskDelete, TaskPaused, TaskResumed, TaskStart};
use containerd_shim_protos::shim::shim::DeleteResponse;

use crate::budget::{Budget, Share};
use crate::error::{Error, Result};
use crate::events::{self, Events};
use crate::exits::{Exit, Exits};
use crate::io::Stdio;
use crate::log;
use crate::mounts::Mounted;
use crate::process::Process;
use crate::reactor::{Handle, within};
use crate::runtime::Runtime;
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
    /// containerd's gRPC socket: what it is known by.
    pub address: String,
    /// The reaper's table.
    pub exits: Rc<Exits>,
    /// The way to containerd.
    pub events: Events,
    /// What the execs of all containers may hold together.
    pub execs: Budget,
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
    /// What was mounted for its root file system.
    pub mounted: RefCell<Mounted>,
}

/// An exec that was added and not yet deleted.
struct Exec {
    process: Rc<Process>,
    /// The JSON of its process, until it is started.
    spec: Vec<u8>,
    /// What it holds, of the budget of all execs.
    share: Share,
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
            mounted: RefCell::default(),
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
            .map(|exec| Rc::clone(&exec.process))
            .ok_or_else(missing)
    }

    fn exits(&self) -> &Rc<Exits> {
        &self.context.exits
    }

    /// Runs the program of the first process, or of an exec. Gives its number.
    pub async fn start(self: &Rc<Self>, exec: &str) -> Result<u32> {
        if !exec.is_empty() {
            return self.start_exec(&self.process(exec)?).await;
        }
        let _turn = self.lock.lock().await;
        self.init.check(&self.id, Action::Start)?;
        self.runtime.start(self.exits(), &self.id).await?;
        self.init.advance(&self.id, Action::Start)?;
        let event = TaskStart {
            container_id: self.id.clone(),
            pid: self.init.raw_pid(),
            ..TaskStart::default()
        };
        self.context.events.publish(&events::START, &event);
        Ok(self.init.raw_pid())
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
        // containerd 1.7 and later ask when they start again, take a shim without a process for one that never had a task, and
        // clean it away, with the exit code that nobody has asked for.
        if self.init.has_ended(self.exits()) && self.init.pid().is_some() {
            return Ok(vec![(self.init.raw_pid(), None)]);
        }
        let pids = self.runtime.ps(self.exits(), &self.id).await?;
        let execs = self.execs.borrow();
        let exec = |pid| {
            execs
                .values()
                .find(|exec| exec.process.raw_pid() == pid)
                .map(|exec| exec.process.id.clone())
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

    /// Takes the container away. One that was never started is killed first.
    pub async fn delete(&self) -> Result<DeleteResponse> {
        self.catch_up(&self.init).await;
        self.init.check(&self.id, Action::Delete)?;
        if self.init.exited.get().is_none() {
            self.kill_unstarted().await?;
        }
        self.init.finish_copying(DRAIN.0).await;
        let _turn = self.lock.lock().await;
        // A signal that is being sent is answered first: containerd closes the container's connection after `Delete`.
        let _sent = self.signals.lock().await;
        self.init.check(&self.id, Action::Delete)?;
        self.runtime.delete(self.exits(), &self.id).await?;
        self.mounted.borrow_mut().unmount()?;
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
