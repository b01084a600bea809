//! What a resource counts of its work with the kubelet, its status, and its last events.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tonic::Code;

use super::allocation_events::AllocationEvents;
use super::calls::{CallDurations, Method};
use super::lifecycle::{Observed, PluginState, RestartReason};
use super::notes::Notes;
use super::register_error::{REGISTER_RESULTS, RegisterError};
use super::registration_status::RegistrationStatus;
use crate::util::counters::Counts;
use crate::util::error_chain::ErrorChain;

/// How many events of one resource are kept.
const EVENTS: usize = 32;

/// The telemetry of one resource. Clones share it.
#[derive(Debug, Clone)]
pub struct PluginTelemetry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    calls: CallDurations,
    allocation_events: AllocationEvents,
    notes: Notes,
    registrations: Counts<&'static str>,
    allocated: AtomicU64,
    refused: AtomicU64,
    lists: AtomicU64,
    current: Mutex<Current>,
}

#[derive(Debug, Default)]
struct Current {
    status: RegistrationStatus,
    /// Why the last registration or bind failed.
    failure: Option<String>,
    /// The oldest first.
    events: VecDeque<RegistrationEvent>,
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
    /// The telemetry of a resource that counts its calls in `calls` and sends its allocations.
    #[must_use]
    pub fn new(calls: CallDurations, allocation_events: AllocationEvents) -> Self {
        Self(Arc::new(Inner {
            calls,
            allocation_events,
            notes: Notes::default(),
            registrations: Counts::new(REGISTER_RESULTS.len()),
            allocated: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            lists: AtomicU64::new(0),
            current: Mutex::default(),
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

    /// Unusual preferred allocations.
    #[must_use]
    pub fn notes(&self) -> &Notes {
        &self.0.notes
    }

    /// How the resource stands with the kubelet.
    #[must_use]
    pub fn status(&self) -> RegistrationStatus {
        self.lock().status.clone()
    }

    /// The last events, the oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<RegistrationEvent> {
        self.lock().events.iter().cloned().collect()
    }

    pub(super) fn calls(&self) -> &CallDurations {
        &self.0.calls
    }

    pub(super) fn allocation_events(&self) -> &AllocationEvents {
        &self.0.allocation_events
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
        endpoint: Option<&str>,
        streams: usize,
    ) {
        let Current { status, failure, .. } = &mut *self.lock();
        status.update(state, observed, failure.as_deref(), endpoint, streams);
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
            Some(Err(error)) => (error.result(), error.code()),
            None => ("void", Code::Cancelled),
        };
        self.0.registrations.count(label);
        self.0.calls.observe(Method::Register, code, took);
        match result {
            Some(Ok(())) => {
                self.lock().failure = None;
                let message = format!("the kubelet accepted the registration of {endpoint}");
                self.add(RegistrationEvent { at: now, registered: true, message });
            }
            Some(Err(error)) => self.failed(error),
            None => {}
        }
    }

    /// A registration or bind failed.
    pub(super) fn failed(&self, error: &dyn std::error::Error) {
        self.lock().failure = Some(ErrorChain(error).to_string());
    }

    /// The server is being restarted.
    pub(super) fn restarting(&self, now: Duration, reason: &RestartReason) {
        let message = format!("the server is restarted: {reason}");
        self.lock().status.restarting(now, message.clone());
        self.add(RegistrationEvent { at: now, registered: false, message });
    }

    fn add(&self, event: RegistrationEvent) {
        let mut current = self.lock();
        if current.events.len() == EVENTS {
            current.events.pop_front();
        }
        current.events.push_back(event);
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
