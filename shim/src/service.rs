//! The task service, `containerd.task.v2` and `v3` alike: requests to tasks, results to answers. No logic of its own.

use std::cell::Cell;
use std::rc::Rc;

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::well_known_types::empty::Empty;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::oci::ProcessDetails;
use containerd_shim_protos::shim::shim::{
    CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest, CreateTaskResponse, DeleteRequest,
    ExecProcessRequest, KillRequest, PauseRequest, PidsRequest, PidsResponse, ResizePtyRequest, ResumeRequest,
    StartRequest, StartResponse, StateRequest, StatsRequest, StatsResponse, UpdateTaskRequest, WaitRequest,
};
use containerd_shim_protos::types::task::ProcessInfo;

use crate::container::Context;
use crate::error::{Error, Result};
use crate::events::any;
use crate::io::Stdio;
use crate::log;
use crate::sync::Once;
use crate::tasks::{Tasks, check_id};

/// The two packages differ in nothing but their name.
const SERVICES: [&str; 2] = ["containerd.task.v2.Task", "containerd.task.v3.Task"];

/// The service over one shim's containers.
pub struct Service {
    tasks: Tasks,
    stopping: Cell<bool>,
    /// Set when the shim is to end.
    pub stopped: Once<()>,
}

impl Service {
    /// A service without containers.
    pub fn new(context: Rc<Context>) -> Self {
        Self {
            tasks: Tasks::new(context),
            stopping: Cell::new(false),
            stopped: Once::default(),
        }
    }

