//! One process of a container: its first one, or an exec.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use containerd_shim_protos::shim::shim::{DeleteResponse, StateResponse, WaitResponse};
use nix::unistd::Pid;

use crate::error::{Error, Result};
use crate::exits::{Exit, Exits};
use crate::io::{Copying, Stdio};
use crate::sync::{Lock, Once};
use crate::sys::kill_any;
use crate::task_state::{Action, Phase};
use crate::time::timestamp;

/// What gabion's own `exec` ends with where it could not start the program.
const NOT_STARTED: u32 = 255;

/// A process and everything that belongs to it alone.
pub struct Process {
    /// The exec's id; empty for the container's first process.
    pub id: String,
    /// Where its stdio goes.
    pub stdio: Stdio,
    phase: Cell<Phase>,
    pid: Cell<Option<Pid>>,
    /// Set by the reaper, the moment the kernel says so.
    reaped: RefCell<Once<Exit>>,
    /// Set when the exit was published: what clients wait for.
    pub exited: Once<Exit>,
    copying: RefCell<Option<Rc<Copying>>>,
    /// A size that was set before there was a terminal.
    size: Cell<Option<(u16, u16)>>,
    /// Held while an exec is being started.
    pub starting: Lock,
    /// A client that is quick closes stdin before the process is started.
    stdin_closed: Cell<bool>,
}

impl Process {
    /// A process that does not run yet.
    pub fn new(id: &str, stdio: Stdio) -> Self {
        Self {
            id: id.to_owned(),
            stdio,
            phase: Cell::new(Phase::Created),
            pid: Cell::new(None),
            reaped: RefCell::default(),
            exited: Once::default(),
            copying: RefCell::default(),
            size: Cell::new(None),
            starting: Lock::default(),
            stdin_closed: Cell::new(false),
        }
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Whether `action` is allowed now.
    pub fn check(&self, container: &str, action: Action) -> Result<Phase> {
        let id = if self.id.is_empty() { container } else { &self.id };
        let refused = || Error::State {
            id: id.to_owned(),
            phase: self.phase(),
            action,
        };
        self.phase().after(action).ok_or_else(refused)
    }

    /// Goes where `action` leads, if it is allowed.
    pub fn advance(&self, container: &str, action: Action) -> Result<()> {
        self.phase.set(self.check(container, action)?);
        Ok(())
    }

    /// The kernel's number for it, once there is one.
    pub fn pid(&self) -> Option<Pid> {
        self.pid.get()
    }

    /// The number as containerd's messages have it; 0 without one.
    pub fn raw_pid(&self) -> u32 {
        self.pid().map_or(0, |pid| u32::try_from(pid.as_raw()).unwrap_or(0))
    }

    /// It exists now: its number, its end to come, its stdio.
    pub fn born(&self, pid: Pid, reaped: Once<Exit>, copying: Rc<Copying>) -> Result<()> {
        self.pid.set(Some(pid));
        self.reaped.replace(reaped);
        if let Some((width, height)) = self.size.take() {
            copying.resize(width, height)?;
        }
        if self.stdin_closed.get() {
            copying.close_stdin();
        }
        self.copying.replace(Some(copying));
        Ok(())
    }

    /// Its end as the reaper sees it.
    pub fn reaped(&self) -> Once<Exit> {
        self.reaped.borrow().clone()
    }

    /// Whether it has ended, asking the kernel.
    pub fn has_ended(&self, exits: &Exits) -> bool {
        exits.reap();
        self.reaped().get().is_some()
    }

    /// There is no process and there will be none: who waits for its end need not wait for ever.
    pub fn never_ran(&self) {
        if self.pid().is_none() && self.exited.get().is_none() {
            self.phase.set(Phase::Stopped);
            self.exited.set(Exit {
                status: NOT_STARTED,
                at: SystemTime::now(),
            });
        }
    }

    /// Signals it directly. Its number cannot be anybody else's: only this shim can reap it, and has not.
    pub fn signal(&self, signal: u32, exits: &Exits) -> Result<()> {
        if self.has_ended(exits) {
            return Err(Error::ProcessFinished);
        }
        // Not «finished»: containerd would wait for an end that nobody will see.
        let pid = self.pid().ok_or_else(|| Error::State {
            id: self.id.clone(),
            phase: self.phase(),
            action: Action::Kill,
        })?;
        let number = i32::try_from(signal).map_err(|_| Error::BadRequest("no such signal"))?;
        kill_any(pid, number).map_err(|error| Error::system("signalling the process", error))
    }

    /// Sets its terminal's size, now or as soon as there is one.
    pub fn resize(&self, width: u16, height: u16) -> Result<()> {
        if !self.stdio.terminal {
            return Err(Error::BadRequest("the process has no terminal"));
        }
        let copying = self.copying.borrow().clone();
        if let Some(copying) = copying {
            return copying.resize(width, height).map(drop);
        }
        self.size.set(Some((width, height)));
        Ok(())
    }

    /// Ends its stdin.
    pub fn close_stdin(&self) {
        self.stdin_closed.set(true);
        if let Some(copying) = self.copying.borrow().as_ref() {
            copying.close_stdin();
        }
    }

    /// Waits until its output has been passed on, then ends the copying.
    pub async fn finish_copying(&self, limit: std::time::Duration) {
        let copying = self.copying.borrow().clone();
        if let Some(copying) = copying {
            copying.drained(limit).await;
        }
        self.copying.replace(None);
    }

    /// The answer to `State`.
    pub fn state(&self, container: &str, bundle: &str) -> StateResponse {
        let exit = self.exited.get();
        StateResponse {
            id: container.to_owned(),
            exec_id: self.id.clone(),
            bundle: bundle.to_owned(),
            pid: self.raw_pid(),
            status: self.phase().status().into(),
            stdin: self.stdio.stdin.clone(),
            stdout: self.stdio.stdout.clone(),
            stderr: self.stdio.stderr.clone(),
            terminal: self.stdio.terminal,
            exit_status: exit.map_or(0, |exit| exit.status),
            exited_at: exit.map_or_else(|| timestamp(UNIX_EPOCH), |exit| timestamp(exit.at)),
            ..StateResponse::default()
        }
    }

    /// The answer to `Delete`.
    pub fn deleted(&self) -> DeleteResponse {
        let exit = self.exited.get();
        DeleteResponse {
            pid: self.raw_pid(),
            exit_status: exit.map_or(0, |exit| exit.status),
            exited_at: exit.map_or_else(|| timestamp(UNIX_EPOCH), |exit| timestamp(exit.at)),
            ..DeleteResponse::default()
        }
    }

    /// The answer to `Wait`.
    pub async fn wait(&self) -> WaitResponse {
        let exit = self.exited.wait().await;
        WaitResponse {
            exit_status: exit.status,
            exited_at: timestamp(exit.at),
            ..WaitResponse::default()
        }
    }
}
