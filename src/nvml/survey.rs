//! Reads all that NVML says of the node and of each GPU, once, for a command. Every call has a
//! deadline, and one that does not return is reported as such.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use device::health::{NvmlError as CallError, Reading};
use device::inventory::EnumerationEntry;
use tokio::sync::oneshot;

use super::error::SupervisorError;
use super::library::{self, NvmlOpenError};
use super::session::Session;
use super::settings::NvmlSettings;
use super::telemetry::NvmlTelemetry;
use super::versions::Versions;
use super::worker_pool::{Subject, WorkerPool, mark_call};
use super::{discovery, reading, system};

/// What a survey has found.
#[derive(Debug)]
pub enum NvmlSurvey {
    /// NVML could not be opened.
    NotOpened(NvmlOpenError),
    /// A call about no GPU in particular did not return in time.
    TimedOut {
        /// The call.
        call: &'static str,
    },
    /// NVML was opened.
    Opened(OpenedNvml),
}

/// What an opened NVML has answered.
#[derive(Debug)]
pub struct OpenedNvml {
    /// The library that was loaded.
    pub library: String,
    /// The paths that were tried before it, each with its error.
    pub tried: Vec<(String, String)>,
    /// The versions.
    pub versions: Versions,
    /// Each index of the enumeration; or why not even their number is known.
    pub gpus: Result<Vec<SurveyedGpu>, CallError>,
}

/// One index of the enumeration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SurveyedGpu {
    /// It answered, with errors perhaps.
    Answered {
        /// The GPU.
        found: Box<EnumerationEntry>,
        /// Its health, if its UUID is known.
        reading: Option<Result<Reading, CallError>>,
    },
    /// A call about it did not return in time.
    TimedOut {
        /// Its index.
        index: u32,
        /// The call.
        call: &'static str,
    },
}

/// How many deadlines the opening may take: without persistence mode it initialises every GPU of
/// the node.
const OPEN_DEADLINES: u32 = 6;

/// NVML, with what it has answered about the node.
struct Open {
    session: Arc<Session>,
    library: String,
    tried: Vec<(String, String)>,
    versions: Versions,
    count: Result<u32, CallError>,
}

/// Surveys the node; a call may take as long as `deadline`, and the opening a few times as long.
///
/// # Errors
/// A thread cannot be started, or panicked.
pub async fn survey(
    settings: &NvmlSettings,
    deadline: Duration,
) -> Result<NvmlSurvey, SupervisorError> {
    let mut worker_pool = WorkerPool::new(deadline, NvmlTelemetry::default())?;
    let opening = settings.clone();
    let opened = run_within(&mut worker_pool, OPEN_DEADLINES, move || open(&opening)).await?;
    let Open { session, library, tried, versions, count } = match opened {
        Err(call) => return Ok(NvmlSurvey::TimedOut { call }),
        Ok(Err(error)) => return Ok(NvmlSurvey::NotOpened(error)),
        Ok(Ok(open)) => open,
    };
    let gpus = match count {
        Ok(count) => {
            let sysfs = settings.sysfs_root.clone();
            Ok(survey_gpus(&mut worker_pool, &session, count, sysfs).await?)
        }
        Err(error) => Err(error),
    };
    // Shut down on a thread that may call NVML. If that hangs, a GPU that hangs was reported
    // already.
    let _ = run_within(&mut worker_pool, 1, move || drop(session)).await?;
    Ok(NvmlSurvey::Opened(OpenedNvml { library, tried, versions, gpus }))
}

fn open(settings: &NvmlSettings) -> Result<Open, NvmlOpenError> {
    mark_call("nvmlInit_v2");
    let loaded = library::open(settings.library.as_deref(), &settings.driver_root)?;
    // Nobody waits for the shutdown: the process is about to exit.
    let session = Arc::new(Session::new(loaded.nvml, oneshot::channel().0));
    let versions = system::versions(&session);
    let count = system::count_gpus(&session);
    Ok(Open { session, library: loaded.library, tried: loaded.tried, versions, count })
}

/// Does a job that is about no GPU in particular. The error is a call that did not return within
/// this many deadlines.
async fn run_within<T: Send + 'static>(
    worker_pool: &mut WorkerPool,
    deadlines: u32,
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<Result<T, &'static str>, SupervisorError> {
    let (timeout_tx, timeout) = oneshot::channel();
    let (mut timeout_tx, mut passed) = (Some(timeout_tx), 0);
    let missed = async |call| {
        passed += 1;
        if passed >= deadlines
            && let Some(timeout_tx) = timeout_tx.take()
        {
            let _ = timeout_tx.send(call);
        }
    };
    tokio::select! {
        answer = worker_pool.run(job, missed) => answer.map(Ok),
        Ok(call) = timeout => Ok(Err(call)),
    }
}

async fn survey_gpus(
    worker_pool: &mut WorkerPool,
    session: &Arc<Session>,
    count: u32,
    sysfs: PathBuf,
) -> Result<Vec<SurveyedGpu>, SupervisorError> {
    let indices = (0..count).map(|index| (Subject::Index(index), index)).collect();
    let session = session.clone();
    let answers =
        worker_pool.run_each(indices, move |index| survey_gpu(&session, index, &sysfs)).await?;
    let surveyed = answers.into_iter().zip(0..).map(|((subject, answer), index)| {
        answer.unwrap_or_else(|| {
            let stuck = worker_pool.stuck_call(&subject);
            SurveyedGpu::TimedOut {
                index,
                call: stuck.map_or("a call of NVML", |stuck| stuck.call),
            }
        })
    });
    Ok(surveyed.collect())
}

fn survey_gpu(session: &Session, index: u32, sysfs: &Path) -> SurveyedGpu {
    let found = discovery::identify(session, None, index, None, sysfs);
    let uuid = match &found {
        EnumerationEntry::Gpu(gpu) => Some(&gpu.uuid),
        EnumerationEntry::Failed { uuid, .. } => uuid.as_ref(),
    };
    let reading =
        uuid.map(|uuid| reading::read(session, uuid, true).map(|answers| answers.reading));
    SurveyedGpu::Answered { found: Box::new(found), reading }
}
