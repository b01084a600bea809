//! Event sets: what each has registered, and what it has not been asked for yet.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crate::state::Event;
use crate::sys;
use crate::watch::FileWatch;

/// One event on its way to the caller.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    /// The device's handle at registration.
    pub(crate) device: usize,
    pub(crate) event: Event,
}

/// An `nvmlEventSet_t`.
pub(crate) struct EventSet {
    registrations: Vec<Registration>,
    queue: VecDeque<Pending>,
    wake: Option<Arc<OwnedFd>>,
    /// A registration was answered with UNKNOWN: the set is good for nothing but to be freed.
    pub(crate) is_undefined: bool,
    /// The watch of the last wait, kept for the next: making one costs more than a short wait.
    idle: Option<FileWatch>,
}

struct Registration {
    device: usize,
    gpu: String,
    types: u64,
}

struct Pending {
    delivery: Delivery,
    times: u32,
}

impl EventSet {
    pub(crate) fn new() -> Self {
        Self {
            registrations: Vec::new(),
            queue: VecDeque::new(),
            wake: sys::eventfd().ok().map(Arc::new),
            is_undefined: false,
            idle: None,
        }
    }

    /// From now on events of these types of the GPU come to this set.
    pub(crate) fn register(&mut self, device: usize, gpu: &str, types: u64) {
        match self.registrations.iter_mut().find(|registration| registration.device == device) {
            Some(registration) => registration.types |= types,
            None => self.registrations.push(Registration { device, gpu: gpu.to_owned(), types }),
        }
    }

    /// The GPUs that it is registered with.
    pub(crate) fn gpus(&self) -> impl Iterator<Item = &str> {
        self.registrations.iter().map(|registration| registration.gpu.as_str())
    }

    /// Queues an event if the set registered for it with a handle that is `in_force`, or in any
    /// case under a `strange` handle.
    pub(crate) fn offer(
        &mut self,
        event: &Event,
        strange: Option<usize>,
        in_force: impl Fn(usize) -> bool,
    ) {
        let mut registered = self.registrations.iter().filter(|registration| {
            registration.gpu == event.gpu
                && registration.types & event.event_type != 0
                && in_force(registration.device)
        });
        let device = strange.or_else(|| Some(registered.next()?.device));
        if let Some(device) = device.filter(|_| event.count > 0) {
            let delivery = Delivery { device, event: event.clone() };
            self.queue.push_back(Pending { delivery, times: event.count });
        }
    }

    /// The oldest event not yet taken.
    pub(crate) fn take(&mut self) -> Option<Delivery> {
        let pending = self.queue.front_mut()?;
        pending.times -= 1;
        if pending.times > 0 {
            return Some(pending.delivery.clone());
        }
        self.queue.pop_front().map(|pending| pending.delivery)
    }

    /// Readable when the set has ended.
    pub(crate) fn wake(&self) -> Option<Arc<OwnedFd>> {
        self.wake.clone()
    }

    pub(crate) fn take_watch(&mut self) -> Option<FileWatch> {
        self.idle.take()
    }

    pub(crate) fn keep_watch(&mut self, watch: Option<FileWatch>) {
        self.idle = watch.or(self.idle.take());
    }
}

impl Drop for EventSet {
    fn drop(&mut self) {
        if let Some(wake) = &self.wake {
            sys::raise(wake.as_fd());
        }
    }
}
