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

    /// Queues an event if the set registered for it with a handle that is `in_force`.
    pub(crate) fn offer(&mut self, event: &Event, in_force: impl Fn(usize) -> bool) {
        let registered = self.registrations.iter().find(|registration| {
            registration.gpu == event.gpu
                && registration.types & event.event_type != 0
                && in_force(registration.device)
        });
        if let Some(registration) = registered.filter(|_| event.count > 0) {
            let delivery = Delivery { device: registration.device, event: event.clone() };
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
