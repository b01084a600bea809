//! Whether the control daemon of a resource is there, for as long as the resource is shared: told
//! by its supervisor where it is one of ours, else asked for.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use device::mps::MpsDaemon;
use device::names::ResourceName;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::MpsPaths;
use super::client::{self, MpsError};
use super::programs::DriverPrograms;
use super::published::{self, Published, Supervision};
use crate::host::dir_watch::{CHECK_INTERVAL, Watch, Watches};
use crate::util::backoff::Backoff;
use crate::util::helper_thread::HelperThread;

/// A cheap command that only a running daemon answers, the same as in NVIDIA's plugin.
const QUESTION: &str = "get_default_active_thread_percentage";
/// How often a daemon that nobody of ours supervises is asked.
const ASK_INTERVAL: Duration = Duration::from_secs(5);
/// The first pause before a daemon that is not there is asked again, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_millis(1500);
/// The pause between two looks at a directory that cannot be watched.
const UNWATCHED: Duration = Duration::from_secs(1);

/// What looking at control daemons needs.
#[derive(Clone)]
pub struct MpsWatcher {
    /// The control program.
    pub programs: DriverPrograms,
    /// The directories of the daemons.
    pub paths: MpsPaths,
    /// The watches of directories.
    pub watches: Watches,
}

/// Asks the control daemon at these pipes for its default share of threads.
///
/// # Errors
/// Its client cannot be run, or says that no daemon answers.
pub async fn ask(programs: &DriverPrograms, pipes: &Path) -> Result<String, MpsError> {
    let answer = client::command(programs, pipes, QUESTION).await?;
    match answer.parse::<f64>() {
        Ok(_) => Ok(answer),
        Err(_) => Err(MpsError::Daemon(status_text(&answer))),
    }
}

/// An answer that is none, as it is shown.
fn status_text(answer: &str) -> String {
    status::escaped(answer.lines().next().unwrap_or("nothing")).to_string()
}

impl MpsWatcher {
    /// Reports how the daemon of a resource is, and again whenever that changes, for good.
    pub async fn follow(
        self,
        resource: ResourceName,
        report: mpsc::Sender<(ResourceName, MpsDaemon)>,
    ) {
        let mut view = DaemonView::new(resource.clone(), self.paths.directory(&resource));
        loop {
            let now = Instant::now();
            let (daemon, pause) = self.look(&mut view).await;
            if view.last.as_ref() != Some(&daemon) {
                view.tell(&daemon);
                view.last = Some(daemon.clone());
                if report.send((resource.clone(), daemon)).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                () = view.changed.notified() => {}
                () = sleep_until(now + pause) => {}
            }
        }
    }

    /// How the daemon is, and when to look again if nothing tells of a change.
    async fn look(&self, view: &mut DaemonView) -> (MpsDaemon, Duration) {
        self.watch(view);
        let directory = view.directory.clone();
        let supervision = view.files.submit(move |()| published::read(&directory)).await;
        match supervision.and_then(|read| read) {
            Ok(Supervision::Supervisor(published)) => {
                view.backoff.reset();
                let pause = if view.watch.is_some() { CHECK_INTERVAL } else { UNWATCHED };
                (supervised(published), pause)
            }
            Ok(Supervision::Nobody) => self.ask(view).await,
            Err(error) => {
                let cause = format!("{}: {error}", view.directory.display());
                (MpsDaemon::Down(cause), view.backoff.next_delay())
            }
        }
    }

    async fn ask(&self, view: &mut DaemonView) -> (MpsDaemon, Duration) {
        match ask(&self.programs, &self.paths.pipes(&view.resource)).await {
            Ok(threads) => {
                view.threads = Some(threads);
                view.backoff.reset();
                (MpsDaemon::Up(None), ASK_INTERVAL)
            }
            Err(error) => (MpsDaemon::Down(error.to_string()), view.backoff.next_delay()),
        }
    }

    /// Watches the directory, once it is there. Without a watch it is looked at more often.
    fn watch(&self, view: &mut DaemonView) {
        if view.watch.as_ref().is_some_and(Watch::is_live) {
            return;
        }
        let changed = view.changed.clone();
        let on_event = move |event: &notify::Event| {
            // We open its files ourselves. That one is closed after writing tells of an end.
            use notify::event::{AccessKind, AccessMode, EventKind};
            let is_end = event.kind == EventKind::Access(AccessKind::Close(AccessMode::Write));
            if is_end || !event.kind.is_access() {
                changed.notify_one();
            }
        };
        view.watch = self.watches.watch(&view.directory, on_event).ok();
    }
}

/// What is known of one daemon.
struct DaemonView {
    resource: ResourceName,
    directory: PathBuf,
    /// Reads its files, so that none of them holds up anything else.
    files: HelperThread<()>,
    watch: Option<Watch>,
    changed: Arc<Notify>,
    backoff: Backoff,
    /// Its default share of threads, where it was asked.
    threads: Option<String>,
    last: Option<MpsDaemon>,
    /// Whether it was there once.
    was_up: bool,
}

impl DaemonView {
    fn new(resource: ResourceName, directory: PathBuf) -> Self {
        Self {
            resource,
            directory,
            files: HelperThread::new("mps", ()),
            watch: None,
            changed: Arc::new(Notify::new()),
            backoff: Backoff::new(FIRST_PAUSE, LAST_PAUSE),
            threads: None,
            last: None,
            was_up: false,
        }
    }

    /// Logs how the daemon is now.
    fn tell(&mut self, daemon: &MpsDaemon) {
        let resource = &self.resource;
        match daemon {
            MpsDaemon::Up(_) => {
                self.was_up = true;
                let active_thread_percentage = self.threads.as_deref();
                info!(%resource, active_thread_percentage, "the MPS control daemon answers");
            }
            MpsDaemon::Down(reason) if self.was_up => warn!(
                %resource, %reason, "the MPS control daemon is gone; its devices are Unhealthy \
                    until it is back"
            ),
            MpsDaemon::Down(reason) => warn!(
                %resource, %reason, "cannot share by MPS yet, will retry; the other resources are \
                    served"
            ),
        }
    }
}

/// What a supervisor tells, of which nothing is taken as it stands.
fn supervised(published: Published) -> MpsDaemon {
    let Published { up, cause, gpus } = published;
    if up {
        return MpsDaemon::Up(Some(gpus.iter().filter_map(|gpu| gpu.parse().ok()).collect()));
    }
    let cause = cause.unwrap_or_else(|| "its supervisor does not say why".to_owned());
    let start: String = cause.chars().take(500).collect();
    MpsDaemon::Down(status::escaped(&start).to_string())
}
