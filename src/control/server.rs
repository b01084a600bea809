//! Serves the control socket: one request on each connection, a few connections at a time.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};
use tracing::{debug, error, info, warn};

use super::protocol::{self, Answer, MAX_REQUEST, Request};
use super::socket::ControlSocket;
use super::socket_path;
use crate::host::dir_watch::{Watch, Watches};
use crate::util::log_rate_limit::LogRateLimit;

/// The most connections at a time. One more is closed.
const MAX_CONNECTIONS: usize = 8;
/// How long a request may take to be sent, and how long its answer to be received.
const TRANSFER: Duration = Duration::from_secs(1);
/// The pause after a connection could not be accepted: out of descriptors, mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
            "there is no state directory, and so no control socket: `gpu-device-plugin clear` \
            cannot reach this plugin"
        );
        return std::future::pending().await;
    };
    let (path, handle, changed) =
        (socket_path(directory), Rc::new(handle), Arc::new(Notify::new()));
    let mut failure = String::new();
    loop {
        let watch = watch(directory, watches, &changed);
        match ControlSocket::bind(&path).await {
            Ok(socket) => {
                failure.clear();
                info!(socket = %path.display(), "serving the control socket");
                while_there(&socket, watches, &changed, &handle).await;
                info!(socket = %path.display(), "the control socket was removed, making it again");
            }
            Err(error) => {
                log_once(&mut failure, &path, &error);
                sleep_until(watches.next_check()).await;
            }
        }
        drop(watch);
    }
}

/// Without inotify its absence is noticed at the next check.
fn watch(directory: &Path, watches: &Watches, changed: &Arc<Notify>) -> Option<Watch> {
    let changed = changed.clone();
    let on_event = move |event: &notify::Event| {
        if !event.kind.is_access() {
            changed.notify_one();
        }
    };
    watches.watch(directory, on_event).ok()
}

fn log_once(last: &mut String, path: &Path, error: &io::Error) {
    let text = error.to_string();
    if *last == text {
        return;
    }
    if error.kind() == io::ErrorKind::AddrInUse {
        error!(socket = %path.display(), "another process serves the control socket: two plugins \
            run with one state directory; going on without it");
    } else {
        warn!(socket = %path.display(), %error, "cannot make the control socket, will retry; \
            `gpu-device-plugin clear` cannot reach this plugin until then");
    }
    *last = text;
}

/// Serves until the socket is not at its path any more.
async fn while_there(
    socket: &ControlSocket,
    watches: &Watches,
    changed: &Notify,
    handle: &Rc<impl AsyncFn(Request) -> Answer + 'static>,
) {
    let mut connections = JoinSet::new();
    let failed = LogRateLimit::new();
    while socket.is_there() {
        tokio::select! {
            () = changed.notified() => {}
            () = sleep_until(watches.next_check()) => {}
            Some(_) = connections.join_next() => {}
            accepted = socket.accept() => match accepted {
                Ok(stream) if connections.len() < MAX_CONNECTIONS => {
                    let handle = handle.clone();
                    connections.spawn_local(async move { serve_one(stream, &*handle).await });
                }
                Ok(stream) => drop(stream),
                Err(error) => {
                    if failed.allow() {
                        warn!(%error, "cannot accept a connection on the control socket");
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            },
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
