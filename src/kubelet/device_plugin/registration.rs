//! How a resource stands with the kubelet, and the results of its registrations.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use status::error_chain::ErrorChain;
use tonic::{Code, Status};

use super::lifecycle::{KubeletStream, Observed, PluginState, Stage};
use crate::host::identity;

/// How long a Register call may take. The kubelet dials back for up to 10 s before it answers
/// (pkg/kubelet/cm/devicemanager/plugin/v1beta1/client.go:131) and then asks for the options.
pub(super) const REGISTER_DEADLINE: Duration = Duration::from_secs(15);

/// The results of a registration, as a metric has them. "broken" is a call that broke off without
/// an answer, "void" one that was given up because a socket was replaced.
pub const REGISTER_RESULTS: [&str; 6] =
    ["ok", "refused", "unreachable", "deadline", "broken", "void"];
/// For how long a kubelet that starts may refuse, and for how long one that restarts may be away,
/// before that is a warning.
const PATIENCE_WITH_REFUSALS: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a registration failed.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The path of the kubelet's socket cannot be dialled.
    #[error("the path of the kubelet's socket is not UTF-8")]
    Path,
    /// Nobody answers on the kubelet's socket.
    #[error("cannot connect to the kubelet at {}: {why}", .socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why, and what to do.
        why: String,
    },
    /// The kubelet refused.
    #[error("the kubelet refused the registration: {} ({:?})", .0.message(), .0.code())]
    Refused(Status),
    /// The kubelet's call back was refused by HTTP/2: kubelets before 1.26 put the socket's path
    /// into `:authority`, which is no authority (kubernetes/kubernetes#112597).
    #[error(
        "this kubelet is older than 1.26, and cannot use this plugin: upgrade it (it refused the \
         registration: {})",
        .0.message()
    )]
    TooOld(Status),
    /// The call broke off without an answer: it may have succeeded.
    #[error("the registration broke off: {} ({:?})", .0.message(), .0.code())]
    BrokenOff(Status),
    /// The kubelet did not answer in time: it may have succeeded, or still succeed.
    #[error("the kubelet did not answer Register within {} s", REGISTER_DEADLINE.as_secs())]
    Deadline,
}

impl RegisterError {
    /// The socket cannot be connected to.
    pub(super) fn connect(socket: &Path, error: &tonic::transport::Error) -> Self {
        let socket = socket.to_owned();
        Self::Connect { socket, why: unreachable_because(error) }
    }

    /// Why a call ended with this status.
    pub(super) fn of(status: Status) -> Self {
        // One that came from the kubelet has no source.
        if std::error::Error::source(&status).is_some() {
            Self::BrokenOff(status)
        } else if status.message().contains("PROTOCOL_ERROR") {
            Self::TooOld(status)
        } else {
            Self::Refused(status)
        }
    }

    /// Whether it may have succeeded, and if so whether the call broke off.
    pub(super) fn is_unanswered(&self) -> Option<bool> {
        match self {
            Self::Deadline => Some(false),
            Self::BrokenOff(_) => Some(true),
            Self::Path | Self::Connect { .. } | Self::Refused(_) | Self::TooOld(_) => None,
        }
    }

    /// How long it may last before it is a warning: a kubelet that this plugin `was_registered`
    /// with may be restarting.
    pub(super) fn patience(&self, was_registered: bool) -> Duration {
        match self {
            Self::Path | Self::TooOld(_) | Self::Deadline => Duration::ZERO,
            Self::Refused(_) => PATIENCE_WITH_REFUSALS,
            Self::Connect { .. } => patience_with_absence(was_registered),
            Self::BrokenOff(_) => PATIENCE,
        }
    }

