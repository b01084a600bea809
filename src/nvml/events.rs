//! The thread that waits for NVML's events and says them in our words.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use device::health::{self, EventType, NodeObservation, NvmlError as CallError, Scope, Xid};
use device::inventory::InventoryEvent;
use device::names::Uuid;
use nvml_wrapper::Device;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::raw::{self, EventSet, RawEvent};
use super::session::{Session, call_error, is_unsupported};
use super::worker_pool::mark_call;
use super::{Clock, EventSignal, TimedObservation};
use crate::util::backoff::Backoff;
use crate::util::log_rate_limit::LogRateLimit;

/// The longest wait for one event, and with it the rhythm of an idle plugin: NVML is released no
/// sooner.
const WAIT: Duration = Duration::from_secs(5);
/// Pauses after a wait that failed: doubled from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause after a wait that came back early and empty: such a library has its events
/// asked for.
const LAST_EARLY_PAUSE: Duration = Duration::from_secs(1);

/// The events that are registered, and the GPU behind each handle that one can name.
pub(super) struct Registry {
    set: EventSet,
    wanted: u64,
    gpus: Mutex<BTreeMap<usize, Uuid>>,
}

impl Registry {
    /// An empty registry for these types of events.
    pub(super) fn create(
        session: &Arc<Session>,
        types: &BTreeSet<EventType>,
    ) -> Result<Self, CallError> {
        const CALL: &str = "nvmlEventSetCreate";
        mark_call(CALL);
        let set = EventSet::create(session.clone()).map_err(|error| call_error(CALL, &error))?;
        let wanted = types.iter().fold(0, |mask, event| mask | event.bit());
        Ok(Self { set, wanted, gpus: Mutex::default() })
    }

    /// Registers a GPU for the events that it supports, unless this handle of it is. What cannot be
    /// watched is said once; its GPU is served.
    pub(super) fn watch(&self, session: &Session, device: &Device<'_>, uuid: &Uuid, index: u32) {
        if self.gpus().insert(raw::handle(device), uuid.clone()).is_some() {
            return;
        }
        mark_call("nvmlDeviceGetSupportedEventTypes");
        let supported = match raw::supported_event_types(session, device) {
            Ok(types) => types & self.wanted,
            Err(error) if is_unsupported(&error) => 0,
            Err(error) => {
                let error = call_error("nvmlDeviceGetSupportedEventTypes", &error);
                warn!(gpu.uuid = %uuid, %error, "cannot learn which events the GPU reports");
                0
            }
        };
        mark_call("nvmlDeviceRegisterEvents");
        if supported == 0 {
            warn!(gpu.uuid = %uuid, gpu.index = index, "this GPU reports no events: its health \
                follows its answers alone");
        } else if let Err(error) = self.set.register(device, supported) {
            let error = call_error("nvmlDeviceRegisterEvents", &error);
            warn!(gpu.uuid = %uuid, gpu.index = index, %error, "cannot watch for events of this \
                GPU");
        }
    }

    fn gpus(&self) -> MutexGuard<'_, BTreeMap<usize, Uuid>> {
        self.gpus.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for events until `stop` is disconnected or nobody listens any more, a wait at most as long
/// as `rhythm`.
///
/// An error in waiting is counted, the same one said no more than once a minute, and never loops
/// hot; each one asks for an enumeration. Nor does a library loop hot that does not wait at all, as
/// simulated ones do.
pub(super) fn attend(
    registry: &Registry,
    observe: &mpsc::Sender<Vec<TimedObservation>>,
    clock: Clock,
    rhythm: Duration,
    signals_tx: &mpsc::Sender<EventSignal>,
    stop: &Receiver<()>,
) {
    let mut failures = Backoff::new(FIRST_PAUSE, LAST_PAUSE);
    let limit = LogRateLimit::new();
    let mut logged = false;
    let wait = WAIT.min(rhythm);
    let mut early = Backoff::new(FIRST_PAUSE, LAST_EARLY_PAUSE);
    loop {
        let begun = clock.now();
        match registry.set.wait(wait) {
            Ok(event) => {
                if std::mem::take(&mut logged) {
                    let failures = failures.attempts();
                    info!(failures, "waiting for NVML's events works again");
                }
                failures.reset();
                let mut pause = Duration::ZERO;
                if let Some(observation) =
                    event.and_then(|event| registry.translate(event, signals_tx))
                {
                    let observation = Observation::Health(observation);
                    if observe
                        .blocking_send(vec![TimedObservation { at: clock.now(), observation }])
                        .is_err()
                    {
                        return;
                    }
                    early.reset();
                } else if clock.now().since(begun) < wait / 2 {
                    pause = early.next_delay();
                } else {
                    early.reset();
                }
                if stop.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
                    return;
                }
            }
            Err(error) => {
                let error = call_error("nvmlEventSetWait_v2", &error);
                if limit.allow_key(error.code.0).is_some() {
                    warn!(%error, "cannot wait for NVML's events, trying on");
                    logged = true;
                }
                // If the channel is full, a signal is waiting already.
                let _ = signals_tx.try_send(EventSignal::EnumerateNow);
                if stop.recv_timeout(failures.next_delay()) == Err(RecvTimeoutError::Disconnected) {
                    return;
                }
            }
        }
    }
}

impl Registry {
    fn translate(
        &self,
        event: RawEvent,
        signals_tx: &mpsc::Sender<EventSignal>,
    ) -> Option<NodeObservation> {
        let observation = match EventType::from_bit(event.event_type)? {
            EventType::XidCriticalError => health::Observation::Xid {
                // The catalogue's numbers are small; one that does not fit is as unknown as the
                // largest.
                xid: Xid(u32::try_from(event.data).unwrap_or(u32::MAX)),
                scope: Scope::from_event(event.gpu_instance, event.compute_instance),
            },
            other => {
                if other == EventType::MigConfigChange {
                    let _ = signals_tx.try_send(EventSignal::EnumerateNow);
                }
                health::Observation::Event(other)
            }
        };
        Some(match self.gpus().get(&event.device).cloned() {
            Some(gpu) => NodeObservation::Gpu(gpu, observation),
            None => {
                warn!(
                    ?observation,
                    "NVML reported an event without saying on which GPU: it counts for all"
                );
                NodeObservation::EveryGpu(observation)
            }
        })
    }
}
