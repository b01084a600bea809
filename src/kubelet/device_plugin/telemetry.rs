//! What the kubelet edge counts of its own work, and how each resource stands with the kubelet.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tonic::{Code, Status};

use super::allocations::Allocations;
use super::lifecycle::{Seen, State};
use super::notes::Notes;
use super::wire::RegisterError;
use crate::util::counters::{Counts, Distribution, Histogram};
use crate::util::error_chain::ErrorChain;

/// Upper bounds of the duration of a call.
const BOUNDS: &[Duration] = &[
    Duration::from_micros(50),
    Duration::from_micros(250),
    Duration::from_millis(1),
    Duration::from_millis(10),
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(10),
];
/// How many happenings of one resource are kept.
const KEPT: usize = 32;
/// gRPC's codes, from 0 to 16.
const CODES: usize = 17;

/// A unary call between the kubelet and us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// Ours to the kubelet, until its answer; it dials back meanwhile.
    Register,
    /// The kubelet's: the time that we take over it, without the transport.
    GetDevicePluginOptions,
    /// The same.
    GetPreferredAllocation,
    /// The same.
    Allocate,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Register,
        Self::GetDevicePluginOptions,
        Self::GetPreferredAllocation,
        Self::Allocate,
    ];

    /// Its name in the protocol.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Register => "Register",
            Self::GetDevicePluginOptions => "GetDevicePluginOptions",
            Self::GetPreferredAllocation => "GetPreferredAllocation",
            Self::Allocate => "Allocate",
        }
    }
}

/// How long calls took, by method and code. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Calls(Arc<[[OnceLock<Histogram>; CODES]; Method::ALL.len()]>);

impl Calls {
    /// The durations of each method and code that came up. Of the code OK always.
    #[must_use]
    pub fn all(&self) -> Vec<(Method, &'static str, Distribution)> {
        let mut all = Vec::new();
        for method in Method::ALL {
            for code in (0..CODES).map(code_at) {
                let histogram = self.cell(method, code).get();
                match (histogram, code) {
                    (Some(histogram), _) => {
                        all.push((method, name(code), histogram.distribution()))
                    }
                    (None, Code::Ok) => {
                        all.push((method, name(code), Histogram::new(BOUNDS).distribution()))
                    }
                    (None, _) => {}
                }
            }
        }
        all
    }

    /// Answers a call and counts how long that took.
    pub(super) fn time<T>(
        &self,
        method: Method,
        answer: impl FnOnce() -> Result<T, Status>,
    ) -> Result<T, Status> {
        let began = std::time::Instant::now();
        let answer = answer();
        self.took(method, answer.as_ref().err().map_or(Code::Ok, Status::code), began.elapsed());
        answer
    }

    fn took(&self, method: Method, code: Code, time: Duration) {
        self.cell(method, code).get_or_init(|| Histogram::new(BOUNDS)).observe(time);
    }

    fn cell(&self, method: Method, code: Code) -> &OnceLock<Histogram> {
        &self.0[method as usize][code as usize]
    }
}

fn code_at(number: usize) -> Code {
    Code::from_i32(i32::try_from(number).unwrap_or(2))
}

/// gRPC's own name of a code, as its libraries write it.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

/// The counters of one resource. Clones share them.
#[derive(Debug, Clone)]
pub struct Telemetry(Arc<Counters>);

#[derive(Debug)]
struct Counters {
    calls: Calls,
    allocations: Allocations,
    notes: Notes,
    registrations: Counts<&'static str>,
    allocated: AtomicU64,
    refused: AtomicU64,
    updates: AtomicU64,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    standing: Standing,
    /// Why the last registration or bind failed.
    failure: Option<String>,
    happened: VecDeque<Happened>,
}

/// How a resource stands with the kubelet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether the kubelet accepted the registration and watches.
    pub registered: bool,
    /// Since when that is so, or not so, counted from the start of the process.
    pub since: Duration,
    /// What is missing.
    pub problem: Option<String>,
    /// The base name of the socket that is served.
    pub endpoint: Option<String>,
    /// ListAndWatch streams that are open.
    pub streams: usize,
}

