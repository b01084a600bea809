//! Whether the task that owns the inventory still responds.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

/// How long the task may take to respond. It never works for longer than some milliseconds at a
/// time.
const DEADLINE: Duration = Duration::from_secs(3);
/// Pings that may wait.
const WAITING: usize = 16;

/// Answered, or dropped, by a task that responds.
pub(super) type Ping = oneshot::Sender<()>;

/// Pings the task.
#[derive(Debug, Clone)]
pub(super) struct Liveness(mpsc::Sender<Ping>);

impl Liveness {
    /// The sender of pings and their receiver.
    pub(super) fn channel() -> (Self, mpsc::Receiver<Ping>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), receiver)
    }

    /// Why the task counts as stuck, if it does not respond. One that has ended is not stuck: it
    /// takes the process with it.
    pub(super) async fn stuck(&self) -> Option<String> {
        let (ping, answered) = oneshot::channel();
        let asked = async {
            if self.0.send(ping).await.is_ok() {
                let _ = answered.await;
            }
        };
        let late = tokio::time::timeout(DEADLINE, asked).await.is_err();
        late.then(|| {
            format!("the inventory's writer has not answered for {} s", DEADLINE.as_secs())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_writer_that_does_not_answer_is_stuck_however_many_ask() {
        let (liveness, mut pings) = Liveness::channel();
        for _ in 0..2 * WAITING {
            let stuck = liveness.stuck().await;
            assert!(stuck.is_some_and(|what| what.contains("has not answered for 3 s")));
        }
        tokio::spawn(async move {
            while let Some(ping) = pings.recv().await {
                let _ = ping.send(());
            }
        });
        assert_eq!(liveness.stuck().await, None);
    }
}
