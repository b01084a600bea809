//! The NVML call that a thread is in, so that others can see that it is past its deadline.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The call that a thread is in.
#[derive(Debug, Clone)]
pub(super) struct CurrentCall(Arc<Mutex<Call>>);

/// A call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) name: &'static str,
    pub(super) since: Instant,
    /// How long it takes by itself, as a wait for events does.
    expected: Duration,
    /// Deadlines that it has missed.
    pub(super) missed: u32,
}

thread_local! {
    static CURRENT: RefCell<Option<CurrentCall>> = const { RefCell::new(None) };
}

/// Marks the call that this thread makes next; its deadline starts now.
pub(super) fn mark_call(name: &'static str) {
    mark_wait(name, Duration::ZERO);
}

/// As [`mark_call`], for a call that takes this long by itself.
pub(super) fn mark_wait(name: &'static str, expected: Duration) {
    CURRENT.with_borrow(|current| {
        if let Some(current) = current {
            *current.lock() = Call { name, since: Instant::now(), expected, missed: 0 };
        }
    });
}

/// Whether the last call that this thread marked has missed a deadline.
pub(super) fn was_late() -> bool {
    CURRENT.with_borrow(|current| current.as_ref().is_some_and(|call| call.get().missed > 0))
}

impl CurrentCall {
    /// A call that begins now, which [`mark_call`] on this thread replaces.
    pub(super) fn of_thread() -> Self {
        let call =
            Call { name: "NVML", since: Instant::now(), expected: Duration::ZERO, missed: 0 };
        let current = Self(Arc::new(Mutex::new(call)));
        CURRENT.set(Some(current.clone()));
        current
    }

    pub(super) fn get(&self) -> Call {
        *self.lock()
    }

    /// Counts a deadline that has passed; the call, if one has.
    pub(super) fn miss(&self, deadline: Duration) -> Option<Call> {
        let mut call = self.lock();
        if call.next_deadline(deadline) > Instant::now() {
            return None;
        }
        call.missed = call.missed.saturating_add(1);
        Some(*call)
    }

    fn lock(&self) -> MutexGuard<'_, Call> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call {
    /// When it misses its next deadline.
    pub(super) fn next_deadline(&self, deadline: Duration) -> Instant {
        let deadlines = deadline.saturating_mul(self.missed.saturating_add(1));
        let day = Duration::from_secs(86_400);
        self.since + self.expected.min(day) + deadlines.min(day)
    }
}
