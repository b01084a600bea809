//! The hardware edge: the only room that names nvml_wrapper, and the threads that call NVML.
//!
//! The `supervisor` says which question comes next, the `worker_pool` has a thread that asks it,
//! and leaves that thread behind when a call does not return; another thread waits for events. All
//! of them say what they see as [`InventoryEvent`]s and decide nothing about health: what that
//! wants to know comes in as [`Wants`].

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

pub use library::OpenError;
use supervisor::Supervisor;
use telemetry::Telemetry;
pub use versions::Versions;

/// Observations on their way to their reader. A storm of events fills it, and the thread that waits
/// for events then waits here; NVML drops what does not fit its own queue.
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
}

/// How NVML is attended to. It may change meanwhile.
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

/// What joins the edge to the rest.
#[derive(Debug)]
pub struct Links {
    /// Where it says what it sees; what is in one message is to be taken in at once.
    pub observe: mpsc::Sender<Vec<Seen>>,
    /// What the verdict wants to know.
    pub wants: watch::Receiver<Wants>,
    /// Whether somebody wants NVML to be let go.
    pub release: Release,
    /// What it counts.
    pub telemetry: Telemetry,
    /// How it is attended to.
    pub habits: watch::Receiver<PollSettings>,
}

impl Links {
    /// New links, with the other ends of the first two.
    #[must_use]
    pub fn new(
        release: Release,
        habits: watch::Receiver<PollSettings>,
    ) -> (Self, mpsc::Receiver<Vec<Seen>>, watch::Sender<Wants>) {
        let (observe, observations) = mpsc::channel(QUEUE);
        let (want, wants) = watch::channel(Wants::default());
        (
            Self { observe, wants, release, telemetry: Telemetry::default(), habits },
            observations,
            want,
        )
    }
}

/// What the verdict wants to know beside what the polls tell it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wants {
    /// When which GPUs are to be read.
    pub readings: BTreeMap<Uuid, Moment>,
    /// Whether a GPU waits for a new initialisation that lists it.
    pub enumeration: bool,
}

impl Wants {
    /// What this verdict wants.
    #[must_use]
    pub fn of(health: &NodeHealth) -> Self {
        Self { readings: health.next_readings(), enumeration: health.needs_enumeration() }
    }
}

/// A bell: to let go of NVML, and rung once more, to take it up again before the time.
#[derive(Debug, Clone, Default)]
pub struct Release {
    bell: Arc<Notify>,
    held: Arc<AtomicBool>,
}

impl Release {
    /// Rings it.
    pub fn ask(&self) {
        self.bell.notify_one();
    }

    /// Whether NVML is held, so that there is something to let go of: not while it is let go, nor
    /// while it is not there.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }

    async fn asked(&self) {
        self.bell.notified().await;
    }

    fn hold(&self, held: bool) {
        self.held.store(held, Ordering::Relaxed);
    }
}

/// An observation, and when what it rests on was asked or heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// When; for answers, when the asking began.
    pub at: Moment,
    /// What.
    pub observation: InventoryEvent,
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

    fn instant(self, moment: Moment) -> Instant {
        self.0.checked_add(moment.0).unwrap_or_else(|| Instant::now() + Duration::from_secs(3600))
    }
}

/// What the thread that waits for events tells the supervisor.
enum Nudge {
    /// Something is wrong, or new: enumerate before the time.
    Enumerate,
    /// It has panicked, with this text.
    Died(String),
}

/// Attends to NVML for as long as it is polled. Its threads end by themselves after that, as soon
/// as NVML lets them.
///
/// # Errors
/// NVML cannot be opened at the start and that is an error by the settings, or a thread ended that
/// never should.
pub async fn run(settings: Settings, clock: Clock, links: Links) -> Result<Infallible, EdgeError> {
    Supervisor::new(settings, clock, links)?.run().await
}

fn spawn(name: &'static str, body: impl FnOnce() + Send + 'static) -> Result<(), EdgeError> {
    thread::Builder::new().name(name.to_owned()).spawn(body).map(drop).map_err(EdgeError::Thread)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("it panicked: {}", text.as_deref().unwrap_or("without a word"))
}
