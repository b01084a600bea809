//! The gRPC server of one resource, on a socket of its own, which stops in bounded time.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use device::inventory::Inventory;
use device::names::ResourceName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server as Grpc;
use tonic::transport::server::Connected;
use tracing::warn;

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
    /// The socket's path.
    pub path: PathBuf,
    /// The socket's base name, for the registration.
    pub endpoint: String,
    /// The identity of the socket's file.
    pub id: SocketId,
    /// How many ListAndWatch streams are open.
    pub streams: watch::Sender<usize>,
    resource: ResourceName,
    /// Dropped to end the streams.
    alive: watch::Sender<()>,
    /// Sent on, or dropped, to end the server.
    stop: oneshot::Sender<()>,
    /// Each connection has a receiver, and is cut when something is sent.
    cut: watch::Sender<()>,
    task: JoinHandle<Result<(), tonic::transport::Error>>,
}

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve on {}", path.display())]
pub struct ServeError {
    path: PathBuf,
    source: io::Error,
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
        let (alive, alive_watch) = watch::channel(());
        let (stop, stopped) = oneshot::channel();
        let (streams, cut) = (watch::Sender::default(), watch::Sender::default());
        let service = Service {
            resource: resource.clone(),
            inventory,
            alive: alive_watch,
            streams: streams.clone(),
            telemetry: telemetry.clone(),
        };
        let incoming = {
            let cut = cut.clone();
            UnixListenerStream::new(listener)
                .then(accepted)
                .filter_map(|connection| connection)
                .map(move |io| Ok::<_, io::Error>(Connection::new(io, cut.subscribe())))
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
        let resource = resource.clone();
        Ok(Self { path, endpoint, id, streams, resource, alive, stop, cut, task })
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
        let Self { path, id, alive, stop, cut, mut task, .. } = self;
        drop(alive);
        let _ = tokio::time::timeout(CLOSING_GRACE, cut.closed()).await;
        drop(stop);
        if !task.is_finished() && tokio::time::timeout(CLOSING_GRACE, &mut task).await.is_err() {
            cut.send_replace(());
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

/// A connection that can be cut: then it reads as closed by its peer.
struct Connection {
    io: UnixStream,
    cut: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Connection {
    /// A connection that is cut when something is sent to `cut`, or its senders are gone.
    fn new(io: UnixStream, mut cut: watch::Receiver<()>) -> Self {
        let cut = async move { drop(cut.changed().await) };
        Self { io, cut: Some(Box::pin(cut)) }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(cut) = &mut self.cut
            && cut.as_mut().poll(cx).is_ready()
        {
            self.cut = None;
        }
        match self.cut {
            Some(_) => Pin::new(&mut self.io).poll_read(cx, buf),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}
