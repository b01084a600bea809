//! Reads all that NVML says of the node and of each GPU, once, for a command. Every call has a
//! deadline, and one that does not return is reported as such.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use device::health::{NvmlError as CallError, Reading, ReturnCode};
use device::inventory::EnumerationEntry;
use device::names::Uuid;
use tokio::sync::mpsc::unbounded_channel;

use super::channels::Clock;
use super::error::SupervisorError;
use super::inspection::Inspection;
use super::job::{Context, Job, Opened, Outcome, Task};
use super::library::NvmlOpenError;
use super::settings::NvmlSettings;
use super::shared_session::SharedSession;
use super::telemetry::NvmlTelemetry;
use super::telemetry::Versions;
use super::threads::Threads;

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
        reading: Option<Reading>,
        /// What else a person is told of it.
        inspection: Option<Inspection>,
    },
    /// A call about it did not return in time.
    TimedOut {
        /// Its index.
        index: u32,
        /// The GPU, if it is identified.
        found: Option<Box<EnumerationEntry>>,
        /// The call.
        call: &'static str,
    },
}

/// The most GPUs that are asked about.
const MOST_GPUS: u32 = 1024;

/// Surveys the node; a call may take as long as `deadline`.
///
/// # Errors
/// A thread panicked.
pub async fn survey(
    settings: &NvmlSettings,
    deadline: Duration,
) -> Result<NvmlSurvey, SupervisorError> {
    let clock = Clock::from(Instant::now());
    let context = context(settings);
    let do_job = move |job: &Job, report: &dyn Fn(_)| job.run(&context, report);
    let threads = Threads::new(clock, NvmlTelemetry::default(), do_job);
    let ask = Survey { threads, clock, deadline };
    let opened = ask.one(Task::Open, 1).await?;
    let Opened { library, tried, versions, count, .. } = match opened {
        Ok(Outcome::Opened(Ok(opened))) => opened,
        Ok(Outcome::Opened(Err(error))) => return Ok(NvmlSurvey::NotOpened(error)),
        Ok(_) => return Ok(NvmlSurvey::TimedOut { call: "nvmlInit_v2" }),
        Err(call) => return Ok(NvmlSurvey::TimedOut { call }),
    };
    let gpus = match count {
        Ok(count) => Ok(ask.gpus(count.min(MOST_GPUS)).await?),
        Err(error) => Err(error),
    };
    // If that hangs, a GPU that hangs was reported already.
    let _ = ask.one(Task::Close, 1).await?;
    Ok(NvmlSurvey::Opened(OpenedNvml { library, tried, versions, gpus }))
}

fn context(settings: &NvmlSettings) -> Context {
    Context {
        settings: settings.clone(),
        shared: SharedSession::default(),
        bus: Mutex::default(),
        // Nobody waits for the shutdown: the process is about to exit.
        shut_down: unbounded_channel().0,
    }
}

/// Has jobs done, and waits for them.
struct Survey {
    threads: Threads,
    clock: Clock,
    deadline: Duration,
}

/// The answer of a job; or the call of it that did not return in time.
type Asked = Result<Outcome, &'static str>;

impl Survey {
    async fn one(&self, task: Task, deadlines: u32) -> Result<Asked, SupervisorError> {
        let asked = self.all(vec![task], deadlines).await?;
        Ok(asked.into_iter().next().unwrap_or(Err("a call of NVML")))
    }

    /// The answers of these jobs, in their order.
    async fn all(&self, tasks: Vec<Task>, deadlines: u32) -> Result<Vec<Asked>, SupervisorError> {
        let jobs: Vec<Job> = tasks.into_iter().map(|task| Job { session: 1, task }).collect();
        self.threads.submit(jobs.iter().cloned());
        let mut asked: BTreeMap<usize, Asked> = BTreeMap::new();
        let position = |job: &Job| jobs.iter().position(|other| other == job);
        while asked.len() < jobs.len() {
            self.wait().await;
            for answer in self.threads.answers() {
                if let Outcome::Panicked(text) = answer.outcome {
                    return Err(SupervisorError::ThreadEnded("nvml", text));
                }
                asked.extend(position(&answer.job).map(|at| (at, Ok(answer.outcome))));
            }
            for overdue in self.threads.overdue(self.deadline) {
                if overdue.missed >= deadlines {
                    asked.extend(position(&overdue.job).map(|at| (at, Err(overdue.call))));
                }
            }
            self.threads.tick();
        }
        Ok(asked.into_values().collect())
    }

    async fn wait(&self) {
        let due = self
            .threads
            .next_tick(self.deadline)
            .unwrap_or_else(|| self.clock.now().after(self.deadline));
        let due = tokio::time::sleep_until(self.clock.instant(due).into());
        tokio::select! {
            () = due => {}
            () = self.threads.answered() => {}
        }
    }

    async fn gpus(&self, count: u32) -> Result<Vec<SurveyedGpu>, SupervisorError> {
        let identify = (0..count).map(|index| Task::Identify { index }).collect();
        let mut gpus = Vec::new();
        for (index, identified) in (0..).zip(self.all(identify, 1).await?) {
            gpus.push(match identified {
                Err(call) => SurveyedGpu::TimedOut { index, found: None, call },
                Ok(Outcome::Identified(Ok(gpu))) => self.gpu(index, gpu).await?,
                Ok(Outcome::Identified(Err(why))) => {
                    let found = Box::new(why.entry(index));
                    SurveyedGpu::Answered { found, reading: None, inspection: None }
                }
                Ok(_) => continue,
            });
        }
        Ok(gpus)
    }

    /// Reads the facts and the health of a GPU.
    async fn gpu(&self, index: u32, gpu: Uuid) -> Result<SurveyedGpu, SupervisorError> {
        let describe = Task::Describe { index, gpu: gpu.clone() };
        let described = match self.one(describe, 1).await? {
            Ok(Outcome::Described(found)) => Ok(Box::new(found)),
            Ok(_) => Err("a call of NVML"),
            Err(call) => Err(call),
        };
        let found = match described {
            Ok(found) => found,
            Err(call) => {
                let error = CallError { call, code: ReturnCode::TIMEOUT };
                let found = EnumerationEntry::Failed { index, uuid: Some(gpu), error };
                return Ok(SurveyedGpu::TimedOut { index, found: Some(Box::new(found)), call });
            }
        };
        let inspect = Task::Inspect { gpu: gpu.clone() };
        let read = Task::Read { gpu, with_fabric: true, with_energy: false, poll: false };
        let reading = match self.one(read, 1).await? {
            Err(call) => return Ok(SurveyedGpu::TimedOut { index, found: Some(found), call }),
            Ok(Outcome::Read(answers)) => Some(answers.reading),
            Ok(_) => None,
        };
        Ok(match self.one(inspect, 1).await? {
            Err(call) => SurveyedGpu::TimedOut { index, found: Some(found), call },
            Ok(Outcome::Inspected(inspected)) => {
                SurveyedGpu::Answered { found, reading, inspection: inspected.ok() }
            }
            Ok(_) => SurveyedGpu::Answered { found, reading, inspection: None },
        })
    }
}
