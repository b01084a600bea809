//! What is open in NVML, shared by the threads that call it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use device::health::NvmlError as CallError;

use super::event_set::EventSet;
use super::session::{Session, UNINITIALIZED};

/// What is open in NVML, shared by the threads that call it.
#[derive(Clone, Default)]
pub(super) struct SharedSession(Arc<Mutex<Option<Open>>>);

/// The open session and its events.
#[derive(Clone)]
pub(super) struct Open {
    pub(super) session: Arc<Session>,
    pub(super) events: Option<Arc<EventSet>>,
}

impl SharedSession {
    /// What is open.
    ///
    /// # Errors
    /// Nothing is, as NVML itself would answer.
    pub(super) fn get(&self) -> Result<Open, CallError> {
        const CALL: &str = "nvmlInit_v2";
        self.lock().clone().ok_or(CallError { call: CALL, code: UNINITIALIZED })
    }

    pub(super) fn set(&self, session: Arc<Session>) {
        *self.lock() = Some(Open { session, events: None });
    }

    /// Replaces the set of events. The previous one is freed by its last user.
    pub(super) fn set_events(&self, events: Arc<EventSet>) {
        let before = self.lock().as_mut().map(|open| open.events.replace(events));
        drop(before);
    }

    /// Drops what is open, outside the lock.
    pub(super) fn close(&self) {
        let open = self.lock().take();
        drop(open);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
