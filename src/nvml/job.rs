//! The jobs that threads do in NVML, and their answers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use device::health::{Epoch, EventType, Moment, NodeObservation, NvmlError as CallError};
use device::inventory::EnumerationEntry;
use device::names::Uuid;
use tokio::sync::mpsc::UnboundedSender;
use tracing::debug_span;

use super::bus::{self, BusScan};
use super::current_call::mark_call;
use super::event_set::Registration;
use super::events;
use super::inspection::{self, Inspection};
use super::library::{self, NvmlOpenError};
use super::links::{self, GpuLinks};
use super::reading::{self, Answers};
use super::session::{self, NoUuid, Session};
use super::settings::NvmlSettings;
use super::shared_session::SharedSession;
use super::telemetry::Versions;
use super::{epoch, facts};
use crate::host::pci::BusReader;

/// A job, and the NVML session that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) session: u64,
    pub(super) task: Task,
}

/// What a job does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Task {
    /// Looks at the PCI bus and the load of the driver, in sysfs.
    Bus,
    /// Initialises NVML and counts the GPUs. On a thread of its own.
    Open,
    /// Counts the GPUs.
    Count,
    /// Finds out which GPU is at an index.
    Identify { index: u32 },
    /// Reads the facts of the GPU at an index, which was this one in this session.
    Describe { index: u32, gpu: Uuid },
    /// Registers GPUs for events, all of them again if `renew`.
    Register { types: BTreeSet<EventType>, gpus: BTreeSet<Uuid>, renew: bool },
    /// Waits for events until NVML is closed. On a thread of its own.
    Listen { poll: Duration },
    /// Reads the health of a GPU, in a poll or beside it.
    Read { gpu: Uuid, with_fabric: bool, with_energy: bool, poll: bool },
    /// Reads what of a GPU matters to a person alone.
    Inspect { gpu: Uuid },
    /// Reads the links of a GPU, and its PCIe topology to these others.
    Links { gpu: Uuid, others: BTreeSet<Uuid> },
    /// Shuts NVML down, as soon as no other thread is in it.
    Close,
}

/// What only one job at a time is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// A GPU.
    Gpu(Uuid),
    /// The links of a GPU, without which it can be read and used.
    Links(Uuid),
    /// An index whose GPU is not known.
    Index(u32),
    /// Nothing that has a UUID: the name of the task.
    Node(&'static str),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gpu(gpu) => write!(f, "{gpu}"),
            Self::Links(gpu) => write!(f, "the links of {gpu}"),
            Self::Index(index) => write!(f, "the GPU at index {index}"),
            Self::Node(task) => write!(f, "the node ({task})"),
        }
    }
}

/// The answer to a job, or an event that one reports.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) job: Job,
    /// When the job began.
    pub(super) began: Moment,
    pub(super) outcome: Outcome,
}

/// What a job has found.
#[derive(Debug)]
pub(super) enum Outcome {
    Bus(Epoch, BusScan),
    Opened(Result<Opened, NvmlOpenError>),
    Counted(Result<u32, CallError>),
    Identified(Result<Uuid, NoUuid>),
    Described(EnumerationEntry),
    Registered(Result<BTreeMap<Uuid, Registration>, CallError>),
    /// An event, or `None` after the first wait that did not fail; the job goes on.
    Event(Option<NodeObservation>),
    Listened(Result<(), CallError>),
    Read(Answers),
    Inspected(Result<Inspection, CallError>),
    Links(GpuLinks),
    /// NVML is shut down as soon as no other thread is in it.
    Closed,
    NotStarted,
    Panicked(String),
}

/// An initialised NVML.
#[derive(Debug)]
pub(super) struct Opened {
    /// Read after the initialisation: the driver may be loaded by it.
    pub(super) epoch: Epoch,
    /// The library, as it was given to the loader.
    pub(super) library: String,
    /// The paths that were tried before, each with its error.
    pub(super) tried: Vec<(String, String)>,
    pub(super) versions: Versions,
    /// How many GPUs it lists. NVML is shut down again if it does not say.
    pub(super) count: Result<u32, CallError>,
}

