//! Tells whoever waits that something has changed, without saying what.

use tokio::sync::watch;

/// A signal of changes. Clones are the same signal. To signal never waits, whoever listens.
#[derive(Debug, Clone, Default)]
pub struct ChangeSignal(watch::Sender<()>);

impl ChangeSignal {
    /// Something has changed.
    pub fn notify(&self) {
        self.0.send_replace(());
    }

    /// Sees the changes from now on. Several that come before it looks are one.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_once_and_none_from_before() {
        let signal = ChangeSignal::default();
        signal.notify();
        let mut receiver = signal.subscribe();
        assert!(!receiver.has_changed().unwrap());
        signal.clone().notify();
        signal.notify();
        assert!(receiver.has_changed().unwrap());
        receiver.borrow_and_update();
        assert!(!receiver.has_changed().unwrap());
    }
}
