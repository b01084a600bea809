//! How a resource stands with the kubelet, and the results of its registrations.

use std::time::Duration;

use tonic::{Code, Status};

use super::lifecycle::{Observed, PluginState, Stage};

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
    /// Its result, one of [`REGISTER_RESULTS`], and the gRPC code that the call is counted under.
    pub(super) fn result(&self) -> (&'static str, Code) {
        match self {
            Self::Refused(status) => ("refused", status.code()),
            Self::Deadline => ("deadline", Code::DeadlineExceeded),
            Self::Path | Self::Connect(_) => ("unreachable", Code::Unavailable),
        }
    }
}

/// How a resource stands with the kubelet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistrationStatus {
    /// Whether the kubelet accepted the registration and has a ListAndWatch stream open.
    pub registered: bool,
    /// When that became so, or stopped being so, since the start of the process.
    pub since: Duration,
    /// What is missing.
    pub problem: Option<String>,
    /// The base name of the socket that is served.
    pub endpoint: Option<String>,
    /// ListAndWatch streams that are open.
    pub streams: usize,
}

impl RegistrationStatus {
    /// The status that follows from `state` and `observed`; `failure` is why the last registration
    /// or bind failed.
    pub(super) fn update(
        &mut self,
        state: &PluginState,
        observed: &Observed,
        failure: Option<&str>,
        endpoint: Option<&str>,
        streams: usize,
    ) {
        let registered =
            matches!(state.stage, Stage::Registered { .. }) && observed.no_stream_since.is_none();
        *self = Self {
            registered,
            since: if registered == self.registered { self.since } else { observed.now },
            problem: (!registered).then(|| problem(state, observed, failure)),
            endpoint: endpoint.map(str::to_owned),
            streams,
        };
    }

    /// The status while the server is restarted for this reason.
    pub(super) fn restarting(&mut self, now: Duration, problem: String) {
        let since = if self.registered { now } else { self.since };
        *self = Self { since, problem: Some(problem), ..Self::default() };
    }
}

fn problem(state: &PluginState, observed: &Observed, failure: Option<&str>) -> String {
    let because = failure.map(|failure| format!(": {failure}")).unwrap_or_default();
    match state.stage {
        Stage::Down { .. } => format!("no socket is bound{because}"),
        Stage::Serving { .. } if observed.kubelet.is_none() => {
            "the kubelet's socket is not there".to_owned()
        }
        Stage::Serving { .. } => {
            format!("the kubelet has not accepted the registration{because}")
        }
        Stage::Registered { .. } => {
            "the kubelet accepted the registration and does not watch".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::socket_id::SocketId;

    const OURS: SocketId = SocketId::example(1);
    const KUBELET: SocketId = SocketId::example(2);

    #[test]
    fn registered_means_that_the_kubelet_watches() {
        let mut status = RegistrationStatus::default();
        let mut update = |state: &PluginState, seconds, streams: usize| {
            let now = Duration::from_secs(seconds);
            let no_stream_since = (streams == 0).then_some(now);
            let observed =
                Observed { now, own: Some(OURS), kubelet: Some(KUBELET), no_stream_since };
            status.update(state, &observed, None, Some("a.sock"), streams);
            status.clone()
        };
        let has = |status: RegistrationStatus, text| {
            status.problem.is_some_and(|problem| problem.contains(text))
        };
        let serving = PluginState::default().bound(OURS);
        let registered = serving.registered(KUBELET);
        assert!(has(update(&serving, 1, 1), "not accepted"));
        assert!(has(update(&registered, 2, 0), "does not watch"));
        let status = update(&registered, 3, 1);
        assert_eq!(
            (status.registered, status.since, status.problem),
            (true, Duration::from_secs(3), None)
        );
        assert_eq!(update(&registered, 9, 1).since, Duration::from_secs(3), "so since then");
        assert!(!update(&registered, 10, 0).registered);
    }
}
