//! How a container's processes come into the world, and how their end is told.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use containerd_shim_protos::events::task::{TaskExit, TaskOOM};

use super::{Container, DEATH};
use crate::console::Console;
use crate::error::{Error, Result};
use crate::events;
use crate::exits::{Exit, Expectation};
use crate::io::{Copying, Stdio};
use crate::log;
use crate::logger::Owner;
use crate::oom;
use crate::process::Process;
use crate::reactor::{spawn, within};
use crate::runtime::{ChildStdio, read_pid};
use crate::task_state::Action;

/// How long a failed runtime's last words may take to those who read the container's output.
const SILENT: Duration = Duration::from_secs(1);

/// A process's way into the world: everything that `create` and `exec` have in common.
pub(super) struct Birth {
    copying: Copying,
    pub(super) console: Option<Console>,
    pub(super) pid_file: PathBuf,
}

impl Birth {
    /// Lets the process's output flow, but for what the runtime said before it failed with an error of its own: containerd is told that error, and
    /// a container's log is not to have it a second time. Where it gave none, its stderr is all there is.
    pub(super) async fn when(mut self, made: Result<()>) -> Result<Self> {
        match made {
            Ok(()) => self.copying.begin(),
            Err(Error::RuntimeSilent { .. }) => {
                self.copying.begin();
                self.copying.drained(SILENT).await;
            }
            Err(_) => {}
        }
        made.map(|()| self)
    }
}

impl Container {
    /// Prepares a process's stdio. It waits for clients and log drivers, so an exec's is prepared without the container's lock.
    pub(super) async fn birth(&self, stdio: &Stdio, pid_file: PathBuf) -> Result<(Birth, ChildStdio)> {
        let owner = Owner {
            id: &self.id,
            namespace: &self.context.namespace,
        };
        let (copying, child) = Copying::prepare(stdio, &owner, self.exits()).await?;
        let console = if stdio.terminal { Some(Console::bind()?) } else { None };
        let birth = Birth {
            copying,
            console,
            pid_file,
        };
        Ok((birth, child))
    }

    /// Makes the container with the runtime.
    pub async fn create(self: &Rc<Self>) -> Result<()> {
        let _turn = self.lock.lock().await;
        let (birth, child) = self.birth(&self.init.stdio, self.bundle.join("init.pid")).await?;
        let expected = self.exits().expect();
        let console = birth.console.as_ref().map(Console::path);
        let made = self
            .runtime
            .create(self.exits(), &self.id, &birth.pid_file, console, child)
            .await;
        let birth = birth.when(made).await?;
        self.settle(&self.init, birth, &expected)
    }

    /// The runtime has made the process: takes over its number, its end and its terminal.
    pub(super) fn settle(self: &Rc<Self>, process: &Rc<Process>, birth: Birth, expected: &Expectation) -> Result<()> {
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
            .map(|exec| Rc::clone(&exec.process))
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
}
