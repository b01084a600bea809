//! One look at the hardware for a person who asks: all that NVML says of the node and of each GPU.
//! Every call has a deadline, and one that does not return is told as such.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use device::health::{NvmlError as CallError, Reading};
use device::inventory::EnumerationEntry;
use tokio::sync::oneshot;

use super::handle::count;
use super::library::{self, LoadedNvml, NvmlOpenError};
use super::session::Session;
use super::telemetry::NvmlTelemetry;
use super::worker_pool::{Subject, WorkerPool, mark_call};
use super::{NvmlSettings, SupervisorError, Versions, discovery, reading};

/// What came of opening NVML, and of all that was asked then.
#[derive(Debug)]
pub enum NvmlSurvey {
    /// It could not be opened.
    NotOpened(NvmlOpenError),
    /// A call about no GPU in particular did not return in time.
    TimedOut {
        /// The call.
        call: &'static str,
    },
    /// It is up.
    Opened(OpenedNvml),
}

/// NVML when it is up.
#[derive(Debug)]
pub struct OpenedNvml {
    /// The library that was loaded.
    pub library: String,
    /// The places that were tried before it, with what was there.
    pub tried: Vec<(String, String)>,
    /// What the versions are.
    pub versions: Versions,
    /// Each place of the enumeration; or why not even their number is known.
    pub gpus: Result<Vec<SurveyedGpu>, CallError>,
}

/// One place of the enumeration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SurveyedGpu {
    /// It answered, if only with errors.
    Answered {
        /// What it is.
        found: Box<EnumerationEntry>,
        /// How it is, if it said who it is.
        reading: Option<Result<Reading, CallError>>,
    },
    /// A call about it did not return in time.
    TimedOut {
        /// Its place.
        index: u32,
        /// The call.
        call: &'static str,
    },
}

/// How many deadlines the opening may take: without persistence mode it brings up every GPU of the
/// node.
const OPENING: u32 = 6;

/// Looks once; a call may take as long as `deadline`, and the opening a few times as long.
///
/// # Errors
/// No thread can be had, or one panicked.
pub async fn survey(
    settings: &NvmlSettings,
    deadline: Duration,
) -> Result<NvmlSurvey, SupervisorError> {
    let mut worker_pool = WorkerPool::new(deadline, NvmlTelemetry::default())?;
    let (named, root) = (settings.library.clone(), settings.driver_root.clone());
    let open = move || {
        mark_call("nvmlInit_v2");
        library::open(named.as_deref(), &root).map(|LoadedNvml { nvml, library, tried }| {
            // Nobody waits for the end: the process is about to end.
            let session = Arc::new(Session::new(nvml, oneshot::channel().0));
            let versions = Versions::ask(&session);
            (count(&session), session, library, tried, versions)
        })
    };
    let (count, session, library, tried, versions) =
        match ask(&mut worker_pool, OPENING, open).await? {
            Err(call) => return Ok(NvmlSurvey::TimedOut { call }),
            Ok(Err(error)) => return Ok(NvmlSurvey::NotOpened(error)),
            Ok(Ok(opened)) => opened,
        };
    let gpus = match count {
        Ok(count) => {
            Ok(each(&mut worker_pool, &session, count, settings.sysfs_root.clone()).await?)
        }
        Err(error) => Err(error),
    };
    // Shut down on a thread that may call NVML. If that hangs, it was told of the GPU that hangs
    // already.
    let _ = ask(&mut worker_pool, 1, move || drop(session)).await?;
    Ok(NvmlSurvey::Opened(OpenedNvml { library, tried, versions, gpus }))
}

/// Has a job done that is about no GPU in particular. The error is the call that did not return
/// within so many deadlines.
async fn ask<T: Send + 'static>(
    worker_pool: &mut WorkerPool,
    deadlines: u32,
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<Result<T, &'static str>, SupervisorError> {
    let (tell, told) = oneshot::channel();
    let (mut tell, mut passed) = (Some(tell), 0);
    let missed = async |call| {
        passed += 1;
        if passed >= deadlines
            && let Some(tell) = tell.take()
        {
            let _ = tell.send(call);
        }
    };
    tokio::select! {
        answer = worker_pool.node(job, missed) => answer.map(Ok),
        Ok(call) = told => Ok(Err(call)),
    }
}

async fn each(
    worker_pool: &mut WorkerPool,
    session: &Arc<Session>,
    count: u32,
    sysfs: PathBuf,
) -> Result<Vec<SurveyedGpu>, SupervisorError> {
    let places = (0..count).map(|index| (Subject::Index(index), index)).collect();
    let session = session.clone();
    let job = move |index| {
        let found = discovery::identify(&session, None, index, None, &sysfs);
        let uuid = match &found {
            EnumerationEntry::Gpu(gpu) => Some(&gpu.uuid),
            EnumerationEntry::Failed { uuid, .. } => uuid.as_ref(),
        };
        let reading =
            uuid.map(|uuid| reading::read(&session, uuid, true).map(|answers| answers.reading));
        SurveyedGpu::Answered { found: Box::new(found), reading }
    };
    let answers = worker_pool.each(places, job).await?;
    let silent = |subject: &Subject| {
        let held_up = worker_pool.held_up().iter().find(|held_up| held_up.subject == *subject);
        held_up.map_or("a call of NVML", |held_up| held_up.call)
    };
    let told = answers.into_iter().zip(0..).map(|((subject, answer), index)| match answer {
        Some(answered) => answered,
        None => SurveyedGpu::TimedOut { index, call: silent(&subject) },
    });
    Ok(told.collect())
}
