//! Events to containerd, in the order they happened, over its ttrpc socket; kept while it is away.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim::events::ForwardRequest;
use containerd_shim_protos::ttrpc::proto::{Code, Request, Response};

use crate::budget::Budget;
use crate::error::{Error, Result};
use crate::frame::{Connection, Frame};
use crate::log;
use crate::reactor::{sleep, within};
use crate::socket::connect;
use crate::sync::Once;
use crate::time::timestamp;

/// Events kept while containerd does not take them; then the oldest go. containerd asks for states when it comes back, so what is
/// lost is history, not truth.
const KEPT: usize = 2048;
/// What the events that are kept may hold: one is some 300 bytes, but for what clients named with more.
const HELD: usize = 4 << 20;
/// How long containerd may take over one event.
const ANSWER: Duration = Duration::from_secs(5);
/// The most that an answer to an event may hold.
const ANSWER_SIZE: usize = 64 * 1024;
/// Pause before another attempt to connect: at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// An event's topic and its message's name. By hand, since asking the messages would build all of protobuf's descriptors.
pub struct Kind(&'static str, &'static str);

/// `TaskCreate`
pub const CREATE: Kind = Kind("/tasks/create", "containerd.events.TaskCreate");
/// `TaskStart`
pub const START: Kind = Kind("/tasks/start", "containerd.events.TaskStart");
/// `TaskExecAdded`
pub const EXEC_ADDED: Kind = Kind("/tasks/exec-added", "containerd.events.TaskExecAdded");
/// `TaskExecStarted`
pub const EXEC_STARTED: Kind = Kind("/tasks/exec-started", "containerd.events.TaskExecStarted");
/// `TaskExit`
pub const EXIT: Kind = Kind("/tasks/exit", "containerd.events.TaskExit");
/// `TaskDelete`
pub const DELETE: Kind = Kind("/tasks/delete", "containerd.events.TaskDelete");
/// `TaskOOM`
pub const OOM: Kind = Kind("/tasks/oom", "containerd.events.TaskOOM");
/// `TaskPaused`
pub const PAUSED: Kind = Kind("/tasks/paused", "containerd.events.TaskPaused");
/// `TaskResumed`
pub const RESUMED: Kind = Kind("/tasks/resumed", "containerd.events.TaskResumed");

/// The queue of events.
pub struct Events {
    namespace: String,
    address: PathBuf,
    queue: RefCell<VecDeque<Rc<Request>>>,
    /// Replaced when the sender empties the queue.
    news: RefCell<Once<()>>,
    drained: RefCell<Once<()>>,
}

impl Events {
    /// Events of `namespace`, for containerd's ttrpc socket at `address`.
    pub fn new(namespace: &str, address: &str) -> Self {
        let address = address.strip_prefix("unix://").unwrap_or(address).into();
        let drained = RefCell::default();
        Self {
            namespace: namespace.to_owned(),
            address,
            queue: RefCell::default(),
            news: RefCell::default(),
            drained,
        }
    }

    /// Queues one event.
    pub fn publish(&self, kind: &Kind, event: &impl Message) {
        let request = match self.envelop(kind, event) {
            Ok(request) => request,
            Err(error) => return log::error!("event {} was lost: {error}", kind.0),
        };
        if self.drained.borrow().get().is_some() {
            self.drained.replace(Once::default());
        }
        let mut queue = self.queue.borrow_mut();
        queue.push_back(Rc::new(request));
        let mut held: usize = queue.iter().map(|request| request.payload.len()).sum();
        while queue.len() > 1
            && (queue.len() > KEPT || held > HELD)
            && let Some(oldest) = queue.pop_front()
        {
            held -= oldest.payload.len();
            log::warning!("containerd takes no events: the oldest was dropped");
        }
        drop(queue);
        self.news.borrow().set(());
    }

    fn envelop(&self, kind: &Kind, event: &impl Message) -> Result<Request> {
        let envelope = Envelope {
            timestamp: timestamp(SystemTime::now()),
            namespace: self.namespace.clone(),
            topic: kind.0.to_owned(),
            event: MessageField::some(any(kind.1, event)?),
            ..Envelope::default()
        };
        let forward = ForwardRequest {
            envelope: MessageField::some(envelope),
            ..ForwardRequest::default()
        };
        Ok(Request {
            service: "containerd.services.events.ttrpc.v1.Events".to_owned(),
            method: "Forward".to_owned(),
            payload: forward.write_to_bytes()?,
            timeout_nano: i64::try_from(ANSWER.as_nanos()).unwrap_or(i64::MAX),
            ..Request::default()
        })
    }

