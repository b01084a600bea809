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
use tokio::task::{AbortHandle, JoinSet};
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
        match accept_all(&mut listener, &responder).await {}
    };
    let status = async {
        let Some(path) = status_socket else { return };
        let mut listener = Listener::status(&path, status_group, watches).await;
        match accept_all(&mut listener, &responder).await {}
    };
    tokio::join!(http, status);
    // Both are turned off.
    std::future::pending().await
}

async fn accept_all(listener: &mut Listener, responder: &Arc<Responder>) -> Infallible {
    let mut connections = Connections::default();
    loop {
        tokio::select! {
            io = listener.accept() => connections.spawn(serve_connection(io, responder.clone())),
            Some(_) = connections.tasks.join_next() => {}
        }
    }
}

/// The open connections.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    /// The oldest first.
    handles: VecDeque<AbortHandle>,
}

impl Connections {
    /// Serves a connection; if there are too many, the oldest is closed.
    fn spawn(&mut self, connection: impl Future<Output = ()> + Send + 'static) {
        self.handles.retain(|handle| !handle.is_finished());
        if self.handles.len() >= MAX_CONNECTIONS
            && let Some(oldest) = self.handles.pop_front()
        {
            oldest.abort();
        }
        self.handles.push_back(self.tasks.spawn(connection));
    }
}

/// One request and its answer.
async fn serve_connection(io: Box<dyn HttpStream>, responder: Arc<Responder>) {
    let share = Arc::new(responder.in_flight().share());
    let service = service_fn(|request| {
        let (responder, share) = (responder.clone(), share.clone());
        async move {
            let response = responder.respond(&request).await;
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
        served = tokio::time::timeout(CONNECTION_DEADLINE, connection) => match served {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(%error, "a client over HTTP failed"),
            Err(_) => debug!("a client over HTTP took too long"),
        },
        () = share.cut() => debug!("a slow client over HTTP made room for another answer"),
    }
}

#[cfg(test)]
mod tests;
