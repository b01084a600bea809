//! Allocations as they happen, for a listener on another thread.

use device::names::{DeviceId, ResourceName};
use tokio::sync::mpsc;

/// Devices that a container was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocated {
    /// Their resource.
    pub resource: ResourceName,
    /// Their ids.
    pub ids: Vec<DeviceId>,
}

/// Sends every allocation to a listener; by default there is none.
///
/// Sending never waits. The channel has no bound: the kubelet admits one pod after the other, which
/// is slow beside what a listener can take.
#[derive(Debug, Clone, Default)]
pub struct AllocationEvents(Option<mpsc::UnboundedSender<Allocated>>);

impl AllocationEvents {
    /// A sender and its listener.
    #[must_use]
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<Allocated>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(Some(sender)), receiver)
    }

    /// Sends one, if there is a listener.
    pub(super) fn send(&self, allocated: impl FnOnce() -> Allocated) {
        if let Some(sender) = &self.0 {
            // The listener is gone while the daemon stops.
            let _ = sender.send(allocated());
        }
    }
}
