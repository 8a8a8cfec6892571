//! The ttrpc server: connections to calls, calls to answers. What a call does is the service's business.

use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::rc::Rc;

use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::ttrpc::proto::{Request, Response, Status};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::{Uid, geteuid};

use crate::budget::{Budget, Share};
use crate::error::{Error, Result};
use crate::frame::{Connection, Frame};
use crate::log;
use crate::reactor::spawn;
use crate::service::Service;
use crate::sync::{Either, Once, race};
use crate::watched::Watched;

/// What the frames and the calls of all connections may hold together. A call's largest frame is 4 MiB.
const HELD: usize = 16 << 20;
/// What a call holds beside its bytes, about.
const CALL: usize = 2048;
/// The most connections at once: containerd has one or two a container.
const CONNECTIONS: usize = 1024;

/// Accepts connections for ever.
pub async fn serve(listener: UnixListener, service: Rc<Service>) -> Result<()> {
    let failed = |error| Error::system("accepting a connection", error);
    let duplicate = listener.try_clone().map_err(failed)?;
    let watched = Watched::new(OwnedFd::from(duplicate)).map_err(failed)?;
    let (budget, places) = (Budget::new(HELD), Budget::new(CONNECTIONS));
    loop {
        let (stream, _) = match watched.ready(|_| listener.accept()).await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or a peer that left already: neither ends the service.
                log::warning!("accepting a connection: {error}");
                crate::reactor::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        if !is_ours(&stream) {
            log::warning!("refused a connection of another user");
            continue;
        }
        let Some(place) = places.take(1) else {
            log::warning!("refused a connection: there are {CONNECTIONS}");
            continue;
        };
        let (service, budget) = (Rc::clone(&service), budget.clone());
        spawn(async move {
            let closed = Once::default();
            if let Err(error) = converse(OwnedFd::from(stream), &budget, &service, &closed).await {
                log::warning!("connection ended: {error}");
            }
            closed.set(());
            drop(place);
        });
    }
}

/// Whether the peer runs as the shim's own user. The socket's mode says the same; this also holds if somebody changed it.
fn is_ours(stream: &UnixStream) -> bool {
    getsockopt(stream, PeerCredentials).is_ok_and(|peer| Uid::from_raw(peer.uid()) == geteuid())
}

async fn converse(stream: OwnedFd, budget: &Budget, service: &Rc<Service>, closed: &Once<()>) -> Result<()> {
    let connection = Connection::new(stream, budget)?;
    while let Some(frame) = connection.read().await? {
        let (stream, refused) = match frame {
            Frame::Request(stream, bytes, mut share) => {
                if share.resize(bytes.len() + CALL) {
                    let (connection, service, closed) = (connection.clone(), Rc::clone(service), closed.clone());
                    spawn(async move { answer(&connection, &service, stream, (bytes, share), closed).await });
                    continue;
                }
                (stream, FULL)
            }
            Frame::TooMuch(stream) => (stream, FULL),
            Frame::TooLong(stream) => (stream, Error::BadRequest("a request of more than 4 MiB")),
            Frame::Response(..) | Frame::Other => continue,
        };
        // Sent before the next frame is read: who does not read its refusals is not read from.
        connection.respond(stream, &failure(&refused)).await?;
    }
    Ok(())
}

/// What is said to a call that the budget has no room for.
const FULL: Error = Error::Full("requests that are not answered yet hold 16 MiB");

/// Calls the service and sends what it says. An action goes on to its end though the connection closes: a container must not be
/// left half made because containerd restarted. Only waiting ends.
async fn answer(
    connection: &Connection,
    service: &Rc<Service>,
    stream: u32,
    (bytes, mut share): (Vec<u8>, Share),
    closed: Once<()>,
) {
    let request = match Request::parse_from_bytes(&bytes) {
        Ok(request) => request,
        Err(error) => Request {
            service: format!("(undecodable: {error})"),
            ..Request::default()
        },
    };
    drop(bytes);
    let call = service.call(&request.service, &request.method, &request.payload);
    let result = if request.method == "Wait" {
        match race(call, closed.wait()).await {
            Either::Left(result) => result,
            Either::Right(()) => return,
        }
    } else {
        call.await
    };
    let response = match result {
        // The answer counts until it is sent: a client may be slow to read.
        Ok(payload) if !share.resize(payload.len() + request.payload.len() + CALL) => failure(&FULL),
        Ok(payload) => Response {
            payload,
            ..Response::default()
        },
        Err(error) => {
            log::debug!("{} failed: {error}", request.method);
            failure(&error)
        }
    };
    let sent = connection.respond(stream, &response).await;
    if closed.get().is_none()
        && let Err(error) = sent
    {
        log::warning!("answer to {} was not sent: {error}", request.method);
    }
    service.answered(&request.method);
}

fn failure(error: &Error) -> Response {
    let status = Status {
        code: error.code().into(),
        message: error.to_string(),
        ..Status::default()
    };
    Response {
        status: MessageField::some(status),
        ..Response::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    #[test]
    fn only_our_own_user_is_served() {
        if !geteuid().is_root() {
            return;
        }
        let _turn = crate::exits::TURN.lock();
        let path = std::env::temp_dir().join(format!("gabion-shim-peer-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let script = "use IO::Socket::UNIX; IO::Socket::UNIX->new(Peer => $ARGV[0]) or exit 2";
        for (uid, expected) in [(0, true), (65534, false)] {
            let mut command = Command::new("perl");
            let status = command
                .args(["-e", script])
                .arg(&path)
                .uid(uid)
                .current_dir("/")
                .status()
                .unwrap();
            assert!(status.success());
            assert_eq!(is_ours(&listener.accept().unwrap().0), expected);
        }
        std::fs::remove_file(&path).unwrap();
    }
}