    /// Its result, one of [`REGISTER_RESULTS`], and the gRPC code that the call is counted under.
    pub(super) fn result(&self) -> (&'static str, Code) {
        match self {
            Self::Refused(status) | Self::TooOld(status) => ("refused", status.code()),
            Self::BrokenOff(status) => ("broken", status.code()),
            Self::Deadline => ("deadline", Code::DeadlineExceeded),
            Self::Path | Self::Connect { .. } => ("unreachable", Code::Unavailable),
        }
    }
}

/// How long the kubelet's socket may be away or dead before that is a warning: a while for one that
/// restarts, and not at all at the first start.
pub(super) fn patience_with_absence(was_registered: bool) -> Duration {
    if was_registered { PATIENCE } else { Duration::ZERO }
}

/// Why a socket cannot be connected to, once, and what to do.
fn unreachable_because(error: &tonic::transport::Error) -> String {
    let mut source = std::error::Error::source(error);
    let mut cause = None;
    while let Some(error) = source {
        cause = cause.or_else(|| error.downcast_ref::<io::Error>());
        source = error.source();
    }
    match cause {
        Some(cause) => with_advice(cause),
        None => ErrorChain(error).to_string(),
    }
}

/// An error of a socket of the kubelet, and what to do.
pub(super) fn with_advice(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "{error}; this process is {}: run it as root, and look for denials of SELinux or \
             AppArmor in the node's audit log (ausearch -m avc)",
            identity::of_process()
        ),
        io::ErrorKind::ConnectionRefused => format!(
            "{error}; nobody listens on it: is the kubelet running (systemctl status kubelet)?"
        ),
        _ => error.to_string(),
    }
}

/// What is wrong with the path of the kubelet's socket, where no socket is seen.
pub(super) fn absent(socket: &Path) -> String {
    format!(
        "the kubelet's socket is not there: {}; is the kubelet running, and is its directory \
         mounted at this path?",
        socket.display()
    )
}

/// Which failures in a row are a warning: the first one after some patience, and then one for each
/// doubling of the time that they have lasted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Failures {
    /// How many.
    pub(super) count: u64,
    since: Option<Duration>,
    /// How long they had lasted at the last warning.
    warned: Option<Duration>,
}

