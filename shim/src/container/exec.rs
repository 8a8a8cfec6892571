//! Further processes in a container.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::rc::Rc;

use containerd_shim_protos::events::task::{TaskExecAdded, TaskExecStarted};
use containerd_shim_protos::shim::shim::DeleteResponse;

use super::birth::Birth;
use super::{Container, DRAIN, Exec};
use crate::console::Console;
use crate::error::{Error, Result};
use crate::events;
use crate::io::Stdio;
use crate::log;
use crate::process::Process;
use crate::runtime::ChildStdio;
use crate::task_state::Action;

/// The most execs of one container, whatever has become of them, until they are deleted.
const EXECS: usize = 1024;
/// What the execs of all containers of a shim may hold together.
pub const EXECS_HOLD: usize = 16 << 20;
/// What an exec holds beside what its client said, about.
const OVERHEAD: usize = 2048;

impl Container {
    /// Starts an exec. Gives its number.
    pub(super) async fn start_exec(self: &Rc<Self>, process: &Rc<Process>) -> Result<u32> {
        // One start at a time for each exec: what comes second finds the exec started, or failed.
        let _starting = process.starting.lock().await;
        process.check(&self.id, Action::Start)?;
        self.init.check(&self.id, Action::Exec)?;
        let pid_file = self.bundle.join(format!("{}.pid", process.id));
        // Without the container's lock: a client or a log driver that is slow holds up nobody else.
        let prepared = self.birth(&process.stdio, pid_file).await;
        let _turn = self.lock.lock().await;
        process.check(&self.id, Action::Start)?;
        self.init.check(&self.id, Action::Exec)?;
        let result = match prepared {
            Ok((birth, child)) => self.run_exec(process, birth, child).await,
            Err(error) => Err(error),
        };
        if result.is_err() {
            process.never_ran();
        }
        self.shrink(process);
        result?;
        process.advance(&self.id, Action::Start)?;
        let event = TaskExecStarted {
            container_id: self.id.clone(),
            exec_id: process.id.clone(),
            pid: process.raw_pid(),
            ..TaskExecStarted::default()
        };
        self.context.events.publish(&events::EXEC_STARTED, &event);
        Ok(process.raw_pid())
    }

    async fn run_exec(self: &Rc<Self>, process: &Rc<Process>, birth: Birth, child: ChildStdio) -> Result<()> {
        let file = self.bundle.join(format!("{}.process.json", process.id));
        let spec = self
            .execs
            .borrow_mut()
            .get_mut(&process.id)
            .map(|exec| std::mem::take(&mut exec.spec))
            .unwrap_or_default();
        write_private(&file, &spec)?;
        let result = self.exec_with(process, &file, birth, child).await;
        fs::remove_file(&file).map_err(|error| Error::at("removing", &file, error))?;
        result
    }

    async fn exec_with(
        self: &Rc<Self>,
        process: &Rc<Process>,
        file: &Path,
        birth: Birth,
        child: ChildStdio,
    ) -> Result<()> {
        let pid_file = birth.pid_file.clone();
        let expected = self.exits().expect();
        let console = birth.console.as_ref().map(Console::path);
        let made = self
            .runtime
            .exec(self.exits(), &self.id, file, &pid_file, console, child)
            .await;
        let birth = birth.when(made).await?;
        let settled = self.settle(process, birth, &expected);
        fs::remove_file(&pid_file).map_err(|error| Error::at("removing", &pid_file, error))?;
        settled
    }

    /// Gives back what an exec's JSON held: it was started, or could not be.
    fn shrink(&self, process: &Process) {
        if let Some(exec) = self.execs.borrow_mut().get_mut(&process.id) {
            exec.spec = Vec::new();
            if !exec.share.resize(OVERHEAD + process.stdio.size()) {
                log::debug!("an exec holds more than it did before its start");
            }
        }
    }

    /// Notes an exec; `start` runs it.
    pub fn add_exec(&self, exec: &str, stdio: Stdio, spec: Vec<u8>) -> Result<()> {
        self.init.check(&self.id, Action::Exec)?;
        let mut execs = self.execs.borrow_mut();
        if execs.contains_key(exec) {
            return Err(Error::ExecExists(exec.to_owned()));
        }
        if execs.len() >= EXECS {
            return Err(Error::Full("the container has 1024 execs that were not deleted"));
        }
        let share = self.context.execs.take(OVERHEAD + stdio.size() + spec.len());
        let share = share.ok_or(Error::Full("execs that were not started hold 16 MiB"))?;
        let process = Rc::new(Process::new(exec, stdio));
        execs.insert(exec.to_owned(), Exec { process, spec, share });
        drop(execs);
        let event = TaskExecAdded {
            container_id: self.id.clone(),
            exec_id: exec.to_owned(),
            ..TaskExecAdded::default()
        };
        self.context.events.publish(&events::EXEC_ADDED, &event);
        Ok(())
    }

    /// Takes an exec away.
    pub async fn delete_exec(&self, exec: &str) -> Result<DeleteResponse> {
        let process = self.process(exec)?;
        self.catch_up(&process).await;
        process.check(&self.id, Action::Delete)?;
        process.finish_copying(DRAIN.1).await;
        let _turn = self.lock.lock().await;
        process.never_ran();
        process.advance(&self.id, Action::Delete)?;
        self.execs.borrow_mut().remove(exec);
        Ok(process.deleted())
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
