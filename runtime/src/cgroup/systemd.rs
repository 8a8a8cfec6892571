//! The systemd driver on cgroup v2: the container's directory is a transient scope, made and ended by systemd and given over to
//! us («delegated», systemd.resource-control(5)). What systemd has a property for is set there as well as in the file, or
//! `systemctl daemon-reload` would take it back.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use oci_spec::runtime::LinuxResources;

use super::properties::{Property, oom_policy, properties};
use super::{CgroupRecord, members};
use crate::dbus::{Body, Connection, Fault, Object, Value};
use gabion_see::cgroup::Unit;
use gabion_see::error::{Error, Result, Step};

/// systemd answers before it has moved the process. A busy node needs its time.
const PATIENCE: Duration = Duration::from_secs(30);

/// org.freedesktop.systemd1(5).
const MANAGER: Object = Object {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
};

/// A property that this systemd does not know, or that only a unit's start can set.
const NO_SUCH_PROPERTY: &str = "org.freedesktop.DBus.Error.PropertyReadOnly";

/// Its last process was its end.
const NOT_THERE: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// The container's scope, and who is asked for it.
pub(super) struct Scope {
    systemd: Connection,
    unit: Unit,
    container: String,
}

fn refused(doing: &str, unit: &str, fault: &Fault) -> Error {
    Error::failed(
        Step::Cgroup,
        format!("systemd does not {doing} {unit}: {} ({})", fault.text, fault.name),
    )
}

fn connect(rooted: bool) -> Result<Connection> {
    let mut last = None;
    for (socket, through_bus) in sockets(rooted) {
        let connected = if through_bus {
            Connection::to_bus(&socket, PATIENCE)
        } else {
            Connection::direct(&socket, PATIENCE)
        };
        match connected {
            Ok(connection) => return Ok(connection),
            Err(error) => last = Some(Error::file("ask systemd by", socket)(error)),
        }
    }
    let nowhere = || Error::failed(Step::Cgroup, "no bus to ask systemd by: XDG_RUNTIME_DIR is not set");
    Err(last.unwrap_or_else(nowhere))
}

/// Where systemd is heard: over the bus, or where there is none (a node in a container) by its own socket.
fn sockets(rooted: bool) -> Vec<(PathBuf, bool)> {
    if rooted {
        return vec![
            ("/run/dbus/system_bus_socket".into(), true),
            ("/run/systemd/private".into(), false),
        ];
    }
    let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let own = own.map(|dir| [(dir.join("bus"), true), (dir.join("systemd/private"), false)]);
    let address = std::env::var("DBUS_SESSION_BUS_ADDRESS").unwrap_or_default();
    let named = address
        .split([';', ','])
        .filter_map(|part| part.strip_prefix("unix:path="));
    let named = named.map(|path| (PathBuf::from(path), true));
    named.chain(own.into_iter().flatten()).collect()
}

impl Scope {
    /// The scope that the record names, whether it is there or not.
    pub(super) fn find(record: &CgroupRecord) -> Result<Self> {
        if !Path::new("/run/systemd/system").is_dir() {
            let why =
                "the systemd cgroup driver is asked for, and systemd does not run here: leave --systemd-cgroup out";
            return Err(Error::failed(Step::Cgroup, why));
        }
        let Some(unit) = record.unit() else {
            let why = format!("{} is not slice:prefix:name", record.path.display());
            return Err(Error::failed(Step::Cgroup, why));
        };
        Ok(Self {
            systemd: connect(record.is_the_machines())?,
            unit,
            container: record.name.clone(),
        })
    }

    fn call(&mut self, member: &str, body: &Body) -> Result<std::result::Result<(), Fault>> {
        let failed = |e| Error::failed(Step::Cgroup, format!("systemd does not answer to {member}: {e}"));
        self.systemd.call(&MANAGER, member, body).map_err(failed)
    }

