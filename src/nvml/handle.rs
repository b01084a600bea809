//! What is open in NVML, and the jobs that use it. All of them run on threads of the worker pool.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use device::health::{EventType, Moment, NvmlError as CallError, ReturnCode};
use device::inventory::EnumerationEntry;
use device::names::Uuid;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug_span, info, warn};

use super::channels::TimedObservation;
use super::clock::Clock;
use super::error::SupervisorError;
use super::event_registry::EventRegistry;
use super::events::{EventListener, EventSignal};
use super::library::{self, NvmlOpenError};
use super::links::LinkReader;
use super::reading::{self, Answers};
use super::session::Session;
use super::settings::NvmlSettings;
use super::telemetry::NvmlTelemetry;
use super::thread::{panic_text, spawn};
use super::versions::Versions;
use super::worker_pool::mark_call;
use super::{discovery, system};

/// What is open in NVML. NVML is shut down on the thread that drops the last clone of the session.
#[derive(Clone, Default)]
pub(super) struct NvmlHandle(Arc<Mutex<Option<Open>>>);

#[derive(Clone)]
struct Open {
    session: Arc<Session>,
    registry: Option<Arc<EventRegistry>>,
    links: Arc<Mutex<LinkReader>>,
}

/// Why NVML is not open.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotOpen {
    /// It cannot be loaded or initialised.
    #[error("{0}")]
    Library(NvmlOpenError),
    /// It is initialised, and fails to count the GPUs.
    #[error("{0}")]
    Count(CallError),
}

impl NvmlHandle {
    /// Initialises NVML; returns the number of GPUs. `ended` is dropped when it is shut down again.
    pub(super) fn open(
        &self,
        settings: &NvmlSettings,
        ended: oneshot::Sender<Infallible>,
    ) -> Result<u32, NotOpen> {
        mark_call("nvmlInit_v2");
        let loaded = library::open(settings.library.as_deref(), &settings.driver_root)
            .map_err(NotOpen::Library)?;
        let session = Arc::new(Session::new(loaded.nvml, ended));
        let count = system::count_gpus(&session).map_err(NotOpen::Count)?;
        if count > 0 {
            report_versions(system::versions(&session));
        }
        *self.lock() = Some(Open { session, registry: None, links: Arc::default() });
        Ok(count)
    }

    /// Creates the registry of events. To be called before an enumeration: what happens after it is
    /// an event, what happened before it is seen by it.
    pub(super) fn prepare_events(&self, types: &BTreeSet<EventType>) {
        let Ok(Open { session, .. }) = self.get() else { return };
        let created =
            (!types.is_empty()).then(|| EventRegistry::create(&session, types)).transpose();
        let registry = created.unwrap_or_else(|error| {
            warn!(%error, "cannot watch for events: the GPUs' health depends on polls alone");
            None
        });
        // The previous registry is dropped outside the lock, by its last user.
        let before = self
            .lock()
            .as_mut()
            .map(|open| std::mem::replace(&mut open.registry, registry.map(Arc::new)));
        drop(before);
    }

    /// Starts the event thread; it ends when the returned sender is dropped. `None`: there are no
    /// events to wait for.
    pub(super) fn listen(
        &self,
        listener: EventListener,
    ) -> Result<Option<Sender<()>>, SupervisorError> {
        let Ok(Open { registry: Some(registry), .. }) = self.get() else { return Ok(None) };
        let (alive, stop) = channel();
        let telemetry = NvmlTelemetry::of_thread();
        spawn("nvml-events", move || {
            telemetry.bind_to_thread();
            let run = AssertUnwindSafe(|| listener.run(&registry, &stop));
            if let Err(panic) = catch_unwind(run) {
                let signal = EventSignal::Panicked(panic_text(&*panic));
                let _ = listener.signals_tx.blocking_send(signal);
            }
        })?;
        Ok(Some(alive))
    }

    /// How many GPUs NVML lists.
    pub(super) fn count_gpus(&self) -> Result<u32, CallError> {
        system::count_gpus(&self.get()?.session)
    }

    /// What is at an index of the enumeration.
    pub(super) fn identify(
        &self,
        index: u32,
        known: Option<Uuid>,
        sysfs: &Path,
    ) -> EnumerationEntry {
        let uuid = known.as_ref().map(tracing::field::display);
        let _span = debug_span!("identify_gpu", gpu.index = index, gpu.uuid = uuid).entered();
        match self.get() {
            Ok(Open { session, registry, .. }) => {
                discovery::identify(&session, registry.as_deref(), index, known, sysfs)
            }
            Err(error) => EnumerationEntry::Failed { index, uuid: known, error },
        }
    }

    /// Reads the health of a GPU; with the time when the first call began.
    pub(super) fn read(
        &self,
        clock: Clock,
        index: u32,
        uuid: &Uuid,
        with_fabric: bool,
    ) -> Result<(Moment, Answers), CallError> {
        let _span = debug_span!("read_gpu", gpu.index = index, gpu.uuid = %uuid).entered();
        let session = self.get()?.session;
        let at = clock.now();
        reading::read(&session, uuid, with_fabric).map(|answers| (at, answers))
    }

    /// Has the links of these GPUs read, on a thread of its own, if it is time.
    pub(super) fn read_links_if_due(
        &self,
        gpus: &BTreeMap<u32, Uuid>,
        clock: Clock,
        observations_tx: &mpsc::Sender<Vec<TimedObservation>>,
    ) {
        let Ok(Open { session, links, .. }) = self.get() else { return };
        let mut links = links.lock().unwrap_or_else(PoisonError::into_inner);
        links.read_if_due(&session, gpus, clock, observations_tx);
    }

    /// Drops all of it.
    pub(super) fn close(&self) {
        mark_call("nvmlShutdown");
        let open = self.lock().take();
        drop(open);
    }

    fn get(&self) -> Result<Open, CallError> {
        const UNINITIALIZED: ReturnCode = ReturnCode(1);
        self.lock().clone().ok_or(CallError { call: "nvmlInit_v2", code: UNINITIALIZED })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs the versions, and publishes them.
fn report_versions(versions: Versions) {
    let text = |version: &Option<String>| version.clone().unwrap_or_else(|| "unknown".to_owned());
    let Versions { driver, library, cuda } = &versions;
    info!(
        driver.version = text(driver),
        nvml.version = text(library),
        cuda.version = text(cuda),
        "NVML is up"
    );
    NvmlTelemetry::of_thread().set_versions(versions);
}
