//! The answers that are not read yet, and what they may hold of memory together.
//!
//! A status of 8,000 devices has 2 MB, and a reader may be as slow as it likes. So all answers of
//! all listeners share one bound, and when one more does not fit, the connection with the oldest
//! answer is closed: a slow reader keeps nobody out.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::util::lock;

/// The most bytes of answers that are not read yet. One alone may be longer.
pub(super) const MAX_BYTES: usize = 8 << 20;

/// The answers in flight.
#[derive(Debug, Default)]
pub(super) struct InFlight(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    /// The oldest first.
    answers: VecDeque<(Arc<Notify>, usize)>,
    bytes: usize,
}

/// The answer of one connection, until this is dropped.
pub(super) struct Share {
    all: Arc<InFlight>,
    cut: Arc<Notify>,
}

impl InFlight {
    /// The share of a connection that has no answer yet.
    pub(super) fn share(self: &Arc<Self>) -> Share {
        Share { all: self.clone(), cut: Arc::new(Notify::new()) }
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        lock(&self.0).bytes
    }
}

impl Share {
    /// The connection has an answer of so many bytes. Older ones are cut to make room for it.
    pub(super) fn hold(&self, bytes: usize) {
        let mut held = lock(&self.all.0);
        held.bytes += bytes;
        held.answers.push_back((self.cut.clone(), bytes));
        while held.bytes > MAX_BYTES && held.answers.len() > 1 {
            let Some((oldest, bytes)) = held.answers.pop_front() else { break };
            held.bytes -= bytes;
            oldest.notify_one();
        }
    }

    /// Returns when the connection is to be closed for the sake of others.
    pub(super) async fn cut(&self) {
        self.cut.notified().await;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = lock(&self.all.0);
        let Held { answers, bytes } = &mut *held;
        answers.retain(|(cut, length)| {
            let is_other = !Arc::ptr_eq(cut, &self.cut);
            *bytes -= if is_other { 0 } else { *length };
            is_other
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Duration, timeout};

    use super::*;

    async fn is_cut(share: &Share) -> bool {
        timeout(Duration::ZERO, share.cut()).await.is_ok()
    }

    #[tokio::test]
    async fn the_oldest_are_cut_when_they_hold_too_much_together() {
        let all = Arc::<InFlight>::default();
        let shares: Vec<_> = (0..4).map(|_| all.share()).collect();
        for share in &shares[..3] {
            share.hold(MAX_BYTES / 3);
        }
        assert!(!is_cut(&shares[0]).await);
        shares[3].hold(MAX_BYTES / 2);
        assert!(is_cut(&shares[0]).await && is_cut(&shares[1]).await);
        assert!(!is_cut(&shares[2]).await && !is_cut(&shares[3]).await);
        assert!(all.bytes() <= MAX_BYTES);
        drop(shares);
        assert_eq!(all.bytes(), 0);
    }

    #[tokio::test]
    async fn one_that_is_too_long_alone_is_sent_all_the_same() {
        let all = Arc::<InFlight>::default();
        let (small, large) = (all.share(), all.share());
        small.hold(100);
        large.hold(2 * MAX_BYTES);
        assert!(is_cut(&small).await && !is_cut(&large).await);
    }
}
