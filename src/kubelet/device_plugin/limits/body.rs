//! The bodies of requests and answers.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Bytes;

use super::call::{Call, MAX_MESSAGE, ROOM, acquire, kib, needs_room, no_room};

/// A byte that tells whether a message is compressed, and its length, go before it
/// (gRPC over HTTP2, "Length-Prefixed-Message").
const PREFIX: usize = 5;
/// How long a request may take to come once there is room for it.
const UPLOAD: Duration = Duration::from_secs(5);
/// The body of a request: one message, which is read when there is room for it.
pub(super) struct Upload {
    body: Body,
    call: Arc<Call>,
    /// How many bytes have come.
    came: usize,
    /// The length that goes before the message, as far as it has come.
    length: u64,
    /// For room, if there was none at once.
    waiting: Option<Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send>>>,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Upload {
    pub(super) fn of(body: Body, call: Arc<Call>) -> Self {
        Self { body, call, came: 0, length: 0, waiting: None, deadline: None }
    }

    fn count(&mut self, data: &[u8]) -> Result<(), Status> {
        for byte in data.iter().take(PREFIX.saturating_sub(self.came)) {
            self.length = self.length << 8 | u64::from(*byte);
        }
        self.came += data.len();
        match self.length() {
            Some(length) if self.came > PREFIX + length => {
                Err(Status::invalid_argument("more than one message"))
            }
            _ => Ok(()),
        }
    }

    /// The length of the message, once it is known.
    fn length(&self) -> Option<usize> {
        let length = usize::try_from(self.length & u64::from(u32::MAX)).ok()?;
        (self.came >= PREFIX).then_some(length)
    }

    /// Ready when there is room for the message, or it needs none: a message that is too long is
    /// refused elsewhere.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let wanted = |length: &usize| needs_room(*length) && *length <= MAX_MESSAGE;
        let Some(length) = self.length().filter(wanted) else { return Poll::Ready(()) };
        if self.call.request.get().is_some() {
            return Poll::Ready(());
        }
        let room = self.call.peer.memory().requests.clone();
        let permit = match &mut self.waiting {
            Some(waiting) => ready!(waiting.as_mut().poll(cx)),
            None => match room.clone().try_acquire_many_owned(kib(length)) {
                Ok(permit) => Some(permit),
                Err(_) => {
                    self.waiting = Some(Box::pin(acquire(room, length)));
                    self.deadline = None;
                    return self.poll_room(cx);
                }
            },
        };
        if let Some(permit) = permit {
            // There is one message.
            let _ = self.call.request.set(permit);
        }
        if self.waiting.take().is_some() {
            self.deadline = None;
        }
        Poll::Ready(())
    }

    /// Ready with the error when this has taken too long.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        let waits = self.waiting.is_some();
        let limit = if waits { ROOM } else { UPLOAD };
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(deadline.as_mut().poll(cx));
        let late = || format!("the request did not come within {} s", limit.as_secs());
        Poll::Ready(if waits { no_room() } else { Status::deadline_exceeded(late()) })
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.poll_room(cx).is_ready()
            && let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx)
        {
            if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref())
                && let Err(status) = self.count(data)
            {
                return Poll::Ready(Some(Err(status)));
            }
            return Poll::Ready(frame);
        }
        Poll::Ready(Some(Err(ready!(self.poll_late(cx)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer, with which the call is over.
pub(super) struct Answer {
    body: Body,
    _call: Arc<Call>,
}

impl Answer {
    pub(super) fn of(body: Body, call: Arc<Call>) -> Self {
        Self { body, _call: call }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
