//! The hardware edge: the only room that names nvml_wrapper, and the two threads that call NVML.
//!
//! One thread opens NVML, enumerates the GPUs and enumerates them again once in a while; the other waits for
//! events; a third comes now and then to read the links. All say what they see as [`Observation`]s and decide nothing. An NVML call can hang for good on a
//! sick GPU, so nothing else ever waits for these threads.

mod discovery;
mod events;
mod library;
mod links;
mod mig;
mod raw;
mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use crate::device::health::{self, EventType, Moment, NodeFault, NodeObservation, NvmlError as CallError, Reading};
use crate::device::inventory::{Found, Observation};
use crate::device::names::Uuid;
pub use library::OpenError;
use session::Session;
use session::call_error;

/// Pauses between two tries to open NVML: doubled from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(10);
/// Observations on their way to their reader. A storm of events fills it, and the thread that waits for events
/// then waits here; NVML drops what does not fit its own queue.
const QUEUE: usize = 256;

/// What the edge needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The library, if it is named.
    pub library: Option<PathBuf>,
    /// Where the driver's root is mounted.
    pub driver_root: PathBuf,
    /// Where sysfs is mounted.
    pub sysfs_root: PathBuf,
    /// Whether it is an error that NVML cannot be opened at the start, or a reason to wait.
    pub fail_on_init_error: bool,
    /// The events to wait for.
    pub events: BTreeSet<EventType>,
    /// Pause between two enumerations.
    pub rescan: Duration,
}

/// Why the hardware edge has ended.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// NVML cannot be opened at the start, and that is an error by the settings.
    #[error("{0}")]
    Open(OpenError),
    /// A thread cannot be started.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// A thread ended by itself.
    #[error("the thread {0} ended by itself: {1}")]
    Ended(&'static str, String),
}

/// The running edge.
#[derive(Debug)]
pub struct Edge {
    /// What is seen, in order.
    pub observations: mpsc::Receiver<Seen>,
    /// Why the edge ended, when it does.
    pub ended: oneshot::Receiver<EdgeError>,
}

/// An observation, and when what it rests on was asked or heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// When; for answers, when the asking began.
    pub at: Moment,
    /// What.
    pub observation: Observation,
}

/// The clock of observations.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that counts from this moment.
    #[must_use]
    pub fn from(origin: Instant) -> Self {
        Self(origin)
    }

    /// The time.
    #[must_use]
    pub fn now(self) -> Moment {
        Moment(self.0.elapsed())
    }
}

/// What the thread that waits for events tells the one that enumerates.
enum Nudge {
    /// Something is wrong: enumerate before the time.
    Enumerate,
    /// It has panicked, with this text.
    Died(String),
}

/// Starts the threads. They end by themselves once the edge is dropped, as soon as NVML lets them.
///
/// # Errors
/// The first thread cannot be started.
pub fn start(settings: Settings, clock: Clock) -> Result<Edge, EdgeError> {
    let (observe, observations) = mpsc::channel(QUEUE);
    let (end, ended) = oneshot::channel();
    spawn("nvml", move || {
        let result = catch_unwind(AssertUnwindSafe(|| work(&settings, clock, &observe)));
        let _ = end.send(match result {
            Ok(Err(error)) => error,
            Ok(Ok(())) => EdgeError::Ended("nvml", "nobody listens to it".to_owned()),
            Err(panic) => EdgeError::Ended("nvml", panic_text(&*panic)),
        });
    })?;
    Ok(Edge { observations, ended })
}

fn spawn(name: &'static str, body: impl FnOnce() + Send + 'static) -> Result<(), EdgeError> {
    thread::Builder::new().name(name.to_owned()).spawn(body).map(drop).map_err(EdgeError::Thread)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("it panicked: {}", text.as_deref().unwrap_or("without a word"))
}

