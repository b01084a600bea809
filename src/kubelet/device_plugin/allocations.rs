//! What was handed out, for whoever wants to hear of it.

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

/// Where each Allocate is told. By default nobody listens.
///
/// Telling waits for nobody, and the kubelet, which admits one pod after the other, is never so
/// fast that what is not yet heard would grow.
#[derive(Debug, Clone, Default)]
pub struct Allocations(Option<mpsc::UnboundedSender<Allocated>>);

impl Allocations {
    /// A place to tell, and its listener.
    #[must_use]
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<Allocated>) {
        let (tell, heard) = mpsc::unbounded_channel();
        (Self(Some(tell)), heard)
    }

    /// Tells of one; that nobody listens is nothing to act on.
    pub fn tell(&self, allocated: impl FnOnce() -> Allocated) {
        if let Some(listener) = &self.0 {
            let _ = listener.send(allocated());
        }
    }
}