    /// Whether nothing would be lost if the shim ended.
    pub fn is_idle(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Answers one call: the response's bytes, or why not. The longer actions are boxed: a call that only waits, for days, must
    /// not carry the room that the largest would need.
    pub async fn call(&self, service: &str, method: &str, request: &[u8]) -> Result<Vec<u8>> {
        if !SERVICES.contains(&service) {
            return Err(Error::NoMethod {
                service: service.to_owned(),
                method: method.to_owned(),
            });
        }
        match method {
            "State" => encode(&self.state(&decode(request)?)?),
            "Create" => encode(&Box::pin(self.create(decode(request)?)).await?),
            "Start" => encode(&Box::pin(self.start(&decode(request)?)).await?),
            "Delete" => {
                let request: DeleteRequest = decode(request)?;
                encode(&Box::pin(self.tasks.delete(&request.id, &request.exec_id)).await?)
            }
            "Pids" => encode(&Box::pin(self.pids(&decode(request)?)).await?),
            "Stats" => encode(&Box::pin(self.stats(&decode(request)?)).await?),
            "Connect" => encode(&self.connect(&decode(request)?)),
            "Wait" => {
                let request: WaitRequest = decode(request)?;
                let process = self.tasks.get(&request.id)?.process(&request.exec_id)?;
                encode(&process.wait().await)
            }
            "Checkpoint" => Err(Error::Checkpoint),
            _ => {
                Box::pin(self.call_for_nothing(service, method, request)).await?;
                encode(&Empty::new())
            }
        }
    }

    /// The methods whose answer is empty.
    async fn call_for_nothing(&self, service: &str, method: &str, request: &[u8]) -> Result<()> {
        match method {
            "Pause" => self.tasks.get(&decode::<PauseRequest>(request)?.id)?.pause().await,
            "Resume" => self.tasks.get(&decode::<ResumeRequest>(request)?.id)?.resume().await,
            "Kill" => {
                let request: KillRequest = decode(request)?;
                self.tasks
                    .get(&request.id)?
                    .kill(&request.exec_id, request.signal, request.all)
                    .await
            }
            "Exec" => self.exec(decode(request)?),
            "ResizePty" => self.resize(&decode(request)?),
            "CloseIO" => {
                let request: CloseIORequest = decode(request)?;
                let process = self.tasks.get(&request.id)?.process(&request.exec_id)?;
                if request.stdin {
                    process.close_stdin();
                }
                Ok(())
            }
            "Update" => {
                let request: UpdateTaskRequest = decode(request)?;
                let resources = request
                    .resources
                    .as_ref()
                    .ok_or(Error::BadRequest("no resources to update to"))?;
                self.tasks.get(&request.id)?.update(&resources.value).await
            }
            "Shutdown" => {
                self.shutdown();
                Ok(())
            }
            _ => Err(Error::NoMethod {
                service: service.to_owned(),
                method: method.to_owned(),
            }),
        }
    }

    /// Called when the answer to `method` is on its way: the shim ends after the answer to `Shutdown`, not before.
    pub fn answered(&self, method: &str) {
        if method == "Shutdown" && self.stopping.get() {
            self.stopped.set(());
        }
    }

    /// containerd asks after each container of a pod; the shim ends with the last one.
    fn shutdown(&self) {
        self.stopping.set(self.tasks.is_empty());
        if !self.stopping.get() {
            log::debug!("not shutting down: there are containers left");
        }
    }

    async fn create(&self, request: CreateTaskRequest) -> Result<CreateTaskResponse> {
        if self.stopping.get() {
            return Err(Error::BadRequest("the shim is shutting down"));
        }
        let pid = self.tasks.create(request).await?;
        Ok(CreateTaskResponse {
            pid,
            ..CreateTaskResponse::default()
        })
    }

    async fn start(&self, request: &StartRequest) -> Result<StartResponse> {
        let pid = self.tasks.get(&request.id)?.start(&request.exec_id).await?;
        Ok(StartResponse {
            pid,
            ..StartResponse::default()
        })
    }

    fn state(&self, request: &StateRequest) -> Result<containerd_shim_protos::shim::shim::StateResponse> {
        let container = self.tasks.get(&request.id)?;
        let bundle = container.bundle.to_string_lossy();
        Ok(container.process(&request.exec_id)?.state(&container.id, &bundle))
    }

    async fn pids(&self, request: &PidsRequest) -> Result<PidsResponse> {
        let mut response = PidsResponse::new();
        for (pid, exec) in self.tasks.get(&request.id)?.pids().await? {
            let mut info = ProcessInfo {
                pid,
                ..ProcessInfo::default()
            };
            if let Some(exec_id) = exec {
                let details = ProcessDetails {
                    exec_id,
                    ..ProcessDetails::default()
                };
                info.info = MessageField::some(any("containerd.runc.v1.ProcessDetails", &details)?);
            }
            response.processes.push(info);
        }
        Ok(response)
    }

    async fn stats(&self, request: &StatsRequest) -> Result<StatsResponse> {
        let stats = self.tasks.get(&request.id)?.stats().await?;
        Ok(StatsResponse {
            stats: MessageField::some(stats),
            ..StatsResponse::default()
        })
    }

    /// containerd connects to a shim before it asks for any container, so an unknown one is no error.
    fn connect(&self, request: &ConnectRequest) -> ConnectResponse {
        let task_pid = self
            .tasks
            .get(&request.id)
            .map_or(0, |container| container.init.raw_pid());
        let version = env!("CARGO_PKG_VERSION").to_owned();
        ConnectResponse {
            shim_pid: std::process::id(),
            task_pid,
            version,
            ..ConnectResponse::default()
        }
    }

    fn exec(&self, request: ExecProcessRequest) -> Result<()> {
        check_id(&request.exec_id)?;
        let container = self.tasks.get(&request.id)?;
        let spec: Any = request
            .spec
            .into_option()
            .ok_or(Error::BadRequest("no process to execute"))?;
        let stdio = Stdio {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
        };
        container.add_exec(&request.exec_id, stdio.check()?, spec.value)
    }

    fn resize(&self, request: &ResizePtyRequest) -> Result<()> {
        let size = |value: u32| u16::try_from(value).map_err(|_| Error::BadRequest("a terminal of more than 65535"));
        let process = self.tasks.get(&request.id)?.process(&request.exec_id)?;
        process.resize(size(request.width)?, size(request.height)?)
    }
}

fn decode<M: Message>(bytes: &[u8]) -> Result<M> {
    Ok(M::parse_from_bytes(bytes)?)
}

fn encode(message: &impl Message) -> Result<Vec<u8>> {
    Ok(message.write_to_bytes()?)
}
