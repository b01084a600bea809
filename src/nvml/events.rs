//! The thread that waits for NVML's events and says them in our words.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{info, warn};

use super::raw::{self, EventSet, RawEvent};
use super::session::{Session, call_error, is_unsupported};
use super::{Clock, Nudge, Seen, discovery};
use crate::device::health::{self, EventType, NodeObservation, NvmlError as CallError, Scope, Xid};
use crate::device::inventory::Observation;
use crate::device::names::Uuid;

/// How long one wait for an event may take: the rhythm of an idle plugin.
const WAIT: Duration = Duration::from_secs(5);
/// Pauses after a wait that failed: doubled from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// Events that are registered, with the GPU behind each handle that an event can name.
pub(super) struct Registered {
    set: EventSet,
    gpus: BTreeMap<usize, Uuid>,
}

/// Registers every GPU for the events that it supports. What cannot be watched is said once; its GPU is served.
pub(super) fn register(session: &Arc<Session>, types: &BTreeSet<EventType>) -> Result<Registered, CallError> {
    let wanted = types.iter().fold(0, |mask, event| mask | event.bit());
    let set = EventSet::create(session.clone()).map_err(|error| call_error("nvmlEventSetCreate", &error))?;
    let nvml = session.nvml();
    let count = nvml.device_count().map_err(|error| call_error("nvmlDeviceGetCount_v2", &error))?;
    let mut gpus = BTreeMap::new();
    for index in 0..count {
        // A GPU without a handle or a UUID is reported by the enumeration.
        let Ok(device) = nvml.device_by_index(index) else { continue };
        let Ok(uuid) = discovery::uuid(&device) else { continue };
        gpus.insert(raw::handle(&device), uuid.clone());
        let supported = match raw::supported_event_types(session, &device) {
            Ok(types) => types & wanted,
            Err(error) if is_unsupported(&error) => 0,
            Err(error) => {
                let error = call_error("nvmlDeviceGetSupportedEventTypes", &error);
                warn!(gpu.uuid = %uuid, %error, "cannot learn which events the GPU reports");
                0
            }
        };
        if supported == 0 {
            warn!(gpu.uuid = %uuid, gpu.index = index, "this GPU reports no events: its health follows its answers alone");
        } else if let Err(error) = set.register(&device, supported) {
            let error = call_error("nvmlDeviceRegisterEvents", &error);
            warn!(gpu.uuid = %uuid, gpu.index = index, %error, "cannot watch for events of this GPU");
        }
    }
    Ok(Registered { set, gpus })
}

/// Waits for events until `stop` is disconnected or nobody listens any more.
///
/// An error in waiting is counted, said once, and never loops hot; each one asks for an enumeration.
pub(super) fn attend(
    registered: &Registered,
    observe: &mpsc::Sender<Seen>,
    clock: Clock,
    nudge: &Sender<Nudge>,
    stop: &Receiver<()>,
) {
    let mut failures: u32 = 0;
    let mut said: Option<CallError> = None;
    loop {
        match registered.set.wait(WAIT) {
            Ok(event) => {
                if failures > 0 {
                    info!(failures, "waiting for NVML's events works again");
                    failures = 0;
                    said = None;
                }
                let Some(observation) = event.and_then(|event| registered.translate(event)) else {
                    if stop.try_recv() == Err(TryRecvError::Disconnected) {
                        return;
                    }
                    continue;
                };
                let observation = Observation::Health(observation);
                if observe.blocking_send(Seen { at: clock.now(), observation }).is_err() {
                    return;
                }
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                let error = call_error("nvmlEventSetWait_v2", &error);
                if said.as_ref() != Some(&error) {
                    warn!(%error, "cannot wait for NVML's events, trying on");
                    said = Some(error);
                }
                let _ = nudge.send(Nudge::Enumerate);
                let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(10)).min(LAST_PAUSE);
                if stop.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
                    return;
                }
            }
        }
    }
}

impl Registered {
    fn translate(&self, event: RawEvent) -> Option<NodeObservation> {
        let observation = match EventType::from_bit(event.event_type)? {
            EventType::XidCriticalError => health::Observation::Xid {
                // The catalogue's numbers are small; one that does not fit is as unknown as the largest.
                xid: Xid(u32::try_from(event.data).unwrap_or(u32::MAX)),
                scope: Scope::from_event(event.gpu_instance, event.compute_instance),
            },
            other => health::Observation::Event(other),
        };
        Some(match self.gpus.get(&event.device) {
            Some(gpu) => NodeObservation::Gpu(gpu.clone(), observation),
            None => {
                warn!(?observation, "NVML reported an event without saying on which GPU: it counts for all");
                NodeObservation::EveryGpu(observation)
            }
        })
    }
}
