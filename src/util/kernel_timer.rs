//! A timer of the kernel for long pauses, so that each wakes its thread once.
//!
//! The timers of tokio lie in a wheel of six levels. One that is more than 64 ms away is moved to a
//! lower level on its way, and each move wakes the thread: ten seconds take three wake-ups.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// One timer, for one pause at a time.
#[derive(Debug)]
pub struct KernelTimer {
    create: fn() -> io::Result<OwnedFd>,
    fd: Option<AsyncFd<OwnedFd>>,
    /// For which time it is set.
    set_for: Option<Instant>,
}

impl Default for KernelTimer {
    fn default() -> Self {
        Self { create, fd: None, set_for: None }
    }
}

impl KernelTimer {
    /// Waits until a time. Where there is no timer to be had, tokio's is used, and the kernel's is
    /// tried again with the next pause. Nothing is lost when it is dropped before.
    pub async fn sleep_until(&mut self, end: Instant) {
        if self.wait(end).await.is_err() {
            (self.fd, self.set_for) = (None, None);
            tokio::time::sleep_until(end.into()).await;
        }
    }

    async fn wait(&mut self, end: Instant) -> io::Result<()> {
        while let Some(left) =
            end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
        {
            let fd = match &mut self.fd {
                Some(fd) => fd,
                none => none.insert(register((self.create)()?)?),
            };
            if self.set_for != Some(end) {
                set(fd.get_ref(), left)?;
                self.set_for = Some(end);
            }
            let mut ready = fd.readable().await?;
            // It may still be ready by an earlier pause, or a little before its time.
            match rustix::io::read(fd.get_ref(), &mut [0; 8]) {
                Ok(_) => self.set_for = None,
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn create() -> io::Result<OwnedFd> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    Ok(timerfd_create(TimerfdClockId::Monotonic, flags)?)
}

#[allow(
    deprecated,
    reason = "what took its place is unsafe, and an `OwnedFd` is all that it demands"
)]
fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

fn set(fd: &OwnedFd, left: Duration) -> io::Result<()> {
    let once = Itimerspec {
        it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
        it_value: left.try_into().unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 }),
    };
    timerfd_settime(fd, TimerfdTimerFlags::empty(), &once)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use tokio::runtime::Builder;

    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// How often a pause of this length wakes the thread.
    fn wakes(length: Duration, pause: impl AsyncFn(Instant)) -> usize {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counted = wakes.clone();
        let count = move || {
            counted.fetch_add(1, Relaxed);
        };
        let runtime =
            Builder::new_current_thread().enable_all().on_thread_unpark(count).build().unwrap();
        runtime.block_on(async {
            let end = Instant::now() + length;
            pause(end).await;
            assert!(Instant::now() >= end);
        });
        wakes.load(Relaxed)
    }

    #[test]
    fn a_pause_wakes_the_thread_once_and_one_of_tokio_more_often() {
        let kernel = async |end| KernelTimer::default().sleep_until(end).await;
        let tokio = async |end: Instant| tokio::time::sleep_until(end.into()).await;
        let length = 300 * MILLISECOND;
        let (kernel, tokio) = (wakes(length, kernel), wakes(length, tokio));
        assert!(kernel < tokio, "{kernel} and {tokio}");
        assert_eq!(kernel, 1);
    }

    #[tokio::test]
    async fn each_pause_ends_at_its_own_time_whatever_became_of_the_one_before() {
        let mut timer = KernelTimer::default();
        let start = Instant::now();
        let (soon, later) = (start + 20 * MILLISECOND, start + 60 * MILLISECOND);
        tokio::select! {
            biased;
            () = timer.sleep_until(later) => unreachable!(),
            () = std::future::ready(()) => {}
        }
        timer.sleep_until(soon).await;
        assert!(Instant::now() >= soon);
        timer.sleep_until(soon).await;
        tokio::select! {
            biased;
            () = timer.sleep_until(Instant::now() + Duration::from_secs(3600)) => unreachable!(),
            () = tokio::time::sleep_until(later.into()) => {}
        }
        // One that is over before it is waited for leaves the timer ready.
        let over = Instant::now() + MILLISECOND;
        tokio::select! {
            biased;
            () = timer.sleep_until(over) => {}
            () = async { while Instant::now() < over { tokio::task::yield_now().await } } => {}
        }
        let last = Instant::now() + 20 * MILLISECOND;
        timer.sleep_until(last).await;
        assert!(Instant::now() >= last);
        // As far away as a time can be.
        let mut far = Instant::now();
        for power in (0..64).rev() {
            far = far.checked_add(Duration::from_secs(1 << power)).unwrap_or(far);
        }
        tokio::select! {
            biased;
            () = timer.sleep_until(far) => unreachable!(),
            () = tokio::time::sleep(MILLISECOND) => {}
        }
        assert!(timer.fd.is_some());
    }

    #[tokio::test]
    async fn without_a_timer_the_pause_takes_as_long() {
        let mut timer = KernelTimer { create: || Err(Errno::MFILE.into()), ..Default::default() };
        let end = Instant::now() + 20 * MILLISECOND;
        timer.sleep_until(end).await;
        assert!(Instant::now() >= end && timer.fd.is_none());
        timer.create = create;
        timer.sleep_until(Instant::now() + MILLISECOND).await;
        assert!(timer.fd.is_some());
    }
}
