//! A call and the room that its messages take.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tonic::Status;

use crate::kubelet::device_plugin::connections::Peer;

/// The longest message: what gRPC libraries take by default, and the kubelet's is one of them
/// (kubernetes/kubernetes#109304).
pub(super) const MAX_MESSAGE: usize = 4 << 20;
/// Up to how many bytes a message needs no room: the kubelet asks for one container, and a device
/// has 42. It would wait for the long ones of others, and so many connections with so many calls
/// as are allowed hold 8 MiB of them.
const SHORT: usize = 8 << 10;
/// How long a message may wait for room.
pub(super) const ROOM: Duration = Duration::from_secs(60);
/// How long a call works before others have their turn.
const SLICE: Duration = Duration::from_micros(200);
/// From how many containers on a call counts as long. The kubelet asks for one at a time.
const LONG: usize = 16;

/// What an answer is made of.
pub(crate) trait Message {
    /// How many bytes it has on the wire.
    fn length(&self) -> usize;
}

/// A call, from the head of its request to the last byte of its answer.
#[derive(Debug)]
pub(crate) struct Call {
    pub(super) peer: Peer,
    /// The room that its messages take, until it is over.
    pub(super) request: OnceLock<OwnedSemaphorePermit>,
    answer: OnceLock<OwnedSemaphorePermit>,
    /// Whether it is an open ListAndWatch stream.
    streams: AtomicBool,
}

impl Call {
    pub(super) fn of(peer: Peer) -> Arc<Self> {
        peer.call_began();
        let (request, answer) = (OnceLock::new(), OnceLock::new());
        Arc::new(Self { peer, request, answer, streams: AtomicBool::new(false) })
    }

    /// The call that a request belongs to.
    ///
    /// # Errors
    /// It did not come through [`Limited`](super::Limited).
    pub(crate) fn of_request<T>(request: &tonic::Request<T>) -> Result<Arc<Self>, Status> {
        let call = request.extensions().get::<Arc<Self>>().cloned();
        call.ok_or_else(|| Status::internal("the request came on no connection"))
    }

    /// The options were asked for.
    pub(crate) fn asks_options(&self) {
        self.peer.options_asked();
    }

    /// It becomes a ListAndWatch stream.
    ///
    /// # Errors
    /// There are too many.
    pub(crate) fn opens_stream(&self) -> Result<(), Status> {
        if !self.peer.stream_opens() {
            return Err(Status::resource_exhausted("too many ListAndWatch streams are open"));
        }
        self.streams.store(true, Relaxed);
        Ok(())
    }

    /// Answers each of these with `each`, and all of them with `whole`, for which there is room
    /// when it returns. Other calls have their turn in between; the kubelet's need not wait for
    /// theirs.
    ///
    /// # Errors
    /// The first one of `each`; the answer is longer than the kubelet takes, or finds no room.
    pub(crate) async fn in_turns<T, R: Message, A: Message>(
        &self,
        requests: Vec<T>,
        mut each: impl FnMut(T) -> Result<R, Status>,
        whole: impl FnOnce(Vec<R>) -> A,
    ) -> Result<A, Status> {
        let long = if requests.len() >= LONG { self.peer.long_turn().await } else { None };
        let mut requests = requests.into_iter();
        let (mut answers, mut length) = (Vec::new(), 0);
        loop {
            let turn = self.peer.turn().await;
            let began = Instant::now();
            for request in requests.by_ref() {
                let answer = each(request)?;
                length += answer.length();
                not_too_long(length)?;
                answers.push(answer);
                if began.elapsed() >= SLICE {
                    break;
                }
            }
            drop(turn);
            if requests.len() == 0 {
                break;
            }
            tokio::task::yield_now().await;
        }
        let answer = whole(answers);
        self.hold_answer(answer.length()).await?;
        drop(long);
        Ok(answer)
    }

    async fn hold_answer(&self, length: usize) -> Result<(), Status> {
        not_too_long(length)?;
        if !needs_room(length) {
            return Ok(());
        }
        let room = self.peer.memory().answers.clone();
        let permit = match room.clone().try_acquire_many_owned(kib(length)) {
            Ok(permit) => Some(permit),
            Err(_) => timeout(ROOM, acquire(room, length)).await.map_err(|_| no_room())?,
        };
        if let Some(permit) = permit {
            // A call has one answer.
            let _ = self.answer.set(permit);
        }
        Ok(())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.streams.load(Relaxed) {
            self.peer.stream_ended();
        }
        self.peer.call_ended();
    }
}

fn not_too_long(length: usize) -> Result<(), Status> {
    if length <= MAX_MESSAGE {
        return Ok(());
    }
    let limit = MAX_MESSAGE >> 20;
    Err(Status::resource_exhausted(format!("the answer is longer than {limit} MiB")))
}

pub(super) fn needs_room(length: usize) -> bool {
    length > SHORT
}

/// Of a message of that many bytes, which is not longer than the longest.
pub(super) fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX)
}

pub(super) fn no_room() -> Status {
    Status::resource_exhausted("too many long messages are on their way, try again")
}

/// `None` never comes: the semaphore is not closed.
pub(super) async fn acquire(memory: Arc<Semaphore>, bytes: usize) -> Option<OwnedSemaphorePermit> {
    memory.acquire_many_owned(kib(bytes)).await.ok()
}
