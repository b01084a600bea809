//! Requests to call the kubelet before the interval is over.

use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Time between two calls without a request.
pub(super) const INTERVAL: Duration = Duration::from_secs(60);
/// Time between two calls while somebody reads what is known, and after a failure.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_secs(10);
/// The shortest time between two calls, when what pods hold has changed.
pub(super) const MIN_INTERVAL: Duration = Duration::from_secs(2);
/// How long the kubelet gets to record an allocation before it is called.
const RECORDING: Duration = Duration::from_millis(500);

/// Requests the next call to the kubelet.
#[derive(Debug, Default)]
pub struct RefreshTrigger {
    now: Notify,
    if_stale: Notify,
}

impl RefreshTrigger {
    /// What pods hold has changed: the kubelet is called within about two seconds.
    pub fn request_now(&self) {
        self.now.notify_one();
    }

    /// Somebody reads what is known: the kubelet is called if the last call is ten seconds old.
    pub fn request_if_stale(&self) {
        self.if_stale.notify_one();
    }

    /// Waits until the next call is due: `interval` after the last one, or sooner on request.
    /// Returns whether it was requested.
    pub(super) async fn wait(&self, last: Instant, interval: Duration) -> bool {
        let (mut due, mut now, mut if_stale) = (last + interval, false, false);
        loop {
            tokio::select! {
                () = sleep_until(due) => return now || if_stale,
                () = self.now.notified(), if !now => {
                    now = true;
                    due = due.min((last + MIN_INTERVAL).max(Instant::now() + RECORDING));
                }
                () = self.if_stale.notified(), if !if_stale => {
                    if_stale = true;
                    due = due.min(last + RETRY_INTERVAL);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second, and the request that is made then.
    type Request = (u64, fn(&RefreshTrigger));

    /// When the next call is due with these requests.
    async fn due(requests: &[Request]) -> (Duration, bool) {
        let refresh = RefreshTrigger::default();
        let last = Instant::now();
        let make = async {
            for (at, request) in requests {
                sleep_until(last + Duration::from_secs(*at)).await;
                request(&refresh);
            }
            std::future::pending().await
        };
        let requested = tokio::select! {
            requested = refresh.wait(last, INTERVAL) => requested,
            () = make => unreachable!(),
        };
        (last.elapsed(), requested)
    }

    #[tokio::test(start_paused = true)]
    async fn the_kubelet_is_called_sooner_on_request() {
        let seconds = |seconds: f64, requested| (Duration::from_secs_f64(seconds), requested);
        assert_eq!(due(&[]).await, seconds(60.0, false));
        assert_eq!(due(&[(0, RefreshTrigger::request_if_stale)]).await, seconds(10.0, true));
        assert_eq!(
            due(&[(30, RefreshTrigger::request_if_stale), (31, RefreshTrigger::request_if_stale)])
                .await,
            seconds(30.0, true)
        );
        assert_eq!(
            due(&[(0, RefreshTrigger::request_now), (1, RefreshTrigger::request_now)]).await,
            seconds(2.0, true)
        );
        assert_eq!(due(&[(5, RefreshTrigger::request_now)]).await, seconds(5.5, true));
        assert_eq!(
            due(&[(1, RefreshTrigger::request_if_stale), (3, RefreshTrigger::request_now)]).await,
            seconds(3.5, true)
        );
    }
}