impl Failures {
    /// One more, for which this patience applies. Returns whether to warn.
    pub(super) fn failed(&mut self, now: Duration, patience: Duration) -> bool {
        self.count += 1;
        let lasted = now.saturating_sub(*self.since.get_or_insert(now));
        let due = self.warned.map_or(patience, |warned| warned.max(PATIENCE).saturating_mul(2));
        let warn = lasted >= due;
        if warn {
            self.warned = Some(lasted);
        }
        warn
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
    /// or bind failed, and `absence` why the kubelet's socket is not seen.
    pub(super) fn update(
        &mut self,
        state: &PluginState,
        observed: &Observed,
        (failure, absence): (Option<&str>, Option<&str>),
        endpoint: Option<&str>,
        streams: usize,
    ) {
        let registered = matches!(state.stage, Stage::Registered { .. })
            && observed.stream == KubeletStream::Open;
        *self = Self {
            registered,
            since: if registered == self.registered { self.since } else { observed.now },
            problem: (!registered).then(|| problem(state, observed, failure, absence)),
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

fn problem(
    state: &PluginState,
    observed: &Observed,
    failure: Option<&str>,
    absence: Option<&str>,
) -> String {
    let because = failure.map(|failure| format!(": {failure}")).unwrap_or_default();
    match state.stage {
        Stage::Down { .. } => format!("no socket is bound{because}"),
        _ if observed.kubelet.is_none() => {
            absence.unwrap_or("the kubelet's socket is not there").to_owned()
        }
        Stage::Serving { .. } => {
            format!("the kubelet has not accepted the registration{because}")
        }
        Stage::Unanswered { .. } => {
            format!("the kubelet has not answered the registration{because}")
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
    use crate::kubelet::device_plugin::lifecycle::OwnSocket;

    const OURS: SocketId = SocketId::example(1);
    const KUBELET: SocketId = SocketId::example(2);

    #[test]
    fn registered_means_that_the_kubelet_watches() {
        let mut status = RegistrationStatus::default();
        let mut update = |state: &PluginState, seconds, stream| {
            let now = Duration::from_secs(seconds);
            let (own, kubelet) = (OwnSocket::There(OURS), Some(KUBELET));
            let observed = Observed { now, own, kubelet, stream };
            // Others watch all the time.
            status.update(state, &observed, (None, None), Some("a.sock"), 2);
            status.clone()
        };
        let has = |status: RegistrationStatus, text| {
            status.problem.is_some_and(|problem| problem.contains(text))
        };
        let (never, open) = (KubeletStream::Never, KubeletStream::Open);
        let ended = KubeletStream::Ended { since: Duration::from_secs(10) };
        let serving = PluginState::default().bound(OURS);
        let registered = serving.registered(KUBELET, Duration::from_secs(2));
        let unanswered = serving.unanswered(KUBELET, Duration::from_secs(2), false);
        assert!(has(update(&serving, 1, never), "not accepted"));
        assert!(has(update(&unanswered, 2, never), "not answered"));
        assert!(has(update(&registered, 2, never), "does not watch"));
        let status = update(&registered, 3, open);
        assert_eq!(
            (status.registered, status.since, status.problem),
            (true, Duration::from_secs(3), None)
        );
        assert_eq!(update(&registered, 9, open).since, Duration::from_secs(3), "so since then");
        assert!(!update(&registered, 10, ended).registered);
    }

    #[test]
    fn failures_are_a_warning_when_they_last_and_then_less_and_less_often() {
        let warned = |patience, times: &[u64]| {
            let mut failures = Failures::default();
            let mut warns = |time: &u64| failures.failed(Duration::from_secs(*time), patience);
            times.iter().copied().filter(|time| warns(time)).collect::<Vec<_>>()
        };
        let seconds: Vec<u64> = (100..300).collect();
        assert_eq!(warned(Duration::ZERO, &seconds), [100, 120, 140, 180, 260]);
        assert_eq!(warned(PATIENCE, &seconds), [110, 120, 140, 180, 260]);
    }

    #[test]
    fn a_permission_that_is_denied_is_told_once_with_the_user_and_what_to_do() {
        let error = io::Error::from(io::ErrorKind::PermissionDenied);
        let text = with_advice(&error);
        assert_eq!(text.matches("ermission denied").count(), 1, "{text}");
        for part in ["user ", "SELinux", "ausearch"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let socket = Path::new("/kubelet/kubelet.sock");
        let connect = RegisterError::Connect { socket: socket.to_owned(), why: text };
        assert!(connect.to_string().contains("the kubelet at /kubelet/kubelet.sock: "));
        // At the start at once; a kubelet that restarts is given a while.
        assert_eq!((connect.patience(false), connect.patience(true)), (Duration::ZERO, PATIENCE));
    }

    #[test]
    fn what_the_kubelet_said_differs_from_a_call_that_broke_off() {
        let refused = RegisterError::of(Status::unknown("the ResourceName is invalid"));
        assert_eq!((refused.result(), refused.is_unanswered()), (("refused", Code::Unknown), None));
        let mut broken = Status::unavailable("error reading a body from connection");
        broken.set_source(std::sync::Arc::new(std::io::Error::other("broken pipe")));
        let broken = RegisterError::of(broken);
        assert_eq!(broken.result(), ("broken", Code::Unavailable));
        assert_eq!(broken.is_unanswered(), Some(true));
        // In the words of kubelet and grpc-go.
        let old = RegisterError::of(Status::unknown(
            "failed to get device plugin options: rpc error: code = Internal desc = stream \
             terminated by RST_STREAM with error code: PROTOCOL_ERROR",
        ));
        assert!(old.to_string().starts_with("this kubelet is older than 1.26"), "{old}");
        assert_eq!((old.result().0, old.patience(true)), ("refused", Duration::ZERO));
    }
}
