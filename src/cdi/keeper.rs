//! Keeps the files as true as the inventory.
//!
//! ```text
//!   the inventory, a setting, the driver, or a file changes
//!        ▼
//!   plan ── a name leaves ──▶ the inventory gives it out no more ──▶ plan again
//!        ▼
//!   write ──▶ the inventory gives out what is in the files
//! ```

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use device::injection::cdi_names::CdiNames;
use device::inventory::Inventory;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use super::settings::{CdiPaths, CdiSettings};
use super::spec_dir::{Planned, Request, SpecDir, WriteOutcome};
use crate::host::dir_watch::Watches;
use crate::util::backoff::Backoff;
use crate::util::helper_thread::HelperThread;
use crate::util::random;

/// How long the disk may take before new devices are Unhealthy for it.
const DEADLINE: Duration = Duration::from_secs(2);
/// Time between two tries to write, at first and at last.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Time between two looks at the files without inotify.
const POLLING: Duration = Duration::from_secs(2);
/// After this time without a change by another program the next one is answered at once again.
const PEACE: Duration = Duration::from_secs(60);

/// The driver, as far as its files depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverState {
    /// Whether NVML is open.
    pub is_up: bool,
    /// The last known version.
    pub version: Option<String>,
}

/// Keeps the files as true as the inventory, for as long as it is polled. What can be resolved goes
/// to `publish`, which is to bring it into the inventory. `driver_changes` tells when the answer of
/// `driver` may be another.
pub async fn run(
    paths: CdiPaths,
    watches: Watches,
    mut settings: watch::Receiver<CdiSettings>,
    mut inventory: watch::Receiver<Arc<Inventory>>,
    driver: impl Fn() -> DriverState,
    mut driver_changes: watch::Receiver<()>,
    publish: impl AsyncFn(Arc<CdiNames>),
) -> Infallible {
    let uses_cdi = |inventory: &Arc<Inventory>| inventory.cdi_injectors().next().is_some();
    // There is no thread where nobody asks for CDI, and before there are GPUs the files of before
    // stay as they are.
    let begins = |inventory: &Arc<Inventory>| uses_cdi(inventory) && inventory.is_enumerated();
    if inventory.wait_for(begins).await.is_err() {
        return std::future::pending().await;
    }
    let mut keeper = Keeper::new(paths, watches, inventory.clone(), publish);
    loop {
        let snapshot = inventory.borrow_and_update().clone();
        if !uses_cdi(&snapshot) {
            // Its files stay: containers that have their devices by them may be started again.
            if inventory.wait_for(uses_cdi).await.is_err() {
                return std::future::pending().await;
            }
            continue;
        }
        let settings_now = settings.borrow_and_update().clone();
        let driver_now = driver();
        keeper.update(snapshot.clone(), settings_now, driver_now.version.clone()).await;
        tokio::select! {
            () = keeper.due() => {}
            () = changed(&mut inventory, &snapshot) => {}
            // Its GPUs may be the same, and its files others, or there again.
            () = other_driver(&mut driver_changes, || driver() != driver_now) => {
                keeper.looks_again |= driver().is_up;
            }
            Ok(()) = settings.changed() => {}
        }
    }
}

/// Waits until the specifications of the inventory are others.
async fn changed(inventory: &mut watch::Receiver<Arc<Inventory>>, from: &Inventory) {
    let differs = |inventory: &Arc<Inventory>| !inventory.has_same_cdi_devices(from);
    if inventory.wait_for(differs).await.is_err() {
        std::future::pending().await
    }
}

async fn other_driver(driver_changes: &mut watch::Receiver<()>, is_other: impl Fn() -> bool) {
    while driver_changes.changed().await.is_ok() {
        if is_other() {
            return;
        }
    }
    std::future::pending().await
}

struct Keeper<P> {
    directory: String,
    watches: Watches,
    thread: HelperThread<SpecDir>,
    /// Of the directory.
    changed: Arc<Notify>,
    inventory: watch::Receiver<Arc<Inventory>>,
    publish: P,
    looks_again: bool,
    retry: Backoff,
    retry_at: Option<Instant>,
    is_watched: bool,
    /// Against another program that writes the same files.
    others: Backoff,
    hold_until: Instant,
}

impl<P: AsyncFn(Arc<CdiNames>)> Keeper<P> {
    fn new(
        paths: CdiPaths,
        watches: Watches,
        inventory: watch::Receiver<Arc<Inventory>>,
        publish: P,
    ) -> Self {
        let changed = Arc::new(Notify::new());
        let directory = paths.spec_dir.display().to_string();
        let spec_dir = SpecDir::new(paths, watches.clone(), changed.clone());
        Self {
            directory,
            watches,
            thread: HelperThread::new("cdi", spec_dir),
            changed,
            inventory,
            publish,
            looks_again: false,
            retry: Backoff::new(RETRY.0, RETRY.1),
            retry_at: None,
            is_watched: false,
            others: Backoff::new(RETRY.0, RETRY.1),
            hold_until: Instant::now(),
        }
    }

