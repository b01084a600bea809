//! The operator's edge: metrics, probes, status and a page for people, over HTTP/1.1.
//!
//! It is a view of what the daemon knows, by way of [`Views`]. It cannot harm the plugin: a
//! connection is for one request and has an end, there are few at a time, the newest counts more
//! than those that dawdle, and no more than one answer is made at a time, so that the other thread
//! is the kubelet's.

mod address;
mod answer;
mod listen;
mod page;
mod route;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use status::Status;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use crate::util::backoff::Backoff;
use crate::util::log_rate_limit::LogRateLimit;
pub use address::{Address, AddressError};
use answer::answer;
use listen::{Accepted, Listener};
use route::Peer;

/// Connections at a time. One more, and the oldest is cut: a client that takes its time cannot keep
/// a probe out.
const CONNECTIONS: usize = 64;
/// How long the head of a request may take.
const HEAD: Duration = Duration::from_secs(5);
/// How long a connection may take, with its answer.
const CONNECTION: Duration = Duration::from_secs(15);
/// How large the head of a request may be. Hyper's least is 8 KiB.
const HEAD_BYTES: usize = 16 * 1024;
/// The first pause before an address is tried again, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);
/// Pause after a connection could not be accepted: out of descriptors, mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What there is to see.
pub trait Views: Send + Sync + 'static {
    /// All that the daemon knows.
    fn status(&self) -> Status;

    /// The text that Prometheus gets.
    fn metrics(&self) -> String;

    /// What is stuck in the process, if anything is. A bad GPU is nothing that is stuck.
    fn stuck(&self) -> Pin<Box<dyn Future<Output = Option<String>> + Send + '_>>;

    /// Why the plugin is not ready; nothing, if it is.
    fn not_ready(&self) -> Vec<String>;

    /// Lets go of NVML for a while; asked again, takes it up before the time.
    fn release(&self);
}

/// What the connections share.
struct Shared {
    views: Arc<dyn Views>,
    /// One answer is made at a time.
    making: Semaphore,
}

/// Serves for as long as it is polled. An address that cannot be had is tried again and again: the
/// GPUs are worth more than a look at them.
pub async fn serve(address: Address, views: Arc<dyn Views>) -> Infallible {
    let shared = Arc::new(Shared { views, making: Semaphore::new(1) });
    let mut backoff = Backoff::new(FIRST_PAUSE, LAST_PAUSE);
    let listener = loop {
        match Listener::bind(&address).await {
            Ok(listener) => break listener,
            Err(error) => {
                let pause = backoff.next_delay();
                let seconds = pause.as_secs();
                if pause == FIRST_PAUSE || pause == LAST_PAUSE {
                    warn!(%address, %error, "cannot serve HTTP here, trying on; metrics and probes \
                        are missing meanwhile");
                } else {
                    debug!(%address, %error, seconds, "cannot serve HTTP here, trying on");
                }
                tokio::time::sleep(pause).await;
            }
        }
    };
    info!(address = %listener.place(), "serving metrics, probes and status over HTTP");
    attend(&listener, &shared).await
}

async fn attend(listener: &Listener, shared: &Arc<Shared>) -> Infallible {
    let mut connections = JoinSet::new();
    // The handles in the order of their coming.
    let mut open = std::collections::VecDeque::new();
    let refused = LogRateLimit::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        match accepted {
            Ok(accepted) => {
                open.retain(|handle: &tokio::task::AbortHandle| !handle.is_finished());
                if open.len() >= CONNECTIONS
                    && let Some(oldest) = open.pop_front()
                {
                    oldest.abort();
                }
                let shared = shared.clone();
                open.push_back(connections.spawn(async move {
                    match accepted {
                        Accepted::Tcp(io, from) => {
                            let peer = if from.ip().to_canonical().is_loopback() {
                                Peer::Here
                            } else {
                                Peer::Elsewhere
                            };
                            converse(io, peer, shared).await;
                        }
                        Accepted::Unix(io) => converse(io, Peer::Here, shared).await,
                    }
                }));
            }
            Err(error) => {
                if refused.allow() {
                    warn!(%error, "cannot accept a connection over HTTP");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One request and its answer.
async fn converse(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    shared: Arc<Shared>,
) {
    let service = service_fn(|request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(answer(&request, peer, &shared).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(io), service);
    // What a client does wrong, or how it goes, is its own affair.
    match tokio::time::timeout(CONNECTION, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a client over HTTP failed"),
        Err(_) => debug!("a client over HTTP took too long"),
    }
}

#[cfg(test)]
mod tests;
