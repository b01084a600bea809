//! Counters of the NVML module, and the state of its session.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use device::health::{Moment, NvmlError as CallError, ReturnCode};

use crate::util::change_signal::ChangeSignal;
use crate::util::counters::{Counts, Distribution, Histogram};

/// The most pairs of a call and a return code that are counted: a few dozen calls have a few codes
/// each.
const MOST_ERRORS: usize = 256;
/// Upper bounds of the duration of one poll of all GPUs.
const BOUNDS: &[Duration] = &[
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(10),
];

thread_local! {
    static BOUND: RefCell<Option<NvmlTelemetry>> = const { RefCell::new(None) };
}

/// The counters of the NVML module. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct NvmlTelemetry(Arc<Counters>);

#[derive(Debug)]
struct Counters {
    errors: Counts<(&'static str, ReturnCode)>,
    poll_durations: Histogram,
    /// Calls that are past their deadline.
    unanswered: AtomicU64,
    state: Mutex<SessionState>,
    changes: ChangeSignal,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            errors: Counts::new(MOST_ERRORS),
            poll_durations: Histogram::new(BOUNDS),
            unanswered: AtomicU64::new(0),
            state: Mutex::default(),
            changes: ChangeSignal::default(),
        }
    }
}

/// Versions, as NVML states them; `None` for those that it does not state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Versions {
    /// Of the kernel driver, such as "580.95.05".
    pub driver: Option<String>,
    /// Of the library, such as "13.580.95.05".
    pub library: Option<String>,
    /// The newest CUDA version that the driver supports, such as "13.0".
    pub cuda: Option<String>,
}

/// The state of the NVML session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionState {
    /// Whether an attempt to open NVML has completed since the start.
    pub tried: bool,
    /// Whether it is initialised.
    pub up: bool,
    /// How many GPUs it listed when it was last initialised.
    pub gpus: u32,
    /// Until when it is released, for the reset of a GPU; `None`: it is not.
    pub released_until: Option<Moment>,
    /// The last known versions of the driver and the library.
    pub versions: Versions,
}

impl NvmlTelemetry {
    /// Failed calls by call and return code; "not supported" is no failure.
    #[must_use]
    pub fn errors(&self) -> BTreeMap<(&'static str, ReturnCode), u64> {
        self.0.errors.all()
    }

    /// How long polls of all GPUs took.
    #[must_use]
    pub fn poll_durations(&self) -> Distribution {
        self.0.poll_durations.distribution()
    }

    /// How many calls are past their deadline now.
    #[must_use]
    pub fn unanswered(&self) -> u64 {
        self.0.unanswered.load(Relaxed)
    }

    /// The state of the NVML session.
    #[must_use]
    pub fn state(&self) -> SessionState {
        self.lock().clone()
    }

    /// Tells of changes of that state.
    #[must_use]
    pub fn changes(&self) -> &ChangeSignal {
        &self.0.changes
    }

    /// Counts the failures of this thread from now on.
    pub(super) fn bind_to_thread(self) {
        BOUND.set(Some(self));
    }

    /// Counts a failed call of this thread.
    pub(super) fn count_failure(error: &CallError) {
        if !error.code.is_unsupported() {
            BOUND.with_borrow(|bound| {
                if let Some(Self(counters)) = bound {
                    counters.errors.count((error.call, error.code));
                }
            });
        }
    }

    pub(super) fn poll_took(&self, time: Duration) {
        self.0.poll_durations.observe(time);
    }

    pub(super) fn set_unanswered(&self, calls: usize) {
        self.0.unanswered.store(calls as u64, Relaxed);
    }

    /// Whether NVML was ever initialised.
    pub(super) fn was_up(&self) -> bool {
        self.lock().versions != Versions::default()
    }

    /// NVML is initialised, and lists this many GPUs.
    pub(super) fn set_up(&self, gpus: u32) {
        self.set(|state| (state.tried, state.up, state.gpus) = (true, true, gpus));
    }

    /// NVML cannot be initialised, or fails as a whole.
    pub(super) fn set_down(&self) {
        self.set(|state| (state.tried, state.up) = (true, false));
    }

    pub(super) fn set_released(&self, until: Option<Moment>) {
        self.set(|state| state.released_until = until);
    }

    pub(super) fn set_versions(&self, versions: Versions) {
        self.set(|state| state.versions = versions);
    }

    fn set(&self, set: impl FnOnce(&mut SessionState)) {
        let mut state = self.lock();
        let before = state.clone();
        set(&mut state);
        if *state != before {
            self.0.changes.notify();
        }
    }

    fn lock(&self) -> MutexGuard<'_, SessionState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_by_the_telemetry_bound_to_the_thread_and_not_supported_is_no_failure() {
        let telemetry = NvmlTelemetry::default();
        let own = telemetry.clone();
        let fail = |code| {
            NvmlTelemetry::count_failure(&CallError { call: "nvmlDeviceGetMemoryInfo", code })
        };
        fail(ReturnCode::GPU_IS_LOST);
        std::thread::spawn(move || {
            own.bind_to_thread();
            fail(ReturnCode::GPU_IS_LOST);
            fail(ReturnCode::NOT_SUPPORTED);
        })
        .join()
        .unwrap();
        assert_eq!(
            telemetry.errors(),
            BTreeMap::from([(("nvmlDeviceGetMemoryInfo", ReturnCode::GPU_IS_LOST), 1)])
        );
    }
}
