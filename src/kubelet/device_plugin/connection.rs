//! One connection to a server, which can be closed from this side at any moment.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};
use tonic::transport::server::Connected;

use super::connections::{Connections, Peer};

/// Length of what an HTTP/2 client sends first.
const PREFACE: usize = 24;
/// How long a client may take to send it.
const PREFACE_DEADLINE: Duration = Duration::from_secs(5);

/// An accepted connection. When it is closed from this side it reads as closed by its peer, and
/// writing fails.
pub(super) struct Connection {
    io: UnixStream,
    peer: Peer,
    /// Ends when it is to be closed; `None` once it has.
    close: Option<oneshot::Receiver<()>>,
    /// The deadline of the preface and what is missing of it; `None` once it has come.
    preface: Option<(Pin<Box<Sleep>>, usize)>,
}

impl Connection {
    pub(super) fn new(io: UnixStream, connections: &Connections) -> Self {
        let (peer, close) = connections.enter();
        let preface = (Box::pin(sleep(PREFACE_DEADLINE)), PREFACE);
        Self { io, peer, close: Some(close), preface: Some(preface) }
    }

    fn is_closed(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(close) = &mut self.close else { return true };
        let late = match &mut self.preface {
            Some((deadline, _)) => deadline.as_mut().poll(cx).is_ready(),
            None => false,
        };
        let closed = late || Pin::new(close).poll(cx).is_ready();
        if closed {
            self.close = None;
        }
        closed
    }

    fn count_preface(&mut self, read: usize) {
        if let Some((_, missing)) = &mut self.preface {
            *missing = missing.saturating_sub(read);
            if *missing == 0 {
                self.preface = None;
                self.peer.greeted();
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.peer.closed();
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_closed(cx) {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        self.count_preface(buf.filled().len().saturating_sub(before));
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
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
        if self.is_closed(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}
