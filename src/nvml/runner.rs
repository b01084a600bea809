//! Carries jobs from the supervisor to the threads, answers back, and observations out.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Mutex;

use device::health::Moment;
use device::names::Uuid;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;

use super::channels::{Clock, NvmlChannels};
use super::error::SupervisorError;
use super::job::{Context, Job};
use super::look;
use super::settings::NvmlSettings;
use super::shared_session::SharedSession;
use super::supervisor::Supervisor;
use super::telemetry::NvmlTelemetry;
use super::threads::Threads;
use crate::util::random;

pub(super) async fn run(
    settings: NvmlSettings,
    clock: Clock,
    channels: NvmlChannels,
) -> Result<Infallible, SupervisorError> {
    let NvmlChannels { observations_tx, mut requests_rx, release, telemetry, mut settings_rx } =
        channels;
    let (shut_down, mut sessions) = unbounded_channel();
    let poll_settings = settings_rx.borrow_and_update().clone();
    let retries = !settings.fail_on_init_error;
    let mut supervisor =
        Supervisor::new(poll_settings, retries, telemetry.clone(), random::fraction);
    let (shared, bus) = (SharedSession::default(), Mutex::default());
    let context = Context { settings: settings.clone(), shared, bus, shut_down };
    let do_job = move |job: &Job, report: &dyn Fn(_)| job.run(&context, report);
    let threads = Threads::new(clock, telemetry.clone(), do_job);
    let mut looks: JoinSet<Result<BTreeSet<Uuid>, String>> = JoinSet::new();
    loop {
        let due = carry(&mut supervisor, &threads, &telemetry, clock);
        if let Some(error) = supervisor.take_error() {
            return Err(error);
        }
        let batch = supervisor.take_batch();
        if !batch.is_empty() {
            // If nobody receives them, the daemon is stopping.
            let _ = observations_tx.send(batch).await;
        }
        release.set_possible(supervisor.can_release());
        if supervisor.take_look() {
            looks.spawn(look::look(settings.clone()));
        }
        let due = due.map(|due| tokio::time::sleep_until(clock.instant(due).into()));
        let due = pin!(async {
            match due {
                Some(due) => due.await,
                None => std::future::pending().await,
            }
        });
        tokio::select! {
            () = due => {}
            () = threads.answered() => {}
            Some(session) = sessions.recv() => supervisor.shut_down(clock.now(), session),
            Some(Ok(seen)) = looks.join_next() => supervisor.looked(clock.now(), seen),
            () = release.requested() => supervisor.toggle_release(clock.now()),
            // The senders are gone only while the daemon stops.
            Ok(()) = requests_rx.changed() => {
                supervisor.set_requests(requests_rx.borrow_and_update().clone());
            }
            Ok(()) = settings_rx.changed() => {
                let settings = settings_rx.borrow_and_update().clone();
                supervisor.set_settings(clock.now(), settings);
            }
        }
    }
}

/// Gives the supervisor what the threads have answered and missed, and the threads what it decides
/// on. Returns when to do so next, if nothing happens before.
fn carry(
    supervisor: &mut Supervisor,
    threads: &Threads,
    telemetry: &NvmlTelemetry,
    clock: Clock,
) -> Option<Moment> {
    let now = clock.now();
    for answer in threads.answers() {
        supervisor.answered(now, answer);
    }
    for overdue in threads.overdue(supervisor.deadline()) {
        supervisor.overdue(now, &overdue);
    }
    telemetry.set_unanswered(threads.unanswered());
    supervisor.step(now);
    threads.submit(supervisor.take_jobs());
    threads.tick();
    let wake = supervisor.wake_at(now).map(|due| due.max(now));
    wake.into_iter().chain(threads.next_tick(supervisor.deadline())).min()
}
