//! Serves the control socket: one request on each connection, a few connections at a time.

use std::convert::Infallible;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, info};

use super::protocol::{self, Answer, MAX_REQUEST, Request};
use super::socket_path;
use crate::host::dir_watch::Watches;
use crate::host::unix_socket::{ServedSocket, SocketSpec};

/// The most connections at a time. One more is closed.
const MAX_CONNECTIONS: usize = 8;
/// How long a request may take to be sent, and how long its answer to be received.
const TRANSFER: Duration = Duration::from_secs(1);

/// Serves for as long as it is polled, within a [`tokio::task::LocalSet`]. A socket that is removed
/// is made again, and where none can be made it is tried again without end: serving GPUs does not
/// depend on it. Without a state directory there is none.
pub async fn serve(
    state_directory: Option<&Path>,
    watches: &Watches,
    handle: impl AsyncFn(Request) -> Answer + 'static,
) -> Infallible {
    let Some(directory) = state_directory else {
        info!(
            "there is no state directory, and so no control socket: `gpu-device-plugin clear`, \
            `release` and `take-up` cannot reach this plugin"
        );
        return std::future::pending().await;
    };
    let spec = SocketSpec {
        path: socket_path(directory),
        group: None,
        guarded: true,
        name: "control socket",
        without: "`gpu-device-plugin clear`, `release` and `take-up` cannot reach this plugin",
    };
    let (mut socket, handle) = (ServedSocket::new(spec, watches.clone()), Rc::new(handle));
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            stream = socket.accept() => stream,
            Some(_) = connections.join_next() => continue,
        };
        if connections.len() < MAX_CONNECTIONS {
            let handle = handle.clone();
            connections.spawn_local(async move { serve_one(stream, &*handle).await });
        }
    }
}

/// One request and its answer. A client's mistake is told to the client, and no concern of others.
async fn serve_one(mut stream: UnixStream, handle: &impl AsyncFn(Request) -> Answer) {
    let refused = |reason: String| Answer::Refused { reason };
    let answer = match timeout(TRANSFER, protocol::receive(&mut stream, MAX_REQUEST)).await {
        Ok(Ok(request)) => handle(request).await,
        Ok(Err(error)) => refused(format!("this is not a request: {error}")),
        Err(_) => refused(format!("no request came within {} s", TRANSFER.as_secs())),
    };
    if let Ok(Err(error)) = timeout(TRANSFER, protocol::send(&mut stream, &answer)).await {
        debug!(%error, "a client of the control socket is gone");
    }
}

#[cfg(test)]
mod tests;
