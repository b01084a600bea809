//! The NVML call that a thread is in, so that others can see that it is past its deadline.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// The call that a thread is in, and since when.
#[derive(Debug, Clone)]
pub(super) struct CurrentCall(Arc<Mutex<(&'static str, Instant)>>);

thread_local! {
    static CURRENT: RefCell<Option<CurrentCall>> = const { RefCell::new(None) };
}

/// Marks the call that this thread makes next; its deadline starts now.
pub(in crate::nvml) fn mark_call(call: &'static str) {
    CURRENT.with_borrow(|current| {
        if let Some(current) = current {
            current.set(call);
        }
    });
}

impl CurrentCall {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(("", Instant::now()))))
    }

    /// [`mark_call`] on this thread marks this one from now on.
    pub(super) fn bind_to_thread(self) {
        CURRENT.set(Some(self));
    }

    pub(super) fn set(&self, call: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (call, Instant::now());
    }

    pub(super) fn get(&self) -> (&'static str, Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
