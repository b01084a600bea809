//! Carries jobs from the supervisor to the threads, answers back, and observations out.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Mutex;
use std::time::Duration;

use device::health::Moment;
use device::names::Uuid;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;

use super::channels::{Clock, NvmlChannels};
use super::error::SupervisorError;
use super::job::{Context, Job, Subject, Task};
use super::look;
use super::release::{NotReleased, ReleaseEnd, ReleaseRequests, Wish};
use super::settings::NvmlSettings;
use super::shared_session::SharedSession;
use super::supervisor::Supervisor;
use super::telemetry::NvmlTelemetry;
use super::threads::Threads;
use crate::util::kernel_timer::KernelTimer;
use crate::util::random;

/// The most calls that are named where NVML cannot be released.
const MOST_HELD: usize = 4;

pub(super) async fn run(
    settings: NvmlSettings,
    clock: Clock,
    channels: NvmlChannels,
) -> Result<Infallible, SupervisorError> {
    let NvmlChannels { observations_tx, mut requests_rx, mut release, telemetry, mut settings_rx } =
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
    let mut timer = KernelTimer::default();
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
        answer_release(&mut release, &mut supervisor, &threads, clock.now());
        if supervisor.wants_release() {
            // A process that looks has the GPUs open too.
            looks.abort_all();
        }
        if supervisor.take_look() {
            looks.spawn(look::look(settings.clone()));
        }
        let due = due.into_iter().chain(release.due()).min();
        let due = async {
            match due {
                Some(due) => timer.sleep_until(clock.instant(due)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            () = threads.answered() => {}
            Some(session) = sessions.recv() => supervisor.shut_down(clock.now(), session),
            Some(seen) = looks.join_next() => {
                // One that was ended has seen nothing.
                supervisor.looked(clock.now(), seen.unwrap_or_else(|_| Ok(BTreeSet::new())));
            }
            request = release.next() => {
                let now = clock.now();
                match release.accept(now, request) {
                    Some(Wish::Release(time)) => supervisor.release(now, time),
                    Some(Wish::TakeUp) => supervisor.take_up(now),
                    None => {}
                }
            }
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

/// Tells those who want NVML released, or in use, what came of it.
fn answer_release(
    release: &mut ReleaseRequests,
    supervisor: &mut Supervisor,
    threads: &Threads,
    now: Moment,
) {
    let held = || held_by(threads.calls());
    if let Some(end) = supervisor.take_release_end() {
        release.release_over(&match end {
            ReleaseEnd::Released { until } => Ok(until.since(now)),
            ReleaseEnd::NotInUse(reason) => Err(NotReleased::NotInUse(reason)),
            ReleaseEnd::GivenUp => Err(NotReleased::Held { held: held() }),
            ReleaseEnd::TakenUp => Err(NotReleased::TakenUp),
        });
    }
    release.answer_take_ups(now, &supervisor.usage(), held);
    release.set_possible(supervisor.can_release());
}

/// The calls that have not returned, in words.
fn held_by(calls: Vec<(Job, &'static str, Duration)>) -> String {
    let in_nvml = calls.into_iter().filter(|(job, ..)| job.task != Task::Bus);
    let mut words = in_nvml.map(|(job, call, time)| {
        let about = match job.task.subject() {
            Subject::Gpu(gpu) | Subject::Links(gpu) => format!(" about {gpu}"),
            Subject::Index(index) => format!(" about the GPU at index {index}"),
            Subject::Node(_) => String::new(),
        };
        format!("{call}{about} has not returned for {} s", time.as_secs())
    });
    let shown: Vec<_> = words.by_ref().take(MOST_HELD).collect();
    match (shown.is_empty(), words.count()) {
        (true, _) => "NVML has not ended".to_owned(),
        (false, 0) => shown.join(", and "),
        (false, more) => format!("{}, and {more} other calls", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_nvml_is_told_by_call_and_gpu() {
        let job = |task| Job { session: 1, task };
        let links = |gpu: &str| Task::Links { gpu: gpu.parse().unwrap(), others: BTreeSet::new() };
        let seconds = Duration::from_secs;
        assert_eq!(held_by(vec![(job(Task::Bus), "sysfs", seconds(9))]), "NVML has not ended");
        let calls = vec![
            (job(links("GPU-1")), "nvmlDeviceGetNvLinkState", seconds(14)),
            (job(Task::Identify { index: 3 }), "nvmlDeviceGetUUID", seconds(5)),
        ];
        assert_eq!(
            held_by(calls),
            "nvmlDeviceGetNvLinkState about GPU-1 has not returned for 14 s, and nvmlDeviceGetUUID \
             about the GPU at index 3 has not returned for 5 s"
        );
        let many = vec![(job(links("GPU-1")), "nvmlShutdown", seconds(1)); 9];
        assert!(held_by(many).ends_with(", and 5 other calls"));
    }
}
