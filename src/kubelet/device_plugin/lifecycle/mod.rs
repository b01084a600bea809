//! The life cycle of one resource's server: its next step is a pure function of its state and of
//! what is observed.
//!
//! It depends on levels, not on events, so a missed or doubled wake-up does no harm.

mod retry;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::host::socket_id::SocketId;
use crate::util::backoff::Backoff;
pub use retry::Retry;

/// How long a registered server waits for a ListAndWatch stream before it registers again. A
/// kubelet up to 1.36 can end the new stream together with the old one and does not dial again
/// (kubernetes/kubernetes#121994).
const FIRST_GRACE: Duration = Duration::from_secs(3);
/// The longest wait: it doubles with each registration in a row without a lasting stream.
const LAST_GRACE: Duration = Duration::from_secs(60);

/// The state of one resource's server.
///
/// ```text
///              bound                        registered
///   Down ─────────────────▶ Serving ─────────────────────────▶ Registered
///   ▲ ▲                        │  ▲                                 │
///   │ └─ bind failed           │  └─ Register failed                │
///   └──────────────────────────┴────────────────────────────────────┘
///     own socket gone or replaced            the same, or kubelet.sock replaced,
///                                            or no stream for the grace
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PluginState {
    /// No socket, no server.
    Down {
        /// When to bind again, and how often it has failed.
        retry: Retry,
        /// How long to wait for a stream after the next registration.
        grace: Backoff,
    },
    /// The server answers on its socket; the kubelet does not know it.
    Serving {
        /// The socket that was bound.
        own: SocketId,
        /// When to call Register again on the same kubelet socket, and how often it has failed.
        retry: Retry,
        /// The kubelet socket of the last attempt.
        last_tried: Option<SocketId>,
        /// How long to wait for a stream after the next registration.
        grace: Backoff,
    },
    /// The kubelet has accepted the registration.
    Registered {
        /// The socket that was bound.
        own: SocketId,
        /// The kubelet socket that it was registered on.
        kubelet: SocketId,
        /// How long to wait for a stream.
        grace: Backoff,
    },
}

/// What is observed at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed {
    /// The time since some origin.
    pub now: Duration,
    /// What is at the path of our socket.
    pub own: Option<SocketId>,
    /// What is at the path of the kubelet's socket; `None` also if there is no kubelet to register
    /// with.
    pub kubelet: Option<SocketId>,
    /// Since when no ListAndWatch stream is open; `None` while one is.
    pub no_stream_since: Option<Duration>,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Bind a fresh socket and serve on it.
    Bind,
    /// Call Register on this kubelet socket.
    Register(SocketId),
    /// End the streams, then the server, then remove its socket.
    Restart(RestartReason),
    /// Nothing, until something changes or this time has come.
    Wait(Option<Duration>),
}

/// Why a server is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RestartReason {
    /// Nothing is at the path of our socket.
    #[error("our socket was deleted")]
    OwnSocketDeleted,
    /// Something else is at the path of our socket.
    #[error("our socket was replaced")]
    OwnSocketReplaced,
    /// The kubelet's socket is not the one that we registered on.
    #[error("the kubelet has restarted: its socket is a new one")]
    KubeletRestarted,
    /// The kubelet has no ListAndWatch stream open.
    #[error("the kubelet has no ListAndWatch stream open for {} s", .0.as_secs())]
    NoStream(Duration),
}

impl Default for PluginState {
    fn default() -> Self {
        Self::Down { retry: Retry::default(), grace: first_grace() }
    }
}

