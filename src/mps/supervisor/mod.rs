//! Starts and supervises the MPS control daemon of each resource that MPS shares, each by itself:
//! what goes wrong with one touches no other.
//!
//! What is shared is what the plugin's status says. While the plugin is silent, as when it is
//! restarted, everything stays as it is: clients run.

mod commands;
mod compute_mode;
mod directories;
mod goal;
mod log;
mod machine;
mod process;
mod settings;
mod steps;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use device::names::ResourceName;
use status::{NvmlState, Status};
use status_stream::View;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{error, info, warn};

use self::goal::{Goal, goals};
use self::machine::{DaemonAction, Machine};
pub use self::settings::SupervisorSettings;
use self::steps::Steps;

/// How long all daemons together may take to end: less than the 30 s that the kubelet gives a pod.
const STOP_DEADLINE: Duration = Duration::from_secs(25);

/// The control daemons of all resources.
struct Supervisor {
    settings: Arc<SupervisorSettings>,
    goals: BTreeMap<ResourceName, watch::Sender<Option<Goal>>>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<ResourceName>,
}

/// Supervises until `stop` returns, and then until all daemons have ended.
pub async fn run(settings: SupervisorSettings, stop: impl Future<Output = ()>) {
    let (view_tx, mut view) = watch::channel(View::default());
    let mut follower = JoinSet::new();
    follower.spawn(status_stream::follow(settings.paths.status_socket(), view_tx));
    let ready = settings.paths.ready();
    let mut supervisor = Supervisor {
        settings: Arc::new(settings),
        goals: BTreeMap::new(),
        stop: watch::Sender::new(false),
        tasks: JoinSet::new(),
    };
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            Ok(()) = view.changed() => {
                let View { status, silent } = view.borrow_and_update().clone();
                if silent {
                    warn!("the plugin has not answered for a minute; what it shared stays so");
                }
                // A plugin that has just started, or without its driver, knows no GPUs.
                let status = status.filter(|status| knows_gpus(status));
                if let Some(status) = status {
                    supervisor.update(&status);
                    // As NVIDIA's daemon, for the start-up probe of the GPU Operator.
                    let _ = std::fs::write(&ready, "");
                }
            }
            Some(ended) = supervisor.tasks.join_next() => supervisor.ended(ended),
            () = &mut stop => break,
        }
    }
    info!("the MPS control daemons are told to quit, which ends their clients");
    let _ = std::fs::remove_file(&ready);
    supervisor.end().await;
}

/// Whether a status says what is shared.
fn knows_gpus(status: &Status) -> bool {
    status.nvml.state == NvmlState::Up && !status.gpus.is_empty()
}

/// Logs that other GPUs of a resource can be used.
fn tell_usable(resource: &ResourceName, before: Option<&Goal>, now: Option<&Goal>) {
    let usable = |goal: &Goal| goal.usable().count();
    if let (Some(before), Some(now)) = (before, now)
        && usable(before) != usable(now)
    {
        let (healthy, gpus) = (usable(now), now.gpus.len());
        info!(%resource, healthy, gpus, "the GPUs that MPS shares have another health");
    }
}

impl Supervisor {
    /// Tells each daemon what it is to be, and starts the tasks of new ones.
    fn update(&mut self, status: &Status) {
        let mut goals = goals(status);
        for (resource, wanted) in &self.goals {
            let goal = goals.remove(resource);
            tell_usable(resource, wanted.borrow().as_ref(), goal.as_ref());
            wanted.send_if_modified(|before| {
                let differs = *before != goal;
                *before = goal;
                differs
            });
        }
        for (resource, goal) in goals {
            info!(%resource, gpus = goal.gpus.len(), "shared by MPS");
            let (goal_tx, goal) = watch::channel(Some(goal));
            let stop = self.stop.subscribe();
            let task = DaemonTask::new(resource.clone(), self.settings.clone(), goal, stop);
            self.tasks.spawn(task.run());
            self.goals.insert(resource, goal_tx);
        }
    }

    fn ended(&mut self, ended: Result<ResourceName, tokio::task::JoinError>) {
        match ended {
            Ok(resource) => {
                info!(%resource, "no longer shared by MPS");
                self.goals.remove(&resource);
            }
            Err(error) => {
                error!(%error, "the task of an MPS control daemon has panicked; it is started \
                    again with the next change of the status");
                self.goals.retain(|_, goal| goal.receiver_count() > 0);
            }
        }
    }

    async fn end(mut self) {
        self.stop.send_replace(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(STOP_DEADLINE, all).await.is_err() {
            let left = self.goals.len();
            error!(left, "MPS control daemons have not ended in time; they end with this process");
        }
    }
}

/// One control daemon.
struct DaemonTask {
    resource: ResourceName,
    goal: watch::Receiver<Option<Goal>>,
    stop: watch::Receiver<bool>,
    machine: Machine,
    steps: Steps,
    began: Instant,
    /// Whether it was told that a change waits for clients.
    told_waiting: bool,
}

impl DaemonTask {
    fn new(
        resource: ResourceName,
        settings: Arc<SupervisorSettings>,
        goal: watch::Receiver<Option<Goal>>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let steps = Steps::new(resource.clone(), settings);
        let (machine, began) = (Machine::default(), Instant::now());
        Self { resource, goal, stop, machine, steps, began, told_waiting: false }
    }

    /// Runs until the daemon is not wanted and all is undone.
    async fn run(mut self) -> ResourceName {
        loop {
            self.observe().await;
            match self.machine.next(self.began.elapsed()) {
                DaemonAction::Do(step) => {
                    let outcome = self.steps.perform(&step).await;
                    self.machine.done(outcome, self.began.elapsed());
                }
                DaemonAction::Wait(until) => self.wait(until).await,
                DaemonAction::Finished => break,
            }
        }
        self.steps.close();
        self.resource
    }

    /// What has happened since: levels, of which none can be missed.
    async fn observe(&mut self) {
        let goal = self.goal.borrow_and_update().clone();
        self.machine.want(goal);
        if *self.stop.borrow_and_update() {
            self.machine.stop();
        }
        if let Some(how) = self.steps.exited().await {
            self.machine.exited(&how, self.began.elapsed());
        }
        if self.steps.take_foreign_commands() {
            self.machine.limits_lost();
        }
        let waits = self.machine.waits_for_clients() && self.machine.is_announced();
        if waits && !self.told_waiting {
            let (resource, directory) = (&self.resource, self.steps.directory());
            info!(%resource, directory = %directory.display(), "the MPS control daemon is to be \
                another one, which waits until no client runs");
        }
        self.told_waiting = waits;
    }

    async fn wait(&mut self, until: Option<Duration>) {
        let due = async {
            match until {
                Some(until) => sleep_until(self.began + until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = self.goal.changed() => {
                // Nobody is left to tell more: as when the process stops.
                if changed.is_err() {
                    self.machine.stop();
                }
            }
            _ = self.stop.changed() => {}
            () = self.steps.changed() => {}
            () = due => {}
        }
    }
}
