//! The GPUs that are registered for NVML's events, and what their events mean.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use device::health::{self, EventType, NodeObservation, NvmlError as CallError, Scope, Xid};
use device::names::Uuid;
use nvml_wrapper::Device;
use tracing::warn;

use super::raw::{self, EventSet, RawEvent};
use super::session::{Session, call_error, is_unsupported};
use super::worker_pool::mark_call;

/// A set of registered events, with the GPU of each handle that an event can state.
pub(super) struct EventRegistry {
    set: EventSet,
    wanted: u64,
    gpus: Mutex<BTreeMap<usize, Uuid>>,
}

impl EventRegistry {
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

    /// Registers a GPU for the events that it supports, unless this handle of it is registered. A
    /// GPU that cannot be registered is logged once, and served.
    pub(super) fn register(&self, session: &Session, device: &Device<'_>, uuid: &Uuid, index: u32) {
        if self.gpus().insert(raw::handle(device), uuid.clone()).is_some() {
            return;
        }
        let supported = supported_types(session, device, uuid) & self.wanted;
        mark_call("nvmlDeviceRegisterEvents");
        if supported == 0 {
            warn!(gpu.uuid = %uuid, gpu.index = index, "this GPU reports no events: its health \
                depends on polls alone");
        } else if let Err(error) = self.set.register(device, supported) {
            let error = call_error("nvmlDeviceRegisterEvents", &error);
            warn!(gpu.uuid = %uuid, gpu.index = index, %error, "cannot watch for events of this \
                GPU");
        }
    }

    /// Waits for the next event; `None` if there is none in time, or of an unknown type.
    pub(super) fn wait(&self, at_most: Duration) -> Result<Option<NodeObservation>, CallError> {
        let event = self.set.wait(at_most);
        let event = event.map_err(|error| call_error("nvmlEventSetWait_v2", &error))?;
        Ok(event.and_then(|event| self.observation(event)))
    }

    fn observation(&self, event: RawEvent) -> Option<NodeObservation> {
        let observation = match EventType::from_bit(event.event_type)? {
            EventType::XidCriticalError => health::Observation::Xid {
                // Known Xids are small; one that does not fit is as unknown as the largest.
                xid: Xid(u32::try_from(event.data).unwrap_or(u32::MAX)),
                scope: Scope::from_event(event.gpu_instance, event.compute_instance),
            },
            other => health::Observation::Event(other),
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

    fn gpus(&self) -> MutexGuard<'_, BTreeMap<usize, Uuid>> {
        self.gpus.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The types of events that a GPU supports, as a bit mask; none if they cannot be read.
fn supported_types(session: &Session, device: &Device<'_>, uuid: &Uuid) -> u64 {
    const CALL: &str = "nvmlDeviceGetSupportedEventTypes";
    mark_call(CALL);
    match raw::supported_event_types(session, device) {
        Ok(types) => types,
        Err(error) if is_unsupported(&error) => 0,
        Err(error) => {
            let error = call_error(CALL, &error);
            warn!(gpu.uuid = %uuid, %error, "cannot read which events the GPU supports");
            0
        }
    }
}
