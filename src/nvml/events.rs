//! The thread that waits for NVML's events and says them in our words.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{info, warn};

use super::raw::{self, EventSet, RawEvent};
use super::session::{CallError, Session, is_unsupported};
use super::{Nudge, discovery};
use crate::device::gpu::Placement;
use crate::device::health::Xid;
use crate::device::inventory::Observation;
use crate::device::names::Uuid;

/// `nvmlEventTypeXidCriticalError` (nvml.h).
const XID: u64 = 0x8;
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
pub(super) fn register(session: &Arc<Session>) -> Result<Registered, CallError> {
    let set = EventSet::create(session.clone()).map_err(|error| CallError::new("nvmlEventSetCreate", &error))?;
    let nvml = session.nvml();
    let count = nvml.device_count().map_err(|error| CallError::new("nvmlDeviceGetCount_v2", &error))?;
    let mut gpus = BTreeMap::new();
    for index in 0..count {
        // A GPU without a handle or a UUID is reported by the enumeration.
        let Ok(device) = nvml.device_by_index(index) else { continue };
        let Ok(uuid) = discovery::uuid(&device) else { continue };
        gpus.insert(raw::handle(&device), uuid.clone());
        let supported = match raw::supported_event_types(session, &device) {
            Ok(types) => types & XID,
            Err(error) if is_unsupported(&error) => 0,
            Err(error) => {
                let error = CallError::new("nvmlDeviceGetSupportedEventTypes", &error);
                warn!(gpu.uuid = %uuid, %error, "cannot learn which events the GPU reports");
                0
            }
        };
        if supported == 0 {
            warn!(gpu.uuid = %uuid, gpu.index = index, "this GPU reports no Xids: its health follows its answers alone");
        } else if let Err(error) = set.register(&device, supported) {
            let error = CallError::new("nvmlDeviceRegisterEvents", &error);
            warn!(gpu.uuid = %uuid, gpu.index = index, %error, "cannot watch for Xids of this GPU");
        }
    }
    Ok(Registered { set, gpus })
}

/// Waits for events until `stop` is disconnected or nobody listens any more.
///
/// An error in waiting is counted, said once, and never loops hot; each one asks for an enumeration.
pub(super) fn attend(
    registered: &Registered,
    observations: &mpsc::Sender<Observation>,
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
                if observations.blocking_send(observation).is_err() {
                    return;
                }
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                let error = CallError::new("nvmlEventSetWait_v2", &error);
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
    fn translate(&self, event: RawEvent) -> Option<Observation> {
        if event.event_type != XID {
            return None;
        }
        let xid = Xid(event.data);
        let Some(gpu) = self.gpus.get(&event.device).cloned() else {
            warn!(%xid, "NVML reported an Xid without saying on which GPU");
            return Some(Observation::XidOfUnknown { xid });
        };
        let placement = match (event.gpu_instance, event.compute_instance) {
            (Some(gpu_instance), Some(compute_instance)) => Some(Placement { gpu_instance, compute_instance }),
            _ => None,
        };
        Some(Observation::Xid { gpu, xid, placement })
    }
}