/// Opens NVML and attends to it, for ever; comes back without an error once nobody listens.
fn work(settings: &Settings, clock: Clock, observe: &mpsc::Sender<Seen>) -> Result<(), EdgeError> {
    let mut patient = !settings.fail_on_init_error;
    for number in 1.. {
        let Some(session) = open(settings, patient, observe)? else { return Ok(()) };
        // Once NVML was there, its absence is never an end: the driver is being upgraded, perhaps.
        patient = true;
        match attend(settings, clock, number, &Arc::new(session), observe)? {
            Outcome::NobodyListens => return Ok(()),
            Outcome::NvmlGone(error) => {
                warn!(%error, "NVML is gone; serving from memory, every GPU Unhealthy, until it is back");
                let fault = NodeObservation::Fault(Some(NodeFault::from_error(error)));
                if !tell(clock.now(), Observation::Health(fault), observe) {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// False if nobody listens any more.
fn tell(at: Moment, observation: Observation, observe: &mpsc::Sender<Seen>) -> bool {
    observe.blocking_send(Seen { at, observation }).is_ok()
}

/// Opens NVML with at least one GPU. Impatient, the first error is the answer; patient, it tries on, and says each
/// new reason once. `None` if nobody listens any more.
fn open(settings: &Settings, patient: bool, observe: &mpsc::Sender<Seen>) -> Result<Option<Session>, EdgeError> {
    let mut pause = FIRST_PAUSE;
    let mut said = String::new();
    loop {
        let reason = match library::open(settings.library.as_deref(), &settings.driver_root) {
            Ok(session) => match session.nvml().device_count() {
                Ok(0) => "NVML is up and sees no GPU".to_owned(),
                Ok(_) => return Ok(Some(session)),
                Err(error) => call_error("nvmlDeviceGetCount_v2", &error).to_string(),
            },
            Err(error) if !patient => return Err(EdgeError::Open(error)),
            Err(error) => error.to_string(),
        };
        if said != reason {
            warn!(%reason, "no GPUs to serve yet, trying on");
            said = reason;
        }
        if observe.is_closed() {
            return Ok(None);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// Why an NVML session was left.
enum Outcome {
    NobodyListens,
    NvmlGone(CallError),
}

/// Enumerates, watches and enumerates again, as long as NVML answers.
fn attend(
    settings: &Settings,
    clock: Clock,
    number: u64,
    session: &Arc<Session>,
    observe: &mpsc::Sender<Seen>,
) -> Result<Outcome, EdgeError> {
    log_versions(session);
    let (nudge, nudged) = channel();
    // Registered before the enumeration: what happens after it is an event, what was before it is seen by it.
    let _waiting = watch(settings, clock, session, observe, nudge.clone())?;
    let mut last = Vec::new();
    let mut at = BTreeMap::new();
    let mut links = links::Reader::default();
    loop {
        let began = clock.now();
        let found = match discovery::enumerate(session, &settings.sysfs_root, &at) {
            Err(error) => return Ok(Outcome::NvmlGone(error)),
            Ok(found) => found,
        };
        let mut observations = polls(&found);
        if found != last {
            report_failed(&found, &last);
            at = places(&found);
            last.clone_from(&found);
            observations.insert(0, Observation::Scan { session: number, found });
            observations.push(Observation::Health(NodeObservation::Fault(None)));
        }
        if !observations.into_iter().all(|observation| tell(began, observation, observe)) {
            return Ok(Outcome::NobodyListens);
        }
        links.see(session, &at, clock, observe);
        pause(&nudged, settings.rescan)?;
        if observe.is_closed() {
            return Ok(Outcome::NobodyListens);
        }
    }
}

/// That a GPU answered every question of an enumeration is the probe of its poll.
fn polls(found: &[Found]) -> Vec<Observation> {
    let answered = found.iter().filter_map(|found| match found {
        Found::Gpu(gpu) => Some((gpu.uuid.clone(), Ok(()))),
        Found::Failed { uuid, error, .. } => Some((uuid.clone()?, Err(error.clone()))),
    });
    let poll = |(uuid, probe)| {
        let reading = Reading { probe: Some(probe), ..Reading::default() };
        Observation::Health(NodeObservation::Gpu(uuid, health::Observation::Poll(reading)))
    };
    answered.map(poll).collect()
}

/// Waits for a nudge or the time; several nudges count as one.
fn pause(nudged: &Receiver<Nudge>, at_most: Duration) -> Result<(), EdgeError> {
    let first = nudged.recv_timeout(at_most).ok();
    for nudge in first.into_iter().chain(nudged.try_iter()) {
        if let Nudge::Died(why) = nudge {
            return Err(EdgeError::Ended("nvml-events", why));
        }
    }
    Ok(())
}

/// Starts the thread that waits for events; it ends when the answer is dropped. `None` if there is nothing to
/// wait for.
fn watch(
    settings: &Settings,
    clock: Clock,
    session: &Arc<Session>,
    observe: &mpsc::Sender<Seen>,
    nudge: Sender<Nudge>,
) -> Result<Option<Sender<()>>, EdgeError> {
    if settings.events.is_empty() {
        return Ok(None);
    }
    let registered = match events::register(session, &settings.events) {
        Ok(registered) => registered,
        Err(error) => {
            warn!(%error, "cannot watch for events: the GPUs' health follows their answers alone");
            return Ok(None);
        }
    };
    let (alive, stop) = channel();
    let observe = observe.clone();
    spawn("nvml-events", move || {
        let attended = AssertUnwindSafe(|| events::attend(&registered, &observe, clock, &nudge, &stop));
        if let Err(panic) = catch_unwind(attended) {
            let _ = nudge.send(Nudge::Died(panic_text(&*panic)));
        }
    })?;
    Ok(Some(alive))
}

fn log_versions(session: &Session) {
    let nvml = session.nvml();
    let text = |answer: Result<String, _>| answer.unwrap_or_else(|_| "unknown".to_owned());
    let (driver, library) = (text(nvml.sys_driver_version()), text(nvml.sys_nvml_version()));
    info!(driver.version = driver, nvml.version = library, "NVML is up");
}

/// Says which GPUs answer with errors that did not before.
fn report_failed(found: &[Found], last: &[Found]) {
    for failed in found.iter().filter(|found| !last.contains(found)) {
        if let Found::Failed { index, uuid, error } = failed {
            let served = if uuid.is_some() { "it is served Unhealthy" } else { "without a UUID it cannot be served" };
            let uuid = uuid.as_ref().map_or("unknown", Uuid::as_str);
            warn!(
                gpu.index = index,
                gpu.uuid = uuid,
                %error,
                "a GPU answers with an error; {served}, the others are not concerned"
            );
        }
    }
}

fn places(found: &[Found]) -> BTreeMap<u32, Uuid> {
    found
        .iter()
        .filter_map(|found| match found {
            Found::Gpu(gpu) => Some((gpu.index, gpu.uuid.clone())),
            Found::Failed { index, uuid, .. } => Some((*index, uuid.clone()?)),
        })
        .collect()
}
