//! The gRPC server of one resource, on a socket of its own, which stops in bounded time.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use device::inventory::Inventory;
use device::names::ResourceName;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server as Grpc;
use tracing::warn;

use super::connection::Connection;
use super::open_count::OpenCount;
use super::service::Service;
use super::socket;
use super::telemetry::PluginTelemetry;
use super::wire::DevicePluginServer;
use crate::host::socket_id::SocketId;
use crate::util::error_chain::ErrorChain;
use crate::util::log_rate_limit::LogRateLimit;

/// The flow control window: bytes of a request that may be sent before they are read. The default
/// of HTTP/2 is 64 KiB, and a request that names 2,048 replicas has about 100 KiB. No memory is
/// reserved for it.
const WINDOW: u32 = 1 << 20;
/// How long clients get to close their connections after the streams have ended.
const CLOSING_GRACE: Duration = Duration::from_millis(300);
/// Pause after a connection could not be accepted, usually for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A running server.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    endpoint: String,
    id: SocketId,
    streams: OpenCount,
    connections: OpenCount,
    /// Dropped to end the streams.
    alive: watch::Sender<()>,
    /// Sent on, or dropped, to end the server.
    stop: oneshot::Sender<()>,
    /// Dropped to cut the connections.
    uncut: watch::Sender<()>,
    task: JoinHandle<Result<(), tonic::transport::Error>>,
}

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve on {}", path.display())]
pub struct ServeError {
    path: PathBuf,
    source: io::Error,
}

impl Server {
    /// Binds a fresh socket in `directory` and serves on it.
    ///
    /// # Errors
    /// The socket cannot be bound: the directory is missing, not writable, or full.
    pub fn start(
        directory: &Path,
        resource: &ResourceName,
        inventory: watch::Receiver<Arc<Inventory>>,
        telemetry: &PluginTelemetry,
    ) -> Result<Self, ServeError> {
        let endpoint = socket::fresh_name(resource);
        let path = directory.join(&endpoint);
        let (listener, id) =
            bind(&path).map_err(|source| ServeError { path: path.clone(), source })?;
        let (streams, connections) = (OpenCount::default(), OpenCount::default());
        let (alive, alive_watch) = watch::channel(());
        let (stop, stopped) = oneshot::channel();
        let (uncut, cut) = watch::channel(());
        let (resource, telemetry) = (resource.clone(), telemetry.clone());
        let service = Service::new(resource, inventory, alive_watch, streams.clone(), telemetry);
        let incoming = {
            let open = connections.clone();
            UnixListenerStream::new(listener)
                .then(accepted)
                .filter_map(|connection| connection)
                .map(move |io| Ok::<_, io::Error>(Connection::new(io, cut.clone(), open.open())))
        };
        let serving = Grpc::builder()
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .serve_with_incoming_shutdown(
                DevicePluginServer::new(service),
                incoming,
                // Stopped, or the server's handle is dropped.
                async { stopped.await.unwrap_or(()) },
            );
        let task = tokio::spawn(serving);
        Ok(Self { path, endpoint, id, streams, connections, alive, stop, uncut, task })
    }

    /// The socket's base name, for the registration.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The socket's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The identity of the socket's file.
    #[must_use]
    pub fn id(&self) -> SocketId {
        self.id
    }

    /// How many ListAndWatch streams are open.
    #[must_use]
    pub fn streams(&self) -> watch::Receiver<usize> {
        self.streams.watch()
    }

    /// Returns only if the server ends by itself, with the reason.
    pub async fn ended(&mut self) -> String {
        match (&mut self.task).await {
            Ok(Ok(())) => "it returned".to_owned(),
            Ok(Err(error)) => ErrorChain(&error).to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// Ends the streams, then the server, then removes the socket if it still is ours.
    ///
    /// In between it waits for the kubelet to close its connection, which it does when it has
    /// handled the end of the stream. A kubelet up to 1.36, which knows its clients by resource
    /// name alone, would otherwise undo a registration that follows
    /// (pkg/kubelet/cm/devicemanager/plugin/v1beta1/handler.go:122-134).
    ///
    /// It takes at most three times the closing grace: a client that does not close its side, or
    /// never spoke HTTP/2, would delay a graceful shutdown for ever, so its connection is cut.
    pub async fn stop(self) {
        let Self { path, id, alive, stop, uncut, mut task, connections, .. } = self;
        drop(alive);
        let _ = tokio::time::timeout(CLOSING_GRACE, connections.all_closed()).await;
        drop(stop);
        if !task.is_finished() && tokio::time::timeout(CLOSING_GRACE, &mut task).await.is_err() {
            drop(uncut);
            if tokio::time::timeout(CLOSING_GRACE, &mut task).await.is_err() {
                task.abort();
            }
        }
        if let Err(error) = socket::remove(&path, id) {
            warn!(socket = %path.display(), %error, "cannot remove our socket");
        }
    }
}

fn bind(path: &Path) -> io::Result<(UnixListener, SocketId)> {
    let listener = UnixListener::bind(path)?;
    let id = SocketId::of(path)?.ok_or(io::ErrorKind::NotFound)?;
    Ok((listener, id))
}

/// A connection, or none after a pause: an error in accepting one must not end the server.
async fn accepted(connection: io::Result<UnixStream>) -> Option<UnixStream> {
    match connection {
        Ok(connection) => Some(connection),
        Err(error) => {
            static REFUSED: LogRateLimit = LogRateLimit::new();
            if REFUSED.allow() {
                warn!(%error, "cannot accept a connection from the kubelet");
            }
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}
