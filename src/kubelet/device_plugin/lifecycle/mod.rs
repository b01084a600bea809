//! The life cycle of one resource's server: its next step is a pure function of its state and of
//! what is observed.
//!
//! It depends on levels, not on events, so a missed or doubled wake-up does no harm.

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::host::socket_id::SocketId;
use crate::util::backoff::Backoff;

/// How long a registered server waits for a ListAndWatch stream before it registers again. A
/// kubelet up to 1.36 can end the new stream together with the old one and does not dial again
/// (kubernetes/kubernetes#121994).
const FIRST_GRACE: Duration = Duration::from_secs(3);
/// The longest wait: it doubles with each registration in a row without a lasting stream.
const LAST_GRACE: Duration = Duration::from_secs(60);
/// The first pause. It is short because the kubelet creates its socket a moment before it listens
/// on it.
const FIRST_RETRY: Duration = Duration::from_millis(2);
/// The longest pause.
const LAST_RETRY: Duration = Duration::from_secs(10);

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PluginState {
    /// How far it is.
    pub stage: Stage,
    /// How long to wait for a stream after a registration.
    grace: Backoff,
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
    /// The kubelet has accepted the registration.
    Registered {
        /// The socket that was bound.
        own: SocketId,
        /// The kubelet socket that it was registered on.
        kubelet: SocketId,
    },
}

/// When to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    backoff: Backoff,
    at: Duration,
}

impl Retry {
    /// How often in a row it has failed.
    #[must_use]
    pub fn failures(self) -> u32 {
        self.backoff.attempts()
    }

    /// One more failure. `jitter` from 0 to 1 keeps the plugins of many resources from calling at
    /// the same time.
    #[must_use]
    pub fn failed(mut self, now: Duration, jitter: f64) -> Self {
        self.at = now.saturating_add(self.backoff.next_delay_with_jitter(jitter));
        self
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self { backoff: Backoff::new(FIRST_RETRY, LAST_RETRY), at: Duration::ZERO }
    }
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
        let stage = Stage::Down { retry: Retry::default() };
        Self { stage, grace: Backoff::new(FIRST_GRACE, LAST_GRACE) }
    }
}

impl PluginState {
    /// The next step.
    #[must_use]
    pub fn next(&self, observed: &Observed) -> Step {
        if let Some(why) = self.socket_lost(observed) {
            return Step::Restart(why);
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
            Stage::Registered { kubelet, .. } => {
                if observed.kubelet.is_some_and(|there| there != kubelet) {
                    return Step::Restart(RestartReason::KubeletRestarted);
                }
                let Some(since) = observed.no_stream_since else { return Step::Wait(None) };
                let grace = self.grace.delay();
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
        let stage = Stage::Serving { own, retry: Retry::default(), last_tried: None };
        Self { stage, ..self }
    }

    /// Binding failed.
    #[must_use]
    pub fn bind_failed(self, now: Duration, jitter: f64) -> Self {
        let retry = match self.stage {
            Stage::Down { retry } => retry,
            Stage::Serving { .. } | Stage::Registered { .. } => Retry::default(),
        };
        Self { stage: Stage::Down { retry: retry.failed(now, jitter) }, ..self }
    }

    /// Register on this kubelet socket was accepted.
    #[must_use]
    pub fn registered(mut self, on: SocketId) -> Self {
        if let Stage::Serving { own, .. } = self.stage {
            self.stage = Stage::Registered { own, kubelet: on };
        }
        self
    }

    /// Register on this kubelet socket failed.
    #[must_use]
    pub fn register_failed(mut self, on: SocketId, now: Duration, jitter: f64) -> Self {
        if let Stage::Serving { retry, last_tried, .. } = &mut self.stage {
            let before = if *last_tried == Some(on) { *retry } else { Retry::default() };
            *retry = before.failed(now, jitter);
            *last_tried = Some(on);
        }
        self
    }

    /// A stream has been open for longer than the first grace, which applies again from now on.
    #[must_use]
    pub fn stream_lasted(mut self) -> Self {
        if matches!(self.stage, Stage::Registered { .. }) {
            self.grace.reset();
        }
        self
    }

    /// Whether the first grace applies: the last registration was followed by a lasting stream.
    #[must_use]
    pub fn is_stable(&self) -> bool {
        self.grace.attempts() == 0
    }

    /// The server was ended for this reason.
    #[must_use]
    pub fn ended(mut self, why: RestartReason) -> Self {
        match why {
            RestartReason::NoStream(_) => drop(self.grace.next_delay()),
            RestartReason::OwnSocketDeleted
            | RestartReason::OwnSocketReplaced
            | RestartReason::KubeletRestarted => self.grace.reset(),
        }
        Self { stage: Stage::Down { retry: Retry::default() }, ..self }
    }

    fn socket_lost(&self, observed: &Observed) -> Option<RestartReason> {
        let (Stage::Serving { own, .. } | Stage::Registered { own, .. }) = self.stage else {
            return None;
        };
        match observed.own {
            None => Some(RestartReason::OwnSocketDeleted),
            Some(there) if there != own => Some(RestartReason::OwnSocketReplaced),
            Some(_) => None,
        }
    }
}
