//! What the server of one resource does next: a pure function of what it holds and what it sees.
//!
//! It looks at levels, not at events, so a missed or doubled wake-up does no harm.

mod retry;
#[cfg(test)]
mod tests;

use std::time::Duration;

use super::socket::SocketId;
use crate::util::backoff::Backoff;
pub use retry::Retry;

/// How long a registered server waits for a ListAndWatch stream before it registers anew. A kubelet
/// up to 1.36 can end the new stream together with the old one and never dials again
/// (kubernetes/kubernetes#121994).
const FIRST_GRACE: Duration = Duration::from_secs(3);
/// The grace doubles with each registration in a row that no stream lasted after, up to this.
const LAST_GRACE: Duration = Duration::from_secs(60);

/// How the server of one resource stands.
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
pub enum State {
    /// No socket, no server.
    Down {
        /// When binding may be tried, and how often it has failed.
        retry: Retry,
        /// How long to wait for a stream after the next registration.
        grace: Backoff,
    },
    /// The server answers on its socket; the kubelet does not know it.
    Serving {
        /// The socket that was bound.
        own: SocketId,
        /// When Register may be tried again on the same kubelet socket, and how often it has
        /// failed.
        retry: Retry,
        /// The kubelet socket of the last try.
        tried: Option<SocketId>,
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

/// What there is to see at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The time, since some origin.
    pub now: Duration,
    /// What is at the path of our socket.
    pub own: Option<SocketId>,
    /// What is at the path of the kubelet's socket; `None` also if there is no kubelet to register
    /// with.
    pub kubelet: Option<SocketId>,
    /// Since when no ListAndWatch stream is open; `None` while one is.
    pub no_stream_since: Option<Duration>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Bind a fresh socket and serve on it.
    Bind,
    /// Call Register on this kubelet socket.
    Register(SocketId),
    /// End the streams, then the server, then remove its socket.
    Restart(Why),
    /// Nothing, until something changes or this time has come.
    Wait(Option<Duration>),
}

/// Why a server is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Nothing is at the path of our socket.
    #[error("our socket was deleted")]
    OwnSocketDeleted,
    /// Something else is at the path of our socket.
    #[error("our socket was replaced")]
    OwnSocketReplaced,
    /// The kubelet's socket is not the one that we registered on.
    #[error("the kubelet has restarted: its socket is a new one")]
    KubeletRestarted,
    /// The kubelet does not watch.
    #[error("the kubelet has no ListAndWatch stream open for {} s", .0.as_secs())]
    NoStream(Duration),
}

impl Default for State {
    fn default() -> Self {
        Self::Down { retry: Retry::default(), grace: first_grace() }
    }
}

impl State {
    /// The next step.
    #[must_use]
    pub fn next(&self, seen: &Seen) -> Step {
        if let Some(why) = self.lost_socket(seen) {
            return Step::Restart(why);
        }
        match self {
            Self::Down { retry, .. } if seen.now < retry.at() => Step::Wait(Some(retry.at())),
            Self::Down { .. } => Step::Bind,
            Self::Serving { retry, tried, .. } => match seen.kubelet {
                None => Step::Wait(None),
                // A kubelet socket that was not tried yet owes nothing to failures on the one
                // before.
                Some(kubelet) if *tried != Some(kubelet) || seen.now >= retry.at() => {
                    Step::Register(kubelet)
                }
                Some(_) => Step::Wait(Some(retry.at())),
            },
            Self::Registered { kubelet, grace, .. } => {
                if seen.kubelet.is_some_and(|there| there != *kubelet) {
                    return Step::Restart(Why::KubeletRestarted);
                }
                let Some(since) = seen.no_stream_since else { return Step::Wait(None) };
                let grace = grace.delay();
                let due = since.saturating_add(grace);
                if seen.now >= due {
                    Step::Restart(Why::NoStream(grace))
                } else {
                    Step::Wait(Some(due))
                }
            }
        }
    }

    /// A fresh socket was bound and is served.
    #[must_use]
    pub fn bound(self, own: SocketId) -> Self {
        Self::Serving { own, retry: Retry::default(), tried: None, grace: self.grace() }
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
            Self::Serving { own, retry, tried, grace } => {
                let before = if tried == Some(on) { retry } else { Retry::default() };
                Self::Serving { own, retry: before.failed(now, jitter), tried: Some(on), grace }
            }
            other => other,
        }
    }

    /// A stream has been open for longer than the first grace: what came before is forgotten.
    #[must_use]
    pub fn settled(self) -> Self {
        match self {
            Self::Registered { own, kubelet, .. } => {
                Self::Registered { own, kubelet, grace: first_grace() }
            }
            other => other,
        }
    }

    /// Whether there is nothing to forget: no registration in a row without a lasting stream.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.grace().attempts() == 0
    }

    /// The server was ended for this reason.
    #[must_use]
    pub fn ended(self, why: Why) -> Self {
        let mut grace = self.grace();
        match why {
            Why::NoStream(_) => {
                grace.next_delay();
            }
            Why::OwnSocketDeleted | Why::OwnSocketReplaced | Why::KubeletRestarted => grace.reset(),
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

    fn lost_socket(&self, seen: &Seen) -> Option<Why> {
        let (Self::Serving { own, .. } | Self::Registered { own, .. }) = self else { return None };
        match seen.own {
            None => Some(Why::OwnSocketDeleted),
            Some(there) if there != *own => Some(Why::OwnSocketReplaced),
            Some(_) => None,
        }
    }
}

fn first_grace() -> Backoff {
    Backoff::new(FIRST_GRACE, LAST_GRACE)
}
