//! The gRPC server of one resource, on a socket of its own, which stops in bounded time.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use device::inventory::Inventory;
use device::names::ResourceName;
use status::error_chain::ErrorChain;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server as Grpc;
use tracing::warn;

use super::connection::Connection;
use super::connections::{Connections, Levels};
use super::limits::Limited;
use super::service::Service;
use super::socket;
use super::telemetry::PluginTelemetry;
use super::wire::DevicePluginServer;
use crate::host::socket_id::SocketId;
use crate::util::log_rate_limit::LogRateLimit;

/// The flow control window of a connection: bytes of requests that may be sent before they are
/// read. The default of HTTP/2 is 64 KiB, and a request that names 2,048 replicas has about
/// 100 KiB.
const WINDOW: u32 = 128 << 10;
/// Calls and streams of one connection at a time. The kubelet has one stream, and allocates for one
/// container after the other.
const MAX_STREAMS: u32 = 32;
/// Streams that a client has reset and that are not dealt with yet, before its connection is closed
/// (CVE-2023-44487).
const MAX_RESETS: usize = 20;
/// Bytes of a request's head.
const MAX_HEAD: u32 = 16 << 10;
/// How long the kubelet gets to close its connection after its stream has ended.
const CLOSING_GRACE: Duration = Duration::from_millis(300);
/// How long other clients get, and those of a kubelet that is no more: long enough for the end of
/// their streams to be sent.
const OTHERS_GRACE: Duration = Duration::from_millis(20);
/// Pause after a connection could not be accepted, usually for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A running server.
#[derive(Debug)]
pub struct Server {
    /// The socket's path.
    pub path: PathBuf,
    /// The socket's base name, for the registration.
    pub endpoint: String,
    /// The identity of the socket's file.
    pub id: SocketId,
    /// How many ListAndWatch streams are open.
    pub streams: watch::Sender<usize>,
    /// Its connections.
    pub connections: Connections,
    resource: ResourceName,
    /// Dropped to end the streams.
    alive: Option<watch::Sender<()>>,
    /// Dropped to end the server.
    serving: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), tonic::transport::Error>>,
}

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The socket cannot be bound.
    #[error("cannot serve on {}", path.display())]
    Bind {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No socket can be in this directory.
    #[error(
        "the path {} is so long that no socket can be in it: a socket's path has at most {} bytes",
        .0.display(), socket::MAX_PATH
    )]
    DirectoryTooLong(PathBuf),
}

impl ServeError {
    /// What to do about it.
    pub(super) fn advice(&self) -> &'static str {
        match self {
            Self::Bind { .. } => "is the plugin directory mounted and writable?",
            Self::DirectoryTooLong(_) => "give a shorter path as --kubelet-socket",
        }
    }
}

/// The server ended by itself, which it never should.
#[derive(Debug, thiserror::Error)]
#[error("the gRPC server of {resource} ended by itself: {why}")]
pub struct PluginError {
    resource: ResourceName,
    why: String,
}

impl Server {
    /// Binds a fresh socket in `directory` and serves on it.
    ///
    /// # Errors
    /// The socket cannot be bound: the directory is missing, not writable, or full, or its path is
    /// too long.
    pub fn start(
        directory: &Path,
        resource: &ResourceName,
        inventory: watch::Receiver<Arc<Inventory>>,
        telemetry: &PluginTelemetry,
    ) -> Result<Self, ServeError> {
        let endpoint = socket::fresh_name(directory, resource)
            .ok_or_else(|| ServeError::DirectoryTooLong(directory.to_owned()))?;
        let path = directory.join(&endpoint);
        let (listener, id) =
            bind(&path).map_err(|source| ServeError::Bind { path: path.clone(), source })?;
        let (alive, alive_watch) = watch::channel(());
        let (serving, stopped) = oneshot::channel();
        let (streams, connections) = (watch::Sender::default(), Connections::default());
        let service = Service {
            resource: resource.clone(),
            inventory,
            alive: alive_watch,
            streams: streams.clone(),
            telemetry: telemetry.clone(),
        };
        let incoming = {
            let connections = connections.clone();
            UnixListenerStream::new(listener)
                .then(accepted)
                .filter_map(|connection| connection)
                .map(move |io| Ok::<_, io::Error>(Connection::new(io, &connections)))
        };
        let server = Grpc::builder()
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_concurrent_streams(MAX_STREAMS)
            .http2_max_pending_accept_reset_streams(Some(MAX_RESETS))
            .http2_max_local_error_reset_streams(Some(MAX_RESETS))
            .http2_max_header_list_size(MAX_HEAD)
            .serve_with_incoming_shutdown(
                Limited(DevicePluginServer::new(service)),
                incoming,
                // Stopped, or the server's handle is dropped.
                async { stopped.await.unwrap_or(()) },
            );
        let task = tokio::spawn(server);
        let (resource, alive, serving) = (resource.clone(), Some(alive), Some(serving));
        Ok(Self { path, endpoint, id, streams, connections, resource, alive, serving, task })
    }

