//! Whether the task that owns the inventory and the thread that serves the kubelet still respond.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

/// How long either may take to respond. None works for longer than some milliseconds at a time.
const DEADLINE: Duration = Duration::from_secs(3);
/// Pings that may wait.
const WAITING: usize = 16;

/// Answered, or dropped, by one that responds.
pub(super) type Ping = oneshot::Sender<()>;

/// Pings both.
#[derive(Debug, Clone)]
pub(super) struct Liveness {
    inventory: mpsc::Sender<Ping>,
    kubelet: mpsc::Sender<Ping>,
}

/// The receivers of the pings.
pub(super) struct Pings {
    /// For the task that owns the inventory.
    pub(super) inventory: mpsc::Receiver<Ping>,
    /// For the thread that serves the kubelet.
    pub(super) kubelet: mpsc::Receiver<Ping>,
}

impl Liveness {
    /// The sender of pings and their receivers.
    pub(super) fn channel() -> (Self, Pings) {
        let (inventory, inventory_rx) = mpsc::channel(WAITING);
        let (kubelet, kubelet_rx) = mpsc::channel(WAITING);
        (Self { inventory, kubelet }, Pings { inventory: inventory_rx, kubelet: kubelet_rx })
    }

    /// Which does not respond, if so. One that has ended is not stuck: it takes the process with
    /// it.
    pub(super) async fn stuck(&self) -> Option<String> {
        let (inventory, kubelet) = tokio::join!(is_late(&self.inventory), is_late(&self.kubelet));
        let who = match (inventory, kubelet) {
            (false, false) => return None,
            (true, _) => "the inventory's writer",
            (false, true) => "the thread that serves the kubelet",
        };
        Some(format!("{who} has not answered for {} s", DEADLINE.as_secs()))
    }
}

async fn is_late(to: &mpsc::Sender<Ping>) -> bool {
    let (ping, answered) = oneshot::channel();
    let asked = async {
        if to.send(ping).await.is_ok() {
            let _ = answered.await;
        }
    };
    tokio::time::timeout(DEADLINE, asked).await.is_err()
}

/// Answers pings, for one that has nothing else to do meanwhile.
pub(super) async fn answer(mut pings: mpsc::Receiver<Ping>) {
    while let Some(ping) = pings.recv().await {
        let _ = ping.send(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_answer_is_stuck_however_many_ask() {
        let (liveness, Pings { inventory, kubelet }) = Liveness::channel();
        let stuck = async |who: &str| {
            for _ in 0..2 * WAITING {
                let expected = format!("{who} has not answered for 3 s");
                assert_eq!(liveness.stuck().await, Some(expected));
            }
        };
        stuck("the inventory's writer").await;
        tokio::spawn(answer(inventory));
        stuck("the thread that serves the kubelet").await;
        tokio::spawn(answer(kubelet));
        assert_eq!(liveness.stuck().await, None);
    }
}
