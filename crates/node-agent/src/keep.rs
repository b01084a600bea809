//! Keeps one thing as what is seen says it should be, mostly something in the cluster by the
//! plugin's status: writes it when it is to change, looks now and then whether it is still there,
//! and retries for good.

use std::time::Duration;

use status_stream::View;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::info;

use crate::args::Interval;
use crate::retry::{Failure, Retry};

/// Something that is kept.
#[allow(async_fn_in_trait, reason = "all of it runs on one task")]
pub trait Target {
    /// What it should be.
    type Wanted: Clone + PartialEq;
    /// What it is, for log lines.
    const WHAT: &'static str;
    /// The shortest time between two writes of it, so that what flaps writes seldom.
    const BETWEEN_WRITES: Duration = Duration::from_secs(5);

    /// Whether it is as wanted.
    ///
    /// # Errors
    /// It cannot be found out.
    async fn is_there(&mut self, wanted: &Self::Wanted) -> Result<bool, Failure>;

    /// Writes it.
    ///
    /// # Errors
    /// It cannot be written.
    async fn write(&mut self, wanted: &Self::Wanted) -> Result<(), Failure>;
}

/// Keeps a thing as `wanted` says, for good. While that says nothing it is left as it is.
pub async fn keep<V: Clone, T: Target>(
    mut target: T,
    mut view: watch::Receiver<V>,
    wanted: impl Fn(&V) -> Option<T::Wanted>,
    interval: Interval,
) {
    let mut retry = Retry::new(T::WHAT);
    let mut written = None;
    loop {
        let want = next(&mut view, &wanted, written.as_ref(), None).await;
        let Some(want) = want else { continue };
        let mut last_write = Instant::now();
        let mut result = target.write(&want).await;
        // It is looked after until it is to be another one.
        while result.is_ok() {
            retry.succeeded();
            written = Some(want.clone());
            let due = interval.0.map(|interval| Instant::now() + interval);
            if next(&mut view, &wanted, written.as_ref(), due).await.is_some() {
                break;
            }
            result = match target.is_there(&want).await {
                Ok(false) => {
                    info!("{} are not as they were written, and are written again", T::WHAT);
                    last_write = Instant::now();
                    target.write(&want).await
                }
                looked => looked.map(drop),
            };
        }
        match result {
            Ok(()) => sleep_until(last_write + T::BETWEEN_WRITES).await,
            Err(failure) => {
                written = None;
                let pause = retry.failed(&failure);
                let now = Instant::now();
                let (least, whole) = (now + pause.least, now + pause.whole);
                // The pause is for the same attempt again. Another wish is not made to wait for it,
                // but for the API server and for the time between two writes.
                sleep_until(least.max(last_write + T::BETWEEN_WRITES).min(whole)).await;
                next(&mut view, &wanted, Some(&want), Some(whole)).await;
            }
        }
    }
}

/// Writes a thing once, as soon as it is known what it should be, however often that takes.
pub async fn write_once<T: Target>(
    mut target: T,
    mut view: watch::Receiver<View>,
    wanted: impl Fn(&View) -> Option<T::Wanted>,
) {
    let mut retry = Retry::new(T::WHAT);
    loop {
        let Some(want) = next(&mut view, &wanted, None, None).await else { continue };
        match target.write(&want).await {
            Ok(()) => return,
            Err(failure) => sleep(retry.failed(&failure).whole).await,
        }
    }
}

/// What is wanted, once it is something else than what is written; `None`: it is `due` before.
async fn next<V: Clone, W: PartialEq>(
    view: &mut watch::Receiver<V>,
    wanted: &impl Fn(&V) -> Option<W>,
    written: Option<&W>,
    due: Option<Instant>,
) -> Option<W> {
    loop {
        let seen = view.borrow_and_update().clone();
        let want = wanted(&seen).filter(|want| Some(want) != written);
        if want.is_some() {
            return want;
        }
        tokio::select! {
            changed = view.changed() => if changed.is_err() {
                // Nobody publishes any more: the process is ending.
                std::future::pending::<()>().await;
            },
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => return None,
        }
    }
}

#[cfg(test)]
mod tests;
