//! Requests to release NVML, so that a GPU can be reset, and to take it up again, and their
//! answers.
//!
//! Both can be repeated. A release joins one that is under way, which lasts for the longest of
//! their times then. Nothing is kept for later: what is not done within [`RELEASE_DEADLINE`] is
//! withdrawn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use device::health::Moment;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

/// How long it may take until NVML is released, or taken up again.
pub const RELEASE_DEADLINE: Duration = Duration::from_secs(15);
/// The longest time for which NVML is released: no GPU of the node is watched meanwhile.
pub const LONGEST_RELEASE: Duration = Duration::from_secs(3600);
/// Requests that may wait to be looked at.
const WAITING: usize = 16;

/// Why NVML is not released.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReleased {
    /// It is not open.
    #[error("NVML is not in use, so that there is nothing to release: {0}")]
    NotInUse(String),
    /// A call has not returned.
    #[error(
        "NVML is not released within {} s, since {held}; the request is withdrawn",
        RELEASE_DEADLINE.as_secs()
    )]
    Held {
        /// Which call, about which GPU.
        held: String,
    },
    /// It was to be taken up again before it was released.
    #[error("NVML is not released: it was taken up again before that was done")]
    TakenUp,
    /// The request was not looked at.
    #[error("the plugin did not get to it; the request is withdrawn, try again")]
    Late,
}

/// Why NVML is not in use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTakenUp {
    /// It cannot be opened. That is tried again without a request.
    #[error("NVML is not released, and is down: {0}; it is tried again without a request")]
    Down(String),
    /// It takes longer.
    #[error(
        "NVML is not released any more, and not in use yet after {} s, since {held}",
        RELEASE_DEADLINE.as_secs()
    )]
    Held {
        /// What it waits for.
        held: String,
    },
    /// It was to be released again before it was in use.
    #[error("NVML is not in use: it is to be released by a later request")]
    Released,
    /// The request was not looked at.
    #[error("the plugin did not get to it; the request is withdrawn, try again")]
    Late,
}

type ReleaseAnswer = Result<Duration, NotReleased>;
type TakeUpAnswer = Result<(), NotTakenUp>;

enum Verb {
    /// For this time, or for as long as is configured.
    Release(Option<Duration>, oneshot::Sender<ReleaseAnswer>),
    TakeUp(oneshot::Sender<TakeUpAnswer>),
}

/// A request, and when it was made.
pub(super) struct ReleaseRequest {
    verb: Verb,
    made: Instant,
}

/// Requests that NVML is released or taken up again.
#[derive(Debug, Clone)]
pub struct Release {
    requests: mpsc::Sender<ReleaseRequest>,
    possible: Arc<AtomicBool>,
}

impl Release {
    /// Where requests are made, and where they are carried out.
    #[must_use]
    pub fn channel() -> (Self, ReleaseRequests) {
        let (requests, receiver) = mpsc::channel(WAITING);
        let possible = Arc::new(AtomicBool::new(false));
        let release = Self { requests, possible: possible.clone() };
        (release, ReleaseRequests { receiver, possible, releases: vec![], take_ups: vec![] })
    }

    /// Releases NVML for this time, or for as long as is configured. Returns for how much longer it
    /// is released, once its shutdown has returned.
    ///
    /// # Errors
    /// It is not released, and will not be by this request.
    pub async fn release(&self, time: Option<Duration>) -> Result<Duration, NotReleased> {
        let (answer, answered) = oneshot::channel();
        self.request(Verb::Release(time, answer));
        answered.await.unwrap_or(Err(NotReleased::Late))
    }

    /// As [`Self::release`] for as long as is configured, without an answer: what comes of it is
    /// logged.
    pub fn request_release(&self) {
        self.request(Verb::Release(None, oneshot::channel().0));
    }

    /// Takes NVML up again. Returns once it is in use.
    ///
    /// # Errors
    /// It is not. It is not released either.
    pub async fn take_up(&self) -> Result<(), NotTakenUp> {
        let (answer, answered) = oneshot::channel();
        self.request(Verb::TakeUp(answer));
        answered.await.unwrap_or(Err(NotTakenUp::Late))
    }

