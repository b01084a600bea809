//! The NVML module: the only one that names nvml_wrapper, and the threads that call NVML.
//!
//! The `supervisor` decides which calls come next, the `worker_pool` makes them on a thread, which
//! it replaces when a call does not return; another thread waits for events. All of them report
//! [`Observation`]s and decide nothing about health: what health wants to be read comes in as
//! [`ReadRequests`].

mod discovery;
pub mod epoch;
mod events;
mod handle;
mod library;
mod links;
mod mig;
mod pace;
mod raw;
mod reading;
mod session;
mod supervisor;
pub mod survey;
pub mod telemetry;
mod versions;
mod worker_pool;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use device::health::{EventType, Moment, NodeHealth};
use device::inventory::InventoryEvent;
use device::names::Uuid;
use tokio::sync::{Notify, mpsc, watch};

pub use library::NvmlOpenError;
use supervisor::Supervisor;
use telemetry::NvmlTelemetry;
pub use versions::Versions;

/// Capacity of the channel of observations. A storm of events fills it, and the event thread then
/// waits; NVML drops what does not fit its own queue.
const OBSERVATIONS: usize = 256;

/// Where NVML is, and whether it must be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NvmlSettings {
    /// Path of the library; `None`: it is searched for.
    pub library: Option<PathBuf>,
    /// Where the driver's root is mounted.
    pub driver_root: PathBuf,
    /// Where sysfs is mounted.
    pub sysfs_root: PathBuf,
    /// Whether it is an error that NVML cannot be opened at the start, or a reason to wait.
    pub fail_on_init_error: bool,
}

/// What to poll and to wait for. It may change while the daemon runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollSettings {
    /// The events to wait for.
    pub events: BTreeSet<EventType>,
    /// Pause between two polls.
    pub poll: Duration,
    /// How long a call may take.
    pub deadline: Duration,
    /// For how long NVML is released.
    pub release_for: Duration,
}

/// Why [`run`] has ended.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// NVML cannot be opened at the start, and that is an error by the settings.
    #[error("{0}")]
    Open(NvmlOpenError),
    /// A thread cannot be started.
    #[error("cannot start a thread")]
    ThreadStart(#[source] std::io::Error),
    /// A thread ended by itself.
    #[error("the thread {0} ended by itself: {1}")]
    ThreadEnded(&'static str, String),
}

/// The channels between [`run`] and the rest of the daemon.
#[derive(Debug)]
pub struct NvmlChannels {
    /// Observations; those of one message are to be applied together.
    pub observations_tx: mpsc::Sender<Vec<TimedObservation>>,
    /// What health wants to be read.
    pub requests_rx: watch::Receiver<ReadRequests>,
    /// Requests to release NVML.
    pub release: Release,
    /// Counters and the state of the session.
    pub telemetry: NvmlTelemetry,
    /// Receives updated settings.
    pub settings_rx: watch::Receiver<PollSettings>,
}

impl NvmlChannels {
    /// New channels, with the other ends of the first two.
    #[must_use]
    pub fn new(
        release: Release,
        settings_rx: watch::Receiver<PollSettings>,
    ) -> (Self, mpsc::Receiver<Vec<TimedObservation>>, watch::Sender<ReadRequests>) {
        let (observations_tx, observations_rx) = mpsc::channel(OBSERVATIONS);
        let (requests_tx, requests_rx) = watch::channel(ReadRequests::default());
        let telemetry = NvmlTelemetry::default();
        let channels = Self { observations_tx, requests_rx, release, telemetry, settings_rx };
        (channels, observations_rx, requests_tx)
    }
}

/// What health wants to be read beside the polls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadRequests {
    /// When to read which GPUs.
    pub readings: BTreeMap<Uuid, Moment>,
    /// Whether a GPU is missing that only a new initialisation of NVML can list.
    pub enumeration: bool,
}

impl ReadRequests {
    /// What this health wants to be read.
    #[must_use]
    pub fn of(health: &NodeHealth) -> Self {
        Self { readings: health.next_readings(), enumeration: health.needs_enumeration() }
    }
}

/// Requests to release NVML; a second request takes it up again before the time.
#[derive(Debug, Clone, Default)]
pub struct Release {
    request: Arc<Notify>,
    possible: Arc<AtomicBool>,
}

impl Release {
    /// Requests that NVML is released, or taken up again if it is released.
    pub fn request(&self) {
        self.request.notify_one();
    }

    /// Whether NVML is in use, so that it can be released: not while it is released already, nor
    /// while it cannot be opened.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        self.possible.load(Ordering::Relaxed)
    }

    async fn requested(&self) {
        self.request.notified().await;
    }

    fn set_possible(&self, possible: bool) {
        self.possible.store(possible, Ordering::Relaxed);
    }
}

/// An observation with its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimedObservation {
    /// When the event was received, or when the first call for the answer began.
    pub at: Moment,
    /// The observation.
    pub observation: Observation,
}

/// The clock of observations.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that counts from this time on.
    #[must_use]
    pub fn from(origin: Instant) -> Self {
        Self(origin)
    }

    /// The time now.
    #[must_use]
    pub fn now(self) -> Moment {
        Moment(self.0.elapsed())
    }

    fn instant(self, moment: Moment) -> Instant {
        self.0.checked_add(moment.0).unwrap_or_else(|| Instant::now() + Duration::from_secs(3600))
    }
}

/// What the event thread tells the supervisor.
enum EventSignal {
    /// Waiting failed, or the MIG devices changed: enumerate now.
    EnumerateNow,
    /// The thread has panicked, with this text.
    Panicked(String),
}

/// Polls NVML and waits for its events until the future is dropped. The threads end by themselves
/// after that, as soon as their calls return.
///
/// # Errors
/// NVML cannot be opened at the start and that is an error by the settings, or a thread cannot be
/// started or ended by itself.
pub async fn run(
    settings: NvmlSettings,
    clock: Clock,
    channels: NvmlChannels,
) -> Result<Infallible, SupervisorError> {
    Supervisor::new(settings, clock, channels)?.run().await
}

fn spawn(name: &'static str, body: impl FnOnce() + Send + 'static) -> Result<(), SupervisorError> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map(drop)
        .map_err(SupervisorError::ThreadStart)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("it panicked: {}", text.as_deref().unwrap_or("with no message"))
}
