//! What is observed of a resource's server, and what can be done about it.

use std::time::Duration;

use crate::host::socket_id::SocketId;

/// What is observed at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed {
    /// The time since some origin.
    pub now: Duration,
    /// What is at the path of our socket.
    pub own: OwnSocket,
    /// What is at the path of the kubelet's socket; `None` also if there is no kubelet to register
    /// with.
    pub kubelet: Option<SocketId>,
    /// The ListAndWatch stream of the kubelet.
    pub stream: KubeletStream,
}

/// What is at the path of our socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnSocket {
    /// This file.
    There(SocketId),
    /// Nothing.
    Gone {
        /// Since when.
        since: Duration,
    },
}

/// The ListAndWatch stream on the connection that the kubelet made in answer to a registration of
/// this socket. The streams of others are none of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KubeletStream {
    /// It has opened none on this socket.
    Never,
    /// It is open.
    Open,
    /// It was open.
    Ended {
        /// When it was first seen to have ended.
        since: Duration,
    },
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Bind a fresh socket and serve on it.
    Bind,
    /// Call Register on this kubelet socket.
    Register(SocketId),
    /// Take the registration that was not answered as accepted.
    Adopt,
    /// End the streams, then the server; its socket is removed before.
    Restart(RestartReason),
    /// Nothing, until something changes or this time has come.
    Wait(Option<Duration>),
}

/// Why a server is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RestartReason {
    /// Nothing is at the path of our socket, and the kubelet's is as it was.
    #[error("our socket was deleted")]
    OwnSocketDeleted,
    /// Something else is at the path of our socket.
    #[error("our socket was replaced")]
    OwnSocketReplaced,
    /// The kubelet's socket is not the one that we registered on: a kubelet that starts removes
    /// every socket in the directory, ours too, and then makes its own
    /// (pkg/kubelet/cm/devicemanager/manager.go:192-224).
    #[error("the kubelet has restarted")]
    KubeletRestarted,
    /// The kubelet accepted a registration and opened no stream.
    #[error("the kubelet has opened no ListAndWatch stream for {} s", .0.as_secs())]
    NoStream(Duration),
    /// The stream that the kubelet had open has ended, and its socket is as it was.
    #[error("the kubelet's ListAndWatch stream has ended")]
    StreamEnded,
    /// The kubelet did not answer in time. A late success would bind it to this socket.
    #[error("the kubelet has not answered the registration of this socket")]
    Unanswered,
    /// The call broke off. It may have succeeded, as with [`Self::Unanswered`].
    #[error("the registration of this socket broke off without an answer")]
    BrokenOff,
}