    /// Returns only if the server ends by itself.
    pub async fn ended(&mut self) -> PluginError {
        let why = match (&mut self.task).await {
            Ok(Ok(())) => "it returned".to_owned(),
            Ok(Err(error)) => ErrorChain(&error).to_string(),
            Err(error) => error.to_string(),
        };
        PluginError { resource: self.resource.clone(), why }
    }

    /// Removes the socket if it still is ours, ends the streams, and then the server. It can be
    /// given up at any point and called again.
    ///
    /// In between it waits for the kubelet to close its connection, which it does when it has
    /// handled the end of the stream. A kubelet up to 1.36, which knows its clients by resource
    /// name alone, would otherwise undo a registration that follows
    /// (pkg/kubelet/cm/devicemanager/plugin/v1beta1/handler.go:122-134). Of one that `is_gone`
    /// there is nothing to be waited for.
    ///
    /// A client that does not close its side, or never spoke HTTP/2, would delay a graceful
    /// shutdown for ever, so its connection is closed after a moment.
    pub async fn stop(&mut self, kubelet_is_gone: bool) {
        self.remove_socket();
        self.alive = None;
        let mut levels = self.connections.levels();
        if !kubelet_is_gone {
            until(&mut levels, CLOSING_GRACE, |levels| levels.kubelet == 0).await;
        }
        until(&mut levels, OTHERS_GRACE, |levels| levels.all == 0).await;
        self.serving = None;
        self.connections.close_all();
        if !self.task.is_finished()
            && tokio::time::timeout(CLOSING_GRACE, &mut self.task).await.is_err()
        {
            self.task.abort();
        }
    }

    fn remove_socket(&self) {
        if let Err(error) = socket::remove(&self.path, self.id) {
            warn!(socket = %self.path.display(), %error, "cannot remove our socket");
        }
    }
}

impl Drop for Server {
    /// Nothing is left of a server that was not stopped.
    fn drop(&mut self) {
        if self.alive.is_some() {
            self.remove_socket();
        }
    }
}

/// Waits until the connections are so, or for so long.
async fn until(
    levels: &mut watch::Receiver<Levels>,
    at_most: Duration,
    condition: impl FnMut(&Levels) -> bool,
) {
    let _ = tokio::time::timeout(at_most, levels.wait_for(condition)).await;
}

#[allow(clippy::disallowed_methods, reason = "beside the bind itself, in the same directory")]
fn bind(path: &Path) -> io::Result<(UnixListener, SocketId)> {
    let listener = UnixListener::bind(path)?;
    match SocketId::of(path) {
        Ok(Some(id)) => Ok((listener, id)),
        failed => {
            // The next attempt has another name.
            let _ = std::fs::remove_file(path);
            Err(failed.err().unwrap_or_else(|| io::ErrorKind::NotFound.into()))
        }
    }
}

/// A connection, or none after a pause: an error in accepting one must not end the server.
async fn accepted(connection: io::Result<UnixStream>) -> Option<UnixStream> {
    match connection {
        Ok(connection) => {
            // However many come, those that are there have their turn before the next one.
            tokio::task::yield_now().await;
            Some(connection)
        }
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
