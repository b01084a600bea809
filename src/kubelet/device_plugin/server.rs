//! One server start of one resource: a socket of its own, the gRPC server on it, and an end that
//! cannot hang.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
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

use super::count::{Count, Counted};
use super::service::Service;
use super::socket::{self, SocketId};
use super::telemetry::Telemetry;
use super::wire::DevicePluginServer;
use crate::util::error_chain::ErrorChain;
use crate::util::log_rate_limit::LogRateLimit;

/// How much of a request may be on its way unread. HTTP/2 has 64 KiB by default, and a request that
/// names 2,048 replicas has a hundred: it would wait half-way for our leave to go on. None of it is
/// reserved.
const WINDOW: u32 = 1 << 20;
/// How long clients get to close their side after the streams have ended, before their connections
/// are cut.
const CLOSING_GRACE: Duration = Duration::from_millis(300);
/// Pause after a connection could not be accepted: out of descriptors, mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A server that answers on a socket.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    endpoint: String,
    id: SocketId,
    streams: Count,
    connections: Count,
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
        telemetry: &Telemetry,
    ) -> Result<Self, ServeError> {
        let endpoint = socket::fresh_name(resource);
        let path = directory.join(&endpoint);
        let serve_error = |source| ServeError { path: path.clone(), source };
        let listener = UnixListener::bind(&path).map_err(serve_error)?;
        let id =
            SocketId::of(&path).and_then(|id| id.ok_or_else(|| io::ErrorKind::NotFound.into()));
        let id = id.map_err(serve_error)?;

        let (streams, open) = (Count::default(), Count::default());
        let (alive, alive_watch) = watch::channel(());
        let (stop, stopped) = oneshot::channel();
        let (uncut, cut) = watch::channel(());
        let service = Service::new(
            resource.clone(),
            inventory,
            alive_watch,
            streams.clone(),
            telemetry.clone(),
        );
        let connections =
            UnixListenerStream::new(listener).then(accepted).filter_map(|connection| connection);
        let connections = connections.map({
            let open = open.clone();
            move |io| Ok::<_, io::Error>(Connection::new(io, cut.clone(), open.one_more()))
        });
        let serving = Grpc::builder()
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .serve_with_incoming_shutdown(
                DevicePluginServer::new(service),
                connections,
                // Asked to stop, or the server's handle is gone: either way it is over.
                async { stopped.await.unwrap_or(()) },
            );
        let task = tokio::spawn(serving);
        Ok(Self { path, endpoint, id, streams, connections: open, alive, stop, uncut, task })
    }

    /// The socket's base name, which the kubelet is told.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The socket's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which file was bound.
    #[must_use]
    pub fn id(&self) -> SocketId {
        self.id
    }

    /// How many ListAndWatch streams are open.
    #[must_use]
    pub fn streams(&self) -> watch::Receiver<usize> {
        self.streams.watch()
    }

    /// Comes back only if the server ends by itself, with the reason.
    pub async fn ended(&mut self) -> String {
        match (&mut self.task).await {
            Ok(Ok(())) => "it returned".to_owned(),
            Ok(Err(error)) => ErrorChain(&error).to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// Ends the streams, then the server, then removes the socket if it still is ours.
    ///
    /// Between the two it waits for the kubelet to close its connection: that it does when it has
    /// dealt with the end of the stream. A registration that came before would be undone by it on a
    /// kubelet up to 1.36, whose clients stand under the name of the resource alone
    /// (pkg/kubelet/cm/devicemanager/plugin/v1beta1/handler.go:122-134).
    ///
    /// It takes at most three times the closing grace: a client that does not close its side, or
    /// never said a word of HTTP/2, would hold a graceful end for ever, so its connection is cut.
    pub async fn stop(self) {
        let Self { path, id, alive, stop, uncut, mut task, connections, .. } = self;
        drop(alive);
        let _ = tokio::time::timeout(CLOSING_GRACE, connections.none()).await;
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

/// A connection, or none after a pause: an error in accepting one must end neither the server nor
/// the others.
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

/// A connection that can be cut from outside: then it reads as closed by its peer.
struct Connection {
    io: UnixStream,
    cut: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    _counted: Counted,
}

impl Connection {
    fn new(io: UnixStream, mut uncut: watch::Receiver<()>, counted: Counted) -> Self {
        let cut = async move { while uncut.changed().await.is_ok() {} };
        Self { io, cut: Some(Box::pin(cut)), _counted: counted }
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
        ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
        Poll::Ready(Ok(()))
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