    /// Sends events for ever, in their order.
    pub async fn send(&self) {
        let (mut connection, mut stream, mut pause) = (None, 1, RETRY.0);
        loop {
            let next = self.queue.borrow().front().cloned();
            let Some(next) = next else {
                self.drained.borrow().set(());
                let news = self.news.borrow().clone();
                news.wait().await;
                self.news.replace(Once::default());
                continue;
            };
            match self.forward(&mut connection, &mut stream, &next).await {
                Ok(()) => {
                    pause = RETRY.0;
                    let mut queue = self.queue.borrow_mut();
                    // It may have been dropped meanwhile, for room.
                    if queue.front().is_some_and(|front| Rc::ptr_eq(front, &next)) {
                        queue.pop_front();
                    }
                }
                Err(error) => {
                    log::debug!("event not sent yet: {error}");
                    connection = None;
                    sleep(pause).await;
                    pause = (pause * 2).min(RETRY.1);
                }
            }
        }
    }

    async fn forward(&self, connection: &mut Option<Connection>, stream: &mut u32, request: &Request) -> Result<()> {
        let open = if let Some(open) = connection.take() {
            open
        } else {
            *stream = 1;
            let socket = connect(&self.address).map_err(|error| Error::system("connecting to containerd", error))?;
            // Answers to events are short.
            Connection::new(socket, &Budget::new(ANSWER_SIZE))?
        };
        let this = *stream;
        // Streams that a client opens are odd.
        *stream = stream.checked_add(2).unwrap_or(1);
        let answer = async {
            open.request(this, request).await?;
            loop {
                match open.read().await? {
                    Some(Frame::Response(id, bytes)) if id == this => return Ok(Response::parse_from_bytes(&bytes)?),
                    Some(_) => {}
                    None => return Err(Error::Frame("containerd closed the connection")),
                }
            }
        };
        let response = within(ANSWER, answer)
            .await
            .ok_or(Error::Frame("containerd did not answer in time"))??;
        if response.status().code() != Code::OK {
            // Another attempt would be answered the same way: it is gone, and the ones after it must not be.
            log::warning!("containerd refused an event: {}", response.status().message());
        }
        *connection = Some(open);
        Ok(())
    }

    /// Waits, at most `limit`, until containerd has all events.
    pub async fn drain(&self, limit: Duration) {
        if self.queue.borrow().is_empty() {
            return;
        }
        let drained = self.drained.borrow().clone();
        if within(limit, drained.wait()).await.is_none() {
            log::warning!("containerd did not take the last events");
        }
    }
}

/// A message with its type's name, as containerd's typeurl has it: the bare full name.
pub fn any(name: &str, message: &impl Message) -> Result<Any> {
    Ok(Any {
        type_url: name.to_owned(),
        value: message.write_to_bytes()?,
        ..Any::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use containerd_shim_protos::events::task;
    use containerd_shim_protos::protobuf::MessageFull;

    fn name<M: MessageFull>() -> String {
        M::descriptor().full_name().to_owned()
    }

    #[test]
    fn names_are_those_of_the_messages() {
        assert_eq!(CREATE.1, name::<task::TaskCreate>());
        assert_eq!(START.1, name::<task::TaskStart>());
        assert_eq!(EXEC_ADDED.1, name::<task::TaskExecAdded>());
        assert_eq!(EXEC_STARTED.1, name::<task::TaskExecStarted>());
        assert_eq!(EXIT.1, name::<task::TaskExit>());
        assert_eq!(DELETE.1, name::<task::TaskDelete>());
        assert_eq!(OOM.1, name::<task::TaskOOM>());
        assert_eq!(PAUSED.1, name::<task::TaskPaused>());
        assert_eq!(RESUMED.1, name::<task::TaskResumed>());
    }

    #[test]
    fn the_queue_is_bounded() {
        let events = Events::new("ns", "unix:///nowhere");
        for _ in 0..KEPT + 5 {
            events.publish(&START, &task::TaskStart::default());
        }
        assert_eq!(events.queue.borrow().len(), KEPT);
        let long = task::TaskStart {
            container_id: "x".repeat(100_000),
            ..task::TaskStart::default()
        };
        for _ in 0..100 {
            events.publish(&START, &long);
        }
        let queue = events.queue.borrow();
        assert!(queue.iter().map(|request| request.payload.len()).sum::<usize>() <= HELD);
        assert!(queue.len() > 40 && queue.iter().all(|request| request.payload.len() > 100_000));
    }
}
