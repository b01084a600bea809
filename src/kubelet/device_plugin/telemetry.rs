//! What a resource counts and sends of its work with the kubelet, its status, and its last events.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use device::allocation::Note;
use device::names::ResourceName;
use status::error_chain::ErrorChain;
use tonic::Code;
use tracing::{info, warn};

use super::allocated::{AllocateOutcome, OutcomeSender};
use super::calls::{CallDurations, Method};
use super::lifecycle::{Observed, PluginState, RestartReason};
use super::registration::{REGISTER_RESULTS, RegisterError, RegistrationStatus};
use crate::util::change_signal::ChangeSignal;
use crate::util::counters::Counts;
use crate::util::lock;
use crate::util::log_rate_limit::LogRateLimit;

/// How many events of one resource are kept.
const EVENTS: usize = 32;
/// Reasons of notes that are counted: more than there are.
const REASONS: usize = 64;

/// The telemetry of one resource. Clones share it.
#[derive(Debug, Clone)]
pub struct PluginTelemetry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    calls: CallDurations,
    /// Where the outcomes of Allocate calls are sent.
    outcomes: Option<OutcomeSender>,
    notes: Counts<&'static str>,
    note_limit: LogRateLimit<&'static str>,
    registrations: Counts<&'static str>,
    allocated: AtomicU64,
    refused: AtomicU64,
    lists: AtomicU64,
    current: Mutex<Current>,
    changes: ChangeSignal,
}

#[derive(Debug, Default)]
struct Current {
    status: RegistrationStatus,
    /// Why the last registration or bind failed.
    failure: Option<String>,
    /// The oldest first.
    events: VecDeque<RegistrationEvent>,
    /// When the kubelet last ended its stream, though it went on itself.
    stream_ended: Option<Duration>,
}

/// A registration, or its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrationEvent {
    /// When, since the start of the process.
    pub at: Duration,
    /// Whether the kubelet accepted a registration; otherwise the server is restarted.
    pub registered: bool,
    /// The event in words.
    pub message: String,
}

impl PluginTelemetry {
    /// The telemetry of a resource that counts its calls in `calls` and sends the outcomes of its
    /// allocations to `outcomes`, if they are to be logged. `changes` is told when the resource
    /// stands otherwise with the kubelet.
    #[must_use]
    pub fn new(
        calls: CallDurations,
        outcomes: Option<OutcomeSender>,
        changes: ChangeSignal,
    ) -> Self {
        Self(Arc::new(Inner {
            calls,
            outcomes,
            notes: Counts::new(REASONS),
            note_limit: LogRateLimit::new(),
            registrations: Counts::new(REGISTER_RESULTS.len()),
            allocated: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            lists: AtomicU64::new(0),
            current: Mutex::default(),
            changes,
        }))
    }

