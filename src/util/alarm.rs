//! A timer with one wake-up, for what an idle plugin does every few seconds for weeks.
//!
//! tokio keeps a timer that is seconds away in a coarse slot, then in a finer one, and wakes its
//! thread at each of them: a pause of 10 s costs three wake-ups. A timerfd costs one.

use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A timerfd; where there is none, tokio's timer.
#[derive(Debug)]
pub struct Alarm(Option<AsyncFd<OwnedFd>>);

impl Alarm {
    /// One that is not set yet. It must be created within a runtime.
    #[must_use]
    #[allow(
        deprecated,
        reason = "it is deprecated for descriptors that others may close; this one is owned here"
    )]
    pub fn new() -> Self {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags);
        Self(timer.ok().and_then(|timer| AsyncFd::with_interest(timer, Interest::READABLE).ok()))
    }

    /// Waits until `moment`, and for one moment at a time. Nothing is lost when it is dropped
    /// before.
    pub async fn at(&self, moment: Instant) {
        if let Some(timer) = &self.0 {
            while let Some(pause) =
                moment.checked_duration_since(Instant::now()).filter(|pause| !pause.is_zero())
            {
                let Ok(it_value) = Timespec::try_from(pause) else { break };
                let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
                let set = Itimerspec { it_interval, it_value };
                if rustix::time::timerfd_settime(timer, TimerfdTimerFlags::empty(), &set).is_err() {
                    break;
                }
                // It may have been ready for an earlier moment, so the time is compared again.
                let Ok(mut ready) = timer.readable().await else { break };
                ready.clear_ready();
            }
        }
        tokio::time::sleep_until(moment.into()).await;
    }
}

impl Default for Alarm {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn it_returns_at_its_moment_and_not_before_several_times() {
        let alarm = Alarm::new();
        assert!(alarm.0.is_some());
        for pause in [0, 20, 1, 5] {
            let moment = Instant::now() + Duration::from_millis(pause);
            alarm.at(moment).await;
            assert!(Instant::now() >= moment);
        }
        alarm.at(Instant::now()).await;
    }

    #[tokio::test]
    async fn an_abandoned_wait_does_not_end_the_next_one() {
        let alarm = Alarm::new();
        let soon = Instant::now() + Duration::from_millis(5);
        tokio::select! {
            biased;
            () = alarm.at(soon) => panic!("it is not time yet"),
            () = std::future::ready(()) => {}
        }
        let later = soon + Duration::from_millis(30);
        alarm.at(later).await;
        assert!(Instant::now() >= later);
    }

    #[tokio::test]
    async fn without_a_timerfd_it_waits_too() {
        let moment = Instant::now() + Duration::from_millis(5);
        Alarm(None).at(moment).await;
        assert!(Instant::now() >= moment);
    }
}
