//! The results of a registration with the kubelet.

use std::time::Duration;

use tonic::{Code, Status};

/// How long a Register call may take. The kubelet dials back for up to 10 s before it answers
/// (pkg/kubelet/cm/devicemanager/plugin/v1beta1/client.go:131) and then asks for the options.
pub(super) const REGISTER_DEADLINE: Duration = Duration::from_secs(15);

/// The results of a registration, as a metric has them. "void" is one that was given up because a
/// socket was replaced.
pub const REGISTER_RESULTS: [&str; 5] = ["ok", "refused", "unreachable", "deadline", "void"];

/// Why a registration failed.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The path of the kubelet's socket cannot be dialled.
    #[error("the path of the kubelet's socket is not UTF-8")]
    Path,
    /// Nobody answers on the kubelet's socket.
    #[error("cannot connect to the kubelet")]
    Connect(#[source] tonic::transport::Error),
    /// The kubelet refused.
    #[error("the kubelet refused the registration: {} ({:?})", .0.message(), .0.code())]
    Refused(Status),
    /// The kubelet did not answer in time.
    #[error("the kubelet did not answer Register within {} s", REGISTER_DEADLINE.as_secs())]
    Deadline,
}

impl RegisterError {
    /// The gRPC code that the call is counted under.
    pub(super) fn code(&self) -> Code {
        match self {
            Self::Refused(status) => status.code(),
            Self::Deadline => Code::DeadlineExceeded,
            Self::Path | Self::Connect(_) => Code::Unavailable,
        }
    }

    /// Its result, one of [`REGISTER_RESULTS`].
    pub(super) fn result(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::Deadline => "deadline",
            Self::Path | Self::Connect(_) => "unreachable",
        }
    }
}
