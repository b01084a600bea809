//! NVML's events: registering GPUs for them, and waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use device::health::{self, EventType, NodeObservation, NvmlError as CallError, Scope, Xid};
use device::names::Uuid;
use tracing::warn;

use super::current_call::{mark_wait, was_late};
use super::event_set::{EventSet, Registration};
use super::raw::{self, RawEvent};
use super::session::{Session, device_uuid};
use super::shared_session::{Open, SharedSession};
use crate::util::backoff::Backoff;
use crate::util::log_rate_limit::LogRateLimit;

/// The longest wait for one event. NVML is released at the earliest when a wait ends.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Pauses after a wait that ended early without an event: a library that returns at once, as
/// simulated ones do, is polled for its events.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// Registers GPUs for events of these types, those of the present set included. A GPU that breaks
/// the set is left out of it.
pub(super) fn register(
    shared: &SharedSession,
    types: &BTreeSet<EventType>,
    gpus: &BTreeSet<Uuid>,
    renew: bool,
) -> Result<BTreeMap<Uuid, Registration>, CallError> {
    let open = shared.get()?;
    let session = &open.session;
    let present = open.events.filter(|set| !renew && set.types == *types);
    let mut set = match present {
        Some(set) => set,
        None => Arc::new(EventSet::create(session, types)?),
    };
    let mut broken = BTreeMap::new();
    let mut waiting: Vec<Uuid> = gpus.iter().cloned().collect();
    while let Some(uuid) = waiting.pop() {
        if matches!(set.gpus().get(&uuid), Some(Registration::Registered)) {
            continue;
        }
        if let Err(error) = set.add(session, &uuid) {
            broken.insert(uuid, Registration::Failed(error));
            let members: Vec<_> = set.gpus().keys().cloned().collect();
            set = Arc::new(EventSet::create(session, types)?);
            waiting.extend(members.into_iter().filter(|uuid| !broken.contains_key(uuid)));
        }
    }
    let mut all = set.gpus().clone();
    all.extend(broken);
    shared.set_events(set);
    Ok(all)
}

/// Waits for events until NVML is closed, or a wait was late: that it has returned is heard of by
/// its end alone. Gives each event to `report`, and `None` after the first wait that did not fail.
///
/// # Errors
/// Waiting fails.
pub(super) fn listen(
    shared: &SharedSession,
    poll: Duration,
    report: impl Fn(Option<NodeObservation>),
) -> Result<(), CallError> {
    let at_most = LONGEST_WAIT.min(poll);
    let mut early = Backoff::new(FIRST_PAUSE, LAST_PAUSE);
    let (unknown, mut is_first) = (LogRateLimit::new(), true);
    while !was_late()
        && let Ok(Open { session, events: Some(set) }) = shared.get()
    {
        let began = Instant::now();
        let event = set.wait(at_most)?;
        if std::mem::take(&mut is_first) {
            report(None);
        }
        match event {
            Some(event) => {
                early.reset();
                if let Some(observation) = observation(&session, &event, &unknown) {
                    report(Some(observation));
                }
            }
            None if began.elapsed() < at_most / 2 => {
                drop((session, set));
                mark_wait("a pause between two waits for events", LAST_PAUSE);
                std::thread::sleep(early.next_delay());
            }
            None => early.reset(),
        }
    }
    Ok(())
}

/// What an event means; `None` if its type is not known.
fn observation(
    session: &Session,
    event: &RawEvent,
    unknown: &LogRateLimit,
) -> Option<NodeObservation> {
    let observation = match EventType::from_bit(event.event_type)? {
        EventType::XidCriticalError => health::Observation::Xid {
            // Known Xids are small; one that does not fit is as unknown as the largest.
            xid: Xid(u32::try_from(event.data).unwrap_or(u32::MAX)),
            scope: Scope::from_event(event.gpu_instance, event.compute_instance),
        },
        other => health::Observation::Event(other),
    };
    let Some(handle) = event.device else {
        if unknown.allow() {
            warn!(?observation, "NVML reported an event without a GPU: it counts for all");
        }
        return Some(NodeObservation::EveryGpu(observation));
    };
    // A GPU that was lost at the start and is back: its event is its own.
    let uuid = session
        .uuid_of(handle)
        .map_or_else(|| device_uuid(&raw::device(session.nvml(), handle)), Ok);
    match uuid {
        Ok(uuid) => Some(NodeObservation::Gpu(uuid, observation)),
        Err(error) => {
            if unknown.allow() {
                warn!(?observation, %error, "NVML reported an event of a GPU that does not say \
                    which it is: it counts for none");
            }
            None
        }
    }
}
