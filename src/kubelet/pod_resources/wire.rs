//! The calls of podresources.

use std::path::Path;
use std::time::Duration;

use bytes::Buf;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;
use tonic::{Request, Status};

use super::answer::{self, Allocatable, AnswerError, PodList};

/// The methods (proto/podresources/v1/api.proto).
const LIST: &str = "/v1.PodResourcesLister/List";
const ALLOCATABLE: &str = "/v1.PodResourcesLister/GetAllocatableResources";
/// How long a call may take, from dialling to the end of the answer.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);
/// The longest answer that is read, as in the kubelet's own clients
/// (pkg/kubelet/apis/podresources, 16 MiB).
pub(super) const LONGEST_ANSWER: usize = 16 << 20;

/// Why the call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListError {
    /// The socket's path cannot be dialled.
    #[error("the path of the podresources socket is not UTF-8")]
    Path,
    /// Nobody speaks HTTP/2 on the socket.
    #[error("cannot connect to the podresources socket")]
    Connect(#[source] tonic::transport::Error),
    /// The call failed, here or there.
    #[error("List of podresources failed: {} ({:?})", .0.message(), .0.code())]
    Failed(Status),
    /// The socket was replaced during the call, so that the answer is of another kubelet.
    #[error("the podresources socket was replaced during List")]
    Replaced,
    /// The file system's error.
    #[error("cannot read the state of the podresources socket")]
    Socket(#[source] std::io::Error),
    /// It took too long.
    #[error("List of podresources was not answered within {} s", DEADLINE.as_secs())]
    Deadline,
}

/// Lists which container holds which device.
///
/// Each call, of which there are few, has a connection of its own, so that none is dead after a
/// restart of the kubelet.
pub(super) async fn list(socket: &Path) -> Result<PodList, ListError> {
    call(socket, LIST, answer::read).await
}

/// Asks how many devices of this plugin's form the kubelet can allocate, by resource.
pub(super) async fn allocatable(socket: &Path) -> Result<Allocatable, ListError> {
    call(socket, ALLOCATABLE, answer::read_allocatable).await
}

async fn call<T: Send + Sync + 'static>(
    socket: &Path,
    method: &'static str,
    read: Read<T>,
) -> Result<T, ListError> {
    let address = format!("unix://{}", socket.to_str().ok_or(ListError::Path)?);
    let call = async {
        let kubelet = Endpoint::from_shared(address).map_err(ListError::Connect)?;
        let channel = kubelet.connect().await.map_err(ListError::Connect)?;
        let mut client =
            tonic::client::Grpc::new(channel).max_decoding_message_size(LONGEST_ANSWER);
        client.ready().await.map_err(ListError::Connect)?;
        let path = PathAndQuery::from_static(method);
        client.unary(Request::new(()), path, AnswerCodec(read)).await.map_err(ListError::Failed)
    };
    let answer = tokio::time::timeout(DEADLINE, call).await.map_err(|_| ListError::Deadline)??;
    Ok(answer.into_inner())
}

type Read<T> = fn(&[u8]) -> Result<T, AnswerError>;

/// A request without fields, and an answer that is read without a copy of what is of no use.
struct AnswerCodec<T>(Read<T>);

impl<T: Send + 'static> Codec for AnswerCodec<T> {
    type Encode = ();
    type Decode = T;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self(self.0)
    }

    fn decoder(&mut self) -> Self {
        Self(self.0)
    }
}

impl<T> Encoder for AnswerCodec<T> {
    type Item = ();
    type Error = Status;

    fn encode(&mut self, (): (), _: &mut EncodeBuf<'_>) -> Result<(), Status> {
        Ok(())
    }
}

impl<T> Decoder for AnswerCodec<T> {
    type Item = T;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<T>, Status> {
        // It is in one piece.
        let answer = (self.0)(bytes.chunk());
        bytes.advance(bytes.remaining());
        answer.map(Some).map_err(|error| Status::out_of_range(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_kubelet_that_does_not_answer_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("kubelet.sock");
        let _silent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let before = tokio::time::Instant::now();
        assert!(matches!(list(&socket).await, Err(ListError::Deadline)));
        assert_eq!(before.elapsed(), DEADLINE);
    }

    #[tokio::test]
    async fn a_socket_that_nobody_listens_on_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("kubelet.sock");
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        assert!(matches!(list(&socket).await, Err(ListError::Connect(_))));
    }
}
