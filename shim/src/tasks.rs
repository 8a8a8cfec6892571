//! The containers of this shim.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use containerd_shim_protos::events::task::{TaskCreate, TaskIO};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::shim::shim::{CreateTaskRequest, DeleteResponse};

use crate::container::{Container, Context};
use crate::error::{Error, Result};
use crate::events;
use crate::io::Stdio;
use crate::kept::Kept;
use crate::log;
use crate::mounts::{self, Mounted};
use crate::options::Options;
use crate::root;
use crate::runtime::Runtime;

/// The longest identifier that containerd makes.
const ID_LENGTH: usize = 76;

/// The most containers of one shim: a pod's.
const CONTAINERS: usize = 1024;

/// The table of containers.
pub struct Tasks {
    context: Rc<Context>,
    containers: RefCell<BTreeMap<String, Rc<Container>>>,
    making: RefCell<BTreeSet<String>>,
}

/// An id that is being made; gone on drop.
struct Reservation<'a> {
    tasks: &'a Tasks,
    id: String,
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.tasks.making.borrow_mut().remove(&self.id);
    }
}

impl Tasks {
    /// No containers yet.
    pub fn new(context: Rc<Context>) -> Self {
        Self {
            context,
            containers: RefCell::default(),
            making: RefCell::default(),
        }
    }

    /// Whether there is no container, and none in the making.
    pub fn is_empty(&self) -> bool {
        self.containers.borrow().is_empty() && self.making.borrow().is_empty()
    }

    /// The container `id`.
    pub fn get(&self, id: &str) -> Result<Rc<Container>> {
        self.containers
            .borrow()
            .get(id)
            .cloned()
            .ok_or_else(|| Error::NoContainer(id.to_owned()))
    }

    fn reserve(&self, id: &str) -> Result<Reservation<'_>> {
        if self.containers.borrow().len() + self.making.borrow().len() >= CONTAINERS {
            return Err(Error::Full("the shim has 1024 containers that were not deleted"));
        }
        let exists = self.containers.borrow().contains_key(id) || !self.making.borrow_mut().insert(id.to_owned());
        if exists {
            Err(Error::ContainerExists(id.to_owned()))
        } else {
            Ok(Reservation {
                tasks: self,
                id: id.to_owned(),
            })
        }
    }

    /// Makes a container. Gives its first process's number.
    pub async fn create(&self, request: CreateTaskRequest) -> Result<u32> {
        check_id(&request.id)?;
        if !request.checkpoint.is_empty() || !request.parent_checkpoint.is_empty() {
            return Err(Error::Checkpoint);
        }
        let bundle = mounts::check_bundle(&request.bundle)?;
        let _reserved = self.reserve(&request.id)?;
        let options = Options::from_any(request.options.as_ref())?;
        let root = root::directory(&options, &self.context.address, &self.context.namespace);
        // Before anything is kept: what is there already is not ours to delete.
        root::refuse_existing(&root, &request.id)?;
        let runtime = Runtime::new(&options, &root, &self.context.namespace, &bundle)?;
        let stdio = Stdio {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            terminal: request.terminal,
        };
        let container = Container::new(&request.id, &bundle, stdio.check()?, runtime, &self.context)?;
        let container = Rc::new(container);
        let mut mounted = Mounted::make(&request.rootfs, &bundle.join("rootfs"))?;
        let kept = Kept {
            options,
            root: Some(root),
            mounts: mounted.numbers(),
        };
        let made = match kept.write(&bundle) {
            Ok(()) => container.create().await,
            Err(error) => Err(error),
        };
        if let Err(error) = made {
            if let Err(error) = mounted.unmount() {
                log::error!("{error}");
            }
            return Err(error);
        }
        container.mounted.replace(mounted);
        container.watch_oom();
        let pid = container.init.raw_pid();
        self.containers.borrow_mut().insert(request.id.clone(), container);
        self.announce(request, pid);
        Ok(pid)
    }

    fn announce(&self, request: CreateTaskRequest, pid: u32) {
        let io = TaskIO {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
            ..TaskIO::default()
        };
        let event = TaskCreate {
            container_id: request.id,
            bundle: request.bundle,
            io: MessageField::some(io),
            pid,
            ..TaskCreate::default()
        };
        self.context.events.publish(&events::CREATE, &event);
    }

    /// Takes a container, or one of its execs, away.
    pub async fn delete(&self, id: &str, exec: &str) -> Result<DeleteResponse> {
        let container = self.get(id)?;
        if !exec.is_empty() {
            return container.delete_exec(exec).await;
        }
        let response = container.delete().await?;
        self.containers.borrow_mut().remove(id);
        // containerd runs `delete` when the last container is gone, too, and waits for it: it has nothing to do then.
        if let Err(error) = Kept::forget(&container.bundle) {
            log::warning!("{error}");
        }
        Ok(response)
    }
}

/// Whether `id` is one that containerd makes: letters and digits, with single `.`, `_` or `-` between them. Anything else could be
/// a path or look like an option to the runtime.
pub fn check_id(id: &str) -> Result<()> {
    let word = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if id.len() <= ID_LENGTH && id.split(['.', '_', '-']).all(word) {
        Ok(())
    } else {
        Err(Error::BadId(id.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use crate::events::Events;

    #[test]
    fn containers_of_one_shim_are_counted() {
        let context = Context {
            namespace: "ns".into(),
            address: "/nowhere".into(),
            exits: Rc::default(),
            events: Events::new("ns", "/nowhere"),
            execs: Budget::new(1),
        };
        let tasks = Tasks::new(Rc::new(context));
        let mut made: Vec<_> = (0..CONTAINERS)
            .map(|number| tasks.reserve(&format!("c{number}")).unwrap())
            .collect();
        assert!(matches!(tasks.reserve("c0"), Err(Error::Full(_))));
        made.pop();
        assert!(matches!(tasks.reserve("c0"), Err(Error::ContainerExists(_))));
        assert!(tasks.reserve("again").is_ok());
    }

    #[test]
    fn ids() {
        for good in ["a", "A-1.b_c", &"x".repeat(76)] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a/b", "..", "a--b", "a.", "é", "a b", &"x".repeat(77)] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }
}