/// What jobs need.
pub(super) struct Context {
    pub(super) settings: NvmlSettings,
    pub(super) shared: SharedSession,
    pub(super) bus: Mutex<BusReader>,
    /// Receives the number of a session that is shut down.
    pub(super) shut_down: UnboundedSender<u64>,
}

impl Task {
    pub(super) fn subject(&self) -> Subject {
        match self {
            Self::Read { gpu, .. } | Self::Describe { gpu, .. } | Self::Inspect { gpu } => {
                Subject::Gpu(gpu.clone())
            }
            Self::Links { gpu, .. } => Subject::Links(gpu.clone()),
            Self::Identify { index } => Subject::Index(*index),
            Self::Bus => Subject::Node("bus"),
            Self::Open => Subject::Node("open"),
            Self::Count => Subject::Node("count"),
            Self::Register { .. } => Subject::Node("register"),
            Self::Listen { .. } => Subject::Node("listen"),
            Self::Close => Subject::Node("close"),
        }
    }
}

impl Answer {
    /// The answer of a job for which there is no thread.
    pub(super) fn not_started(job: Job, at: Moment) -> Self {
        Self { job, began: at, outcome: Outcome::NotStarted }
    }
}

impl Job {
    /// Does the job on the calling thread.
    pub(super) fn run(
        &self,
        context: &Context,
        report: impl Fn(Option<NodeObservation>),
    ) -> Outcome {
        let Context { settings, shared, bus, .. } = context;
        match &self.task {
            Task::Bus => {
                mark_call("reading sysfs");
                Outcome::Bus(epoch::read(&settings.sysfs_root), bus::scan(settings, bus))
            }
            Task::Open => Outcome::Opened(self.open(context)),
            Task::Count => {
                Outcome::Counted(shared.get().and_then(|open| session::count_gpus(&open.session)))
            }
            Task::Identify { index } => {
                let open = shared.get();
                let open = open.map_err(NoUuid::Failed);
                Outcome::Identified(open.and_then(|open| facts::identify(&open.session, *index)))
            }
            Task::Describe { index, gpu } => {
                let span = debug_span!("describe_gpu", gpu.index = index, gpu.uuid = %gpu);
                let _entered = span.enter();
                Outcome::Described(match shared.get() {
                    Ok(open) => facts::describe(&open.session, *index, gpu, &settings.sysfs_root),
                    Err(error) => {
                        EnumerationEntry::Failed { index: *index, uuid: Some(gpu.clone()), error }
                    }
                })
            }
            Task::Register { types, gpus, renew } => {
                Outcome::Registered(events::register(shared, types, gpus, *renew))
            }
            Task::Listen { poll } => Outcome::Listened(events::listen(shared, *poll, report)),
            Task::Read { gpu, with_fabric, with_energy, .. } => {
                let _span = debug_span!("read_gpu", gpu.uuid = %gpu).entered();
                Outcome::Read(reading::read(shared, gpu, *with_fabric, *with_energy))
            }
            Task::Inspect { gpu } => Outcome::Inspected(inspection::inspect(shared, gpu)),
            Task::Links { gpu, others } => {
                let _span = debug_span!("read_links", gpu.uuid = %gpu).entered();
                Outcome::Links(links::read(shared, gpu, others))
            }
            Task::Close => {
                shared.close();
                Outcome::Closed
            }
        }
    }

    fn open(&self, context: &Context) -> Result<Opened, NvmlOpenError> {
        mark_call("nvmlInit_v2");
        let Context { settings, shared, shut_down, .. } = context;
        let loaded = library::open(settings.library.as_deref(), &settings.driver_root)?;
        let (shut_down, number) = (shut_down.clone(), self.session);
        // Nobody receives it while the daemon stops.
        let ended = move || {
            let _ = shut_down.send(number);
        };
        let session = Arc::new(Session::new(loaded.nvml, ended));
        let count = session::count_gpus(&session);
        let versions = session::versions(&session);
        let epoch = epoch::read(&settings.sysfs_root);
        if count.is_ok() {
            shared.set(session);
        }
        Ok(Opened { epoch, library: loaded.library, tried: loaded.tried, versions, count })
    }
}