/// Something that happened between us and the kubelet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    /// When, counted from the start of the process.
    pub at: Duration,
    /// Whether it is a registration that the kubelet accepted; otherwise the server was ended, to
    /// begin anew.
    pub registered: bool,
    /// What it was.
    pub message: String,
}

/// What can come of a registration.
pub const RESULTS: [&str; 5] = ["ok", "refused", "unreachable", "deadline", "void"];

impl Telemetry {
    /// Counters of a resource, that counts its calls among `calls` and tells of its allocations.
    #[must_use]
    pub fn new(calls: Calls, allocations: Allocations) -> Self {
        Self(Arc::new(Counters {
            calls,
            allocations,
            notes: Notes::default(),
            registrations: Counts::new(RESULTS.len()),
            allocated: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            updates: AtomicU64::new(0),
            kept: Mutex::default(),
        }))
    }

    /// Registrations by result, one of [`RESULTS`].
    #[must_use]
    pub fn registrations(&self) -> BTreeMap<&'static str, u64> {
        self.0.registrations.all()
    }

    /// Containers that were given their devices, and containers that were refused.
    #[must_use]
    pub fn allocations(&self) -> (u64, u64) {
        (self.0.allocated.load(Relaxed), self.0.refused.load(Relaxed))
    }

    /// Lists of devices that were sent, over all streams.
    #[must_use]
    pub fn updates(&self) -> u64 {
        self.0.updates.load(Relaxed)
    }

    /// What was odd about preferred allocations.
    #[must_use]
    pub fn notes(&self) -> &Notes {
        &self.0.notes
    }

    /// How the resource stands with the kubelet.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.lock().standing.clone()
    }

    /// What happened last, the oldest first.
    #[must_use]
    pub fn happened(&self) -> Vec<Happened> {
        self.lock().happened.iter().cloned().collect()
    }

    pub(super) fn calls(&self) -> &Calls {
        &self.0.calls
    }

    pub(super) fn listener(&self) -> &Allocations {
        &self.0.allocations
    }

    pub(super) fn allocated(&self, granted: bool) {
        let counter = if granted { &self.0.allocated } else { &self.0.refused };
        counter.fetch_add(1, Relaxed);
    }

    pub(super) fn updated(&self) {
        self.0.updates.fetch_add(1, Relaxed);
    }

    /// What is held and seen now, and where it is served.
    pub(super) fn looked(
        &self,
        state: &State,
        seen: &Seen,
        endpoint: Option<&str>,
        streams: usize,
    ) {
        let mut kept = self.lock();
        let registered =
            matches!(state, State::Registered { .. }) && seen.no_stream_since.is_none();
        let since =
            if registered == kept.standing.registered { kept.standing.since } else { seen.now };
        let problem = (!registered).then(|| problem(state, seen, kept.failure.as_deref()));
        let endpoint = endpoint.map(str::to_owned);
        kept.standing = Standing { registered, since, problem, endpoint, streams };
    }

    /// A Register call has ended.
    pub(super) fn called(
        &self,
        result: Option<&Result<(), RegisterError>>,
        took: Duration,
        now: Duration,
        endpoint: &str,
    ) {
        self.0.registrations.count(match result {
            Some(Ok(())) => "ok",
            Some(Err(RegisterError::Refused(_))) => "refused",
            Some(Err(RegisterError::Deadline)) => "deadline",
            Some(Err(RegisterError::Path | RegisterError::Connect(_))) => "unreachable",
            None => "void",
        });
        let code = match result {
            Some(Ok(())) => Code::Ok,
            Some(Err(RegisterError::Refused(status))) => status.code(),
            Some(Err(RegisterError::Deadline)) => Code::DeadlineExceeded,
            Some(Err(RegisterError::Path | RegisterError::Connect(_))) => Code::Unavailable,
            None => Code::Cancelled,
        };
        self.0.calls.took(Method::Register, code, took);
        match result {
            Some(Ok(())) => {
                self.lock().failure = None;
                let message = format!("the kubelet accepted the registration of {endpoint}");
                self.happens(Happened { at: now, registered: true, message });
            }
            Some(Err(error)) => self.failed(error),
            None => {}
        }
    }

    /// A step failed.
    pub(super) fn failed(&self, error: &dyn std::error::Error) {
        self.lock().failure = Some(ErrorChain(error).to_string());
    }

    pub(super) fn restarts(&self, now: Duration, why: &super::lifecycle::Why) {
        {
            let mut kept = self.lock();
            let since = if kept.standing.registered { now } else { kept.standing.since };
            kept.standing = Standing {
                since,
                problem: Some(format!("the server is started anew: {why}")),
                ..Standing::default()
            };
        }
        self.happens(Happened {
            at: now,
            registered: false,
            message: format!("the server is started anew: {why}"),
        });
    }

    fn happens(&self, happened: Happened) {
        let mut kept = self.lock();
        if kept.happened.len() == KEPT {
            kept.happened.pop_front();
        }
        kept.happened.push_back(happened);
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn problem(state: &State, seen: &Seen, failure: Option<&str>) -> String {
    let because = failure.map(|failure| format!(": {failure}")).unwrap_or_default();
    match state {
        State::Down { .. } => format!("no socket is bound{because}"),
        State::Serving { .. } if seen.kubelet.is_none() => {
            "the kubelet's socket is not there".to_owned()
        }
        State::Serving { .. } => format!("the kubelet has not accepted the registration{because}"),
        State::Registered { .. } => {
            "the kubelet accepted the registration and does not watch".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::device_plugin::socket::SocketId;

    const OURS: SocketId = SocketId::example(1);
    const KUBELET: SocketId = SocketId::example(2);

    #[test]
    fn registered_means_that_the_kubelet_watches() {
        let telemetry = Telemetry::new(Calls::default(), Allocations::default());
        let look = |state: &State, seconds, streams: usize| {
            let now = Duration::from_secs(seconds);
            let no_stream_since = (streams == 0).then_some(now);
            let seen = Seen { now, own: Some(OURS), kubelet: Some(KUBELET), no_stream_since };
            telemetry.looked(state, &seen, Some("a.sock"), streams);
            telemetry.standing()
        };
        let serving = State::default().bound(OURS);
        let registered = serving.clone().registered(KUBELET);
        assert!(
            look(&serving, 1, 1).problem.is_some_and(|problem| problem.contains("not accepted"))
        );
        assert!(
            look(&registered, 2, 0)
                .problem
                .is_some_and(|problem| problem.contains("does not watch"))
        );
        let standing = look(&registered, 3, 1);
        assert_eq!(
            (standing.registered, standing.since, standing.problem),
            (true, Duration::from_secs(3), None)
        );
        assert_eq!(
            look(&registered, 9, 1).since,
            Duration::from_secs(3),
            "it has been so since then"
        );
        assert!(!look(&registered, 10, 0).registered);
    }

    #[test]
    fn a_call_is_counted_under_its_method_and_code() {
        let calls = Calls::default();
        assert!(calls.time(Method::Allocate, || Ok(())).is_ok());
        assert!(
            calls.time(Method::Allocate, || Err::<(), _>(Status::invalid_argument("no"))).is_err()
        );
        let all = calls.all();
        let seen: Vec<_> = all
            .iter()
            .filter(|(.., seen)| seen.count > 0)
            .map(|(method, code, _)| (method.name(), *code))
            .collect();
        assert_eq!(seen, [("Allocate", "OK"), ("Allocate", "InvalidArgument")]);
        assert_eq!(all.len(), Method::ALL.len() + 1, "OK is there from the start");
    }
}
