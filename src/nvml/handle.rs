//! What is open in NVML, and the jobs that are done with it. All of it happens on the threads of
//! the worker_pool.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use device::health::{EventType, Moment, NvmlError as CallError, ReturnCode};
use device::inventory::EnumerationEntry;
use device::names::Uuid;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use super::events::{self, Registry};
use super::library::NvmlOpenError;
use super::reading::{self, Answers};
use super::session::{Session, call_error};
use super::telemetry::NvmlTelemetry;
use super::worker_pool::mark_call;
use super::{
    Clock, EventSignal, NvmlSettings, TimedObservation, Versions, discovery, library, links,
    panic_text, spawn,
};

/// What is open in NVML. Its parts are dropped, and NVML shut down, on the thread that lets go of
/// them last.
#[derive(Clone, Default)]
pub(super) struct NvmlHandle(Arc<Mutex<Option<Open>>>);

#[derive(Clone)]
struct Open {
    session: Arc<Session>,
    registry: Option<Arc<Registry>>,
    links: Arc<Mutex<links::Reader>>,
}

/// Why NVML is not open.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotOpen {
    /// It cannot be loaded or initialised.
    #[error("{0}")]
    Library(NvmlOpenError),
    /// It is up and cannot even count the GPUs.
    #[error("{0}")]
    Count(CallError),
}

/// What the thread that waits for events needs.
pub(super) struct Listening {
    pub(super) observe: mpsc::Sender<Vec<TimedObservation>>,
    pub(super) clock: Clock,
    pub(super) rhythm: Duration,
    pub(super) signals_tx: mpsc::Sender<EventSignal>,
}

impl NvmlHandle {
    /// Initialises NVML. `ended` is dropped when it is shut down again. Gives the number of GPUs.
    pub(super) fn open(
        &self,
        settings: &NvmlSettings,
        ended: oneshot::Sender<Infallible>,
    ) -> Result<u32, NotOpen> {
        mark_call("nvmlInit_v2");
        let opened = library::open(settings.library.as_deref(), &settings.driver_root)
            .map_err(NotOpen::Library)?;
        let session = Arc::new(Session::new(opened.nvml, ended));
        let count = count(&session).map_err(NotOpen::Count)?;
        if count > 0 {
            see_versions(&session);
        }
        *self.lock() = Some(Open { session, registry: None, links: Arc::default() });
        Ok(count)
    }

    /// Makes ready to watch for events. Before the enumeration: what happens after it is an event,
    /// what was before it is seen by it.
    pub(super) fn prepare_events(&self, types: &BTreeSet<EventType>) {
        let Ok(Open { session, .. }) = self.get() else { return };
        let created = (!types.is_empty()).then(|| Registry::create(&session, types)).transpose();
        let registry = created.unwrap_or_else(|error| {
            warn!(%error, "cannot watch for events: the GPUs' health follows their answers alone");
            None
        });
        // The registry of before ends outside the lock, with the last who uses it.
        let before = self
            .lock()
            .as_mut()
            .map(|open| std::mem::replace(&mut open.registry, registry.map(Arc::new)));
        drop(before);
    }

    /// Starts the thread that waits for events; it ends when the answer is dropped. `None`: there
    /// is nothing to wait for.
    pub(super) fn listen(
        &self,
        to: Listening,
    ) -> Result<Option<Sender<()>>, super::SupervisorError> {
        let Ok(Open { registry: Some(registry), .. }) = self.get() else { return Ok(None) };
        let (alive, stop) = channel();
        let telemetry = NvmlTelemetry::of_thread();
        spawn("nvml-events", move || {
            telemetry.bind_to_thread();
            let Listening { observe, clock, rhythm, signals_tx } = to;
            let attended = AssertUnwindSafe(|| {
                events::attend(&registry, &observe, clock, rhythm, &signals_tx, &stop)
            });
            if let Err(panic) = catch_unwind(attended) {
                let _ = signals_tx.blocking_send(EventSignal::Panicked(panic_text(&*panic)));
            }
        })?;
        Ok(Some(alive))
    }

    /// How many GPUs NVML lists.
    pub(super) fn count(&self) -> Result<u32, CallError> {
        count(&self.get()?.session)
    }

    /// What is at a place of the enumeration.
    pub(super) fn identify(
        &self,
        index: u32,
        known: Option<Uuid>,
        sysfs: &Path,
    ) -> EnumerationEntry {
        match self.get() {
            Ok(Open { session, registry, .. }) => {
                discovery::identify(&session, registry.as_deref(), index, known, sysfs)
            }
            Err(error) => EnumerationEntry::Failed { index, uuid: known, error },
        }
    }

    /// How a GPU is, and when the asking began.
    pub(super) fn read(
        &self,
        clock: Clock,
        uuid: &Uuid,
        with_fabric: bool,
    ) -> Result<(Moment, Answers), CallError> {
        let session = self.get()?.session;
        let at = clock.now();
        reading::read(&session, uuid, with_fabric).map(|answers| (at, answers))
    }

    /// Has the links of these GPUs read, on a thread of its own, if it is time.
    pub(super) fn see_links(
        &self,
        gpus: &BTreeMap<u32, Uuid>,
        clock: Clock,
        observe: &mpsc::Sender<Vec<TimedObservation>>,
    ) {
        let Ok(Open { session, links, .. }) = self.get() else { return };
        links.lock().unwrap_or_else(PoisonError::into_inner).see(&session, gpus, clock, observe);
    }

    /// Lets go of all of it.
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

/// How many GPUs NVML lists.
pub(super) fn count(session: &Session) -> Result<u32, CallError> {
    const CALL: &str = "nvmlDeviceGetCount_v2";
    mark_call(CALL);
    session.nvml().device_count().map_err(|error| call_error(CALL, &error))
}

/// Asks for the versions and says them.
fn see_versions(session: &Session) {
    let versions = Versions::ask(session);
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
