//! Small things that every edge may use: counters, back-off, random numbers, limits on
//! log lines, a timer, and threads for calls that may not return.

pub mod backoff;
pub mod change_signal;
pub mod counters;
pub mod helper_thread;
pub mod kernel_timer;
pub mod log_rate_limit;
pub mod random;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also what a thread held when it panicked: no value is left half changed.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
