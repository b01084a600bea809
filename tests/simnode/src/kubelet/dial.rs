//! How the kubelet dials a plugin: over the unix socket, with the authority `localhost`, and done
//! only when the server has shown that it speaks HTTP/2.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::proto::device_plugin_client::DevicePluginClient;

/// The kubelet's limit for a received message.
pub const RECEIVE_LIMIT: usize = 4 * 1024 * 1024;

/// A client with the kubelet's limits on a connection.
pub(crate) fn client(channel: Channel) -> DevicePluginClient<Channel> {
    DevicePluginClient::new(channel).max_decoding_message_size(RECEIVE_LIMIT)
}

/// Connects once. An error if nobody listens; waits for as long as a listener stays silent.
pub(crate) async fn connect(path: &Path) -> io::Result<Channel> {
    let (spoke, server_spoke) = oneshot::channel();
    let spoke = Arc::new(Mutex::new(Some(spoke)));
    let path = PathBuf::from(path);
    // The authority of the dialled address is what goes into :authority.
    let channel = Endpoint::from_static("http://localhost")
        .connect_with_connector(service_fn(move |_| {
            let (path, spoke) = (path.clone(), Arc::clone(&spoke));
            async move {
                let stream = UnixStream::connect(path).await?;
                let spoke = spoke.lock().unwrap_or_else(PoisonError::into_inner).take();
                io::Result::Ok(TokioIo::new(FirstByte { stream, spoke }))
            }
        }))
        .await
        .map_err(io::Error::other)?;
    match server_spoke.await {
        Ok(()) => Ok(channel),
        Err(_) => {
            Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed before it sent any HTTP/2"))
        }
    }
}

/// Tries again and again until the limit, as grpc-go's blocking dial does: 1 s after the first
/// failure where the limit is 10 s, and longer each time.
pub(crate) async fn connect_blocking(path: &Path, limit: Duration) -> Result<Channel, String> {
    let attempts = async {
        let mut pause = limit / 10;
        loop {
            if let Ok(channel) = connect(path).await {
                return channel;
            }
            sleep(pause).await;
            pause = pause.mul_f64(1.6);
        }
    };
    timeout(limit, attempts)
        .await
        .map_err(|_| "failed to dial device plugin: context deadline exceeded".to_owned())
}

/// Tells when the first byte has come from the other side: an HTTP/2 server begins with its
/// settings.
struct FirstByte {
    stream: UnixStream,
    spoke: Option<oneshot::Sender<()>>,
}

impl AsyncRead for FirstByte {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if read.is_ready()
            && buffer.filled().len() > before
            && let Some(spoke) = self.spoke.take()
        {
            // Nobody waits any more if the dial was given up.
            let _ = spoke.send(());
        }
        read
    }
}

impl AsyncWrite for FirstByte {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
