//! Accepts connections and serves one request on each.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;
use tracing::{debug, info};

use super::listener::{Address, Listener};
use super::responder::{Responder, Views};
use crate::host::dir_watch::Watches;
use crate::observe::client::HttpStream;

/// The most connections at a time, of each listener. One more, and the oldest is closed: slow
/// clients cannot keep a probe out.
const MAX_CONNECTIONS: usize = 64;
/// How long the head of a request may take.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);
/// How long a connection may take, with its answer.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(15);
/// How large the head of a request may be, in bytes. Hyper's minimum is 8 KiB.
const MAX_HEAD: usize = 16 * 1024;

/// Where it is served.
#[derive(Debug, Clone, Default)]
pub(crate) struct Served {
    /// The address of HTTP, if any.
    pub(crate) address: Option<Address>,
    /// The path of the status socket, if any.
    pub(crate) status_socket: Option<PathBuf>,
    /// The group whose members may open the status socket too, by number.
    pub(crate) status_group: Option<u32>,
}

/// Serves for as long as it is polled. Where it cannot listen it tries again without end: serving
/// GPUs does not depend on it.
pub(crate) async fn serve(served: Served, watches: &Watches, views: Arc<dyn Views>) -> Infallible {
    let responder = Arc::new(Responder::new(views));
    let Served { address, status_socket, status_group } = served;
    let http = async {
        let Some(address) = address else { return };
        let mut listener = Listener::at(address, watches).await;
        info!(address = %listener.address(), "serving metrics, probes and status over HTTP");
        match accept_all(&mut listener, &responder, false).await {}
    };
    let status = async {
        let Some(path) = status_socket else { return };
        let mut listener = Listener::status(&path, status_group, watches).await;
        match accept_all(&mut listener, &responder, true).await {}
    };
    tokio::join!(http, status);
    // Both are turned off.
    std::future::pending().await
}

/// `may_wait`: whether a client may wait for the next status.
async fn accept_all(
    listener: &mut Listener,
    responder: &Arc<Responder>,
    may_wait: bool,
) -> Infallible {
    let mut connections = Connections::default();
    loop {
        tokio::select! {
            io = listener.accept() => {
                let waiting = watch::Sender::new(false);
                let seen = waiting.subscribe();
                let waiting = may_wait.then_some(waiting);
                connections.spawn(seen, serve_connection(io, responder.clone(), waiting));
            }
            Some(_) = connections.tasks.join_next() => {}
        }
    }
}

/// The open connections.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    /// The oldest first, and whether each waits for the next status.
    handles: VecDeque<(AbortHandle, watch::Receiver<bool>)>,
}

impl Connections {
    /// Serves a connection; if there are too many, the oldest is closed. Those that wait do not
    /// count: there are few of them.
    fn spawn(
        &mut self,
        waiting: watch::Receiver<bool>,
        connection: impl Future<Output = ()> + Send + 'static,
    ) {
        self.handles.retain(|(handle, _)| !handle.is_finished());
        let counts = |(_, waiting): &(_, watch::Receiver<bool>)| !*waiting.borrow();
        if self.handles.iter().filter(|each| counts(each)).count() >= MAX_CONNECTIONS
            && let Some(oldest) = self.handles.iter().position(counts)
            && let Some((oldest, _)) = self.handles.remove(oldest)
        {
            oldest.abort();
        }
        self.handles.push_back((self.tasks.spawn(connection), waiting));
    }
}

/// One request and its answer. A client that may wait for the next status does so in `waiting`.
async fn serve_connection(
    io: Box<dyn HttpStream>,
    responder: Arc<Responder>,
    waiting: Option<watch::Sender<bool>>,
) {
    let deadline = deadline(waiting.as_ref().map(watch::Sender::subscribe));
    let share = Arc::new(responder.in_flight().share());
    let service = service_fn(|request| {
        let (responder, share, waiting) = (responder.clone(), share.clone(), waiting.clone());
        async move {
            let response = responder.respond(&request, waiting.as_ref()).await;
            share.hold(usize::try_from(response.body().size_hint().lower()).unwrap_or(usize::MAX));
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(io), service);
    // A client's mistake is no concern of the operator.
    tokio::select! {
        served = connection => {
            if let Err(error) = served {
                debug!(%error, "a client over HTTP failed");
            }
        }
        () = deadline => debug!("a client over HTTP took too long"),
        () = share.cut() => debug!("a slow client over HTTP made room for another answer"),
    }
}

/// Returns when a connection has taken too long. The time that it waits does not count.
async fn deadline(waiting: Option<watch::Receiver<bool>>) {
    let Some(mut waiting) = waiting else { return sleep(CONNECTION_DEADLINE).await };
    loop {
        let is_over = !*waiting.borrow_and_update();
        tokio::select! {
            () = sleep(CONNECTION_DEADLINE), if is_over => return,
            // The sender lives as long as the connection.
            Ok(()) = waiting.changed() => {}
            else => return,
        }
    }
}

#[cfg(test)]
mod tests;