    /// Registrations by result, one of [`REGISTER_RESULTS`].
    #[must_use]
    pub fn registrations(&self) -> BTreeMap<&'static str, u64> {
        self.0.registrations.all()
    }

    /// Containers that were given their devices, and containers that were refused.
    #[must_use]
    pub fn allocations(&self) -> (u64, u64) {
        (self.0.allocated.load(Relaxed), self.0.refused.load(Relaxed))
    }

    /// Device lists that were sent, over all streams.
    #[must_use]
    pub fn lists(&self) -> u64 {
        self.0.lists.load(Relaxed)
    }

    /// Unusual preferred allocations by reason.
    #[must_use]
    pub fn notes(&self) -> BTreeMap<&'static str, u64> {
        self.0.notes.all()
    }

    /// How the resource stands with the kubelet.
    #[must_use]
    pub fn status(&self) -> RegistrationStatus {
        lock(&self.0.current).status.clone()
    }

    /// The last events, the oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<RegistrationEvent> {
        lock(&self.0.current).events.iter().cloned().collect()
    }

    pub(super) fn calls(&self) -> &CallDurations {
        &self.0.calls
    }

    /// Passes on what came of an Allocate call. It never waits.
    pub(super) fn allocated(&self, outcome: AllocateOutcome) {
        if let Some(sender) = &self.0.outcomes {
            sender.send(outcome);
        }
    }

    /// Counts an unusual preferred allocation and logs it, unless its reason was logged within the
    /// last minute.
    pub(super) fn note(&self, resource: &ResourceName, note: &Note) {
        let reason = note.reason();
        self.0.notes.count(reason);
        let Some(suppressed) = self.0.note_limit.allow_key(reason) else { return };
        if matches!(note, Note::SpreadDoubled { .. }) {
            warn!(%resource, reason, suppressed, "a request could not be spread: {note}");
        } else {
            info!(%resource, reason, suppressed, "the kubelet was answered as well as could be: \
                {note}");
        }
    }

    pub(super) fn count_allocation(&self, granted: bool) {
        let counter = if granted { &self.0.allocated } else { &self.0.refused };
        counter.fetch_add(1, Relaxed);
    }

    pub(super) fn count_list(&self) {
        self.0.lists.fetch_add(1, Relaxed);
    }

    /// Takes over the current state.
    pub(super) fn update(
        &self,
        state: &PluginState,
        observed: &Observed,
        absence: Option<&str>,
        endpoint: Option<&str>,
        streams: usize,
    ) {
        let Current { status, failure, .. } = &mut *lock(&self.0.current);
        let before = status.clone();
        status.update(state, observed, (failure.as_deref(), absence), endpoint, streams);
        if *status != before {
            self.0.changes.notify();
        }
    }

    /// When the kubelet last ended its stream, though it went on itself, since the start of the
    /// process.
    #[must_use]
    pub fn stream_ended(&self) -> Option<Duration> {
        lock(&self.0.current).stream_ended
    }

    /// A Register call has ended; `None` is one that was given up because a socket was replaced.
    pub(super) fn register_ended(
        &self,
        result: Option<&Result<(), RegisterError>>,
        took: Duration,
        now: Duration,
        endpoint: &str,
    ) {
        let (label, code) = match result {
            Some(Ok(())) => ("ok", Code::Ok),
            Some(Err(error)) => error.result(),
            None => ("void", Code::Cancelled),
        };
        self.0.registrations.count(label);
        self.0.calls.observe(Method::Register, code, took);
        match result {
            Some(Ok(())) => {
                lock(&self.0.current).failure = None;
                let message = format!("the kubelet accepted the registration of {endpoint}");
                self.add(RegistrationEvent { at: now, registered: true, message });
            }
            Some(Err(error)) => self.failed(error),
            None => {}
        }
    }

    /// The kubelet watches, though it did not answer the registration.
    pub(super) fn adopted(&self, now: Duration, endpoint: &str) {
        lock(&self.0.current).failure = None;
        let message =
            format!("the kubelet watches {endpoint}, whose registration it did not answer");
        self.add(RegistrationEvent { at: now, registered: true, message });
    }

    /// A registration or bind failed.
    pub(super) fn failed(&self, error: &dyn std::error::Error) {
        lock(&self.0.current).failure = Some(ErrorChain(error).to_string());
    }

    /// The server is being restarted.
    pub(super) fn restarting(&self, now: Duration, reason: &RestartReason) {
        let message = format!("the server is restarted: {reason}");
        {
            let mut current = lock(&self.0.current);
            current.status.restarting(now, message.clone());
            if *reason == RestartReason::StreamEnded {
                current.stream_ended = Some(now);
            }
        }
        self.0.changes.notify();
        self.add(RegistrationEvent { at: now, registered: false, message });
    }

    fn add(&self, event: RegistrationEvent) {
        let mut current = lock(&self.0.current);
        if current.events.len() == EVENTS {
            current.events.pop_front();
        }
        current.events.push_back(event);
    }
}
