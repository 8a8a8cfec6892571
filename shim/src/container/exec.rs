//! Further processes in a container.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::rc::Rc;

use containerd_shim_protos::events::task::TaskExecAdded;
use containerd_shim_protos::shim::shim::DeleteResponse;

use super::{Container, DRAIN};
use crate::console::Console;
use crate::error::{Error, Result};
use crate::events;
use crate::io::Stdio;
use crate::process::Process;
use crate::task_state::Action;

impl Container {
    pub(super) async fn start_exec(self: &Rc<Self>, process: &Rc<Process>) -> Result<()> {
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
        if result.is_err() {
            process.never_ran();
        }
        if let Some((_, spec)) = self.execs.borrow_mut().get_mut(&process.id) {
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