    /// Makes the scope with this process in it, and waits until it is. `place` is where its directory will be.
    pub(super) fn start(&mut self, pid: Pid, place: &Path, resources: Option<&LinuxResources>) -> Result<()> {
        let mut properties = self.description(pid);
        let known = properties.len();
        // Later it cannot be set.
        properties.extend(resources.and_then(oom_policy));
        let mut answer = self.start_with(&properties)?;
        if answer.as_ref().is_err_and(|fault| fault.name == NO_SUCH_PROPERTY) && properties.len() > known {
            // Before systemd 253 scopes have no such policy, and the file is all there is.
            answer = self.start_with(&properties[..known])?;
        }
        answer.map_err(|fault| refused("start", &self.unit.name, &fault))?;
        self.wait(pid, place)
    }

    fn start_with(&mut self, properties: &[Property]) -> Result<std::result::Result<(), Fault>> {
        let body = Body::default()
            .text(&self.unit.name)
            .text("replace")
            .properties(properties)
            .no_others();
        self.call("StartTransientUnit", &body)
    }

    /// What the scope is, without its limits.
    fn description(&self, pid: Pid) -> Vec<Property> {
        let yes = Value::Bool(true);
        vec![
            (
                "Description",
                Value::Text(format!("gabion container {}", self.container)),
            ),
            ("Slice", Value::Text(self.unit.slice.clone())),
            ("PIDs", Value::Numbers(vec![pid.as_raw().cast_unsigned()])),
            ("Delegate", yes.clone()),
            ("DefaultDependencies", Value::Bool(false)),
            // One whose processes the kernel killed for memory has failed, and would keep its name from the next.
            ("CollectMode", Value::Text("inactive-or-failed".to_owned())),
            ("CPUAccounting", yes.clone()),
            ("IOAccounting", yes.clone()),
            ("MemoryAccounting", yes.clone()),
            ("TasksAccounting", yes),
        ]
    }

    /// Moves a further process to `to`, which is the scope at `place` or lies below it.
    pub(super) fn attach(&mut self, pid: Pid, place: &Path, to: &Path) -> Result<()> {
        let below = to.strip_prefix(place).unwrap_or(Path::new(""));
        let body = Body::default()
            .text(&self.unit.name)
            .text(&Path::new("/").join(below).to_string_lossy())
            .numbers(&[pid.as_raw().cast_unsigned()]);
        self.call("AttachProcessesToUnit", &body)?
            .map_err(|fault| refused("move a process to", &self.unit.name, &fault))?;
        self.wait(pid, to)
    }

    fn wait(&self, pid: Pid, place: &Path) -> Result<()> {
        let file = format!("/proc/{pid}/cgroup");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let listing = std::fs::read_to_string(&file).map_err(Error::file("read", &file))?;
            if members::place_of(&listing, "").is_some_and(|at| super::relative(at) == place) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let why = format!(
                    "systemd took {} and has not moved the process there in {} s: see `systemctl status`",
                    self.unit.name,
                    PATIENCE.as_secs()
                );
                return Err(Error::failed(Step::Cgroup, why));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends it. One that is gone has ended.
    pub(super) fn stop(&mut self) -> Result<()> {
        let body = Body::default().text(&self.unit.name).text("replace");
        match self.call("StopUnit", &body)? {
            Err(fault) if fault.name != NOT_THERE => Err(refused("stop", &self.unit.name, &fault)),
            _ => Ok(()),
        }
    }

    /// Limits as properties. `directory` is the cgroup as it is now.
    pub(super) fn set(&mut self, resources: &LinuxResources, directory: &Path) -> Result<()> {
        let properties = properties(resources, directory)?;
        if properties.is_empty() {
            return Ok(());
        }
        // Not kept over a reboot, as little as the scope.
        let body = Body::default().text(&self.unit.name).bool(true).properties(&properties);
        self.call("SetUnitProperties", &body)?
            .map_err(|fault| refused("set limits of", &self.unit.name, &fault))
    }
}