    /// Makes the files say what is so.
    async fn update(
        &mut self,
        mut inventory: Arc<Inventory>,
        settings: CdiSettings,
        version: Option<String>,
    ) {
        let looks_again = std::mem::take(&mut self.looks_again);
        let began = Instant::now();
        loop {
            let request = Request {
                inventory: inventory.clone(),
                settings: settings.clone(),
                version: version.clone(),
                looks_again,
            };
            let plan = self.thread.submit(move |directory| directory.plan(&request));
            let planned = match self.answer(plan).await {
                Ok(planned) => planned,
                Err(error) => return self.failed(&error).await,
            };
            if let Some(fewer) = without_leaving(&self.known(), &planned) {
                self.publish(fewer).await;
                inventory = self.inventory.borrow().clone();
                continue;
            }
            let mut outcome = self.write().await;
            // A directory that is removed and made again meanwhile is no reason to wait.
            if outcome.as_ref().is_ok_and(|outcome| outcome.problem.is_some()) {
                outcome = self.write().await;
            }
            match outcome {
                Ok(outcome) => self.written(planned, outcome, began.elapsed()).await,
                Err(error) => self.failed(&error).await,
            }
            return;
        }
    }

    async fn write(&mut self) -> io::Result<WriteOutcome> {
        let write = self.thread.submit(SpecDir::write);
        self.answer(write).await
    }

    /// Waits until there is a reason to look at the files again that no other module knows of.
    async fn due(&mut self) {
        let polling = if self.is_watched { None } else { Some(Instant::now() + POLLING) };
        let check = self.watches.next_check();
        let next = [self.retry_at, polling].into_iter().flatten().min();
        let is_check = next.is_none_or(|next| check <= next);
        tokio::select! {
            () = sleep_until(next.unwrap_or(check).min(check)) => {
                // The driver's files may be others.
                self.looks_again = is_check;
            }
            () = self.changed.notified() => sleep_until(self.hold_until).await,
        }
    }

    async fn written(&mut self, planned: Planned, outcome: WriteOutcome, took: Duration) {
        let directory = &self.directory;
        self.is_watched = outcome.is_watched;
        if !outcome.changed_by_others.is_empty() {
            let files = outcome.changed_by_others.join(",");
            warn!(
                directory,
                files,
                "another program has changed or removed CDI specifications of \
                this plugin: they are written again"
            );
            if self.hold_until.elapsed() > PEACE {
                self.others.reset();
            }
            self.hold_until = Instant::now() + self.others.next_delay();
        }
        if outcome.writes > 0 && outcome.problem.is_none() {
            let (devices, milliseconds) = (outcome.names.len(), took.as_secs_f64() * 1e3);
            let milliseconds = (milliseconds * 1e3).round() / 1e3;
            info!(directory, devices, milliseconds, "the CDI specifications are written");
        }
        match &outcome.problem {
            Some(_) => self.schedule_retry(),
            None => self.retried(),
        }
        self.publish(CdiNames {
            in_files: Arc::new(outcome.names),
            left_out: planned.left_out,
            problem: outcome.problem,
            incomplete: planned.incomplete,
            not_limited: planned.not_limited,
        })
        .await;
    }

    /// There was no thread to be had, or it has panicked.
    async fn failed(&mut self, error: &io::Error) {
        self.schedule_retry();
        let problem = Some(format!("{}: {error}", self.directory));
        self.publish(CdiNames { problem, ..self.known() }).await;
    }

    fn schedule_retry(&mut self) {
        let delay = self.retry.next_delay_with_jitter(random::fraction());
        self.retry_at = Some(Instant::now() + delay);
    }

    fn retried(&mut self) {
        self.retry.reset();
        self.retry_at = None;
    }

    /// What is known in the inventory.
    fn known(&self) -> CdiNames {
        self.inventory.borrow().cdi().map(|names| names.as_ref().clone()).unwrap_or_default()
    }

    /// Brings it into the inventory, unless it is there.
    async fn publish(&mut self, names: CdiNames) {
        if self.known() == names {
            return;
        }
        let names = Arc::new(names);
        (self.publish)(names.clone()).await;
        let has_it = |inventory: &Arc<Inventory>| inventory.cdi() == Some(&names);
        // An error: the daemon stops.
        let _ = self.inventory.wait_for(has_it).await;
    }

    /// Waits for the thread. If that takes long, devices that wait for it are Unhealthy.
    async fn answer<T>(&mut self, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let mut work = pin!(work);
        if let Ok(answer) = timeout(DEADLINE, &mut work).await {
            return answer;
        }
        let problem = format!(
            "{}, or the driver's files, have not answered for {} s",
            self.directory,
            DEADLINE.as_secs()
        );
        self.publish(CdiNames { problem: Some(problem), ..self.known() }).await;
        work.await
    }
}

/// What can be resolved without the names that are not planned; `None` if there are none.
fn without_leaving(known: &CdiNames, planned: &Planned) -> Option<CdiNames> {
    let stays = |name: &&String| planned.names.contains(*name);
    if known.in_files.iter().all(|name| stays(&name)) {
        return None;
    }
    let in_files = Arc::new(known.in_files.iter().filter(stays).cloned().collect());
    Some(CdiNames { in_files, ..known.clone() })
}
