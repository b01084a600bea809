//! Who wants the kubelet to be asked before the time.

use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// The pause between two questions when nobody wants to know.
pub(super) const QUIET: Duration = Duration::from_secs(60);
/// The shortest pause when somebody looks, and when the last question had no answer.
pub(super) const LOOKED: Duration = Duration::from_secs(10);
/// The shortest pause when something has request_now.
pub(super) const GAP: Duration = Duration::from_secs(2);
/// How long the kubelet gets to enter what it has allocated before it is asked.
const SETTLE: Duration = Duration::from_millis(500);

/// A refresh with two sounds.
#[derive(Debug, Default)]
pub struct RefreshTrigger {
    request_now: Notify,
    request_if_stale: Notify,
}

impl RefreshTrigger {
    /// Something has request_now to what pods hold: the kubelet is asked within two seconds or so.
    pub fn request_now(&self) {
        self.request_now.notify_one();
    }

    /// Somebody looks at what is known: the kubelet is asked if it was not within the last ten
    /// seconds.
    pub fn request_if_stale(&self) {
        self.request_if_stale.notify_one();
    }

    /// Comes back when the next question is due, after one that was asked at this moment: after so
    /// long, or sooner if it rings. Says whether it rang.
    pub(super) async fn due(&self, asked: Instant, pause: Duration) -> bool {
        let (mut due, mut request_now, mut request_if_stale) = (asked + pause, false, false);
        loop {
            tokio::select! {
                () = sleep_until(due) => return request_now || request_if_stale,
                () = self.request_now.notified(), if !request_now => {
                    request_now = true;
                    due = due.min((asked + GAP).max(Instant::now() + SETTLE));
                }
                () = self.request_if_stale.notified(), if !request_if_stale => {
                    request_if_stale = true;
                    due = due.min(asked + LOOKED);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second, and what rings then.
    type Ring = (u64, fn(&RefreshTrigger));

    /// When the next question is due, by what rings at which second.
    async fn due(rings: &[Ring]) -> (Duration, bool) {
        let refresh = RefreshTrigger::default();
        let asked = Instant::now();
        let ring = async {
            for (at, ring) in rings {
                sleep_until(asked + Duration::from_secs(*at)).await;
                ring(&refresh);
            }
            std::future::pending().await
        };
        let rang = tokio::select! { rang = refresh.due(asked, QUIET) => rang, () = ring => unreachable!() };
        (asked.elapsed(), rang)
    }

    #[tokio::test(start_paused = true)]
    async fn the_kubelet_is_asked_sooner_the_more_there_is_to_know() {
        let seconds = |seconds: f64, rang| (Duration::from_secs_f64(seconds), rang);
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
