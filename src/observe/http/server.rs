//! Accepts connections and serves one request on each.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::{AbortHandle, JoinSet};
use tracing::{debug, info, warn};

use super::listener::{Address, Listener};
use super::responder::{Responder, Views};
use crate::observe::client::HttpStream;
use crate::util::backoff::Backoff;
use crate::util::log_rate_limit::LogRateLimit;

/// The most connections at a time. One more, and the oldest is closed: slow clients cannot keep a
/// probe out.
const MAX_CONNECTIONS: usize = 64;
/// How long the head of a request may take.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);
/// How long a connection may take, with its answer.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(15);
/// How large the head of a request may be, in bytes. Hyper's minimum is 8 KiB.
const MAX_HEAD: usize = 16 * 1024;
/// The first pause before binding is tried again, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);
/// The pause after a connection could not be accepted: out of descriptors, mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves for as long as it is polled. If the address cannot be bound it tries again without end:
/// serving GPUs does not depend on it.
pub(crate) async fn serve(address: Address, views: Arc<dyn Views>) -> Infallible {
    let listener = bind(&address).await;
    info!(address = %listener.address(), "serving metrics, probes and status over HTTP");
    accept_all(&listener, &Arc::new(Responder::new(views))).await
}

async fn bind(address: &Address) -> Listener {
    let mut backoff = Backoff::new(FIRST_PAUSE, LAST_PAUSE);
    loop {
        let error = match Listener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => error,
        };
        let pause = backoff.next_delay();
        if pause == FIRST_PAUSE || pause == LAST_PAUSE {
            warn!(%address, %error, "cannot serve HTTP here, will retry; metrics and probes are \
                missing until then");
        } else {
            let seconds = pause.as_secs();
            debug!(%address, %error, seconds, "cannot serve HTTP here, will retry");
        }
        tokio::time::sleep(pause).await;
    }
}

async fn accept_all(listener: &Listener, responder: &Arc<Responder>) -> Infallible {
    let mut connections = Connections::default();
    let failed = LogRateLimit::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.tasks.join_next() => continue,
        };
        match accepted {
            Ok(io) => connections.spawn(serve_connection(io, responder.clone())),
            Err(error) => {
                if failed.allow() {
                    warn!(%error, "cannot accept a connection over HTTP");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
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
    let service = service_fn(|request| {
        let responder = responder.clone();
        async move { Ok::<_, Infallible>(responder.respond(&request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(io), service);
    // A client's mistake is no concern of the operator.
    match tokio::time::timeout(CONNECTION_DEADLINE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a client over HTTP failed"),
        Err(_) => debug!("a client over HTTP took too long"),
    }
}

#[cfg(test)]
mod tests;
