//! What others can do to a plugin's socket beside the kubelet: many connections, streams that
//! nobody reads, requests that never end.

use std::convert::Infallible;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body as HttpBody, Bytes, Frame};
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use crate::kubelet::Kubelet;
use crate::proto::{Empty, ListAndWatchResponse};

/// Connects so many times and keeps what this process may have open; every second connection sends
/// HTTP/2's preface and no more.
///
/// # Errors
/// The preface could not be sent for another reason than that the plugin closed the connection.
pub fn connections(socket: &Path, count: usize) -> io::Result<Vec<UnixStream>> {
    let mut connections = Vec::new();
    for number in 0..count {
        let connection = loop {
            match UnixStream::connect(socket) {
                Ok(connection) => break connection,
                // As many as this process may have open, or a full backlog.
                Err(_) => drop(connections.drain(..connections.len() / 2)),
            }
        };
        if number % 2 == 0 {
            match (&connection).write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
                _ => {}
            }
        }
        connections.push(connection);
    }
    Ok(connections)
}

/// A ListAndWatch stream that nobody reads.
pub type Unread = Streaming<ListAndWatchResponse>;

/// Opens so many streams on each of so many connections. Each task ends with those that opened.
///
/// # Errors
/// The plugin cannot be dialled.
pub async fn streams(
    socket: &Path,
    connections: usize,
    each: usize,
) -> anyhow::Result<JoinSet<Vec<Unread>>> {
    let mut opening = JoinSet::new();
    for _ in 0..connections {
        let client = Kubelet::dial(socket).await?;
        opening.spawn(async move {
            let mut streams = Vec::new();
            for _ in 0..each {
                let opened = client.clone().list_and_watch(Empty {}).await;
                streams.extend(opened.map(tonic::Response::into_inner).map_err(|_: Status| ()));
            }
            streams
        });
    }
    Ok(opening)
}

/// Calls of Allocate that announce 4 MiB and never send the last byte, so many on each of so many
/// connections.
///
/// # Errors
/// The plugin cannot be dialled.
pub async fn uploads(
    socket: &Path,
    connections: usize,
    each: usize,
) -> anyhow::Result<JoinSet<()>> {
    let mut uploads = JoinSet::new();
    for _ in 0..connections {
        let address = format!("unix://{}", socket.display());
        let channel = Endpoint::from_shared(address)?.connect().await?;
        for _ in 0..each {
            uploads.spawn(upload(channel.clone()));
        }
    }
    Ok(uploads)
}

async fn upload(mut channel: Channel) {
    let request = http::Request::post("http://localhost/v1beta1.DevicePlugin/Allocate")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(Unfinished(0)));
    if let Ok(request) = request
        && std::future::poll_fn(|cx| channel.poll_ready(cx)).await.is_ok()
    {
        // Whatever the plugin says to it; mostly it says nothing.
        let _ = channel.call(request).await;
    }
}

/// A body with the header of a message of 4 MiB, and as many bytes of it as were sent; never the
/// last.
struct Unfinished(usize);

impl HttpBody for Unfinished {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        const PIECE: usize = 64 << 10;
        const LENGTH: u32 = 4 << 20;
        let data = match self.0 {
            0 => [&[0][..], &LENGTH.to_be_bytes()].concat(),
            sent if sent + PIECE < LENGTH as usize => vec![10; PIECE],
            _ => return Poll::Pending,
        };
        self.0 += data.len();
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(data)))))
    }
}
