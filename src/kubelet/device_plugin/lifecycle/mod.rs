//! The life cycle of one resource's server: its next step is a pure function of its state and of
//! what is observed.
//!
//! It depends on levels, not on events, so a missed or doubled wake-up does no harm.

mod retry;
mod step;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use retry::Retry;
pub use step::{KubeletStream, Observed, OwnSocket, RestartReason, Step};

use crate::host::socket_id::SocketId;
use crate::util::backoff::Backoff;

/// How long a registered server waits for a ListAndWatch stream before it registers again, and one
/// whose registration was not answered in time for a late success. A kubelet up to 1.36 can end the
/// new stream together with the old one and does not dial again (kubernetes/kubernetes#121994).
const FIRST_GRACE: Duration = Duration::from_secs(3);
/// The longest wait: it doubles with each registration in a row without a lasting stream.
const LAST_GRACE: Duration = Duration::from_secs(60);
/// The wait after a stream has ended: until then the kubelet has dealt with its end, and would not
/// take it for that of the next one.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest: it doubles with each stream in a row that did not last.
const LAST_PAUSE: Duration = Duration::from_secs(60);
/// The least wait after a Register call that broke off. If it had succeeded, the stream is there by
/// then.
const BROKEN_OFF: Duration = Duration::from_millis(200);
/// How long our socket alone may be gone before that is somebody's doing: a kubelet that starts
/// removes all sockets of the directory, one after the other.
const SETTLE: Duration = Duration::from_millis(10);

/// The state of one resource's server.
///
/// ```text
///             bound                 Register accepted
///   Down ───────────────▶ Serving ────────────────────▶ Registered
///   ▲ ▲ │                 ▲  │ │                          ▲    │
///   │ └─┘ bind failed     └──┘ │ no answer                │    │
///   │         Register refused,└──────▶ Unanswered ───────┘    │
///   │         or nobody there               │     a stream     │
///   └────────────────┴──────────────────────┴──────────────────┘
///    own socket gone     the same, kubelet.sock     the same, or no stream for the
///    or replaced         replaced, or no stream     grace, or the stream has ended
///                        for the grace
/// ```
///
/// The kubelet calls back while it handles Register, and then opens its stream: that stream is what
/// counts. When it ends, the server is restarted on a fresh socket and registered from there, since
/// a kubelet from 1.37 on refuses a socket that it still holds and an older one mixes them up. For
/// the same reason a Register that got no answer is never repeated from the same socket: it may
/// have succeeded, or still succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PluginState {
    /// How far it is.
    pub stage: Stage,
    /// How long to wait for a stream after a registration.
    grace: Backoff,
    /// How long to wait after a stream.
    pause: Backoff,
}

/// How far a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// No socket, no server.
    Down {
        /// When to bind again, and how often it has failed.
        retry: Retry,
    },
    /// The server answers on its socket; the kubelet does not know it.
    Serving {
        /// The socket that was bound.
        own: SocketId,
        /// When to call Register again on the same kubelet socket, and how often it has failed.
        retry: Retry,
        /// The kubelet socket of the last attempt.
        last_tried: Option<SocketId>,
    },
    /// A Register call has ended without an answer.
    Unanswered {
        /// The socket that was bound.
        own: SocketId,
        /// The kubelet socket of the call.
        kubelet: SocketId,
        /// Until when a stream shows that it has succeeded.
        until: Duration,
        /// Why there is no answer.
        reason: RestartReason,
    },
    /// The kubelet has accepted the registration.
    Registered {
        /// The socket that was bound.
        own: SocketId,
        /// The kubelet socket that it was registered on.
        kubelet: SocketId,
        /// Until when the stream has to be open.
        until: Duration,
    },
}

impl Default for PluginState {
    fn default() -> Self {
        Self {
            stage: Stage::Down { retry: Retry::default() },
            grace: Backoff::new(FIRST_GRACE, LAST_GRACE),
            pause: Backoff::new(FIRST_PAUSE, LAST_PAUSE),
        }
    }
}

impl PluginState {
    /// The next step.
    #[must_use]
    pub fn next(&self, observed: &Observed) -> Step {
        if let Some(step) = self.without_own_socket(observed) {
            return step;
        }
        match self.stage {
            Stage::Down { retry } if observed.now < retry.at => Step::Wait(Some(retry.at)),
            Stage::Down { .. } => Step::Bind,
            Stage::Serving { retry, last_tried, .. } => match observed.kubelet {
                None => Step::Wait(None),
                // Failures on the socket of an earlier kubelet do not delay a new one.
                Some(kubelet) if last_tried != Some(kubelet) || observed.now >= retry.at => {
                    Step::Register(kubelet)
                }
                Some(_) => Step::Wait(Some(retry.at)),
            },
            Stage::Unanswered { .. } | Stage::Registered { .. } => self.next_with_stream(observed),
        }
    }