    /// As [`Self::take_up`], without an answer: what comes of it is logged.
    pub fn request_take_up(&self) {
        self.request(Verb::TakeUp(oneshot::channel().0));
    }

    /// Whether NVML is in use, so that it can be released: not while it is released already, nor
    /// while it cannot be opened.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        self.possible.load(Ordering::Relaxed)
    }

    fn request(&self, verb: Verb) {
        if self.requests.try_send(ReleaseRequest { verb, made: Instant::now() }).is_err() {
            warn!("too many requests to release NVML or to take it up wait, one is dropped");
        }
    }
}

/// What NVML is, for whoever wants it released or in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Usage {
    /// It cannot be opened, for this reason, and is tried again.
    Down(String),
    /// It is being initialised, or shut down to be initialised again.
    Changing,
    /// It is open.
    InUse,
    /// It is released, or about to be.
    Released,
}

/// A release that is asked for and not done yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PendingRelease {
    /// For how long NVML is to be released.
    pub(super) time: Duration,
    pub(super) give_up: Moment,
}

/// What came of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ReleaseEnd {
    /// It is released, until then.
    Released { until: Moment },
    /// It is not open, for this reason.
    NotInUse(String),
    /// It was not shut down in time.
    GivenUp,
    /// It was to be taken up again.
    TakenUp,
}

/// What a request is to do.
pub(super) enum Wish {
    Release(Option<Duration>),
    TakeUp,
}

/// Where requests are carried out, and those that wait for an answer.
#[derive(Debug)]
pub struct ReleaseRequests {
    receiver: mpsc::Receiver<ReleaseRequest>,
    possible: Arc<AtomicBool>,
    releases: Vec<oneshot::Sender<ReleaseAnswer>>,
    take_ups: Vec<(Moment, oneshot::Sender<TakeUpAnswer>)>,
}

impl ReleaseRequests {
    /// The next request. Nothing is lost when it is dropped before.
    pub(super) async fn next(&mut self) -> ReleaseRequest {
        match self.receiver.recv().await {
            Some(request) => request,
            None => std::future::pending().await,
        }
    }

    /// What a request wishes; nothing any more, if it has waited for too long. Who made it is
    /// answered later.
    pub(super) fn accept(&mut self, now: Moment, request: ReleaseRequest) -> Option<Wish> {
        if request.made.elapsed() >= RELEASE_DEADLINE {
            return None;
        }
        Some(match request.verb {
            Verb::Release(time, answer) => {
                self.releases.push(answer);
                Wish::Release(time)
            }
            Verb::TakeUp(answer) => {
                self.take_ups.push((now.after(RELEASE_DEADLINE), answer));
                Wish::TakeUp
            }
        })
    }

    /// Answers all who asked for a release that is done, or will not be.
    pub(super) fn release_over(&mut self, answer: &ReleaseAnswer) {
        if let Err(reason) = answer {
            warn!("{reason}");
        }
        for asked in self.releases.drain(..) {
            // Whoever asked may have gone.
            let _ = asked.send(answer.clone());
        }
    }

    /// Answers those who want NVML in use, if it is, or will not be in time.
    pub(super) fn answer_take_ups(
        &mut self,
        now: Moment,
        usage: &Usage,
        held: impl FnOnce() -> String,
    ) {
        let late = self.take_ups.iter().any(|(until, _)| *until <= now);
        let answer = match usage {
            _ if self.take_ups.is_empty() => return,
            Usage::InUse => Ok(()),
            Usage::Down(reason) => Err(NotTakenUp::Down(reason.clone())),
            Usage::Released => Err(NotTakenUp::Released),
            Usage::Changing if late => Err(NotTakenUp::Held { held: held() }),
            Usage::Changing => return,
        };
        match &answer {
            Ok(()) => info!("NVML is in use, as it was asked to be"),
            Err(reason) => warn!("{reason}"),
        }
        for (_, asked) in self.take_ups.drain(..) {
            let _ = asked.send(answer.clone());
        }
    }

    /// When somebody has waited for too long.
    pub(super) fn due(&self) -> Option<Moment> {
        self.take_ups.iter().map(|(until, _)| *until).min()
    }

    pub(super) fn set_possible(&self, possible: bool) {
        self.possible.store(possible, Ordering::Relaxed);
    }
}