impl PluginState {
    /// The next step.
    #[must_use]
    pub fn next(&self, observed: &Observed) -> Step {
        if let Some(why) = self.socket_lost(observed) {
            return Step::Restart(why);
        }
        match self {
            Self::Down { retry, .. } if observed.now < retry.at() => Step::Wait(Some(retry.at())),
            Self::Down { .. } => Step::Bind,
            Self::Serving { retry, last_tried, .. } => match observed.kubelet {
                None => Step::Wait(None),
                // Failures on the socket of an earlier kubelet do not delay a new one.
                Some(kubelet) if *last_tried != Some(kubelet) || observed.now >= retry.at() => {
                    Step::Register(kubelet)
                }
                Some(_) => Step::Wait(Some(retry.at())),
            },
            Self::Registered { kubelet, grace, .. } => {
                if observed.kubelet.is_some_and(|there| there != *kubelet) {
                    return Step::Restart(RestartReason::KubeletRestarted);
                }
                let Some(since) = observed.no_stream_since else { return Step::Wait(None) };
                let grace = grace.delay();
                let due = since.saturating_add(grace);
                if observed.now >= due {
                    Step::Restart(RestartReason::NoStream(grace))
                } else {
                    Step::Wait(Some(due))
                }
            }
        }
    }

    /// A fresh socket was bound and is served.
    #[must_use]
    pub fn bound(self, own: SocketId) -> Self {
        Self::Serving { own, retry: Retry::default(), last_tried: None, grace: self.grace() }
    }

    /// Binding failed.
    #[must_use]
    pub fn bind_failed(self, now: Duration, jitter: f64) -> Self {
        let grace = self.grace();
        let retry = match self {
            Self::Down { retry, .. } => retry,
            Self::Serving { .. } | Self::Registered { .. } => Retry::default(),
        };
        Self::Down { retry: retry.failed(now, jitter), grace }
    }

    /// Register on this kubelet socket was accepted.
    #[must_use]
    pub fn registered(self, on: SocketId) -> Self {
        match self {
            Self::Serving { own, grace, .. } => Self::Registered { own, kubelet: on, grace },
            other => other,
        }
    }

    /// Register on this kubelet socket failed.
    #[must_use]
    pub fn register_failed(self, on: SocketId, now: Duration, jitter: f64) -> Self {
        match self {
            Self::Serving { own, retry, last_tried, grace } => {
                let before = if last_tried == Some(on) { retry } else { Retry::default() };
                Self::Serving {
                    own,
                    retry: before.failed(now, jitter),
                    last_tried: Some(on),
                    grace,
                }
            }
            other => other,
        }
    }

    /// A stream has been open for longer than the first grace, which applies again from now on.
    #[must_use]
    pub fn stream_lasted(self) -> Self {
        match self {
            Self::Registered { own, kubelet, .. } => {
                Self::Registered { own, kubelet, grace: first_grace() }
            }
            other => other,
        }
    }

    /// Whether the first grace applies: the last registration was followed by a lasting stream.
    #[must_use]
    pub fn is_stable(&self) -> bool {
        self.grace().attempts() == 0
    }

    /// The server was ended for this reason.
    #[must_use]
    pub fn ended(self, why: RestartReason) -> Self {
        let mut grace = self.grace();
        match why {
            RestartReason::NoStream(_) => {
                grace.next_delay();
            }
            RestartReason::OwnSocketDeleted
            | RestartReason::OwnSocketReplaced
            | RestartReason::KubeletRestarted => grace.reset(),
        }
        Self::Down { retry: Retry::default(), grace }
    }

    fn grace(&self) -> Backoff {
        match self {
            Self::Down { grace, .. }
            | Self::Serving { grace, .. }
            | Self::Registered { grace, .. } => *grace,
        }
    }

    fn socket_lost(&self, observed: &Observed) -> Option<RestartReason> {
        let (Self::Serving { own, .. } | Self::Registered { own, .. }) = self else { return None };
        match observed.own {
            None => Some(RestartReason::OwnSocketDeleted),
            Some(there) if there != *own => Some(RestartReason::OwnSocketReplaced),
            Some(_) => None,
        }
    }
}

fn first_grace() -> Backoff {
    Backoff::new(FIRST_GRACE, LAST_GRACE)
}