    /// The next step once the kubelet may have a stream.
    fn next_with_stream(&self, observed: &Observed) -> Step {
        let (kubelet, due, reason) = match (self.stage, observed.stream) {
            (Stage::Unanswered { kubelet, until, reason, .. }, _) => (kubelet, until, reason),
            (Stage::Registered { kubelet, .. }, KubeletStream::Ended { since }) => {
                let due = since.saturating_add(self.pause.delay());
                (kubelet, due, RestartReason::StreamEnded)
            }
            (Stage::Registered { kubelet, until, .. }, _) => {
                (kubelet, until, RestartReason::NoStream(self.grace.delay()))
            }
            (Stage::Down { .. } | Stage::Serving { .. }, _) => return Step::Wait(None),
        };
        match observed.kubelet {
            Some(there) if there != kubelet => Step::Restart(RestartReason::KubeletRestarted),
            _ if observed.stream == KubeletStream::Open => match self.stage {
                Stage::Unanswered { .. } => Step::Adopt,
                _ => Step::Wait(None),
            },
            // Nobody to register with: the next kubelet will have another socket.
            None => Step::Wait(None),
            Some(_) if observed.now >= due => Step::Restart(reason),
            Some(_) => Step::Wait(Some(due)),
        }
    }

    /// A fresh socket was bound and is served.
    #[must_use]
    pub fn bound(self, own: SocketId) -> Self {
        let stage = Stage::Serving { own, retry: Retry::default(), last_tried: None };
        Self { stage, ..self }
    }

    /// Binding failed.
    #[must_use]
    pub fn bind_failed(self, now: Duration, jitter: f64) -> Self {
        let retry = match self.stage {
            Stage::Down { retry } => retry,
            _ => Retry::default(),
        };
        Self { stage: Stage::Down { retry: retry.failed(now, jitter) }, ..self }
    }

    /// Register on this kubelet socket was accepted, or a stream shows that it was.
    #[must_use]
    pub fn registered(mut self, on: SocketId, now: Duration) -> Self {
        if let Stage::Serving { own, .. } | Stage::Unanswered { own, .. } = self.stage {
            let until = now.saturating_add(self.grace.delay());
            self.stage = Stage::Registered { own, kubelet: on, until };
        }
        self
    }

    /// Register on this kubelet socket failed: it had no effect.
    #[must_use]
    pub fn register_failed(mut self, on: SocketId, now: Duration, jitter: f64) -> Self {
        if let Stage::Serving { retry, last_tried, .. } = &mut self.stage {
            let before = if *last_tried == Some(on) { *retry } else { Retry::default() };
            *retry = before.failed(now, jitter);
            *last_tried = Some(on);
        }
        self
    }

    /// Register on this kubelet socket got no answer: in time, or because the call broke off.
    #[must_use]
    pub fn unanswered(mut self, on: SocketId, now: Duration, broke_off: bool) -> Self {
        if let Stage::Serving { own, .. } = self.stage {
            let (wait, reason) = if broke_off {
                (self.pause.delay().max(BROKEN_OFF), RestartReason::BrokenOff)
            } else {
                (self.grace.delay(), RestartReason::Unanswered)
            };
            let until = now.saturating_add(wait);
            self.stage = Stage::Unanswered { own, kubelet: on, until, reason };
        }
        self
    }

    /// A stream has been open for longer than the first grace: the first waits apply again.
    #[must_use]
    pub fn stream_lasted(mut self) -> Self {
        if matches!(self.stage, Stage::Registered { .. }) {
            self.grace.reset();
            self.pause.reset();
        }
        self
    }

    /// Whether the first waits apply: the last registration was followed by a lasting stream.
    #[must_use]
    pub fn is_stable(&self) -> bool {
        self.grace.attempts() == 0 && self.pause.attempts() == 0
    }

    /// The server was ended for this reason.
    #[must_use]
    pub fn ended(mut self, why: RestartReason) -> Self {
        match why {
            RestartReason::NoStream(_) | RestartReason::Unanswered => drop(self.grace.next_delay()),
            RestartReason::StreamEnded | RestartReason::BrokenOff => drop(self.pause.next_delay()),
            RestartReason::OwnSocketDeleted
            | RestartReason::OwnSocketReplaced
            | RestartReason::KubeletRestarted => {
                self.grace.reset();
                self.pause.reset();
            }
        }
        Self { stage: Stage::Down { retry: Retry::default() }, ..self }
    }

    /// What to do if our socket is not at its path any more.
    fn without_own_socket(&self, observed: &Observed) -> Option<Step> {
        let (own, known) = match self.stage {
            Stage::Down { .. } => return None,
            Stage::Serving { own, last_tried, .. } => (own, last_tried),
            Stage::Unanswered { own, kubelet, .. } | Stage::Registered { own, kubelet, .. } => {
                (own, Some(kubelet))
            }
        };
        match observed.own {
            OwnSocket::There(there) if there == own => None,
            OwnSocket::There(_) => Some(Step::Restart(RestartReason::OwnSocketReplaced)),
            OwnSocket::Gone { .. } if known.is_some() && observed.kubelet != known => {
                Some(Step::Restart(RestartReason::KubeletRestarted))
            }
            OwnSocket::Gone { since } => {
                let settled = since.saturating_add(SETTLE);
                Some(if observed.now < settled {
                    Step::Wait(Some(settled))
                } else {
                    Step::Restart(RestartReason::OwnSocketDeleted)
                })
            }
        }
    }
}
